"""How often each of a few known values occurs, and over which days."""

from typing import Any

import numpy as np

DAY = 86_400 * 1_000_000  # microseconds


class FixedCounts:
    """Counts of values that are known beforehand; parts merge into what one pass would give.

    Args:
        size: how many values there are.
    """

    def __init__(self, size: int) -> None:
        self.counts: np.ndarray | None = np.zeros(size, dtype=np.int64)  # None: what 0.1 saved does not say
        self.first: int | None = None  # microseconds
        self.last: int | None = None

    def add(self, places: np.ndarray) -> None:
        """Count values by their place, `(rows,)`, -1 where missing."""
        if self.counts is not None:
            self.counts += np.bincount(places[places >= 0], minlength=len(self.counts))

    def span(self, first: int, last: int) -> None:
        """Note that there were rows between two moments, in microseconds."""
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)

    @property
    def days(self) -> float:
        """From the first row to the last; infinite where rows have no date."""
        return np.inf if self.first is None or self.last is None else (self.last - self.first) / DAY

    def merge(self, other: "FixedCounts") -> None:
        """Add everything that `other` counted."""
        both = self.counts is not None and other.counts is not None
        self.counts = self.counts + other.counts if both else None  # type: ignore[operator]
        if other.first is not None and other.last is not None:
            self.span(other.first, other.last)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return plain values and arrays from which `load_state` restores the same counts."""
        return {"first": self.first, "last": self.last}, {} if self.counts is None else {"counts": self.counts}

    def load_state(self, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Restore what `state` returned."""
        self.first, self.last = plain.get("first"), plain.get("last")
        self.counts = arrays.get("counts")

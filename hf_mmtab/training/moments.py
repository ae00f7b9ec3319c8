"""Points in time of a training run (epochs, steps, fractions) and windows between two of them."""

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_AMOUNT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(epochs?|steps?|%)?", re.IGNORECASE)
_WINDOW = re.compile(r"(?:from\s+)?(?P<start>.+?)\s+to\s+(?P<end>.+)", re.IGNORECASE)


@dataclass(frozen=True)
class Moment:
    """A point of the run in epochs, optimizer steps or a fraction of all steps; `forever` is after its end."""

    amount: float
    unit: str  # "epochs", "steps", "fraction" or "forever"

    @classmethod
    def parse(cls, value: Any) -> "Moment":
        """Read `"3 epochs"`, `"500 steps"`, `0.5`, `"50%"`, `"forever"` (also `true`) or 0 (also `false`).

        Raises:
            ValueError: if the text is none of these, or a number from 1 on has no unit.
        """
        if isinstance(value, Moment):
            return value
        if value is True or (isinstance(value, str) and value.strip().lower() == "forever"):
            return cls(math.inf, "forever")
        match = _AMOUNT.fullmatch(str(0 if value is False else value).strip())
        if match:
            amount, unit = float(match[1]), (match[2] or "").lower()
            if unit.startswith(("epoch", "step")):
                return cls(amount, "epochs" if unit.startswith("epoch") else "steps")
            if unit == "%" and amount <= 100:
                return cls(amount / 100, "fraction")
            if not unit and amount < 1:
                return cls(amount, "fraction")
        raise ValueError(
            f"Expected a moment such as '3 epochs', '500 steps', 0.5, '50%' or 'forever', found {value!r}. "
            "A number from 1 on needs its unit."
        )

    def to_step(self, steps_per_epoch: int, total_steps: int) -> float:
        """Return the number of optimizer steps done at this moment (`inf` for `forever`)."""
        scale = {"epochs": steps_per_epoch, "steps": 1, "fraction": total_steps, "forever": 1}[self.unit]
        steps = self.amount * scale
        return steps if math.isinf(steps) else math.ceil(steps - 1e-9)

    def __str__(self) -> str:
        if self.unit == "forever":
            return "forever"
        if self.unit == "fraction":
            return f"{self.amount * 100:g}%"
        return f"{self.amount:g} {self.unit[:-1] if self.amount == 1 else self.unit}"


@contextmanager
def told_of(entry: str) -> Iterator[None]:
    """Name the entry of a recipe, such as `freeze of 'text_encoder'`, in an error of a moment that is read within."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{entry}: {error}") from error


START, FOREVER = Moment(0.0, "steps"), Moment(math.inf, "forever")


def parse_windows(value: Any) -> tuple[tuple[Moment, Moment], ...]:
    """Read when a part is frozen.

    `"3 epochs"` means from the start until then, `"from 4 epochs"` from then to the end,
    `"2 epochs to 4 epochs"` in between; a list holds several of these. 0 (also `false`) freezes nothing.

    Raises:
        ValueError: if a stretch ends before it begins, is empty, or starts at the end of the run; if a list is empty.
    """
    if isinstance(value, list | tuple):
        if not value:
            raise ValueError("An empty list freezes nothing. Leave the part out of the schedule, or write 0.")
        return tuple(window for item in value for window in parse_windows(item))
    text = value.strip() if isinstance(value, str) else ""
    if match := _WINDOW.fullmatch(text):
        window = (Moment.parse(match["start"]), Moment.parse(match["end"]))
    elif text.lower().startswith("from "):
        window = (Moment.parse(text[5:]), FOREVER)
    else:
        return ((START, Moment.parse(value)),)
    start, end = window
    if start.unit == "forever" or (start.unit == end.unit and start.amount >= end.amount):
        raise ValueError(_freezes_nothing(value))
    return (window,)


def window_steps(window: tuple[Moment, Moment], steps_per_epoch: int, total_steps: int) -> tuple[float, float]:
    """Return a stretch `[start, end)` in optimizer steps.

    Raises:
        ValueError: if it ends before it begins, which only the run shows where the two have different units.
    """
    start, end = (moment.to_step(steps_per_epoch, total_steps) for moment in window)
    if start > end:
        told = _freezes_nothing(f"{window[0]} to {window[1]}")
        raise ValueError(f"{told} In this run it goes from step {start:g} to step {end:g}.")
    return start, end


def _freezes_nothing(stretch: Any) -> str:
    right = "'2 epochs to 4 epochs' or 'from 2 epochs'"
    return f"{stretch!r} freezes nothing: a stretch must end after it begins, as in {right}."


def join_windows(windows: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Return stretches in order, empty ones left out, overlapping and adjacent ones joined.

    Example:
        >>> join_windows([(0, 16), (0, 8), (24, 24)])
        ((0, 16),)
    """
    joined: list[tuple[float, float]] = []
    for start, end in sorted(window for window in windows if window[0] < window[1]):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)

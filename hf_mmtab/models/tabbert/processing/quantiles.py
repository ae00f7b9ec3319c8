"""Quantiles of a column's numbers in bounded memory, the bins made of them, and the text of their edges."""

from typing import Any

import numpy as np

MANTISSA_BITS = 52


class QuantileSketch:
    """Counts of numbers, exact while few are different, else of numbers rounded to fewer mantissa bits.

    Rounding drops the lowest mantissa bits until at most `limit` different numbers are left. The result
    depends on the numbers alone, not on how they were cut into parts or in which order the parts were merged.
    The relative error of a quantile's value is at most `error` (0 while exact).

    Example:

    ```python
    >>> sketch = QuantileSketch()
    >>> sketch.add(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    >>> sketch.quantiles(np.array([0.0, 0.5, 1.0])).tolist()
    [1.0, 3.0, 5.0]
    ```
    """

    def __init__(self, limit: int | None = 2**18) -> None:
        self.limit = limit  # None: exact however many
        self.bits = MANTISSA_BITS
        self.lowest, self.highest = np.inf, -np.inf
        self._values, self._counts = np.empty(0), np.empty(0, dtype=np.int64)
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []
        self._pending_size = 0

    @property
    def error(self) -> float:
        """Largest relative error of a quantile's value."""
        self.values_and_counts()  # what is pending may be one number too many
        return 0.0 if self.bits == MANTISSA_BITS else 2.0 ** -(self.bits + 1)

    @property
    def edge_error(self) -> float:
        """Largest relative error of an edge of `bin_edges`: an edge lies between numbers that were rounded together."""
        return 2 * self.error

    @property
    def total(self) -> int:
        """How many numbers were added."""
        return int(self._counts.sum()) + sum(int(c.sum()) for _, c in self._pending)

    def add(self, values: np.ndarray, counts: np.ndarray | None = None) -> None:
        """Add finite numbers, shape `(rows,)`."""
        if not len(values):
            return
        self.lowest = min(self.lowest, float(values.min()))
        self.highest = max(self.highest, float(values.max()))
        if counts is None:
            values, counts = np.unique(self._rounded(values, self.bits), return_counts=True)
        self._pending.append((values, counts.astype(np.int64)))
        self._pending_size += len(values)
        if self._pending_size > max(2_000_000, 2 * len(self._values)):
            self._settle()

    def merge(self, other: "QuantileSketch") -> None:
        """Add everything that `other` holds."""
        values, counts = other.values_and_counts()
        self.bits = min(self.bits, other.bits)
        self._pending.append((values, counts))
        self._pending_size += len(values)
        self.lowest, self.highest = min(self.lowest, other.lowest), max(self.highest, other.highest)
        self._settle()

    def values_and_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the increasing (rounded) numbers and how often each was met."""
        if self._pending:
            self._settle()
        return self._values, self._counts

    def middles_and_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the middle of what was rounded together, the extremes as they were, and how often each was met."""
        values, counts = self.values_and_counts()
        if self.bits < MANTISSA_BITS:
            values = np.clip(values * (1.0 + self.error), self.lowest, self.highest)
            values[0], values[-1] = self.lowest, self.highest
        return values, counts

    def quantiles(self, shares: np.ndarray, transform: Any = None) -> np.ndarray:
        """Return quantiles by linear interpolation, as `np.quantile` gives them on the numbers themselves.

        Args:
            shares: in [0, 1].
            transform: increasing function applied to the numbers first.
        """
        values, counts = self.middles_and_counts()
        if transform is not None:
            values = transform(values)
        ends = np.cumsum(counts)
        position = np.asarray(shares) * (ends[-1] - 1)
        below = np.floor(position)
        share = position - below
        above = np.minimum(below + 1, ends[-1] - 1)
        low = values[np.searchsorted(ends, below, side="right")]
        high = values[np.searchsorted(ends, above, side="right")]
        # interpolated from the nearer end, as NumPy does, so that edges agree to the last bit
        return np.where(share >= 0.5, high - (high - low) * (1 - share), low + (high - low) * share)

    @staticmethod
    def _rounded(values: np.ndarray, bits: int) -> np.ndarray:
        values = np.asarray(values, dtype=np.float64) + 0.0  # -0.0 becomes 0.0
        if bits == MANTISSA_BITS:
            return values
        mask = np.int64(-1) << np.int64(MANTISSA_BITS - bits)
        return (values.view(np.int64) & mask).view(np.float64)

    def _settle(self) -> None:
        values = np.concatenate([self._values, *(v for v, _ in self._pending)])
        counts = np.concatenate([self._counts, *(c for _, c in self._pending)])
        self._pending, self._pending_size = [], 0
        values, counts = self._summed(values, counts)
        while self.limit is not None and len(values) > self.limit and self.bits > 0:
            self.bits -= 1
            values, counts = self._summed(values, counts)
        self._values, self._counts = values, counts

    def _summed(self, values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = self._rounded(values, self.bits)
        order = np.argsort(values, kind="stable")
        values, counts = values[order], counts[order]
        first = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]])) if len(values) else order
        return values[first], np.add.reduceat(counts, first) if len(values) else counts

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return plain values and arrays from which `load_state` restores the same sketch."""
        values, counts = self.values_and_counts()
        extremes = np.array([self.lowest, self.highest])
        return {"bits": self.bits, "limit": self.limit}, {"values": values, "counts": counts, "extremes": extremes}

    def load_state(self, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Restore what `state` returned."""
        self.limit, self.bits = plain["limit"], plain["bits"]
        self._values, self._counts = arrays["values"], arrays["counts"]
        self.lowest, self.highest = (float(x) for x in arrays["extremes"])


def bin_edges(values: np.ndarray, counts: np.ndarray, num_bins: int, tail_rows: int | None = None) -> np.ndarray:
    """Return the edges of at most `num_bins` bins of about equally many numbers, none of them empty.

    With `tail_rows` the outer bins are halved on top, and the outer halves again, while each part keeps so many rows:
    rare large amounts are told from usual ones.

    Few different numbers get a bin each. One that is so frequent that it fills a bin shares it with no other number,
    so that a field that is nearly always zero still tells zero from the rest. Inner edges lie halfway between
    neighbouring numbers.

    Args:
        values: different finite numbers, increasing, shape `(numbers,)`.
        counts: how often each was met, shape `(numbers,)`.
        num_bins: at least 1.
        tail_rows: least rows of a bin of the tails; None: outer bins stay as they are.

    Returns:
        Increasing, shape `(bins + 1,)`; the outer ones are the lowest and the highest number.
    """
    starts = np.arange(1, len(values))
    if len(values) > num_bins:
        heavy = counts * num_bins >= counts.sum()
        rest = np.where(heavy, 0, counts)
        # with a bin for each heavy number there is room for as many of the rest as still fit
        for size in range(num_bins if rest.any() else 0, 0, -1):
            starts = _bin_starts(rest, size, heavy)
            if len(starts) < num_bins:
                break
        else:
            starts = _bin_starts(counts, num_bins, np.zeros_like(heavy))
    if tail_rows is not None and len(starts):
        upper = _halvings(counts[starts[-1] :], tail_rows)
        lower = _halvings(counts[: starts[0]][::-1], tail_rows)
        starts = np.concatenate([starts[0] - lower[::-1], starts, starts[-1] + upper])
    halfway = (values[starts - 1] + values[starts]) / 2
    return np.concatenate([values[:1], halfway, values[-1:]])


def _halvings(counts: np.ndarray, least: int) -> np.ndarray:
    """Return where a bin is cut so that each cut leaves about half of the numbers outside, the outermost cut last.

    Args:
        counts: of the bin's numbers, from the middle of the table outwards, shape `(numbers,)`.
        least: numbers on either side of a cut.
    """
    outside = np.concatenate([np.cumsum(counts[::-1])[::-1], [0]])  # from each number on
    cuts: list[int] = []
    begin = 0
    while True:
        # the first cut that leaves at most half outside, for ties may leave much less
        cut = int(np.argmax(2 * outside <= outside[begin]))
        if outside[cut] < least or outside[begin] - outside[cut] < least:
            return np.array(cuts, dtype=np.int64)
        cuts.append(cut)
        begin = cut


def _bin_starts(counts: np.ndarray, num_bins: int, alone: np.ndarray) -> np.ndarray:
    """Return the places of the numbers with which bins begin, but the first.

    A number that would begin several bins is alone in its own, as are those of `alone`: at most `num_bins` bins, and
    two more for each of `alone`.
    """
    ends = np.cumsum(counts)
    places = np.searchsorted(ends, np.arange(num_bins + 1) * (ends[-1] - 1) // num_bins, side="right")
    begins, times = np.unique(places, return_counts=True)
    apart = np.union1d(begins[times > 1], np.flatnonzero(alone))
    starts = np.concatenate([begins[:-1], apart, apart + 1])
    return np.setdiff1d(starts, [0, len(counts)])


def count_edges_below(edges: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return how many of the increasing `edges` are at most each value: `np.searchsorted(..., side="right")`.

    A few edges are compared with all values, piece by piece: four times as fast as a search per value.
    """
    if len(edges) > 127:
        return np.searchsorted(edges, values, side="right")
    counts = np.zeros(len(values), dtype=np.int8)
    for first in range(0, len(values), 65_536):
        piece, out = values[first : first + 65_536], counts[first : first + 65_536]
        for edge in edges:
            out += piece >= edge
    return counts


def number_text(number: float, digits: int) -> str:
    """Return a number with so many digits that matter, without an exponent where it is readable."""
    if number and not 1e-4 <= abs(number) < 1e9:
        return f"{number:.{digits}g}"
    return np.format_float_positional(number, precision=digits, unique=False, fractional=False, trim="-")


def elapsed_text(seconds: float, digits: int) -> str:
    """Return seconds in the largest unit of which they are at least two, as in `5.5 d`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if abs(seconds) >= 2 * size:
            return f"{number_text(seconds / size, digits)} {unit}"
    return f"{number_text(seconds, digits)} s"

"""Where a table is cut by time, from counts of times that parts of the table gave: no process holds all times."""

from collections.abc import Callable, Sequence

import numpy as np

LIMIT = 2**16  # counts that one part keeps: 1 MiB
LOWEST, HIGHEST = -(2**63), 2**63 - 1


class TimeCounts:
    """How many rows have each time, exact while few times are different, else of intervals of equal length.

    Parts merge into what one pass would count, in any order. Intervals are the shortest of 2, 4, 8 … microseconds of
    which at most `limit` hold a row.

    Args:
        low, high: first and last time that count, microseconds.
        limit: of the counts that are kept.

    Example:

    ```python
    >>> counts = TimeCounts()
    >>> counts.add(np.array([3, 1, 2, 2]))
    >>> counts.interval(2)  # the third time in order: it is 2, and one row lies before it
    (2, 2, 1)
    ```
    """

    def __init__(self, low: int = LOWEST, high: int = HIGHEST, limit: int = LIMIT) -> None:
        self.low, self.high, self.limit = low, high, limit
        self.shift = 0  # bits of a time that are left out
        self.keys, self.counts = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)

    @property
    def total(self) -> int:
        """Rows that were counted."""
        return int(self.counts.sum())

    def add(self, times: np.ndarray) -> None:
        """Count rows by their times, `(rows,)` int64 microseconds; times outside of `low` to `high` are left out."""
        if self.low > LOWEST or self.high < HIGHEST:
            times = times[(times >= self.low) & (times <= self.high)]
        self._include(*np.unique(times >> self.shift, return_counts=True))

    def merge(self, other: "TimeCounts") -> None:
        """Add what another part counted in the same span."""
        shift = max(self.shift, other.shift)
        self.keys, self.shift = self.keys >> (shift - self.shift), shift
        self._include(other.keys >> (shift - other.shift), other.counts)

    def _include(self, keys: np.ndarray, counts: np.ndarray) -> None:
        keys, counts = np.concatenate([self.keys, keys]), np.concatenate([self.counts, counts])
        order = np.argsort(keys, kind="stable")
        keys, counts = keys[order], counts[order]
        while np.count_nonzero(keys[1:] != keys[:-1]) >= self.limit:
            keys, self.shift = keys >> 1, self.shift + 1
        first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])) if len(keys) else order
        self.keys, self.counts = keys[first], np.add.reduceat(counts, first) if len(keys) else counts

    def interval(self, rank: int) -> tuple[int, int, int]:
        """Return the first and last time among which the row of a rank lies, and how many rows come before them.

        Args:
            rank: place of the row in the order of time, from 0, below `total`.
        """
        ends = np.cumsum(self.counts)
        place = int(np.searchsorted(ends, rank, side="right"))
        low = int(self.keys[place]) << self.shift
        high = low + (1 << self.shift) - 1
        return max(low, self.low), min(high, self.high), int(ends[place] - self.counts[place])


Recount = Callable[[list[TimeCounts]], list[TimeCounts]]


def fit_time_split(shares: Sequence[float], counts: TimeCounts, recount: Recount) -> tuple[list[int], int]:
    """Return the first times of validation and of test, and how many rows come before the first of them.

    They are those of `Split("time")` on all times: rows of one time are never divided. Times are counted once, and
    again within the intervals of the two cuts until each interval is a single time: four passes at most.

    Args:
        shares: of train, validation and test.
        counts: of all rows.
        recount: counts all rows again within the spans of the counts given, which are empty.
    """
    total = counts.total
    if not total:
        return [HIGHEST, HIGHEST], 0
    places = split_places(shares, total)
    found = [counts.interval(min(place, total - 1)) for place in places]
    while open_ := sorted({(low, high) for low, high, _ in found if low < high}):
        again = dict(zip(open_, recount([TimeCounts(low, high, counts.limit) for low, high in open_]), strict=True))
        for i, (low, high, before) in enumerate(found):
            if low < high:
                rank = min(places[i], total - 1) - before
                low, high, within = again[low, high].interval(rank)
                found[i] = (low, high, before + within)
    cuts = [low if place < total else HIGHEST for place, (low, _, _) in zip(places, found, strict=True)]
    return cuts, found[0][2] if places[0] < total else total


def split_places(shares: Sequence[float], rows: int) -> list[int]:
    """Return the ranks in time of the rows with which validation and test begin, `rows` where they have none."""
    return [round(share * rows) for share in np.cumsum(shares)[:2]]


def split_at(times: np.ndarray, cuts: Sequence[int]) -> np.ndarray:
    """Return 0 for rows before the first cut, 1 before the second, 2 for others: `(rows,)` uint8."""
    return np.searchsorted(np.array(cuts, dtype=np.int64), times, side="right").astype(np.uint8)

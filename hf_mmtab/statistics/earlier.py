"""What came before each row in the same group: counts, sums and means over its past, with no loop over rows.

Rows are given in the order in which they happened. "Before" is strict: a row never counts itself, unless `inclusive`
says so, and no number here depends on a later row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

LOWEST_BIT, DIGIT_BITS = -56, 32  # a sum of fewer than 2**31 digits is an int64
NOTHING, LARGEST = 2.0**-40, 2.0**240


class Moments:
    """The different times of a table, shared by all groups of its rows.

    Args:
        time: `(rows,)` int64, not decreasing.

    Raises:
        ValueError: if `time` decreases.
    """

    def __init__(self, time: np.ndarray) -> None:
        steps = np.diff(time)
        if (steps < 0).any():
            at = int(np.flatnonzero(steps < 0)[0]) + 1
            raise ValueError(f"Expected rows in the order of time, found row {at} before row {at - 1}. Sort them.")
        begins = np.concatenate([[True], steps > 0])[: len(time)]
        self.times, self.rank = time[begins], np.cumsum(begins) - 1
        self._after: dict[float, np.ndarray] = {}

    def since(self, seconds: float) -> np.ndarray:
        """Return for each row the rank of the first time that is less than `seconds` before it, `(rows,)`."""
        if seconds not in self._after:
            long_ago = self.times - np.int64(seconds * 1e6)
            self._after[seconds] = np.searchsorted(self.times, long_ago, side="right")
        return self._after[seconds][self.rank]


class Earlier:
    """The earlier rows of each row's group.

    Args:
        group: `(rows,)` int64 codes, rows in the order of time.
        time: `(rows,)` int64, not decreasing, or the `Moments` of it.
        ties: whether rows of the same time that stand before count as earlier. Within one history they do (the model
            reads them in that order too); between histories nobody knows which came first.

    Raises:
        ValueError: if `time` decreases.
    """

    def __init__(self, group: np.ndarray, time: "np.ndarray | Moments", ties: bool = True) -> None:
        self._moments = time if isinstance(time, Moments) else Moments(time)
        self._last_stretch: tuple[float, np.ndarray] | None = None
        rows = len(group)
        self.order = np.argsort(group, kind="stable")
        sorted_group = group[self.order]
        starts = np.ones(rows, dtype=bool)
        starts[1:] = sorted_group[1:] != sorted_group[:-1]
        self._dense = np.cumsum(starts) - 1
        first = np.flatnonzero(starts)
        self.first = first[self._dense] if rows else self._dense  # where each sorted row's group begins
        here = np.arange(rows)
        self.stop = here if ties else self._searched(self._moments.rank)

    def _key(self, rank: np.ndarray) -> np.ndarray:
        """Return for each sorted row a number that orders by group and then by the rank of a time, `(rows,)`."""
        return self._dense * (len(self._moments.times) + 1) + rank[self.order]

    @cached_property
    def _keys(self) -> np.ndarray:
        return self._key(self._moments.rank)

    def _searched(self, rank: np.ndarray) -> np.ndarray:
        """Return for each sorted row where, in its group, the times of a rank or later ones begin.

        Args:
            rank: `(rows,)`, of each row in the order of time.
        """
        return np.searchsorted(self._keys, self._key(rank))

    def back(self, rows: int | None = None, seconds: float | None = None) -> np.ndarray:
        """Return where the stretch before each sorted row begins: `rows` earlier rows, those of the last `seconds`
        (a row exactly that long ago is out), or all.
        """
        if seconds is not None:
            if self._last_stretch is None or self._last_stretch[0] != seconds:  # sums and counts ask in turn
                begins = np.minimum(self.stop, self._searched(self._moments.since(seconds)))
                self._last_stretch = seconds, begins
            return self._last_stretch[1]
        if rows is not None:
            return np.maximum(self.first, self.stop - rows)
        return self.first

    def _unsorted(self, values: np.ndarray) -> np.ndarray:
        out = np.empty(len(values), dtype=values.dtype)
        out[self.order] = values
        return out

    def count(self, **stretch: Any) -> np.ndarray:
        """Return how many earlier rows there are, `(rows,)` int64; `stretch`: `rows` or `seconds`, as of `back`."""
        return self._unsorted(self.stop - self.back(**stretch))

    def total(
        self, values: np.ndarray, inclusive: bool = False, before: np.ndarray | None = None, **stretch: Any
    ) -> np.ndarray:
        """Return the sum over the earlier rows of a stretch, `(rows,)` float64; what is not finite counts as 0.

        Args:
            values: of each row.
            inclusive: add the row itself, beside the rows of the stretch.
            before: `(words, rows)`, what rows that are not at hand add to each row's sum, see `FixedPoint.words`.
            stretch: `rows` or `seconds`, as of `back`.
        """
        found = self._sum(values, self.back(**stretch), self.stop, before)
        return found + np.where(np.isfinite(values), values, 0).astype(np.float64) if inclusive else found

    def total_before(self, values: np.ndarray, seconds: float, before: np.ndarray | None = None) -> np.ndarray:
        """Return the sum over the rows of at least `seconds` ago, `(rows,)` float64; see `total`."""
        return self._sum(values, self.first, self.back(seconds=seconds), before)

    def _sum(self, values: np.ndarray, since: np.ndarray, until: np.ndarray, before: np.ndarray | None) -> np.ndarray:
        """Sum from place `since` up to, not with, place `until` of each sorted row, `(rows,)`."""
        fixed = FixedPoint.of(values, 0 if before is None else len(before))
        sums = []
        for number, words in enumerate(fixed.words(values[self.order])):
            running = np.concatenate([[0], np.cumsum(words)])
            added = running[until] - running[since]
            sums.append(added if before is None else added + before[number][self.order])
        return self._unsorted(fixed.numbers(sums))

    def mean(self, values: np.ndarray, before: np.ndarray | None = None, **settings: Any) -> np.ndarray:
        """Return the mean over the rows that `total` adds up and that have a value, `(rows,)`; NaN where none has.

        Args:
            values: of each row.
            before: `(1 + words, rows)`, how many values rows that are not at hand have, and their sum, see `total`.
            settings: of `total`.
        """
        counted, summed = (None, None) if before is None else (before[:1], before[1:])
        counts = self.total(np.isfinite(values), before=counted, **settings)
        sums = self.total(values, before=summed, **settings)
        return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)

    def deviation(self, values: np.ndarray) -> np.ndarray:
        """Return the standard deviation (n - 1) of the earlier rows that have a value, `(rows,)`; NaN below two.

        Values that differ by less than a millionth count as equal, and by more than 2^120 as by that.
        """
        known = np.isfinite(values)
        values = np.where(known, np.clip(values, -LARGEST, LARGEST), np.nan)
        apart = np.clip(values - self._first_known(values, known), -(LARGEST**0.5), LARGEST**0.5)
        counts, sums, squares = self.total(known), self.total(apart), self.total(apart**2)
        spread = np.maximum(0.0, squares - np.divide(sums**2, counts, out=np.zeros_like(sums), where=counts > 0))
        spread = without_rounding(spread, squares)
        return np.sqrt(np.divide(spread, counts - 1, out=np.full(len(values), np.nan), where=counts > 1))

    def _first_known(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Return the first known value of each row's group, `(rows,)`; any number where it has none."""
        last = len(values) - 1
        place = np.where(known[self.order], np.arange(len(values)), last)
        place = np.minimum.accumulate(place[::-1])[::-1]  # of the next known value
        return self._unsorted(values[self.order][place[self.first]])

    def nth(self, values: np.ndarray, back: int = 1) -> np.ndarray:
        """Return the value of the row `back` rows before, `(rows,)` float64; NaN where there is none."""
        place = self.stop - back
        ordered = values[self.order].astype(np.float64)
        return self._unsorted(np.where(place >= self.first, ordered[np.maximum(place, 0)], np.nan))


@dataclass(frozen=True)
class FixedPoint:
    """Numbers as digits of 32 bits, from 2^-56 upwards: their sums are exact, in any order and from any parts.

    Sums of floating point numbers would differ in their last digits with the rows before and behind those that are
    summed, and with the order of rows of the same time. Nothing of it is fitted, so that no later row, however large
    its numbers, moves what was made of the rows before it.

    Args:
        digits: of a number; further ones would be 0. 0: the numbers are counts, of one word.
    """

    digits: int

    @classmethod
    def of(cls, values: np.ndarray, at_least: int = 0) -> "FixedPoint":
        """Return what holds the sums of some values; of what is True, counts."""
        if values.dtype == bool:
            return cls(0)
        most = np.max(np.abs(values), initial=0.0, where=np.isfinite(values))
        return cls(max(at_least, -((LOWEST_BIT - int(np.frexp(min(most, LARGEST))[1])) // DIGIT_BITS)))

    def words(self, values: np.ndarray) -> list[np.ndarray]:
        """Return the digits of values, the lowest first, `(rows,)` int64 each; what is not finite as 0.

        What is smaller than 2^-57 is 0, and what is larger than 2^240 is 2^240.
        """
        if not self.digits:
            return [values.astype(np.int64)]
        words: list[np.ndarray] = []
        rest = np.where(np.isfinite(values), np.clip(values, -LARGEST, LARGEST), 0.0)
        for place in reversed(range(LOWEST_BIT, LOWEST_BIT + self.digits * DIGIT_BITS, DIGIT_BITS)):
            digit = np.rint(np.ldexp(rest, -place))
            rest = rest - np.ldexp(digit, place)
            words.insert(0, digit.astype(np.int64))
        return words

    def numbers(self, words: Sequence[np.ndarray]) -> np.ndarray:
        """Return sums of words as numbers, `(rows,)` float64: the same for one sum, however many digits there are.

        What is smaller than 2^-40 is 0: of 0.1 + 0.2 - 0.3 rounding leaves 3e-17, which a tree may send down another
        branch than 0.
        """
        if not self.digits:
            return words[0].astype(np.float64)
        found, carried = np.zeros(len(words[0])), np.zeros(len(words[0]), dtype=np.int64)
        for number, word in enumerate([*words, np.zeros(1, dtype=np.int64)]):
            digit = word + carried
            carried = (digit + 2 ** (DIGIT_BITS - 1)) >> DIGIT_BITS
            found += np.ldexp((digit - (carried << DIGIT_BITS)).astype(np.float64), LOWEST_BIT + number * DIGIT_BITS)
        found[np.abs(found) < NOTHING] = 0.0
        return found


def without_rounding(values: np.ndarray, terms: np.ndarray | float) -> np.ndarray:
    """Return values, but exactly 0 where they are no more than what rounding leaves of the terms they are made of."""
    return np.where(np.abs(values) <= 1e-12 * terms, 0.0, values)


def together(*codes: np.ndarray) -> np.ndarray:
    """Number the combinations of several codes, `(rows,)` int64; rows whose code is missing (-1) are one more."""
    joint = codes[0].astype(np.int64)
    for more in codes[1:]:
        joint = np.unique(joint, return_inverse=True)[1] if joint.max(initial=0) > 2**31 else joint
        joint = joint * (int(more.max(initial=0)) + 2) + more + 1
    return joint

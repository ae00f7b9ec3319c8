"""One fitted field: its range of ids, values or bin edges, encoding and decoding."""

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from .columns_tabbert import FieldPlan
from .statistics_tabbert import FieldStatistics
from .values_tabbert import fixed_values, is_text, parse_numbers, stable_hash, transformed

UNKNOWN, MISSING = "[UNK]", "[MISSING]"


@dataclass
class FittedField:
    """A field after fitting.

    Its ids are `[start, end)`: [UNK], [MISSING] (if the plan gives each field its own), then the values or
    bins.
    """

    plan: FieldPlan
    start: int
    unknown_id: int
    missing_id: int
    first_value_id: int
    values: pa.Array | None = None  # vocabulary, in the order of ids; None: bins or hash buckets
    counts: np.ndarray | None = None  # rows of the fitted part per value or bin
    buckets: int = 0  # hash buckets; 0: not hashed
    edges: np.ndarray | None = None  # bin edges, (bins + 1,), in the transform's unit
    bins: np.ndarray | None = None  # bins that have an id, increasing; None: all
    lowest: float = 0.0
    highest: float = 0.0
    temporal: bool = False
    error: float = 0.0  # relative error of the edges (0: exact)
    missing_rate: float = 0.0

    @property
    def size(self) -> int:
        """Number of ids of values or bins."""
        if self.buckets:
            return self.buckets
        if self.edges is not None:
            return len(self.edges) - 1 if self.bins is None else len(self.bins)
        assert self.values is not None
        return len(self.values)

    @property
    def end(self) -> int:
        """One after the last id."""
        return self.first_value_id + self.size

    @classmethod
    def fit(cls, statistics: FieldStatistics, start: int, specials: bool, unknown_id: int) -> "FittedField":
        """Make the field from what fitting learned.

        Args:
            start: first free id.
            specials: give the field its own [UNK] and [MISSING].
            unknown_id: id of unknown and missing values without them.
        """
        plan = statistics.plan
        fitted = cls(
            plan=plan,
            start=start,
            unknown_id=start if specials else unknown_id,
            missing_id=start + 1 if specials else unknown_id,
            first_value_id=start + 2 if specials else start,
            temporal=statistics.temporal,
            missing_rate=statistics.missing / max(1, statistics.rows),
        )
        if statistics.sketch is not None:
            fitted._fit_bins(statistics)
        elif statistics.categories is not None:
            fitted._fit_categories(statistics)
        else:
            fitted.values = pa.array(fixed_values(plan))
        return fitted

    def _fit_categories(self, statistics: FieldStatistics) -> None:
        counted = statistics.categories
        assert counted is not None
        if counted.hashed:
            self.buckets = counted.num_buckets
            return
        ranked = counted.ranked().filter(pl.col("count") >= self.plan.min_count)
        if self.plan.max_values is not None:
            ranked = ranked.head(self.plan.max_values)
        arrow = ranked["value"].to_arrow(compat_level=pl.CompatLevel.oldest())
        self.values = arrow.cast(pa.string()) if pa.types.is_large_string(arrow.type) else arrow
        self.counts = ranked["count"].to_numpy()

    def _fit_bins(self, statistics: FieldStatistics) -> None:
        sketch, count = statistics.sketch, self.plan.num_bins
        assert sketch is not None
        if sketch.total == 0 and self.plan.kind == "time_gap":
            raise ValueError(
                f"Field {self.plan.name!r}: no time between two rows to fit bins on, since none of the "
                f"{statistics.rows} rows follows another of its entity. Give a table with more rows of each, or remove "
                "the field from the plan."
            )
        if sketch.total == 0:
            raise ValueError(
                f"Field {self.plan.name!r}: no number to fit bins on, all {statistics.rows} rows are missing"
                " or infinite. Remove the field from the plan."
            )
        self.lowest, self.highest, self.error = sketch.lowest, sketch.highest, sketch.error
        original = self.plan.binning == "original"
        values, counts = sketch.values_and_counts()
        if original:
            # source: np.arange(0, 1 + 1/n, 1/n) of the original, rounding errors included
            shares = np.minimum(np.arange(count + 1) * (1 / count), 1.0)
            self.edges = sketch.quantiles(shares, self._transformed)
        else:
            self.edges = bin_edges(self._transformed(values), counts, count)
        self.counts = np.bincount(self._bin(values), weights=counts, minlength=len(self.edges) - 1).astype(
            np.int64
        )
        if original:
            self.bins = np.flatnonzero(self.counts)
            self.counts = self.counts[self.bins]

    def _transformed(self, values: np.ndarray) -> np.ndarray:
        return transformed(self.plan, values, self.lowest, self.highest, self.temporal)

    def _bin(self, values: np.ndarray) -> np.ndarray:
        """Return the bin of finite or infinite numbers; the outer bins are open to both sides."""
        assert self.edges is not None
        return count_edges_below(self.edges[1:-1], self._transformed(values))

    def encode_numbers(self, values: np.ndarray) -> np.ndarray:
        """Return ids as uint32 of float64 numbers, NaN where missing."""
        with np.errstate(invalid="ignore"):
            codes = self._bin(values)
        if self.bins is not None:
            assert self.edges is not None
            table = np.full(len(self.edges) - 1, -1)
            table[self.bins] = np.arange(len(self.bins))
            codes = table[codes]
        missing = np.isnan(values)
        return self._with_specials(codes, missing if missing.any() else None)

    def encode_categories(self, values: pa.Array) -> np.ndarray:
        """Return ids as uint32 of values as `values_tabbert.categories` gives them."""
        missing = np.asarray(values.is_null()) if values.null_count else None
        if self.buckets:
            codes = (stable_hash(values) % np.uint64(self.buckets)).astype(np.int64)
        else:
            assert self.values is not None
            found = pc.index_in(self._like_vocabulary(values), value_set=self.values)
            if found.null_count:
                found = pc.fill_null(found, -1)
            codes = found.to_numpy(zero_copy_only=False)
        return self._with_specials(codes, missing)

    def encode_fixed(self, codes: np.ndarray) -> np.ndarray:
        """Return ids as uint32 of codes, -1 where missing."""
        return self._with_specials(codes, codes < 0)

    def _with_specials(self, codes: np.ndarray, missing: np.ndarray | None) -> np.ndarray:
        ids = codes.astype(np.uint32) + np.uint32(self.first_value_id)
        if len(codes) and codes.min() < 0:
            ids[codes < 0] = self.unknown_id
        if missing is not None:
            ids[missing] = self.missing_id
        return ids

    def _like_vocabulary(self, values: pa.Array) -> pa.Array:
        """Cast values to the vocabulary's type; what does not fit becomes null, that is unknown."""
        assert self.values is not None
        kind = self.values.type
        if values.type == kind:
            return values
        if pa.types.is_string(kind):
            # whole numbers that pandas turned into floats: 5411.0 is "5411"
            if pa.types.is_floating(values.type):
                whole = pc.equal(pc.floor(values), values)
                text = pc.if_else(
                    whole, values.cast(pa.int64(), safe=False).cast(pa.string()), values.cast(pa.string())
                )
                return text
            return values.cast(kind)
        if pa.types.is_floating(kind):
            return parse_numbers(values) if is_text(values.type) else values.cast(kind, safe=False)
        return _whole_numbers(values)

    def tokens(self, digits: int = 6) -> list[str]:
        """Return the text of every id from `first_value_id` on; bins of logarithms in the numbers they are of.

        Args:
            digits: of the edges of bins that matter. Those of a `time_gap` are in seconds, minutes, hours or days.
        """
        if self.buckets:
            return [f"[HASH {i}]" for i in range(self.buckets)]
        if self.edges is not None:
            kept = range(len(self.edges) - 1) if self.bins is None else self.bins
            edges = self.edges
            if self.plan.transform == "log1p":
                edges = np.sign(edges) * np.expm1(np.abs(edges))
            written = elapsed_text if self.plan.kind == "time_gap" else number_text
            texts = [written(float(edge), digits) for edge in edges]
            last = len(edges) - 2  # the only one that holds its upper edge
            return [f"[{texts[i]}, {texts[i + 1]}{']' if i == last else ')'}" for i in kept]
        assert self.values is not None
        return [str(v) for v in self.values.to_pylist()]

    def centers(self) -> np.ndarray:
        """Return the number in the middle of each bin in the transform's unit, shape `(size,)`."""
        assert self.edges is not None
        middle = (self.edges[:-1] + self.edges[1:]) / 2
        return middle if self.bins is None else middle[self.bins]

    def decode(self, ids: np.ndarray, special_tokens: tuple[str, ...], digits: int = 6) -> list[str]:
        """Return the text of each id of shape `(rows,)`: a value, an interval of numbers or a special token.

        Args:
            digits: of the edges of intervals.

        Raises:
            ValueError: if an id is neither of this field nor special.
        """
        words = dict(enumerate(special_tokens))
        if self.first_value_id > self.start:
            words |= {self.unknown_id: UNKNOWN, self.missing_id: MISSING}
        words |= dict(enumerate(self.tokens(digits), self.first_value_id))
        unique, inverse = np.unique(ids, return_inverse=True)
        wrong = [int(i) for i in unique if int(i) not in words]
        if wrong:
            raise ValueError(
                f"Field {self.plan.name!r} has the ids {self.start} to {self.end - 1}, found {wrong[:5]}. "
                "These ids come from another processor."
            )
        return np.array([words[int(i)] for i in unique], dtype=object)[inverse.reshape(-1)].tolist()

    def state(self) -> tuple[dict[str, Any], list | None, dict[str, np.ndarray]]:
        """Return plain settings, text values and arrays from which `from_state` builds the same field."""
        plain = {
            "start": self.start,
            "end": self.end,
            "unknown_id": self.unknown_id,
            "missing_id": self.missing_id,
            "first_value_id": self.first_value_id,
            "buckets": self.buckets,
            "lowest": self.lowest,
            "highest": self.highest,
            "temporal": self.temporal,
            "error": self.error,
            "missing_rate": self.missing_rate,
        }
        arrays = {k: v for k in ("counts", "edges", "bins") if (v := getattr(self, k)) is not None}
        words = None
        if self.values is not None:
            if pa.types.is_string(self.values.type):
                words = self.values.to_pylist()
            else:
                arrays["values"] = self.values.to_numpy()
        return plain, words, {k: np.ascontiguousarray(v) for k, v in arrays.items()}

    @classmethod
    def from_state(
        cls, plan: FieldPlan, plain: dict[str, Any], words: list | None, arrays: dict[str, np.ndarray]
    ) -> "FittedField":
        """Build the field that `state` described."""
        values = pa.array(words, pa.string()) if words is not None else None
        if "values" in arrays:
            values = pa.array(arrays["values"])
        rest: dict[str, Any] = {k: v for k, v in arrays.items() if k != "values"}
        settings = {k: v for k, v in plain.items() if k != "end"}
        return cls(plan=plan, values=values, **settings, **rest)


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


def bin_edges(values: np.ndarray, counts: np.ndarray, num_bins: int) -> np.ndarray:
    """Return the edges of at most `num_bins` bins of about equally many numbers, none of them empty.

    Few different numbers get a bin each. One that is so frequent that it fills a bin shares it with no other number,
    so that a field that is nearly always zero still tells zero from the rest. Inner edges lie halfway between
    neighbouring numbers.

    Args:
        values: different finite numbers, increasing, shape `(numbers,)`.
        counts: how often each was met, shape `(numbers,)`.
        num_bins: at least 1.

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
    halfway = (values[starts - 1] + values[starts]) / 2
    return np.concatenate([values[:1], halfway, values[-1:]])


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


def _whole_numbers(values: pa.Array) -> pa.Array:
    """Return numbers or text as int64, null where they are not whole numbers."""
    if is_text(values.type):
        coded = values.dictionary_encode()
        return pa.array([_whole_number(one) for one in coded.dictionary.to_pylist()], pa.int64()).take(
            coded.indices
        )
    whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 2.0**53))
    return pc.if_else(whole, values, None).cast(pa.int64())


def _whole_number(text: str) -> int | None:
    """Parse a whole number: 91750.0 is 91750, and text of digits keeps all of them."""
    if re.fullmatch(r"[+-]?[0-9]+", text) and abs(number := int(text)) < 2**63:
        return number
    value = parse_numbers(pa.array([text]))[0].as_py()
    return int(value) if value is not None and abs(value) < 2.0**53 and value == math.floor(value) else None

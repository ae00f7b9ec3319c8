"""What fitting remembers of a column, in bounded memory, so that parts can be fitted apart and merged."""

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from .columns_tabbert import FieldPlan
from .values_tabbert import stable_hash

DEFAULT_BUCKETS = 65_536
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
        return 0.0 if self.bits == MANTISSA_BITS else 2.0 ** -(self.bits + 1)

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

    def quantiles(self, shares: np.ndarray, transform: Any = None) -> np.ndarray:
        """Return quantiles by linear interpolation, as `np.quantile` gives them on the numbers themselves.

        Args:
            shares: in [0, 1].
            transform: increasing function applied to the numbers first.
        """
        values, counts = self.values_and_counts()
        if self.bits < MANTISSA_BITS:  # the middle of what was rounded together, the extremes as they were
            values = np.clip(values * (1.0 + self.error), self.lowest, self.highest)
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
        """Return plain values and arrays from which `from_state` builds the same sketch."""
        values, counts = self.values_and_counts()
        extremes = np.array([self.lowest, self.highest])
        return {"bits": self.bits, "limit": self.limit}, {
            "values": values,
            "counts": counts,
            "extremes": extremes,
        }

    @classmethod
    def from_state(cls, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> "QuantileSketch":
        """Build the sketch that `state` described."""
        sketch = cls(plain["limit"])
        sketch.bits = plain["bits"]
        sketch._values, sketch._counts = arrays["values"], arrays["counts"]
        sketch.lowest, sketch.highest = (float(x) for x in arrays["extremes"])
        return sketch


class CategoryCounts:
    """Exact counts of values; beyond `limit` different values, exact counts of their hash buckets.

    The outcome depends on the values alone, not on how they were cut into parts.
    """

    def __init__(self, buckets: int | None = None, limit: int = 1_000_000) -> None:
        self.buckets, self.limit = buckets, limit
        self._hashed = buckets is not None
        self.type: pa.DataType | None = None
        self._frame: pl.DataFrame | None = None  # value, count
        self._pending: list[pl.DataFrame] = []
        self._pending_size = 0

    @property
    def hashed(self) -> bool:
        """Whether buckets are counted in place of values."""
        self._settle()  # what is pending may be one value too many
        return self._hashed

    @property
    def num_buckets(self) -> int:
        """Ids of the field once it is hashed."""
        return self.buckets or DEFAULT_BUCKETS

    def add(self, values: pa.Array, name: str) -> None:
        """Add values as `values_tabbert.categories` gives them; nulls are left out.

        Raises:
            ValueError: if the column changed its type.
        """
        if values.null_count == len(values):
            return
        if self.type is None:
            self.type = values.type
        elif self.type != values.type:
            raise ValueError(
                f"Column {name!r} changed its type from {self.type} to {values.type} between batches. "
                "Give the column one type when reading the table."
            )
        counted = pc.value_counts(values)
        present = counted.field("values").is_valid()
        self._push(counted.field("values").filter(present), counted.field("counts").filter(present))

    def _push(self, values: pa.Array, counts: pa.Array) -> None:
        if self._hashed and not pa.types.is_uint64(values.type):
            values = pa.array(stable_hash(values) % np.uint64(self.num_buckets))
        frame = pl.DataFrame({"value": pl.from_arrow(values), "count": pl.from_arrow(counts)})
        self._pending.append(frame.with_columns(pl.col("count").cast(pl.Int64)))
        self._pending_size += len(frame)
        if self._pending_size > 2_000_000:
            self._settle()

    def _settle(self) -> None:
        parts = [*([self._frame] if self._frame is not None else []), *self._pending]
        self._pending, self._pending_size = [], 0
        if not parts:
            return
        self._frame = pl.concat(parts).group_by("value").agg(pl.col("count").sum())
        if not self._hashed and len(self._frame) > self.limit:
            self._hash()

    def _hash(self) -> None:
        self._hashed, frame = True, self._frame
        self._frame = None
        if frame is not None:
            arrow = frame.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
            self._push(arrow["value"].combine_chunks(), arrow["count"].combine_chunks())
            self._settle()

    def merge(self, other: "CategoryCounts", name: str) -> None:
        """Add everything that `other` counted."""
        other._settle()
        if other.type is not None and self.type is not None and other.type != self.type:
            raise ValueError(
                f"Column {name!r} is {self.type} in one part and {other.type} in another. "
                "Give the column one type when reading the table."
            )
        self.type = self.type or other.type
        self._settle()
        if other._hashed and not self._hashed:
            self._hash()
        if other._frame is not None:
            arrow = other._frame.to_arrow(compat_level=pl.CompatLevel.oldest())
            self._push(arrow["value"].combine_chunks(), arrow["count"].combine_chunks())
        self._settle()

    def ranked(self) -> pl.DataFrame:
        """Return `value, count`, most frequent first, equal counts by value."""
        self._settle()
        if self._frame is None:
            return pl.DataFrame({"value": [], "count": []}, schema={"value": pl.String, "count": pl.Int64})
        return self._frame.sort(["count", "value"], descending=[True, False])

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return plain values and arrays from which `from_state` builds the same counts."""
        frame = self.ranked()
        plain: dict[str, Any] = {"buckets": self.buckets, "limit": self.limit, "hashed": self._hashed}
        plain["type"] = str(self.type) if self.type is not None else None
        arrays = {"counts": frame["count"].to_numpy()}
        if frame["value"].dtype == pl.String:
            plain["values"] = frame["value"].to_list()
        else:
            arrays["values"] = frame["value"].to_numpy()
        return plain, arrays

    @classmethod
    def from_state(cls, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> "CategoryCounts":
        """Build the counts that `state` described."""
        counts = cls(plain["buckets"], plain["limit"])
        counts._hashed = plain["hashed"]
        if plain["type"] is not None:
            names = {
                "int64": pa.int64(),
                "double": pa.float64(),
                "string": pa.string(),
                "large_string": pa.large_string(),
            }
            counts.type = names[plain["type"]]
            values = plain["values"] if "values" in plain else arrays["values"]
            counts._frame = pl.DataFrame({"value": values, "count": arrays["counts"]})
        return counts


class FieldStatistics:
    """Everything fitting learns about one field."""

    def __init__(self, plan: FieldPlan, hash_above: int) -> None:
        self.plan = plan
        self.rows = self.missing = self.infinite = 0
        self.temporal = False  # numbers are microseconds
        self.sketch = (
            QuantileSketch(None if plan.binning == "original" else 2**18) if plan.is_binned else None
        )
        self.categories = (
            CategoryCounts(plan.hash_buckets, hash_above) if plan.kind == "categorical" else None
        )

    def add_numbers(self, values: np.ndarray) -> None:
        """Add float64 values, NaN where missing; infinite ones are counted and left out of the quantiles."""
        assert self.sketch is not None
        finite = np.isfinite(values)
        self.rows += len(values)
        if not finite.all():
            missing = int(np.isnan(values).sum())
            self.missing += missing
            self.infinite += len(values) - missing - int(finite.sum())
            values = values[finite]
        self.sketch.add(values)

    def add_categories(self, values: pa.Array) -> None:
        """Add values of a categorical field."""
        assert self.categories is not None
        self.rows += len(values)
        self.missing += values.null_count
        self.categories.add(values, self.plan.name)

    def add_fixed(self, rows: int, missing: int) -> None:
        """Count rows of a field whose vocabulary is known beforehand."""
        self.rows += rows
        self.missing += missing

    def merge(self, other: "FieldStatistics") -> None:
        """Add everything that `other` learned."""
        self.rows += other.rows
        self.missing += other.missing
        self.infinite += other.infinite
        self.temporal = self.temporal or other.temporal
        if self.sketch is not None and other.sketch is not None:
            self.sketch.merge(other.sketch)
        if self.categories is not None and other.categories is not None:
            self.categories.merge(other.categories, self.plan.name)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return plain values and arrays from which `load_state` restores the same statistics."""
        held = self.sketch or self.categories
        plain, arrays = held.state() if held is not None else ({}, {})
        own = {
            "rows": self.rows,
            "missing": self.missing,
            "infinite": self.infinite,
            "temporal": self.temporal,
        }
        return {**own, "held": plain}, arrays

    def load_state(self, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Restore what `state` described."""
        self.rows, self.missing = plain["rows"], plain["missing"]
        self.infinite, self.temporal = plain["infinite"], plain["temporal"]
        if self.sketch is not None:
            self.sketch = QuantileSketch.from_state(plain["held"], arrays)
        if self.categories is not None:
            self.categories = CategoryCounts.from_state(plain["held"], arrays)

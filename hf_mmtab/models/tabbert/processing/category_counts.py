"""How often each value of a column occurs, in bounded memory, so that parts can be counted apart and merged."""

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from .text_numbers import is_text, spelled_numbers
from .values import stable_hash

DEFAULT_BUCKETS = 65_536
TYPES = (pa.int64(), pa.float64(), pa.string(), pa.large_string())  # those of `values.categories`


class CategoryCounts:
    """Exact counts of values; beyond `limit` different values, exact counts of their hash buckets.

    The outcome depends on the values alone, not on how they were cut into parts.
    """

    def __init__(self, name: str, buckets: int | None = None, limit: int = 1_000_000) -> None:
        self.name = name  # for messages
        self.buckets, self.limit = buckets, limit
        self._hashed = buckets is not None
        self.numbers = True  # all values that were hashed are numbers, or texts that spell some
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

    def add(self, values: pa.Array) -> None:
        """Add values as `values.categories` gives them; nulls are left out.

        Raises:
            ValueError: if the column changed its type.
        """
        if values.null_count == len(values):
            return
        if self.type is None:
            self.type = values.type
        elif self.type != values.type:
            raise ValueError(
                f"Column {self.name!r} changed its type from {self.type} to {values.type} between batches. "
                "Give the column one type when reading the table."
            )
        counted = pc.value_counts(values)
        present = counted.field("values").is_valid()
        self._push(counted.field("values").filter(present), counted.field("counts").filter(present))

    def _push(self, values: pa.Array, counts: pa.Array) -> None:
        if self._hashed and not pa.types.is_uint64(values.type):
            self.numbers = self.numbers and not (is_text(values.type) and spelled_numbers(values).null_count)
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

    def merge(self, other: "CategoryCounts") -> None:
        """Add everything that `other` counted."""
        other._settle()
        if other.type is not None and self.type is not None and other.type != self.type:
            raise ValueError(
                f"Column {self.name!r} is {self.type} in one part and {other.type} in another. "
                "Give the column one type when reading the table."
            )
        self.type = self.type or other.type
        self.numbers = self.numbers and other.numbers
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
        """Return plain values and arrays from which `load_state` restores the same counts."""
        frame = self.ranked()
        plain: dict[str, Any] = {
            "buckets": self.buckets,
            "limit": self.limit,
            "hashed": self._hashed,
            "numbers": self.numbers,
        }
        plain["type"] = str(self.type) if self.type is not None else None
        arrays = {"counts": frame["count"].to_numpy()}
        if frame["value"].dtype == pl.String:
            plain["values"] = frame["value"].to_list()
        else:
            arrays["values"] = frame["value"].to_numpy()
        return plain, arrays

    def load_state(self, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Restore what `state` returned."""
        self.buckets, self.limit, self._hashed = plain["buckets"], plain["limit"], plain["hashed"]
        self.numbers = plain.get("numbers", not self._hashed)
        if plain["type"] is not None:
            self.type = {str(kind): kind for kind in TYPES}[plain["type"]]
            values = plain["values"] if "values" in plain else arrays["values"]
            self._frame = pl.DataFrame({"value": values, "count": arrays["counts"]})

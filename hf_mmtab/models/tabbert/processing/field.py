"""What all kinds of fields share: their statistics, their range of ids, encoding, decoding and saving."""

from abc import ABC, abstractmethod
from copy import copy
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from .category_counts import CategoryCounts
from .column_plan import FieldPlan
from .fixed_counts import FixedCounts
from .quantiles import QuantileSketch
from .values import column

UNKNOWN, MISSING = "[UNK]", "[MISSING]"


@dataclass
class Batch:
    """Rows of a table.

    Args:
        table: the rows.
        gaps: seconds since the previous row of the entity, `(rows,)`, NaN for its first; None: no field reads them.
    """

    table: pa.Table
    gaps: np.ndarray | None = None


class Field(ABC):
    """One column of ids, made from one column of a table.

    In training it learns from batches of rows (`learn`, `merge`); `fitted` returns a copy with ids, which encodes and
    decodes. Its ids are `[start, end)`: [UNK], [MISSING] (if the plan gives each field its own), then one per value
    or bin. `field_kinds` has a subclass for each kind.
    """

    # Set by `fit` of the kinds that have them. All kinds save all of them: a fingerprint is a hash of what is saved.
    values: pa.Array | None = None  # vocabulary, in the order of ids
    counts: np.ndarray | None = None  # training rows per value or bin
    edges: np.ndarray | None = None  # of bins, (bins + 1,), in the unit of the transform
    bins: np.ndarray | None = None  # the bins that have an id, increasing; None: all
    buckets = 0  # of the hash; 0: not hashed
    numbers = False  # hashed values were numbers, or texts that spell some, all of them: 1.0 is 1. Saved if true
    lowest = 0.0
    highest = 0.0
    temporal = False  # numbers are microseconds
    error = 0.0  # relative error of the edges; 0: exact
    SAVED: ClassVar = (
        *("start", "end", "unknown_id", "missing_id", "first_value_id", "buckets"),
        *("lowest", "highest", "temporal", "error", "missing_rate"),
    )

    learned: QuantileSketch | CategoryCounts | FixedCounts | None = None

    def __init__(self, plan: FieldPlan, source: str, hash_above: int) -> None:
        """Make a field that has learned nothing.

        Args:
            plan: of this field.
            source: the column that it reads.
            hash_above: so many different values stay a vocabulary.
        """
        self.plan, self.source, self.hash_above = plan, source, hash_above
        self.rows = self.missing = self.infinite = 0
        self.start = self.unknown_id = self.missing_id = self.first_value_id = 0
        self.missing_rate = 0.0

    def column(self, batch: Batch) -> pa.Array:
        """Return the column that the field reads."""
        return column(batch.table, self.source)

    # -- statistics of the training rows

    @abstractmethod
    def learn(self, batch: Batch) -> None:
        """Learn from rows.

        Raises:
            ValueError: if the column is absent or holds what this kind cannot read.
        """

    def merge(self, later: "Field", between: np.ndarray) -> None:
        """Add what the same field learned from later rows.

        Args:
            between: seconds from an entity's last row here to its first there, for every entity in both.
        """
        self.rows += later.rows
        self.missing += later.missing
        self.infinite += later.infinite
        self.temporal = self.temporal or later.temporal
        if self.learned is not None:
            self.learned.merge(later.learned)  # type: ignore[arg-type]

    def statistics(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return what was learned as plain values and arrays."""
        held, arrays = self.learned.state() if self.learned is not None else ({}, {})
        own = {name: getattr(self, name) for name in ("rows", "missing", "infinite", "temporal")}
        return {**own, "held": held}, arrays

    def load_statistics(self, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Restore what `statistics` returned."""
        for name in ("rows", "missing", "infinite", "temporal"):
            setattr(self, name, plain[name])
        if self.learned is not None:
            self.learned.load_state(plain["held"], arrays)

    # -- ids

    def place(self, start: int, specials: bool, unknown_id: int) -> None:
        """Set the ids of unknown and missing values, and the first id of a value.

        Args:
            start: first free id.
            specials: give the field its own [UNK] and [MISSING].
            unknown_id: id of unknown and missing values without them.
        """
        self.start = start
        self.unknown_id = start if specials else unknown_id
        self.missing_id = start + 1 if specials else unknown_id
        self.first_value_id = start + 2 if specials else start

    def fitted(self, start: int, specials: bool, unknown_id: int) -> "Field":
        """Return a copy with ids for what was learned; see `place`."""
        field = copy(self)
        field.place(start, specials, unknown_id)
        field.missing_rate = self.missing / max(1, self.rows)
        field.fit()
        field.learned = None
        return field

    @abstractmethod
    def fit(self) -> None:
        """Make the vocabulary or the bins from what was learned."""

    @property
    def size(self) -> int:
        """Number of ids of values or bins."""
        assert self.values is not None
        return len(self.values)

    def unknown_share(self, rows: int) -> float:
        """Return the share of [UNK] among the training rows: values that were too rare for an id.

        Args:
            rows: of training.
        """
        if self.counts is None or self.edges is not None:
            return 0.0
        return max(0.0, 1.0 - self.missing_rate - float(self.counts.sum()) / max(1, rows))

    @property
    def end(self) -> int:
        """One after the last id."""
        return self.first_value_id + self.size

    def normal_places(self) -> list[float]:
        """Return the place of the middle training row of each bin, on the scale of a normal distribution.

        Bins that came without counts, from a checkpoint of the original, are taken for equally full.
        """
        counts = np.ones(self.size) if self.counts is None else np.maximum(self.counts, 1)
        middle = (np.cumsum(counts) - counts / 2) / counts.sum()
        return [NormalDist().inv_cdf(float(share)) for share in np.clip(middle, 1e-6, 1 - 1e-6)]

    # -- rows to ids and back

    @abstractmethod
    def codes(self, batch: Batch) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the place of each row's value among the field's values or bins, -1 where it is unknown.

        Returns:
            Whole numbers of shape `(rows,)`, and flags `(rows,)` of the missing values, None if there are none.
        """

    def encode(self, batch: Batch) -> pa.Array:
        """Return the id of each row: uint16, or uint32 where ids need it."""
        codes, missing = self.codes(batch)
        ids = codes.astype(np.uint32) + np.uint32(self.first_value_id)
        if len(codes) and codes.min() < 0:
            ids[codes < 0] = self.unknown_id
        if missing is not None:
            ids[missing] = self.missing_id
        return pa.array(ids.astype(np.uint16 if self.end <= 2**16 else np.uint32))

    def tokens(self, digits: int = 6) -> list[str]:
        """Return the text of each id from `first_value_id` on.

        Args:
            digits: significant digits of the edges of intervals.
        """
        assert self.values is not None
        return [str(value) for value in self.values.to_pylist()]

    def decode(self, ids: np.ndarray, special_tokens: tuple[str, ...], digits: int = 6) -> list[str]:
        """Return the text of each id of shape `(rows,)`: a value, an interval of numbers or a special token.

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

    def draw(self, places: np.ndarray, uniforms: np.ndarray) -> pa.Array:
        """Return a value that the field would encode as the place among its values or bins.

        Args:
            places: shape `(rows,)`.
            uniforms: random numbers in [0, 1), shape `(rows,)`; a number lies anywhere in its bin.
        """
        values = self.values if self.values is not None else pa.array(self.tokens())
        return values.take(pa.array(places))

    # -- saving

    def state(self) -> tuple[dict[str, Any], list | None, dict[str, np.ndarray]]:
        """Return plain settings, the vocabulary if it is text, and arrays."""
        arrays = {k: v for k in ("counts", "edges", "bins") if (v := getattr(self, k)) is not None}
        words = None
        if self.values is not None and pa.types.is_string(self.values.type):
            words = self.values.to_pylist()
        elif self.values is not None:
            arrays["values"] = self.values.to_numpy()
        plain = {name: getattr(self, name) for name in self.SAVED}
        if self.numbers:  # version 0.1 had none, and its processors keep their fingerprints
            plain["numbers"] = True
        return plain, words, {k: np.ascontiguousarray(v) for k, v in arrays.items()}

    def load_state(self, plain: dict[str, Any], words: list | None, arrays: dict[str, np.ndarray]) -> None:
        """Restore what `state` returned."""
        for name in self.SAVED:
            if name != "end":
                setattr(self, name, plain[name])
        self.numbers = plain.get("numbers", False)
        for name in arrays.keys() - {"values"}:
            setattr(self, name, arrays[name])
        if words is not None:
            self.values = pa.array(words, pa.string())
        elif "values" in arrays:
            self.values = pa.array(arrays["values"])
        self.learned = None

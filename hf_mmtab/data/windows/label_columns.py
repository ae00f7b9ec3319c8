"""Label columns of a table as classes or numbers; what they are may be found out in parts."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from transformers.utils import logging

from ..reading.records import tell_alike
from .encoded_rows import IGNORED

logger = logging.get_logger(__name__)

MOST_CLASSES = 1000
ZERO_ONE = ["0", "1"]  # names of the classes of a column of floats


class LabelColumns:
    """What the labels of rows are.

    One column of text, yes/no, a ClassLabel or whole numbers with at most 1,000 values gives classes: `(rows,)` int64,
    -100 where missing. So does one of floats that are 0 and 1 alone, as pandas writes classes of which some are
    missing. Other numbers, or several columns, give `(rows, targets)` float32, NaN where missing. An empty text is
    missing.

    Args:
        features: types of the table's columns.
        columns: at least one.
        numbers: columns that are numbers whatever their values are.

    Raises:
        ValueError: if a column holds lists or structs.
    """

    def __init__(self, features: datasets.Features, columns: Sequence[str], numbers: Collection[str] = ()) -> None:
        self.columns = list(columns)
        kind = features[self.columns[0]] if len(self.columns) == 1 else None
        self._given = list(kind.names) if isinstance(kind, datasets.ClassLabel) else None
        types = {name: features.arrow_schema.field(name).type for name in self.columns}
        if several := [name for name, one in types.items() if pa.types.is_nested(one)]:
            raise ValueError(
                f"Expected single values in the label column {several[0]!r}, found {types[several[0]]}. Name another "
                "column, or split this one."
            )
        self._type: Any = types[self.columns[0]]
        may_be_classes = len(self.columns) == 1 and self._given is None and self.columns[0] not in numbers
        # Value → in how many rows; None: too many, or numbers.
        self._values: dict[Any, int] | None = {} if may_be_classes and not pa.types.is_decimal(self._type) else None
        self._types = types

    def see(self, rows: pa.Table) -> None:
        """Note the values of some rows, as all must be before `codes`."""
        if self._values is not None:
            found = pc.value_counts(rows[self.columns[0]].combine_chunks())
            values, counts = found.field("values"), found.field("counts").to_pylist()
            self._include(dict(zip(values.to_pylist(), counts, strict=True)) if len(found) <= self._most + 2 else None)

    def merge(self, other: "LabelColumns") -> None:
        """Add what another part of the rows showed."""
        self._include(other._values)

    def _include(self, values: dict[Any, int] | None) -> None:
        if self._values is None or values is None:
            self._values = None
            return
        both = Counter(self._values) + Counter(values)
        both = Counter({value: n for value, n in both.items() if value not in (None, "") and value == value})
        are_numbers = len(both) > self._most or (self._is_float and not both.keys() <= {0.0, 1.0})
        self._values = None if are_numbers else both

    @property
    def _is_float(self) -> bool:
        return pa.types.is_floating(self._type)

    @property
    def _most(self) -> int:
        return 2 if self._is_float else MOST_CLASSES

    @property
    def are_zero_and_one(self) -> bool:
        """Whether one column of floats holds 0 and 1 alone."""
        return self._is_float and {*(self._values or ())} == {0.0, 1.0}

    @property
    def names(self) -> list[str]:
        """Names of the classes; empty for numbers."""
        if self._given is not None or not self.is_classes:
            return self._given or []
        return ZERO_ONE if self._is_float else [str(value) for value in sorted(self._values or ())]

    @property
    def is_classes(self) -> bool:
        """Whether labels are classes."""
        return self._given is not None or (self.are_zero_and_one if self._is_float else self._values is not None)

    @property
    def num_targets(self) -> int:
        """How many numbers a row's label has; 0: it is a class."""
        return 0 if self.is_classes else len(self.columns)

    def tell(self) -> None:
        """Say that numbers are read as classes, and which classes are named alike."""
        if self.is_classes:
            counted = None if self._values is None else [self._values[value] for value in sorted(self._values)]
            tell_alike(self.names, counted)
        if self.are_zero_and_one:
            logger.warning(
                f"The labels in column {self.columns[0]!r} are 0.0 and 1.0 alone: they are read as two classes, 0 and "
                f"1. To predict them as a number: `types: {{{self.columns[0]}: float}}`."
            )

    def codes(self, rows: pa.Table) -> np.ndarray:
        """Return the labels of rows.

        Raises:
            ValueError: if numbers are wanted, and a column has none, or one beyond float32.
        """
        if self._given is not None:
            given = pc.fill_null(rows[self.columns[0]], IGNORED).to_numpy()
            return np.where(given < 0, IGNORED, given)
        if self.is_classes:
            values = pa.array(sorted(self._values or ()), self._type)
            places = pc.fill_null(pc.index_in(rows[self.columns[0]], value_set=values), IGNORED)
            return places.to_numpy().astype(np.int64)
        for name, kind in self._types.items():
            if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
                raise ValueError(
                    f"Expected numbers in the label column {name!r}, found {kind}. Name columns of numbers, or one of "
                    "classes."
                )
        return np.stack([self._numbers(name, rows[name]) for name in self.columns], axis=1)

    def _numbers(self, name: str, column: pa.ChunkedArray) -> np.ndarray:
        values = pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy()
        with np.errstate(over="ignore"):
            numbers = values.astype(np.float32)
        if (infinite := np.isinf(numbers)).any():
            raise ValueError(
                f"Expected numbers up to 3.4e38 in the label column {name!r}, found {values[infinite.argmax()]:g} "
                f"(in {int(infinite.sum()):,} rows). Correct these labels, or leave them empty."
            )
        return numbers

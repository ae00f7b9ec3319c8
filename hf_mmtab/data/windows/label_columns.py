"""Label columns of a table as classes or numbers; what they are may be found out in parts."""

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .encoded_rows import IGNORED

MOST_CLASSES = 1000


class LabelColumns:
    """What the labels of rows are.

    One column of text, yes/no, a ClassLabel or whole numbers with at most 1,000 values gives classes: `(rows,)` int64,
    -100 where missing. Other numbers, or several columns, give `(rows, targets)` float32, NaN where missing.

    Args:
        features: types of the table's columns.
        columns: at least one.

    Raises:
        ValueError: if a column holds lists or structs.
    """

    def __init__(self, features: datasets.Features, columns: Sequence[str]) -> None:
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
        may_be_classes = len(self.columns) == 1 and self._given is None and not pa.types.is_floating(self._type)
        self._values: set | None = set() if may_be_classes else None
        self._types = types

    def see(self, rows: pa.Table) -> None:
        """Note the values of some rows, as all must be before `codes`."""
        if self._values is not None:
            found = pc.unique(rows[self.columns[0]])
            self._include(set(found.to_pylist()) if len(found) <= MOST_CLASSES + 1 else None)

    def merge(self, other: "LabelColumns") -> None:
        """Add what another part of the rows showed."""
        self._include(other._values)

    def _include(self, values: set | None) -> None:
        both = None if self._values is None or values is None else (self._values | values) - {None}
        self._values = both if both is not None and len(both) <= MOST_CLASSES else None

    @property
    def names(self) -> list[str]:
        """Names of the classes; empty for numbers."""
        return self._given if self._given is not None else [str(value) for value in sorted(self._values or ())]

    @property
    def is_classes(self) -> bool:
        """Whether labels are classes."""
        return self._given is not None or self._values is not None

    @property
    def num_targets(self) -> int:
        """How many numbers a row's label has; 0: it is a class."""
        return 0 if self.is_classes else len(self.columns)

    def codes(self, rows: pa.Table) -> np.ndarray:
        """Return the labels of rows.

        Raises:
            ValueError: if numbers are wanted, and a column has none.
        """
        if self._given is not None:
            given = pc.fill_null(rows[self.columns[0]], IGNORED).to_numpy()
            return np.where(given < 0, IGNORED, given)
        if self._values is not None:
            values = pa.array(sorted(self._values), self._type)
            places = pc.fill_null(pc.index_in(rows[self.columns[0]], value_set=values), IGNORED)
            return places.to_numpy().astype(np.int64)
        for name, kind in self._types.items():
            if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
                raise ValueError(f"Expected numbers in the label column {name!r}, found {kind}.")
        numbers = [pc.fill_null(rows[n].cast(pa.float32()), float("nan")).to_numpy() for n in self.columns]
        return np.stack(numbers, axis=1)

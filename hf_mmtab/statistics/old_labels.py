"""Labels that are old enough to be known when a later row is judged: which, after how long, and how they are read."""

import logging
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

logger = logging.getLogger(__name__)

SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 7 * 86_400}
_DURATION = re.compile(rf"(\d+(?:\.\d+)?)\s*({'|'.join(SECONDS)})s?", re.IGNORECASE)
MOST_CLASSES = 20  # each class has its own numbers for every history and every column of values


def seconds_of(duration: str) -> float:
    """Return the seconds of a duration such as `7 days` or `12 hours`.

    Raises:
        ValueError: for another text, or a duration of 0.
    """
    found = _DURATION.fullmatch(duration.strip())
    if found is None or float(found[1]) == 0:
        raise ValueError(
            f"Expected label_lag as a number above 0 and a unit ({', '.join(f'{unit}s' for unit in SECONDS)}), such as "
            f"7 days, found {duration!r}."
        )
    return float(found[1]) * SECONDS[found[2].lower()]


@dataclass(frozen=True)
class OldLabels:
    """Labels as statistics.

    Args:
        lag: seconds after its row from which a label is known, above 0.
        columns: of the labels.
        classes: their names; empty: the labels are numbers.

    Raises:
        ValueError: if there are too many classes.
    """

    lag: float
    columns: list[str]
    classes: list[str]

    def __post_init__(self) -> None:
        if len(self.classes) > MOST_CLASSES:
            raise ValueError(
                f"Expected at most {MOST_CLASSES} classes beside label_lag, found {len(self.classes)}. Leave label_lag "
                "out."
            )

    def read(self, column: Callable[[str], pa.Array], present: Collection[str], rows: int) -> dict[str, np.ndarray]:
        """Return target → its labels, `(rows,)` float64, NaN where unknown; of two classes the second one's only.

        A table without a label column, as `predict` may get it, has no known label; a warning says so.

        Args:
            column: gives a column of the table by its name.
            present: names of the table's columns.
            rows: of the table.

        Raises:
            ValueError: if labels are of another kind than those of training.
        """
        if absent := [name for name in self.columns if name not in present]:
            warn_once(
                f"The table has no column {', '.join(map(repr, absent))}: the model reads labels that are at least "
                f"{self.lag / SECONDS['day']:g} days old, and takes all of them as unknown. Add the column with the "
                "labels of past rows, and leave the cells of new rows empty."
            )
        found = {name: None if name in absent else column(name) for name in self.columns}
        if not self.classes:
            return {name: np.full(rows, np.nan) if a is None else _numbers(a, name) for name, a in found.items()}
        array = found[self.columns[0]]
        codes = np.full(rows, np.nan) if array is None else self._codes(array)
        return self._of_classes(codes)

    def warn_if_all_unknown(self, labels: dict[str, np.ndarray]) -> None:
        """Warn of a table whose label columns hold no label."""
        if labels and all(len(values) and np.isnan(values).all() for values in labels.values()):
            warn_once(
                f"No row of the table has a label in {', '.join(map(repr, self.columns))}: the model reads labels that "
                f"are at least {self.lag / SECONDS['day']:g} days old, and takes all of them as unknown."
            )

    def of_rows(self, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return what `read` does, of the labels of encoded rows: classes, or numbers `(rows, targets)`."""
        if not self.classes:
            return dict(zip(self.columns, labels.astype(np.float64).T, strict=True))
        return self._of_classes(np.where(labels < 0, np.nan, labels))

    def _of_classes(self, codes: np.ndarray) -> dict[str, np.ndarray]:
        told = list(enumerate(self.classes))[1 if len(self.classes) == 2 else 0 :]
        return {name: np.where(np.isnan(codes), np.nan, codes == code) for code, name in told}

    def _codes(self, array: pa.Array) -> np.ndarray:
        """Number labels as training did, by their names, `(rows,)` float64.

        Whole numbers where no class is called by one are the numbers of the classes: a `ClassLabel` is held so.
        """
        coded = array.dictionary_encode()
        names = [_name(value) for value in coded.dictionary.to_pylist()]
        by_code = {str(number): name for number, name in enumerate(self.classes)}
        if pa.types.is_integer(array.type) and not set(by_code) & set(self.classes):
            names = [None if name == "-1" else by_code.get(str(name), name) for name in names]
        if unknown := sorted({name for name in names if name not in (None, *self.classes)}, key=str):
            raise ValueError(
                f"Expected labels that the model knows ({', '.join(self.classes)}) in column {self.columns[0]!r}, "
                f"found {', '.join(map(str, unknown[:3]))}. Rename them, or leave the cells empty."
            )
        numbers = np.array([np.nan if name is None else self.classes.index(name) for name in names] + [np.nan])
        places = coded.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)
        return numbers[places]


def _name(value: Any) -> str | None:
    """Return the name of a label as `read_labels` does; whole numbers beside empty cells may come as floats."""
    if value is None or value == "" or value != value:
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _numbers(array: pa.Array, name: str) -> np.ndarray:
    if pa.types.is_null(array.type):
        return np.full(len(array), np.nan)
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
        raise ValueError(f"Expected numbers in the label column {name!r}, found {array.type}.")
    # float32, as encoded rows hold labels: rows in shards then have the same statistics
    return array.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float32).astype(np.float64)


@cache
def warn_once(message: str) -> None:
    """Log a warning that was not logged before: a pipeline reads one history after the other."""
    logger.warning(message)

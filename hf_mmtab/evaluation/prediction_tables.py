"""Predictions beside the columns of the rows that they are about, as tables and on disk."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..data.encoded import holds_pictures
from ..data.reading.records import free_names
from ..files import whole_file
from ..metrics import decide
from ..metrics.names import label_names
from .scored_rows import ScoredRows

GOLD = "gold"  # the column of true labels
_ROWS_PER_WRITE = 1024


def prediction_table(
    rows: datasets.Dataset,
    probabilities: np.ndarray,
    config: Any,
    columns: Mapping[str, str],
    more: Collection[str] = (),
    dtype: Any = np.float32,
) -> pa.Table:
    """Put predictions beside the rows' own columns.

    Args:
        rows: as many as probabilities, in the same order.
        probabilities: `(rows, num_labels)`.
        config: names the labels, and holds the thresholds.
        columns: of `rows`, to keep → their names in the table.
        more: names of columns that will be put beside these.
        dtype: of probabilities.

    Returns:
        A table with these columns, `prediction` (a name, or a list of names for several labels), and
        `probability` (single label: of the prediction) and `probability_NAME` for every label. A column of the input
        that has such a name becomes `input_NAME`.
    """
    names = label_names(config)
    decided = decide(probabilities, config.problem_type, getattr(config, "thresholds", None))
    own = rows.select_columns(list(columns)).with_format("arrow")[:] if columns else pa.table({})
    given = {"prediction", "probability", *(f"probability_{name}" for name in names), *more}
    free = free_names(list(columns.values()), given)
    table: dict[str, Any] = {free[columns[name]]: own.column(name) for name in own.column_names}
    if decided.ndim == 1:
        table["prediction"] = pa.array([names[index] for index in decided])
        table["probability"] = pa.array(probabilities[np.arange(len(decided)), decided].astype(dtype))
    else:
        table["prediction"] = pa.array(
            [[names[index] for index in np.flatnonzero(row)] for row in decided], type=pa.list_(pa.string())
        )
    for index, name in enumerate(names):
        table[f"probability_{name}"] = pa.array(probabilities[:, index].astype(dtype))
    return pa.table(table)


def write_split_predictions(path: Path, rows: datasets.Dataset, scored: ScoredRows, config: Any) -> None:
    """Write the predictions of a split as Parquet, with gold labels by name; pictures stay out."""
    own = {name: name for name in _columns_of(rows)}
    table = prediction_table(rows, scored.probabilities, config, own, (GOLD,), np.float64)  # they are judged again
    names = label_names(config)
    assert scored.labels is not None
    with whole_file(path) as partial:
        pq.write_table(table.append_column(GOLD, pa.array(_names_of(scored.labels, names))), partial)


def read_split_predictions(path: Path, rows: datasets.Dataset, config: Any) -> ScoredRows:
    """Read what `write_split_predictions` wrote for these rows.

    Args:
        path: of the file.
        rows: as the data has them now.
        config: names the labels.

    Raises:
        ValueError: if the file is of other rows, or of the same with other labels or texts.
    """
    names, schema = label_names(config), pq.read_schema(path)
    labels = gold_labels(rows, len(names))
    columns = _columns_of(rows)
    own = rows.select_columns(columns).with_format("arrow")[:] if columns else pa.table({})
    free = free_names(columns, {"prediction", "probability", *(f"probability_{name}" for name in names), GOLD})
    now = {free[name]: own.column(name).to_pylist() for name in columns if free[name] in schema.names}
    now[GOLD] = _names_of(labels, names)
    before = pq.read_table(path, columns=list(now)).to_pydict()
    for name, values in now.items():
        if repr(values) != repr(before[name]):  # NaN is not itself
            pairs = enumerate(zip(map(repr, values), map(repr, before[name]), strict=False))
            row = next((row for row, (one, other) in pairs if one != other), min(len(values), len(before[name])))
            raise ValueError(
                f"Expected predictions of the data's {len(values)} rows in {str(path)!r}, found {len(before[name])}, "
                f"of which row {row} has another {name}: the data's files were changed since. Choose another "
                "output_dir, or pass --overwrite true to train on them as they are now."
            )
    return ScoredRows(read_probabilities(path, names), labels)


def _columns_of(rows: datasets.Dataset) -> list[str]:
    """Return the columns that predictions stand beside: no pictures and no labels."""
    gold = next((name for name in ("labels", "label") if name in rows.column_names), None)
    pictures = {name for name, feature in rows.features.items() if holds_pictures(feature)}
    return [name for name in rows.column_names if name not in pictures | {gold}]


def _names_of(labels: np.ndarray, names: Sequence[str]) -> list[Any]:
    if labels.ndim == 1:
        return [names[int(index)] for index in labels]
    return [[names[int(index)] for index in np.flatnonzero(row)] for row in labels]


def read_probabilities(path: Path, names: Sequence[str]) -> np.ndarray:
    """Read the probabilities `(rows, num_labels)` that `write_split_predictions` wrote.

    Args:
        path: of the file.
        names: of the labels, in the order of their ids.

    Raises:
        ValueError: if it has none for a label.
    """
    columns = [f"probability_{name}" for name in names]
    if absent := sorted(set(columns) - set(pq.read_schema(path).names)):
        raise ValueError(
            f"Expected {', '.join(absent)} in {str(path)!r}, found no such column: it was written for other labels. "
            "Give the predictions of a model of these labels."
        )
    table = pq.read_table(path, columns=columns)
    return np.stack([column.to_numpy() for column in table.columns], axis=1)


def gold_labels(rows: datasets.Dataset, num_labels: int) -> np.ndarray:
    """Return the labels of rows as `(rows,)` ids, or `(rows, num_labels)` of 0 and 1."""
    if "label" in rows.column_names:
        return np.asarray(rows["label"])
    several = np.zeros((len(rows), num_labels), dtype=np.int64)
    for index, present in enumerate(rows["labels"]):
        several[index, present] = 1
    return several


def batches(rows: int, size: int = _ROWS_PER_WRITE) -> Iterator[range]:
    """Yield consecutive ranges that cover `rows`."""
    for start in range(0, rows, size):
        yield range(start, min(start + size, rows))

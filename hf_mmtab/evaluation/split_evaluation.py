"""Run a model over one split: probabilities, metrics with intervals, predictions on disk, modality ablation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import Trainer

from ..metrics import (
    BOOTSTRAP_METRICS,
    Interval,
    bootstrap_interval,
    decide,
    probabilities_from_logits,
    scores_for,
)

HEADLINE = {
    "single_label_classification": ("accuracy", "macro_f1", "macro_average_precision"),
    "multi_label_classification": ("micro_f1", "macro_f1", "macro_average_precision"),
}
_ROWS_PER_WRITE = 1024


@dataclass
class SplitResult:
    """What a model said about one split.

    Args:
        split: its name.
        labels: `(rows,)` class ids, or `(rows, num_labels)` of 0 and 1.
        probabilities: `(rows, num_labels)`, in [0, 1].
        metrics: name → value; numbers of one class are named `METRIC/CLASS`.
        intervals: headline metric → its 95 % bootstrap interval over rows.
    """

    split: str
    labels: np.ndarray
    probabilities: np.ndarray
    metrics: dict[str, float]
    intervals: dict[str, Interval] = field(default_factory=dict)


def predict_split(trainer: Trainer, encoded: Any, problem_type: str) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities `(rows, num_labels)` and labels of every row, gathered over all processes."""
    output = trainer.predict(encoded)
    logits = output.predictions[0] if isinstance(output.predictions, tuple) else output.predictions
    return probabilities_from_logits(logits, problem_type), np.asarray(output.label_ids)


def evaluate_split(
    trainer: Trainer, encoded: Any, split: str, config: Any, bootstrap: int = 0
) -> SplitResult:
    """Predict a split and score it, at the thresholds of the config.

    Args:
        trainer: holds the model; its processes share the rows.
        encoded: rows with labels, as the trainer takes them.
        split: name, for the record.
        config: with `problem_type`, `id2label` and `thresholds`.
        bootstrap: resamples behind the intervals; 0 leaves them out.
    """
    probabilities, labels = predict_split(trainer, encoded, config.problem_type)
    thresholds = getattr(config, "thresholds", None)
    metrics = scores_for(
        config.problem_type, labels, probabilities, config.id2label, thresholds, per_class=True
    )
    intervals = {}
    if bootstrap and trainer.is_world_process_zero():
        for name in HEADLINE[config.problem_type]:
            if name in BOOTSTRAP_METRICS and name in metrics:
                intervals[name] = bootstrap_interval(
                    name,
                    labels,
                    probabilities,
                    config.problem_type,
                    thresholds=thresholds,
                    num_resamples=bootstrap,
                )
    return SplitResult(split, labels, probabilities, metrics, intervals)


def label_names(config: Any) -> list[str]:
    """Return the names of the labels, in the order of their ids."""
    return [config.id2label[index] for index in range(config.num_labels)]


def prediction_table(
    rows: datasets.Dataset, probabilities: np.ndarray, config: Any, columns: Mapping[str, str]
) -> pa.Table:
    """Put predictions beside the rows' own columns.

    Args:
        rows: as many as probabilities, in the same order.
        probabilities: `(rows, num_labels)`.
        config: names the labels, and holds the thresholds.
        columns: of `rows`, to keep → their names in the table.

    Returns:
        A table with these columns, `prediction` (a name, or a list of names for several labels), and
        `probability` (single label: of the prediction) and `probability_NAME` for every label. A column of the input
        that has such a name becomes `input_NAME`.
    """
    names = label_names(config)
    decided = decide(probabilities, config.problem_type, getattr(config, "thresholds", None))
    own = rows.select_columns(list(columns)).with_format("arrow")[:] if columns else pa.table({})
    given = {"prediction", "probability", *(f"probability_{name}" for name in names)}
    table: dict[str, Any] = {
        f"input_{columns[name]}" if columns[name] in given else columns[name]: own.column(name)
        for name in own.column_names
    }
    if decided.ndim == 1:
        table["prediction"] = pa.array([names[index] for index in decided])
        table["probability"] = pa.array(probabilities[np.arange(len(decided)), decided].astype(np.float32))
    else:
        table["prediction"] = pa.array(
            [[names[index] for index in np.flatnonzero(row)] for row in decided], type=pa.list_(pa.string())
        )
    for index, name in enumerate(names):
        table[f"probability_{name}"] = pa.array(probabilities[:, index].astype(np.float32))
    return pa.table(table)


def write_split_predictions(path: Path, rows: datasets.Dataset, result: SplitResult, config: Any) -> None:
    """Write the predictions of a split as Parquet, with gold labels by name; pictures stay out."""
    gold = next((name for name in ("labels", "label") if name in rows.column_names), None)
    pictures = {name for name, feature in rows.features.items() if isinstance(feature, datasets.Image)}
    columns = [name for name in rows.column_names if name not in pictures | {gold}]
    table = prediction_table(rows, result.probabilities, config, {name: name for name in columns})
    names = label_names(config)
    if result.labels.ndim == 1:
        told: list[Any] = [names[index] for index in result.labels]
    else:
        told = [[names[index] for index in np.flatnonzero(row)] for row in result.labels]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.append_column("gold", pa.array(told)), path)


def batches(rows: int, size: int = _ROWS_PER_WRITE) -> Iterator[range]:
    """Yield consecutive ranges that cover `rows`."""
    for start in range(0, rows, size):
        yield range(start, min(start + size, rows))

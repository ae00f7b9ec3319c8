"""`EvalPrediction` → flat dict, for `Trainer(compute_metrics=...)`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from transformers import EvalPrediction

from .decisions import check_problem_type, probabilities_from_logits
from .scores import scores_for

IGNORED = -100  # transformers' mark of a row without a label


def compute_metrics_for(
    problem_type: str, id2label: Mapping[int, str], thresholds: Sequence[float] | None = None, per_class: bool = False
) -> Callable[[EvalPrediction], dict[str, float]]:
    """A `compute_metrics` for Trainer.

    Trainer has gathered all rows of all processes by then, so the numbers are those of the whole set. The
    functions of `scores` are called directly: the `evaluate.Metric` classes wrap the same functions, but
    would write every row through an Arrow cache first.

    Args:
        problem_type: as in the model's config.
        id2label: names of labels (regression: of targets).
        thresholds: as saved in the config; see `decide`.
        per_class: also one entry per class and number, e.g. `f1/cat`.

    Returns:
        A function. Logits of shape `(rows, num_labels)` go with labels `(rows,)` or `(rows, num_labels)`;
        logits of shape `(rows, steps, num_labels)` with a label for every step, `(rows, steps)`, are scored
        step by step. Rows and steps labelled -100 are left out. Undefined numbers are missing from the dict.
    """
    check_problem_type(problem_type)

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        probabilities, labels = labelled_rows(prediction, problem_type)
        return scores_for(problem_type, labels, probabilities, id2label, thresholds, per_class)

    return compute_metrics


def labelled_rows(prediction: EvalPrediction, problem_type: str) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities `(n, num_labels)` and labels of the rows (or steps) that have a label.

    Raises:
        ValueError: if no row has a label.
    """
    labels = np.asarray(first_of(prediction.label_ids))
    probabilities = probabilities_from_logits(first_of(prediction.predictions), problem_type)
    if problem_type != "single_label_classification":
        return probabilities, labels
    known = labels != IGNORED
    if not known.any():
        raise ValueError(f"Expected labelled rows, found {len(labels)} rows that are all labelled {IGNORED}.")
    return probabilities[known], labels[known]


def first_of(outputs: Any) -> Any:
    """Return the logits, the first of a model's outputs, or the labels, the first of what Trainer took for labels."""
    return outputs[0] if isinstance(outputs, tuple) else outputs

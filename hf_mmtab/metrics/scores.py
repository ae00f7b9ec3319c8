"""What a set of predictions is worth, as flat dicts of floats and as a table with one row per class.

Absent classes: a class without a positive row has no recall and no average precision, one that also was never
predicted has no F1, and one without a negative row has no average precision: any order of its rows would have 1. Such
a number is left out of the mean and out of the dict (never counted as 0 or 1), and `classes_without_positive` says how
many classes have no positive. A class without a positive that *was* predicted has an F1 of 0 and counts.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
)
from transformers.utils.logging import get_logger

from .decisions import DEFAULT_THRESHOLD, binary_threshold, check_problem_type, decide

logger = get_logger(__name__)

FALSE_POSITIVE_RATES = (0.001, 0.01)  # 0.1 % and 1 %: what an analyst can look at


def metric_names(problem_type: str, id2label: Mapping[int, str]) -> set[str]:
    """Return the names of all metrics that `scores_for` may give, without those of single classes.

    Args:
        problem_type: as in the model's config.
        id2label: names of labels (regression: of targets).
    """
    return set(_names_of(problem_type, tuple(id2label.values())))


@cache
def _names_of(problem_type: str, names: tuple[str, ...]) -> frozenset[str]:
    number = len(names)
    labels: dict[str, np.ndarray] = {
        "regression": np.arange(2.0 * number).reshape(2, number),
        "multi_label_classification": np.eye(number, dtype=int),
        "single_label_classification": np.arange(number),
    }
    predictions = labels["regression"] if problem_type == "regression" else np.eye(number)
    return frozenset(scores_for(problem_type, labels[problem_type], predictions, dict(enumerate(names))))


def possible_metric_names(*problem_types: str) -> set[str]:
    """Return the names of the metrics that some labels of these kinds have, without those of single targets."""
    labels = ({index: str(index) for index in range(number)} for number in (2, 3))
    found = [metric_names(kind, id2label) for id2label in labels for kind in problem_types]
    return {name for names in found for name in names if "/" not in name}


def recalls_at_false_positive_rates(labels: np.ndarray, scores: np.ndarray, rates: Sequence[float]) -> list[float]:
    """The highest recall of any threshold whose false positive rate is at most each rate; nothing interpolated."""
    false_positive_rates, recalls, _ = roc_curve(labels, scores, drop_intermediate=False)
    return [float(recalls[false_positive_rates <= rate].max()) for rate in rates]


def per_class_table(
    labels: np.ndarray, predictions: np.ndarray, probabilities: np.ndarray, id2label: Mapping[int, str]
) -> list[dict[str, Any]]:
    """One row per class: label, precision, recall, f1, average_precision, support, predicted.

    Args:
        labels: class ids `(rows,)`, or 0/1 `(rows, num_labels)`.
        predictions: the same shape as `labels`.
        probabilities: shape `(rows, num_labels)`.
        id2label: names of the classes.

    Returns:
        Dicts in the order of the ids. An undefined number is None (see the head of this module).
    """
    truth, chosen = _as_indicators(labels, len(id2label)), _as_indicators(predictions, len(id2label))
    of_classes = precision_recall_fscore_support(truth, chosen, average=None, zero_division=0.0)
    precision, recall, f1, support = of_classes
    predicted = chosen.sum(axis=0)
    precisions = {
        int(i): float(average_precision_score(truth[:, i], probabilities[:, i]))
        for i in np.flatnonzero((support > 0) & (support < len(truth)))
    }
    table = []
    for i in range(len(id2label)):
        known = support[i] > 0
        table.append(
            {
                "label": id2label[i],
                "precision": float(precision[i]) if predicted[i] else None,
                "recall": float(recall[i]) if known else None,
                "f1": float(f1[i]) if known or predicted[i] else None,
                "average_precision": precisions.get(i),
                "support": int(support[i]),
                "predicted": int(predicted[i]),
            }
        )
    return table


def single_label_scores(
    labels: np.ndarray,
    probabilities: np.ndarray,
    id2label: Mapping[int, str],
    thresholds: Sequence[float] | float | None = None,
    per_class: bool = False,
) -> dict[str, float]:
    """Accuracy, micro-, macro- and weighted F1, macro average precision; for two classes also
    `binary_scores`.

    Args:
        labels: class ids, shape `(rows,)`.
        probabilities: shape `(rows, num_classes)`.
        id2label: names of the classes.
        thresholds: binary only: the threshold of class 1.
        per_class: also `precision/NAME`, `recall/NAME`, `f1/NAME`, `average_precision/NAME`, `support/NAME`.
    """
    predictions = decide(probabilities, "single_label_classification", thresholds)
    table = per_class_table(labels, predictions, probabilities, id2label)
    accuracy = float(accuracy_score(labels, predictions))
    scores = {"accuracy": accuracy, "micro_f1": accuracy, **_means_over_classes(table)}
    if len(id2label) == 2:
        cut = DEFAULT_THRESHOLD if thresholds is None else binary_threshold(thresholds)
        scores |= binary_scores(labels, probabilities[:, 1], cut)
    return scores | (_flat_per_class(table) if per_class else {})


def multi_label_scores(
    labels: np.ndarray,
    probabilities: np.ndarray,
    id2label: Mapping[int, str],
    thresholds: Sequence[float] | float | None = None,
    per_class: bool = False,
) -> dict[str, float]:
    """Micro-, macro- and weighted F1 at the thresholds, macro average precision (mAP).

    Args:
        labels: 0 and 1, shape `(rows, num_labels)`.
        probabilities: the same shape.
        id2label: names of the labels.
        thresholds: one per label, or one for all; default 0.5.
        per_class: as in `single_label_scores`.
    """
    predictions = decide(probabilities, "multi_label_classification", thresholds)
    table = per_class_table(labels, predictions, probabilities, id2label)
    micro = float(f1_score(labels, predictions, average="micro", zero_division=0.0))
    scores = {"micro_f1": micro, **_means_over_classes(table)}
    return scores | (_flat_per_class(table) if per_class else {})


def binary_scores(labels: np.ndarray, scores: np.ndarray, threshold: float = DEFAULT_THRESHOLD) -> dict[str, float]:
    """Average precision, ROC-AUC, F1, precision and recall at `threshold`, recall at fixed false positive rates.

    Args:
        labels: 0 and 1, shape `(rows,)`.
        scores: of class 1, shape `(rows,)`; a score equal to the threshold is a yes.
        threshold: chosen on validation.

    Returns:
        Without a positive or without a negative row only `positive_rate` and what is still defined.
    """
    labels, predictions = np.asarray(labels), np.asarray(scores) >= threshold
    positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    found = {"positive_rate": positives / max(1, len(labels)), "threshold": float(threshold)}
    if positives == 0 or negatives == 0:
        logger.warning(
            f"{positives} positive and {negatives} negative rows: average precision, ROC-AUC and recall at a false "
            "positive rate are not defined and are left out."
        )
    if positives or predictions.any():
        found["f1"] = float(f1_score(labels, predictions, zero_division=0.0))
    if predictions.any():
        found["precision"] = float((labels[predictions] == 1).mean())
    if positives:
        found["recall"] = float(predictions[labels == 1].mean())
    if positives and negatives:
        found["average_precision"] = float(average_precision_score(labels, scores))
        found["roc_auc"] = float(roc_auc_score(labels, scores))
        names = [f"recall_at_fpr_{rate}" for rate in FALSE_POSITIVE_RATES]
        found |= zip(names, recalls_at_false_positive_rates(labels, scores, FALSE_POSITIVE_RATES), strict=True)
    return found


def regression_scores(
    labels: np.ndarray, values: np.ndarray, id2label: Mapping[int, str] | None = None
) -> dict[str, float]:
    """RMSE, MAE and R² over all targets together, and RMSE per target if there are several.

    Args:
        labels: shape `(rows,)` or `(rows, targets)`; NaN = not measured, left out.
        values: predictions, as many as `labels`.
        id2label: names of the targets.

    Raises:
        ValueError: if no target was measured at all.
    """
    labels = np.asarray(labels, dtype=np.float64)
    labels = labels.reshape(len(labels), -1)
    values = np.asarray(values, dtype=np.float64).reshape(labels.shape)
    known = np.isfinite(labels)
    if not known.any():
        raise ValueError(f"Expected at least one measured target, found none in {len(labels)} rows.")
    errors = np.where(known, values - labels, 0.0)
    scores = {"rmse": float(np.sqrt((errors**2).sum() / known.sum())), "mae": float(np.abs(errors).sum() / known.sum())}
    means = np.where(known, labels, 0.0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
    spread = (np.where(known, labels - means, 0.0) ** 2).sum()  # around each target's own mean
    if spread > 0:
        scores["r2"] = float(1 - (errors**2).sum() / spread)
    if labels.shape[1] > 1:
        for i in np.flatnonzero(known.any(axis=0)):
            name = id2label[int(i)] if id2label else str(i)
            scores[f"rmse/{name}"] = float(np.sqrt((errors[:, i] ** 2).sum() / known[:, i].sum()))
    return scores


def scores_for(
    problem_type: str,
    labels: np.ndarray,
    probabilities: np.ndarray,
    id2label: Mapping[int, str],
    thresholds: Sequence[float] | float | None = None,
    per_class: bool = False,
) -> dict[str, float]:
    """The scores that belong to a problem type: see `single_label_scores`, `multi_label_scores`,
    `regression_scores`.
    """
    check_problem_type(problem_type)
    if problem_type == "regression":
        return regression_scores(labels, probabilities, id2label)
    score = single_label_scores if problem_type == "single_label_classification" else multi_label_scores
    return score(labels, probabilities, id2label, thresholds, per_class)


def _as_indicators(classes: np.ndarray, num_classes: int) -> np.ndarray:
    """Class ids `(rows,)` as 0/1 `(rows, num_classes)`; indicators pass through."""
    classes = np.asarray(classes)
    return classes.astype(np.int64) if classes.ndim == 2 else np.eye(num_classes, dtype=np.int8)[classes]


def _means_over_classes(table: list[dict[str, Any]]) -> dict[str, float]:
    """Macro-F1, weighted F1, macro AP over the classes in which they are defined, and how many are absent."""
    f1s = [row["f1"] for row in table if row["f1"] is not None]
    precisions = [row["average_precision"] for row in table if row["average_precision"] is not None]
    support = np.array([row["support"] for row in table], dtype=np.float64)
    means = {"classes_without_positive": float((support == 0).sum())}
    if f1s:
        means["macro_f1"] = float(np.mean(f1s))
    if support.any():
        means["weighted_f1"] = float(np.average([row["f1"] or 0.0 for row in table], weights=support))
    if precisions:
        means["macro_average_precision"] = float(np.mean(precisions))
    return means


def _flat_per_class(table: list[dict[str, Any]]) -> dict[str, float]:
    """`f1/NAME` and so on; undefined numbers left out."""
    columns = ("precision", "recall", "f1", "average_precision", "support")
    return {f"{c}/{row['label']}": float(row[c]) for row in table for c in columns if row[c] is not None}

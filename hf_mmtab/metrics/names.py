"""Metrics as readers write them, and which of them are better when small."""

from typing import Any

# Where the name is more than its words.
METRIC_NAMES = {
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "weighted_f1": "weighted F1",
    "micro_f1_at_half": "micro-F1 at threshold 0.5",
    "macro_f1_at_half": "macro-F1 at threshold 0.5",
    "macro_average_precision": "mean average precision",
    "roc_auc": "ROC-AUC",
    "f1": "F1",
    "recall_at_fpr_0.001": "recall at 0.1 % false positives",
    "recall_at_fpr_0.01": "recall at 1 % false positives",
    "positive_rate": "share of positives",
    "mean_score": "mean predicted probability",
    "brier": "Brier score",
    "classes_without_positive": "classes without a positive",
    "rmse": "RMSE",
    "mae": "mean absolute error",
    "r2": "R²",
    "masked_loss": "loss of the judged cells",
}
LOWER_IS_BETTER = ("rmse", "mae", "loss", "masked_loss", "brier", "calibration_error")


def metric_name(metric: str) -> str:
    """The name of a metric as a reader writes it."""
    base, _, of = metric.partition("/")
    name = METRIC_NAMES.get(base, base.replace("_", " "))
    return f"{name}, {of}" if of else name


def lower_is_better(metric: str) -> bool:
    """Whether a small value of this metric is good (errors and losses)."""
    return metric.partition("/")[0] in LOWER_IS_BETTER


def label_names(config: Any) -> list[str]:
    """Return the names of the labels, in the order of their ids."""
    return [config.id2label[index] for index in range(config.num_labels)]

"""Metrics as readers write them, what they mean, and which of them are better when small."""

from collections.abc import Iterable
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


MEANINGS = {
    "accuracy": "share of the rows that are answered rightly.",
    "average_precision": "mean precision over all cuts, from the top down; of a constant the share of positives.",
    "roc_auc": "the probability that a positive row scores higher than a negative one; a constant has 0.5.",
    "precision": "share of true ones among those called positive.",
    "recall": "share of the true ones that are found.",
    "f1": "harmonic mean of precision and recall.",
    "macro_f1": "mean of the F1 of each class: rare classes count as much as frequent ones.",
    "weighted_f1": "mean of the F1 of each class, weighted by its rows.",
    "micro_f1": "F1 over all labels of all rows together.",
    "macro_average_precision": "mean of the average precision of each class that some rows have and others have not.",
    "recall_at_fpr_0.001": "share of the positives found if one negative in a thousand may be called positive.",
    "recall_at_fpr_0.01": "share of the positives found if one negative in a hundred may be called positive.",
    "brier": "mean squared distance of the predicted probability from what happened (1 or 0); smaller is better.",
    "calibration_error": "mean distance of predicted probabilities from observed shares; smaller is better.",
    "rmse": "root of the mean squared error, in the units of the target; smaller is better.",
    "mae": "mean absolute error, in the units of the target; smaller is better.",
    "r2": "share of the target's variance that is explained; a constant has 0.",
    "masked_loss": "mean -log of the probability of a cell's true value, in nats; smaller is better.",
    "threshold": "the probability from which a row is called positive, chosen on validation.",
    "positive_rate": "share of the rows that are true ones.",
    "mean_score": "mean of the predicted probabilities; far from the share of positives the model is not calibrated.",
}
# What a page shows → its words with their meanings.
WORDS = {
    "interval": {
        "95 % interval": "where the number lies in 95 % of samples drawn anew from these rows (bootstrap).",
        "paired difference": "both models on the same drawn rows, so that what is hard for both does not count.",
    },
    "table": {
        "history": "the rows of one account, machine or place in the order of time.",
        "window": "the part of a history that the model reads at once: the judged row and those before it.",
        "[UNK]": "a value that training never had, or too rarely; all of them look the same to the model.",
    },
    "episodes": {"episode": "positive rows of one history that lie close together, such as one theft of a card."},
    "reasons": {
        "log odds": "log of p / (1 - p) of the probability p: 0 is one half, +1 and -1 are 73 % and 27 %.",
        "reason": "what a piece of the input adds to the log odds (or value), compared with an input without it.",
    },
    "audit": {
        "moved since start": "length of the change of a part's weights, as a share of their length at the start.",
        "gradient norm": "length of the gradient of a part at the last record; none: nothing reached it.",
    },
}


def glossary(metrics: Iterable[str], **shows: bool) -> dict[str, str]:
    """Return the words of a report with their meanings.

    Args:
        metrics: that it shows.
        shows: what else it shows: keys of `WORDS`.
    """
    bases = dict.fromkeys(metric.partition("/")[0] for metric in metrics)
    found = {metric_name(base): MEANINGS[base] for base in bases if base in MEANINGS}
    for what, words in WORDS.items():
        found |= words if shows.get(what) else {}
    return found

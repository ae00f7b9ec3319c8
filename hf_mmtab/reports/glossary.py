"""What the words of a report mean, in a sentence each."""

from collections.abc import Iterable

from ..metrics.names import metric_name

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
    "macro_average_precision": "mean of the average precision of each class.",
    "recall_at_fpr_0.001": "share of the positives found if one negative in a thousand may be called positive.",
    "recall_at_fpr_0.01": "share of the positives found if one negative in a hundred may be called positive.",
    "brier": "mean squared distance of the predicted probability from what happened (1 or 0); smaller is better.",
    "calibration_error": "mean distance of predicted probabilities from observed shares; smaller is better.",
    "rmse": "root of the mean squared error, in the units of the target; smaller is better.",
    "mae": "mean absolute error, in the units of the target; smaller is better.",
    "r2": "share of the target's variance that is explained; a constant has 0.",
    "masked_loss": "mean -log of the probability of a cell's true value, in nats; smaller is better.",
    "threshold": "the probability from which a row is called positive, chosen on validation.",
}
COMMON = {
    "95 % interval": "where the number lies in 95 % of samples drawn anew from these rows (bootstrap).",
    "paired difference": "both models on the same drawn rows, so that what is hard for both does not count.",
    "[UNK]": "a value that training never had, or too rarely; all of them look the same to the model.",
}


def glossary(metrics: Iterable[str], has_intervals: bool, has_tables: bool) -> dict[str, str]:
    """Return the words of a report with their meanings.

    Args:
        metrics: that it shows.
        has_intervals: whether it shows intervals or differences.
        has_tables: whether its rows are those of a table.
    """
    bases = dict.fromkeys(metric.partition("/")[0] for metric in metrics)
    found = {metric_name(base): MEANINGS[base] for base in bases if base in MEANINGS}
    wanted = [*(list(COMMON)[:2] if has_intervals else []), *(["[UNK]"] if has_tables else [])]
    return found | {word: COMMON[word] for word in wanted}

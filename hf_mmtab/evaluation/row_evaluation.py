"""What scored rows are worth: metrics, a threshold chosen on validation, intervals from resampled histories or days."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..metrics import (
    BOOTSTRAP_METRICS,
    Interval,
    bootstrap_interval,
    brier_score,
    expected_calibration_error,
    scores_for,
    tune_thresholds,
)
from .scored_rows import ScoredRows

ResampleBy = Literal["auto", "entity", "day", "row"]
RESAMPLED = ("auto", "entity", "day", "row")
FEW_GROUPS = 20  # fewer groups than these say little about how groups differ
BINARY_HEADLINE = ("average_precision", "roc_auc", "f1", "recall_at_fpr_0.001", "recall_at_fpr_0.01")
HEADLINE: dict[str, tuple[str, ...]] = {
    "single_label_classification": ("accuracy", "macro_f1", "macro_average_precision"),
    "multi_label_classification": ("micro_f1", "macro_f1", "macro_average_precision"),
    "regression": ("rmse", "mae"),
}


@dataclass(frozen=True)
class Evaluation:
    """Metrics of scored rows.

    Args:
        metrics: name → value.
        intervals: headline metric → its 95 % interval; also `rmse/TARGET` of each target.
        resampled_by: "entity", "day" or "row": what was drawn with replacement.
        groups: how many of them there are.
        rows: labelled rows that were judged.
    """

    metrics: dict[str, float]
    intervals: dict[str, Interval] = field(default_factory=dict)
    resampled_by: str = "row"
    groups: int = 0
    rows: int = 0


def headline(problem_type: str, num_labels: int) -> tuple[str, ...]:
    """Return the metrics of comparisons and intervals, the main one first."""
    if problem_type == "single_label_classification" and num_labels == 2:
        return BINARY_HEADLINE
    return HEADLINE[problem_type]


def choose_threshold(scored: ScoredRows) -> float | None:
    """Return the threshold with the highest F1; None unless the scores are those of one positive class.

    Args:
        scored: validation rows, never test rows.

    Raises:
        ValueError: if no row has a label.
    """
    known = scored.labelled
    if known.scores.ndim != 1:
        return None
    return tune_thresholds(known.scores, known.labels)[0]  # type: ignore[arg-type]


def resampling_groups(scored: ScoredRows, by: ResampleBy = "auto") -> tuple[np.ndarray | None, str]:
    """Return the group of each row, `(rows,)` int64, and what the groups are.

    Rows of one history are not independent, nor are those of one day on which the same weather strikes all: whole
    histories, or whole days, are drawn. "auto" takes whichever gives the fewer groups of at least 20, the more careful
    choice, and single rows if neither has as many.

    Args:
        scored: whose entities and times decide. Of several entity columns the first counts: all cards of a user are
            one group.
        by: "entity", "day", "row" or "auto".

    Raises:
        ValueError: if there is no such choice.
    """
    if by not in RESAMPLED:
        raise ValueError(f"resample_by must be one of {', '.join(RESAMPLED)}, got {by!r}.")
    if by == "row" or not len(scored):
        return None, "row"
    found: dict[str, np.ndarray] = {}
    if by in ("auto", "entity"):
        names, history = np.unique(scored.entities.astype(str), return_inverse=True)
        first = np.array([name.partition("/")[0] for name in names.tolist()])
        found["entity"] = np.unique(first, return_inverse=True)[1][history]
    if by in ("auto", "day"):
        found["day"] = np.unique(scored.times.astype("datetime64[D]"), return_inverse=True)[1]
    if by != "auto":
        return found[by], by
    counts = {name: int(groups.max()) + 1 for name, groups in found.items()}
    enough = {name: count for name, count in counts.items() if count >= FEW_GROUPS}
    if not enough:
        return None, "row"
    chosen = min(enough, key=lambda name: enough[name])
    return found[chosen], chosen


def evaluate_rows(
    scored: ScoredRows,
    problem_type: str,
    id2label: Mapping[int, str],
    threshold: float | Sequence[float] | None = None,
    resample_by: ResampleBy = "auto",
    bootstrap: int = 1000,
    headline_metrics: Sequence[str] | None = None,
    per_class: bool | None = None,
) -> Evaluation:
    """Judge scored rows; those without a label are left out.

    Of two classes: average precision, ROC-AUC, F1, precision and recall at the threshold, recall at 0.1 % and 1 %
    false positives, accuracy, Brier score, calibration error, mean score beside the share of positives. Otherwise see
    `hf_mmtab.metrics.scores_for`; of several targets also the RMSE of each, of several labels also F1 at 0.5.

    Args:
        scored: rows of one split.
        problem_type: as in the model's config.
        id2label: names of classes, or of targets.
        threshold: of class 1, chosen on validation (`choose_threshold`); of several labels one each; None: 0.5.
        resample_by: see `resampling_groups`.
        bootstrap: resamples behind the intervals; 0 leaves them out.
        headline_metrics: those that get an interval; default: `headline`.
        per_class: whether to judge each class too; default: unless there are two.

    Raises:
        ValueError: if no row has a label, or scores and names do not fit each other.
    """
    known = scored.labelled
    probabilities, labels = known.probabilities, known.labels
    assert labels is not None
    if probabilities.shape[1] != len(id2label):
        raise ValueError(
            f"Expected scores of {len(id2label)} labels ({', '.join(id2label.values())}), found "
            f"{probabilities.shape[1]}. Evaluate with the labels that the model was trained on."
        )
    is_binary = problem_type == "single_label_classification" and len(id2label) == 2
    takes_thresholds = is_binary or problem_type == "multi_label_classification"
    thresholds = threshold if takes_thresholds else None
    per_class = not is_binary if per_class is None else per_class
    metrics = scores_for(problem_type, labels, probabilities, id2label, thresholds, per_class)
    if is_binary:
        positive = probabilities[:, 1]
        metrics["brier"] = brier_score(labels, positive)
        metrics["calibration_error"] = expected_calibration_error(positive, labels)
        metrics["mean_score"] = float(positive.mean())
    if thresholds is not None and not is_binary:
        plain = scores_for(problem_type, labels, probabilities, id2label)
        metrics |= {f"{name}_at_half": plain[name] for name in ("micro_f1", "macro_f1") if name in plain}
    groups, by = resampling_groups(known, resample_by)
    intervals = {}
    if bootstrap:
        cuts = None if thresholds is None else np.atleast_1d(thresholds).tolist()
        for name in headline_metrics or headline(problem_type, len(id2label)):
            if name in metrics and name in BOOTSTRAP_METRICS:
                intervals[name] = bootstrap_interval(
                    name, labels, probabilities, problem_type,
                    thresholds=cuts, groups=groups, num_resamples=bootstrap,
                )  # fmt: skip
        if problem_type == "regression" and len(id2label) > 1:
            for i, name in id2label.items():
                if np.isfinite(labels[:, i]).any():
                    intervals[f"rmse/{name}"] = bootstrap_interval(
                        "rmse", labels[:, [i]], probabilities[:, [i]], problem_type,
                        groups=groups, num_resamples=bootstrap,
                    )  # fmt: skip
    number = len(known) if groups is None else int(groups.max()) + 1
    return Evaluation(metrics, intervals, by, number, len(known))

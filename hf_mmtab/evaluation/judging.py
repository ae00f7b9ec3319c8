"""From scored rows of every split to the numbers of a run, and to its closing words."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..data.windows.cutting import IGNORED
from ..metrics.names import metric_name
from .row_evaluation import ResampleBy, evaluate_rows, headline
from .run_results import RunResults
from .scored_rows import ScoredRows


def thresholds_of(config: Any) -> list[float] | None:
    """Return the decision thresholds that a model's config holds: of each label, or of the positive class."""
    if getattr(config, "threshold", None) is not None:
        return [config.threshold]
    return getattr(config, "thresholds", None)


def judge_splits(
    scored: Mapping[str, ScoredRows],
    config: Any,
    main_split: str,
    bootstrap: int,
    resample_by: ResampleBy,
    headline_metrics: Sequence[str] | None = None,
    per_class: bool | None = None,
) -> dict[str, Any]:
    """Return the fields of `RunResults` that follow from scores, at the thresholds of the config.

    Args:
        scored: split → scored rows.
        config: of the model.
        main_split: gets intervals; the others are for choosing.
        bootstrap: resamples behind the intervals; 0 leaves them out.
        resample_by: what they draw, see `hf_mmtab.evaluation.row_evaluation.resampling_groups`.
        headline_metrics: that get intervals; default: `headline`.
        per_class: whether to judge each class too; default: unless there are two.
    """
    thresholds = thresholds_of(config)
    judged = {}
    for split, rows in scored.items():
        asked = (resample_by, bootstrap if split == main_split else 0, headline_metrics, per_class)
        judged[split] = evaluate_rows(rows, config.problem_type, config.id2label, thresholds, *asked)
    return {
        "split": main_split,
        "problem_type": config.problem_type,
        "num_labels": config.num_labels,
        "thresholds": thresholds,
        "headline": list(headline_metrics or headline(config.problem_type, config.num_labels)),
        "metrics": {split: one.metrics for split, one in judged.items()},
        "intervals": {split: one.intervals for split, one in judged.items()},
        "resampled_by": judged[main_split].resampled_by,
        "judged": {split: _count(rows) for split, rows in scored.items()},
    }


def _count(scored: ScoredRows) -> dict[str, int]:
    rows = scored.labelled
    assert rows.labels is not None
    counts = {"rows": len(rows)} | ({"without_label": len(scored) - len(rows)} if len(scored) > len(rows) else {})
    return counts | ({"positives": int((rows.labels == 1).sum())} if rows.scores.ndim == 1 else {})


def closing_words(results: RunResults) -> list[str]:
    """Return the lines that end a run or an evaluation: the numbers of the main split."""
    split = results.split
    metrics, intervals = results.metrics[split], results.intervals.get(split, {})
    counts = results.judged[split]
    positive = f", {counts['positives']:,} positive" if "positives" in counts else ""
    if "without_label" in counts:
        positive += f"; {counts['without_label']:,} more without a label"
    lines = [f"\nResults on {split} ({counts['rows']:,} rows{positive}), {results.minutes:.1f} minutes:"]
    for name in results.headline:
        if name in metrics:
            value = str(intervals[name]) if name in intervals else f"{metrics[name]:.3f}"
            lines.append(f"  {metric_name(name):32} {value}")
        else:
            lines.append(
                f"  {metric_name(name):32} not defined: no class that some of the rows have and others have not"
            )
    of_targets = [(name, value) for name, value in metrics.items() if name.startswith("rmse/")]
    lines += [f"  {metric_name(name):32} {value:.3f}" for name, value in of_targets]
    at_half = [name for name in metrics if name.endswith("_at_half")]
    lines += [f"  {metric_name(name):32} {metrics[name]:.3f}" for name in at_half]
    if results.thresholds and len(results.thresholds) == 1:
        lines.append(f"  {'threshold':32} {results.thresholds[0]:.3f} (chosen on validation)")
    for row in results.ablation:
        if row.metric == results.headline[0]:
            change = round(-row.fall, 3) + 0.0  # + 0.0: never -0.000
            lines.append(f"  {row.how + ' ' + row.modality:32} {row.value:.3f} ({change:+.3f})")
    return [*lines, results.left_out] if results.left_out else lines


MAJORITY = "majority"
DESCRIPTION = "how often training meets each label, for every row alike"


def majority_scores(training_labels: np.ndarray, problem_type: str, like: ScoredRows) -> ScoredRows:
    """Return the same scores for every row: shares of the classes or labels in training, or means of the targets.

    Args:
        training_labels: `(rows,)` classes, -100 unknown; `(rows, num_labels)` of 0 and 1; `(rows, targets)` float, NaN
            unknown.
        problem_type: as in the model's config.
        like: rows to score, with scores of a model.
    """
    scores = like.scores
    if problem_type == "single_label_classification":
        known = training_labels[training_labels != IGNORED]
        shares = np.bincount(known, minlength=2 if scores.ndim == 1 else scores.shape[1]) / len(known)
        values = shares[1] if scores.ndim == 1 else shares
    else:
        values = np.nanmean(training_labels, axis=0)
    return replace(like, scores=np.broadcast_to(values, scores.shape).astype(float))

"""Several models on the same test rows: mean and spread over seeds, and paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..metrics import BOOTSTRAP_METRICS, Interval, PairedDifference, bootstrap_interval, paired_bootstrap
from ..metrics.names import lower_is_better, metric_name
from .row_evaluation import ResampleBy, evaluate_rows, headline, resampling_groups
from .scored_rows import ScoredRows


@dataclass(frozen=True)
class ScoredModel:
    """What a model of one seed predicted for the compared rows.

    Args:
        rows: its scores.
        thresholds: chosen on validation: of class 1, or one of each label; None: 0.5.
        minutes: that it took; None: not known.
    """

    rows: ScoredRows
    thresholds: Sequence[float] | None = None
    minutes: float | None = None


@dataclass
class ModelResult:
    """One line of the comparison: a model, its test scores per seed, and how far the run's own model is ahead.

    Args:
        name: e.g. "bert (text only)".
        scores: metric → one value per seed.
        intervals: metric → bootstrap interval over test rows.
        differences: metric → this run's model minus this one, paired over the same rows.
        is_own: whether this line is the run's own model.
        is_baseline: whether it is something simple that the run's own model should beat.
        seconds: training time of one seed.
    """

    name: str
    scores: Mapping[str, Sequence[float]]
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    differences: Mapping[str, PairedDifference] = field(default_factory=dict)
    is_own: bool = False
    is_baseline: bool = False
    seconds: float | None = None


def compare_scored(
    models: Mapping[str, Sequence[ScoredModel]],
    problem_type: str,
    id2label: Mapping[int, str],
    resample_by: ResampleBy = "auto",
    bootstrap: int = 1000,
    metrics: Sequence[str] | None = None,
) -> list[ModelResult]:
    """Compare models with the first one, on the same labelled rows.

    Args:
        models: name → one for each seed, all on the rows of one split.
        problem_type: as in the models' config.
        id2label: names of classes, or of targets.
        resample_by: see `row_evaluation.resampling_groups`; intervals and differences both follow it.
        bootstrap: resamples; 0 leaves intervals and differences out.
        metrics: to compare, the main one first; default: `row_evaluation.headline`.

    Raises:
        ValueError: if models were judged on other rows, or on other labels.
    """
    first, reference = next((name, seeds[0].rows) for name, seeds in models.items())
    for name, seeds in models.items():
        for one in seeds:
            require_same_rows(first, reference, name, one.rows)
    labels = reference.labelled.labels
    assert labels is not None
    judged = {
        name: [evaluate_rows(one.rows, problem_type, id2label, one.thresholds, bootstrap=0).metrics for one in seeds]
        for name, seeds in models.items()
    }
    cuts = {name: [one.thresholds for one in seeds] for name, seeds in models.items()}
    wanted = list(metrics or headline(problem_type, len(id2label)))
    groups, _ = resampling_groups(reference.labelled, resample_by)
    defined = [name for name in wanted if name in BOOTSTRAP_METRICS and name in judged[first][0]]
    resamples = bootstrap if wanted[0] in defined else 0  # else a single class: nothing to resample
    probabilities = {name: [one.rows.labelled.probabilities for one in seeds] for name, seeds in models.items()}
    results = []
    for name, own in probabilities.items():
        drawn: dict[str, Any] = {"groups": groups, "num_resamples": resamples}
        spent = [one.minutes for one in models[name] if one.minutes is not None]
        result = ModelResult(
            name,
            scores={metric: [one[metric] for one in judged[name] if metric in one] for metric in wanted},
            is_own=name == first,
            seconds=60 * float(np.mean(spent)) if spent else None,
        )
        if resamples:
            result.intervals = {
                one: bootstrap_interval(one, labels, own, problem_type, **drawn, thresholds=cuts[name])
                for one in defined
            }
        if resamples and name != first:
            drawn |= {"thresholds": cuts[first], "other_thresholds": cuts[name]}
            both = (probabilities[first], own)
            difference = paired_bootstrap(wanted[0], labels, *both, problem_type, **drawn)
            result.differences = {wanted[0]: difference}
        results.append(result)
    return results


def require_same_rows(first: str, reference: ScoredRows, name: str, scored: ScoredRows) -> None:
    """Refuse scores of other rows, or of the same with other labels.

    Args:
        first: name of the reference.
        reference: its scores.
        name: of the other model.
        scored: its scores.

    Raises:
        ValueError: saying what differs.
    """
    same = np.array_equal(reference.rows, scored.rows) and np.array_equal(reference.entities, scored.entities)
    if not same:
        shared = len(np.intersect1d(reference.rows, scored.rows))
        raise ValueError(
            f"Expected {name} to be judged on the {len(reference)} rows of {first}, found {len(scored)} rows, "
            f"{shared} of them shared. Compare runs with the same table, split, windows and label."
        )
    mine, theirs = reference.labels, scored.labels
    one, other = (np.empty(0) if labels is None else labels for labels in (mine, theirs))
    if not np.array_equal(one, other, equal_nan=np.issubdtype(one.dtype, np.floating)):
        raise ValueError(
            f"Expected {name} to be judged by the labels of {first}, found others on the same {len(reference)} rows. "
            "Compare runs with the same label columns."
        )


def in_words(difference: PairedDifference, metric: str) -> str:
    """Say whether the reference is better or worse than the other model; where the interval holds 0, that it is not
    told apart.
    """
    if difference.low <= 0 <= difference.high:
        return "not told apart"
    return "worse" if (difference.difference > 0) == lower_is_better(metric) else "better"


def comparison_markdown(results: Sequence[ModelResult], metrics: Sequence[str], split: str) -> str:
    """Return the comparison as a Markdown table: mean ± standard deviation over seeds (n − 1).

    The column of differences is the reference minus the row, in `metrics[0]`, on the same resampled rows.
    """
    reference = next(result for result in results if result.is_own)
    ahead = f"{reference.name} minus it, {metric_name(metrics[0])} (95 %)"
    head = [f"model, on {split}", *map(metric_name, metrics), ahead, "seeds", "minutes a run"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for result in results:
        cells = [result.name]
        for name in metrics:
            values = np.array(result.scores[name])
            spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.3f}{spread}" if len(values) else "–")
        difference = result.differences.get(metrics[0])
        cells.append("–" if difference is None else f"{difference} {in_words(difference, metrics[0])}")
        minutes = "–" if result.seconds is None else f"{result.seconds / 60:.1f}"
        cells += [str(len(result.scores[metrics[0]])), minutes]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def lead_sentences(results: Sequence[ModelResult], metric: str) -> list[str]:
    """Say for each baseline whether the run's own model is better, with the difference and its interval."""
    reference = next(result for result in results if result.is_own)
    sentences = []
    for result in results:
        difference = result.differences.get(metric)
        if not result.is_baseline or difference is None:
            continue
        sign = -1 if lower_is_better(metric) else 1
        low, high = sorted((sign * difference.low, sign * difference.high))
        verdict = "is better than" if low > 0 else "is worse than" if high < 0 else "is not better than"
        doubt = "" if low > 0 or high < 0 else ": the interval holds 0"
        sentences.append(f"{reference.name} {verdict} {result.name}: {metric_name(metric)} {difference}{doubt}.")
    return sentences

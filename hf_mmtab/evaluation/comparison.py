"""Several models on the same test rows: mean and spread over seeds, and paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..metrics import BOOTSTRAP_METRICS, Interval, PairedDifference, bootstrap_interval, paired_bootstrap
from ..metrics.names import lower_is_better, metric_name
from .row_evaluation import ResampleBy, evaluate_rows, headline, resampling_groups
from .scored_rows import ScoredRows


@dataclass
class ModelResult:
    """One line of the comparison: a model, its test scores per seed, and how far the run's own model is
    ahead.

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


@dataclass(frozen=True)
class ModelRuns:
    """The runs of one architecture, one a seed, on the same rows.

    Args:
        name: of the architecture.
        metrics: one dict of metrics a seed.
        probabilities: one `(rows, num_labels)` a seed.
        thresholds: one list (or None) a seed.
        minutes: training and evaluation of each, wall time; empty: not known.
    """

    name: str
    metrics: Sequence[Mapping[str, float]]
    probabilities: Sequence[np.ndarray]
    thresholds: Sequence[Sequence[float] | None]
    minutes: Sequence[float]


def compare_runs(
    runs: Sequence[ModelRuns],
    labels: np.ndarray,
    problem_type: str,
    metrics: Sequence[str],
    resamples: int = 1000,
    groups: np.ndarray | None = None,
    intervals: Sequence[str] = (),
) -> list[ModelResult]:
    """Compare architectures with the first one.

    Args:
        runs: the reference first; all on the rows of `labels`.
        labels: `(rows,)` or `(rows, num_labels)`.
        problem_type: as in the models' config.
        metrics: the first is the one whose paired difference is taken.
        resamples: of the rows, for the interval of the difference; 0 leaves it out.
        groups: `(rows,)` ids; groups are resampled whole.
        intervals: metrics whose mean over the seeds gets an interval over the same resampled rows.

    Returns:
        A result for each architecture; `differences` holds the reference minus it, over the mean of the seeds.
    """
    reference = runs[0]
    results = []
    for run in runs:
        differences = {}
        if run is not reference and resamples:
            differences[metrics[0]] = paired_bootstrap(
                metrics[0],
                labels,
                list(reference.probabilities),
                list(run.probabilities),
                problem_type,
                thresholds=_cuts(reference),
                other_thresholds=_cuts(run),
                groups=groups,
                num_resamples=resamples,
            )
        found = {
            name: bootstrap_interval(
                name, labels, list(run.probabilities), problem_type,
                thresholds=_cuts(run), groups=groups, num_resamples=resamples,
            )
            for name in intervals
            if resamples
        }  # fmt: skip
        results.append(
            ModelResult(
                run.name,
                scores={name: [one[name] for one in run.metrics if name in one] for name in metrics},
                intervals=found,
                differences=differences,
                is_own=run is reference,
                seconds=60 * float(np.mean(run.minutes)) if len(run.minutes) else None,
            )
        )
    return results


def compare_scored(
    models: Mapping[str, Sequence[ScoredRows]],
    problem_type: str,
    id2label: Mapping[int, str],
    thresholds: Mapping[str, Sequence[Sequence[float] | float | None]] | None = None,
    minutes: Mapping[str, Sequence[float]] | None = None,
    resample_by: ResampleBy = "auto",
    bootstrap: int = 1000,
    metrics: Sequence[str] | None = None,
) -> list[ModelResult]:
    """Compare models with the first one, on the same labelled rows.

    Args:
        models: name → scores of one split, one a seed.
        problem_type: as in the models' config.
        id2label: names of classes, or of targets.
        thresholds: name → one a seed, chosen on validation: of class 1, or a list, one of each label; absent: 0.5.
        minutes: name → of each run.
        resample_by: see `row_evaluation.resampling_groups`; intervals and differences both follow it.
        bootstrap: resamples; 0 leaves intervals and differences out.
        metrics: to compare, the main one first; default: `row_evaluation.headline`.

    Raises:
        ValueError: if models were judged on other rows, or on other labels.
    """
    first = next(iter(models))
    for name, seeds in models.items():
        for scored in seeds:
            _require_same_rows(first, models[first][0], name, scored)
    known = models[first][0].labelled
    cuts = {name: list((thresholds or {}).get(name) or [None] * len(seeds)) for name, seeds in models.items()}
    runs = []
    for name, seeds in models.items():
        judged = [
            evaluate_rows(scored, problem_type, id2label, cut, bootstrap=0).metrics
            for scored, cut in zip(seeds, cuts[name], strict=True)
        ]
        own = [None if cut is None else np.atleast_1d(cut).tolist() for cut in cuts[name]]
        probabilities = [scored.labelled.probabilities for scored in seeds]
        runs.append(ModelRuns(name, judged, probabilities, own, (minutes or {}).get(name, [])))
    wanted = metrics or headline(problem_type, len(id2label))
    assert known.labels is not None
    groups, _ = resampling_groups(known, resample_by)
    defined = [name for name in wanted if name in BOOTSTRAP_METRICS and name in runs[0].metrics[0]]
    resamples = bootstrap if wanted[0] in defined else 0  # else a single class: nothing to resample
    return compare_runs(runs, known.labels, problem_type, wanted, resamples, groups, intervals=defined)


def _require_same_rows(first: str, reference: ScoredRows, name: str, scored: ScoredRows) -> None:
    same = np.array_equal(reference.rows, scored.rows) and np.array_equal(reference.entities, scored.entities)
    if not same:
        shared = len(np.intersect1d(reference.rows, scored.rows))
        raise ValueError(
            f"Expected {name} to be judged on the {len(reference)} rows of {first}, found {len(scored)} rows, "
            f"{shared} of them shared. Compare runs with the same table, split, windows and label."
        )
    mine, theirs = reference.labels, scored.labels
    is_float = mine is not None and np.issubdtype(mine.dtype, np.floating)
    if (mine is None) != (theirs is None) or (
        mine is not None and not np.array_equal(mine, theirs, equal_nan=is_float)  # type: ignore[arg-type]
    ):
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


def _cuts(run: ModelRuns) -> list[Sequence[float] | None] | None:
    return None if all(cut is None for cut in run.thresholds) else list(run.thresholds)


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
        minutes = "–" if result.seconds is None else f"{result.seconds / 60:.1f}"
        cells += [
            "–" if difference is None else f"{difference} {in_words(difference, metrics[0])}",
            str(len(result.scores[metrics[0]])),
            minutes,
        ]
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
        sentences.append(
            f"{reference.name} {verdict} {result.name}: {metric_name(metric)} {difference}{doubt}."
        )
    return sentences

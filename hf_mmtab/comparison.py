"""Several models on the same test rows: mean and spread over seeds, and paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .metrics import paired_bootstrap
from .reports import ModelResult
from .reports.facts import metric_name


@dataclass(frozen=True)
class ModelRuns:
    """The runs of one architecture, one a seed, on the same rows.

    Args:
        name: of the architecture.
        metrics: one dict of metrics a seed.
        probabilities: one `(rows, num_labels)` a seed.
        thresholds: one list (or None) a seed.
        minutes: training and evaluation of each, wall time.
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
) -> list[ModelResult]:
    """Compare architectures with the first one.

    Args:
        runs: the reference first; all on the rows of `labels`.
        labels: `(rows,)` or `(rows, num_labels)`.
        problem_type: as in the models' config.
        metrics: the first is the one whose paired difference is taken.
        resamples: of the rows, for the interval of the difference; 0 leaves it out.

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
                num_resamples=resamples,
            )
        results.append(
            ModelResult(
                run.name,
                scores={name: [found[name] for found in run.metrics if name in found] for name in metrics},
                differences=differences,
                is_own=run is reference,
                seconds=60 * float(np.mean(run.minutes)),
            )
        )
    return results


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
            "–" if difference is None else str(difference),
            str(len(result.scores[metrics[0]])),
            minutes,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)

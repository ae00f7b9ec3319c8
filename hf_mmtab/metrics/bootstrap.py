"""How sure a number is: 95 % intervals from resampled test rows, and paired differences of two models.

Rows (or whole groups of them, such as all rows of one user) are drawn with replacement. A metric here
depends on its rows only through how often each of a few *cells* occurs: (true, predicted) for F1, the place
among the ranked positives for average precision. So a resample is one multinomial draw of cell counts, and a
thousand of them are scored at once, with no loop over resamples or rows; in distribution it is the ordinary
bootstrap.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from .cells import CELL_METRICS, Cells, cells_of

BOOTSTRAP_METRICS = tuple(CELL_METRICS)
_CHUNK = 2_000_000  # numbers per block: bounds memory to some tens of MB


@dataclass(frozen=True)
class Interval:
    """A metric with its percentile interval. `undefined_resamples`: draws without e.g. any positive, left out."""

    value: float
    low: float
    high: float
    num_resamples: int
    undefined_resamples: int = 0

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f})"


@dataclass(frozen=True)
class PairedDifference:
    """First model minus second on the same rows; `share_above_zero`: resamples in which the first was better."""

    difference: float
    low: float
    high: float
    share_above_zero: float
    num_resamples: int
    undefined_resamples: int = 0

    def __str__(self) -> str:
        difference, low, high = (round(x, 3) + 0.0 for x in (self.difference, self.low, self.high))
        return f"{difference:+.3f} ({low:+.3f} to {high:+.3f})"


Probabilities = np.ndarray | Sequence[np.ndarray]


def bootstrap_interval(
    metric: str,
    labels: np.ndarray,
    probabilities: Probabilities,
    problem_type: str,
    *,
    thresholds: Sequence | None = None,
    groups: np.ndarray | None = None,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The metric on these rows, with a percentile bootstrap interval, widened to hold it where all resamples lie aside.

    Args:
        metric: one of `BOOTSTRAP_METRICS`.
        labels: shape `(rows,)` or `(rows, num_labels)`.
        probabilities: shape `(rows, num_labels)`; regression: predicted values. A list of arrays means
            several
            seeds: the metric is then their mean, and `thresholds` (if given) a list with one entry per seed.
        problem_type: as in the model's config.
        thresholds: see `decide`.
        groups: shape `(rows,)`, any ids: groups are resampled whole (rows of one user are not independent).
        num_resamples: at least 1.
        confidence: in (0, 1).
        seed: of the resampling.

    Raises:
        ValueError: if the metric is unknown or does not fit the problem type, or lengths differ.
    """
    models = _models(metric, labels, probabilities, problem_type, thresholds)
    values = _resample([models], groups, num_resamples, seed)[0]
    defined = values[np.isfinite(values)]
    value = _on_all_rows(models)
    low, high = _percentiles(defined, confidence, value)
    return Interval(value, low, high, num_resamples, num_resamples - len(defined))


def paired_bootstrap(
    metric: str,
    labels: np.ndarray,
    probabilities: Probabilities,
    other_probabilities: Probabilities,
    problem_type: str,
    *,
    thresholds: Sequence | None = None,
    other_thresholds: Sequence | None = None,
    groups: np.ndarray | None = None,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """How much better the first model is than the second, both scored on the same resampled rows.

    Args and errors as in `bootstrap_interval`; lists of arrays compare the means over seeds.
    """
    first = _models(metric, labels, probabilities, problem_type, thresholds)
    second = _models(metric, labels, other_probabilities, problem_type, other_thresholds)
    values = _resample([first, second], groups, num_resamples, seed)
    differences = values[0] - values[1]
    defined = differences[np.isfinite(differences)]
    difference = _on_all_rows(first) - _on_all_rows(second)
    low, high = _percentiles(defined, confidence, difference)
    above = float((defined > 0).mean()) if len(defined) else float("nan")
    return PairedDifference(difference, low, high, above, num_resamples, num_resamples - len(defined))


def _models(
    metric: str, labels: np.ndarray, probabilities: Probabilities, problem_type: str, thresholds: Sequence | None
) -> list[Cells]:
    """The cells of each seed's predictions."""
    if isinstance(probabilities, np.ndarray):
        return [cells_of(metric, labels, probabilities, problem_type, thresholds)]
    cuts = list(thresholds) if thresholds is not None else [None] * len(probabilities)
    if len(cuts) != len(probabilities):
        raise ValueError(f"Expected thresholds for each of {len(probabilities)} seeds, found {len(cuts)}.")
    return [cells_of(metric, labels, p, problem_type, c) for p, c in zip(probabilities, cuts, strict=True)]


def _on_all_rows(models: list[Cells]) -> float:
    counts = [np.bincount(m.cells, minlength=m.num_cells)[None].astype(np.float64) for m in models]
    return float(np.mean([m.score(c)[0] for m, c in zip(models, counts, strict=True)]))


def _percentiles(values: np.ndarray, confidence: float, value: float) -> tuple[float, float]:
    """Return the ends of an interval that holds the value on all rows.

    A resample may lack a rare class, which a mean over classes then leaves out: of few rows most resamples may lie on
    one side of the value.
    """
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(np.fmin(low, value)), float(np.fmax(high, value))


def _resample(sides: list[list[Cells]], groups: np.ndarray | None, num_resamples: int, seed: int) -> list[np.ndarray]:
    """For each side the mean score of its models in every resample, all models seeing the same draws."""
    models = [m for side in sides for m in side]
    if len({len(m.cells) for m in models}) != 1:
        raise ValueError(f"Expected predictions for the same rows, found {[len(m.cells) for m in models]}.")
    joint, cells_of_joint = _joint_cells(models)
    num_joint = len(cells_of_joint)
    totals = [
        csr_matrix((np.ones(num_joint), (cells_of_joint[:, i], np.arange(num_joint))), shape=(m.num_cells, num_joint))
        for i, m in enumerate(models)
    ]  # (cells, joint): adds up the joint counts of one model's cells
    block = max(1, _CHUNK // max(num_joint, *(m.num_cells for m in models)))
    scores: list[list[np.ndarray]] = [[] for _ in models]
    draw = _draws(joint, num_joint, groups)
    rng = np.random.default_rng(seed)
    for start in range(0, num_resamples, block):
        counts = draw(rng, min(block, num_resamples - start))  # (joint, resamples of the block)
        for i, m in enumerate(models):
            scores[i].append(m.score((totals[i] @ counts).T))
    per_model = [np.concatenate(s) for s in scores]
    return [np.mean([per_model.pop(0) for _ in side], axis=0) for side in sides]


def _joint_cells(models: list[Cells]) -> tuple[np.ndarray, np.ndarray]:
    """Rows that fall into the same cell in every model, as one: (joint cell of each row, its cell in each model)."""
    joint = models[0].cells
    for m in models[1:]:
        joint = np.unique(joint.astype(np.int64) * m.num_cells + m.cells, return_inverse=True)[1]
    _, first, joint = np.unique(joint, return_index=True, return_inverse=True)
    return joint, np.stack([m.cells[first] for m in models], axis=1)


def _draws(joint: np.ndarray, num_joint: int, groups: np.ndarray | None) -> Callable[..., np.ndarray]:
    """Resampled rows: a multinomial over the joint cells; resampled groups: over groups, times what each holds."""
    if groups is None:
        shares = np.bincount(joint, minlength=num_joint) / len(joint)
        return lambda rng, size: rng.multinomial(len(joint), shares, size=size).T.astype(np.float64)
    if len(groups) != len(joint):
        raise ValueError(f"Expected one group id for each of {len(joint)} rows, found {len(groups)}.")
    names, index = np.unique(groups, return_inverse=True)
    number = len(names)
    holds = csr_matrix((np.ones(len(joint)), (joint, index)), shape=(num_joint, number))
    even = np.full(number, 1 / number)
    return lambda rng, size: holds @ rng.multinomial(number, even, size=size).T.astype(np.float64)

"""Metrics as functions of cell counts, for many resamples at once (see `bootstrap`).

Each agrees with scikit-learn's on the rows as they are. A resample in which it is undefined gives NaN.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from .decisions import check_problem_type, decide
from .scores import FALSE_POSITIVE_RATES


@dataclass(frozen=True)
class Cells:
    """The cell of each row, and the metric as a function of the counts `(resamples, num_cells)` →
    `(resamples,)`.
    """

    cells: np.ndarray
    num_cells: int
    score: Callable[[np.ndarray], np.ndarray]


def cells_of(
    metric: str, labels: np.ndarray, probabilities: np.ndarray, problem_type: str, thresholds: Sequence | None = None
) -> Cells:
    """Cells of one metric of one model.

    Raises:
        ValueError: if the metric is unknown, does not fit the problem, or there are not as many labels as
            rows.
    """
    check_problem_type(problem_type)
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if len(labels) != len(probabilities) or len(labels) == 0:
        raise ValueError(
            f"Expected as many labels as predictions and at least one, found {len(labels)} and {len(probabilities)}."
        )
    kinds = CELL_METRICS.get(metric, {})
    kind = problem_type
    if problem_type == "single_label_classification" and probabilities.shape[1] == 2:
        kind = "binary" if "binary" in kinds else problem_type
    if kind not in kinds:
        fitting = [name for name, k in CELL_METRICS.items() if problem_type in k or ("binary" in k and kind in k)]
        raise ValueError(f"No bootstrap of {metric!r} for {problem_type} here: expected one of {fitting}.")
    predictions = decide(probabilities, problem_type, thresholds) if kind != "regression" else probabilities
    return kinds[kind](labels, probabilities, predictions)


# --- one label per row -------------------------------------------------------------------------------------


def _accuracy(labels: np.ndarray, probabilities: np.ndarray, predictions: np.ndarray) -> Cells:
    right = (labels == predictions).astype(np.int64)
    return Cells(right, 2, lambda counts: counts[:, 1] / counts.sum(axis=1))


def _confusion(average: str) -> Callable[..., Cells]:
    def build(labels: np.ndarray, probabilities: np.ndarray, predictions: np.ndarray) -> Cells:
        size = probabilities.shape[1]

        def score(counts: np.ndarray) -> np.ndarray:
            table = counts.reshape(-1, size, size)  # (resamples, true, predicted)
            hits = np.diagonal(table, axis1=1, axis2=2)
            return _mean_f1(hits, table.sum(axis=1), table.sum(axis=2), average)

        return Cells(labels * size + predictions, size * size, score)

    return build


def _mean_f1(hits: np.ndarray, predicted: np.ndarray, actual: np.ndarray, average: str) -> np.ndarray:
    """F1 from counts `(resamples, classes)`; classes neither present nor predicted are left out of the mean."""
    if average == "micro":
        hits, predicted, actual = (a.sum(axis=1, keepdims=True) for a in (hits, predicted, actual))
    elif average == "positive":
        hits, predicted, actual = hits[:, 1:2], predicted[:, 1:2], actual[:, 1:2]
    sizes = predicted + actual
    f1 = 2 * hits / np.maximum(sizes, 1)
    weights = actual if average == "weighted" else (sizes > 0).astype(np.float64)
    return _divide((f1 * weights).sum(axis=1), weights.sum(axis=1))


def _divide(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Quotient, NaN where the divisor is 0."""
    return np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom > 0)


# --- rankings of one class ---------------------------------------------------------------------------------


def _ranking(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, int]:
    """Rows ordered by score, cut at the distinct scores of positives s_1 > s_2 > …: cell 3k holds the negatives
    between s_k and s_k+1, 3k + 1 the negatives that tie with s_k+1, 3k + 2 the positives there.
    """
    levels = np.unique(scores[labels == 1])  # ascending
    above = len(levels) - np.searchsorted(levels, scores, side="right")
    ties = np.isin(scores, levels)
    return 3 * above + ties + (ties & (labels == 1)), 3 * len(levels) + 1


def _ranked(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Positives and tied negatives at each level, and true and false positives accepted down to it."""
    positives, tied = counts[:, 2::3], counts[:, 1::3]
    false_positives = np.cumsum(counts[:, 0:-1:3] + tied, axis=1)
    return positives, tied, np.cumsum(positives, axis=1), false_positives


def _average_precision(counts: np.ndarray) -> np.ndarray:
    positives, tied, hits, false_positives = _ranked(counts)
    precision = hits / np.maximum(hits + false_positives, 1)
    negatives = counts[:, 0::3].sum(axis=1) + tied.sum(axis=1)
    return _divide((positives * precision).sum(axis=1), positives.sum(axis=1) * (negatives > 0))


def _roc_auc(counts: np.ndarray) -> np.ndarray:
    positives, tied, _, false_positives = _ranked(counts)
    negatives = counts[:, 0::3].sum(axis=1) + tied.sum(axis=1)
    below = negatives[:, None] - false_positives + tied / 2  # a tie counts half
    return _divide((positives * below).sum(axis=1), positives.sum(axis=1) * negatives)


def _recall_at(rate: float) -> Callable[[np.ndarray], np.ndarray]:
    def score(counts: np.ndarray) -> np.ndarray:
        positives, tied, hits, false_positives = _ranked(counts)
        negatives = counts[:, 0::3].sum(axis=1) + tied.sum(axis=1)
        allowed = false_positives <= rate * negatives[:, None]
        recall = _divide(np.where(allowed, hits, 0.0).max(axis=1, initial=0.0), positives.sum(axis=1))
        return np.where(negatives > 0, recall, np.nan)

    return score


def _positive_class(score: Callable[[np.ndarray], np.ndarray]) -> Callable[..., Cells]:
    def build(labels: np.ndarray, probabilities: np.ndarray, predictions: np.ndarray) -> Cells:
        return Cells(*_ranking(labels, probabilities[:, 1]), score)

    return build


def _macro_average_precision(labels: np.ndarray, probabilities: np.ndarray, predictions: np.ndarray) -> Cells:
    """One ranking per class over the same rows; classes without a positive or a negative in a resample are left out."""
    rows = len(labels)
    truth = labels if labels.ndim == 2 else labels[:, None] == np.arange(probabilities.shape[1])
    rankings = [_ranking(truth[:, i], probabilities[:, i]) for i in range(truth.shape[1])]
    sums = [
        csr_matrix((np.ones(rows), (cells, np.arange(rows))), shape=(num_cells, rows))
        for cells, num_cells in rankings
        if num_cells > 1
    ]

    def score(counts: np.ndarray) -> np.ndarray:
        columns = np.ascontiguousarray(counts.T)  # (rows, resamples)
        values = np.array([_average_precision((s @ columns).T) for s in sums]).reshape(-1, len(counts))
        defined = np.isfinite(values)
        return _divide(np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0).astype(np.float64))

    return Cells(np.arange(rows), rows, score)


# --- several labels per row, and regression ----------------------------------------------------------------


def _multi_label(average: str) -> Callable[..., Cells]:
    def build(labels: np.ndarray, probabilities: np.ndarray, predictions: np.ndarray) -> Cells:
        both = np.hstack([labels, predictions]).astype(np.int8)
        patterns, cells = np.unique(both, axis=0, return_inverse=True)
        truth, chosen = np.split(patterns.astype(np.float64), 2, axis=1)

        def score(counts: np.ndarray) -> np.ndarray:
            return _mean_f1(counts @ (truth * chosen), counts @ chosen, counts @ truth, average)

        return Cells(cells.ravel(), len(patterns), score)

    return build


def _error(power: int) -> Callable[..., Cells]:
    def build(labels: np.ndarray, values: np.ndarray, predictions: np.ndarray) -> Cells:
        targets = labels.astype(np.float64).reshape(len(labels), -1)
        known = np.isfinite(targets)
        errors = np.where(known, np.abs(values.reshape(targets.shape) - targets), 0.0) ** power
        totals, measured = errors.sum(axis=1), known.sum(axis=1).astype(np.float64)

        def score(counts: np.ndarray) -> np.ndarray:
            return _divide(counts @ totals, counts @ measured) ** (1 / power)

        return Cells(np.arange(len(targets)), len(targets), score)

    return build


SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"

CELL_METRICS: dict[str, dict[str, Callable[..., Cells]]] = {
    "accuracy": {SINGLE: _accuracy},
    "micro_f1": {SINGLE: _accuracy, MULTI: _multi_label("micro")},
    "macro_f1": {SINGLE: _confusion("macro"), MULTI: _multi_label("macro")},
    "weighted_f1": {SINGLE: _confusion("weighted"), MULTI: _multi_label("weighted")},
    "macro_average_precision": {SINGLE: _macro_average_precision, MULTI: _macro_average_precision},
    "f1": {"binary": _confusion("positive")},
    "average_precision": {"binary": _positive_class(_average_precision)},
    "roc_auc": {"binary": _positive_class(_roc_auc)},
    **{f"recall_at_fpr_{r}": {"binary": _positive_class(_recall_at(r))} for r in FALSE_POSITIVE_RATES},
    "rmse": {REGRESSION: _error(2)},
    "mae": {REGRESSION: _error(1)},
}

"""Thresholds of several labels that hold on other rows: cross-fitted, and shrunk to a common one."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import f1_score

from .decisions import best_cuts, decide

FOLDS = 5
# Positive rows of a label that its own threshold needs to weigh as much as the common one; 0: every label its own.
WEIGHTS = (np.inf, 80.0, 20.0, 5.0, 0.0)
_LEAST = 1e-6  # thresholds are averaged as log odds


@dataclass(frozen=True)
class Thresholds:
    """Thresholds, and what they are worth on rows that did not choose them.

    Args:
        values: one per label.
        common: to which those of rare labels are drawn.
        weight: one of `WEIGHTS`.
        held_out: micro- and macro-F1 of validation, each fold at thresholds of the others; None: too few rows.
    """

    values: list[float]
    common: float
    weight: float
    held_out: tuple[float, float] | None

    def __str__(self) -> str:
        if self.weight == np.inf:
            how = f"one of {self.common:.3f} for all labels, since single labels' own did not hold on other rows"
        elif self.weight:
            how = f"each label's own, drawn to a common {self.common:.3f} where it has few positives"
        else:
            how = "each label's own"
        sentence = f"Decision thresholds were chosen on validation: {how}."
        if self.held_out is None:
            return sentence
        micro, macro = self.held_out
        return (
            f"{sentence} Validation's F1 at them is flattered; on rows that did not choose the thresholds "
            f"({FOLDS} folds of validation) micro-F1 is {micro:.3f} and macro-F1 {macro:.3f}."
        )


def cross_fitted_thresholds(probabilities: np.ndarray, labels: np.ndarray) -> Thresholds:
    """Choose the threshold of each of several labels. Give it validation data, never test data.

    In each of `FOLDS` folds the other rows choose the threshold with the highest F1 for each label, and a common one
    with the highest micro-F1. A label's threshold is the mean over the folds, drawn to the common one by few
    positives; how strongly is decided by the mean of micro- and macro-F1 on the rows left out.

    Args:
        probabilities: `(rows, num_labels)`.
        labels: 0 and 1, of the same shape.

    Raises:
        ValueError: if the shapes do not fit, there are no rows, or labels are not 0 and 1.
    """
    probabilities, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if len(labels) < 2 * FOLDS:  # nothing to choose by
        own, common = _fit(probabilities, labels)
        return Thresholds(_shrunk(own, common, labels.sum(axis=0), np.inf).tolist(), float(common), np.inf, None)
    fold = np.random.default_rng(0).permutation(len(labels)) % FOLDS
    fits = [_fit(probabilities[fold != one], labels[fold != one]) for one in range(FOLDS)]
    judged = []
    for weight in WEIGHTS:
        decided = np.zeros_like(labels)
        for one, (own, common) in enumerate(fits):
            cuts = _shrunk(own, common, labels[fold != one].sum(axis=0), weight)
            decided[fold == one] = decide(probabilities[fold == one], "multi_label_classification", cuts.tolist())
        judged.append([f1_score(labels, decided, average=one, zero_division=0.0) for one in ("micro", "macro")])
    best = int(np.sum(judged, axis=1).argmax())  # of equal ones the most careful
    own, common = (_probability(_log_odds(np.array(one)).mean(axis=0)) for one in zip(*fits, strict=True))
    values = _shrunk(own, common, labels.sum(axis=0), WEIGHTS[best])
    return Thresholds(values.tolist(), float(common), WEIGHTS[best], tuple(judged[best]))


def _fit(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the best threshold of each label `(num_labels,)`, and the best for all of them `()`."""
    return best_cuts(probabilities, labels), best_cuts(probabilities.reshape(-1, 1), labels.reshape(-1, 1))[0]


def _shrunk(own: np.ndarray, common: np.ndarray, positives: np.ndarray, weight: float) -> np.ndarray:
    """Draw thresholds `(num_labels,)` to the common one, as log odds; a label without a positive has no own one."""
    share = positives / (positives + weight) if weight else (positives > 0).astype(float)
    return _probability(share * _log_odds(own) + (1 - share) * _log_odds(common))


def _log_odds(thresholds: np.ndarray) -> np.ndarray:
    clipped = np.clip(thresholds, _LEAST, 1 - _LEAST)
    return np.log(clipped / (1 - clipped))


def _probability(log_odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-log_odds))

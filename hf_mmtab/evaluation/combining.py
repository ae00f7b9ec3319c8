"""Greedy ensemble selection (Caruana et al. 2004): which models to average, and with which shares."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .scored_rows import ScoredRows

ROUNDS = 20  # shares are multiples of a twentieth at the finest
LEAST = 1e-7


@dataclass(frozen=True)
class Selection:
    """What was taken.

    Args:
        weights: model → its share of the probabilities, of the models that were taken; the largest first.
        loss: mean negative log likelihood of a validation label under the average.
        losses: the same of every candidate alone.
    """

    weights: dict[str, float]
    loss: float
    losses: dict[str, float]

    def __str__(self) -> str:
        shares = ", ".join(f"{weight:.2f} {name}" for name, weight in self.weights.items())
        alone = ", ".join(f"{name} {loss:.3f}" for name, loss in self.losses.items())
        how = "no average was better" if len(self.weights) == 1 else "the mean of their probabilities"
        return (
            f"ensemble: {shares} ({how}), chosen greedily by log loss on validation: {self.loss:.3f}; each alone: "
            f"{alone}. To choose among others: ensemble_members."
        )


def select_greedily(candidates: Mapping[str, ScoredRows]) -> Selection:
    """Add, with replacement, the model whose addition lowers the log loss of the average most; keep the best average.

    The log loss and not the headline metric decides: on a hundred rows accuracy rises by chance.

    Args:
        candidates: model → its scores of the same validation rows, with labels.
    """
    names = list(candidates)
    labels = next(iter(candidates.values())).labels
    assert labels is not None
    scores = np.stack([one.probabilities for one in candidates.values()])  # (models, rows, labels)
    losses = {name: log_loss(one, labels) for name, one in zip(names, scores, strict=True)}
    total, counts = np.zeros_like(scores[0]), np.zeros(len(names), dtype=int)
    best_loss, best_counts = np.inf, counts
    for number in range(1, ROUNDS + 1):
        found = [log_loss((total + one) / number, labels) for one in scores]
        taken = int(np.argmin(found))
        total, counts = total + scores[taken], counts + (np.arange(len(names)) == taken)
        if found[taken] < best_loss:
            best_loss, best_counts = found[taken], counts
    order = [place for place in np.argsort(-best_counts, kind="stable") if best_counts[place]]
    weights = {names[place]: float(best_counts[place] / best_counts.sum()) for place in order}
    return Selection(weights, float(best_loss), losses)


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative log likelihood of a label.

    Args:
        probabilities: `(rows, num_labels)`.
        labels: `(rows,)` classes, or `(rows, num_labels)` of 0 and 1.
    """
    p = np.clip(probabilities, LEAST, 1 - LEAST)
    if labels.ndim == 1:
        return float(-np.log(p[np.arange(len(labels)), labels]).mean())
    return float(-np.where(labels == 1, np.log(p), np.log1p(-p)).mean())

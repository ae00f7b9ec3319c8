"""How much the amount alone tells: shallow boosted trees on the number itself."""

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from ..models.tabbert.processing.quantiles import bin_edges

# HistGradientBoosting has 255 bins of equally many rows, too few for a tail: ranks by finer ones are given to it.
BINS, TAIL_ROWS = 200, 10


class AmountTrees:
    """The chance of a positive by amount, as a step function that is fine where the rows are, tails too.

    Args:
        amounts: `(rows,)` of training, NaN where missing.
        labels: `(rows,)` of 0 and 1.
    """

    def __init__(self, amounts: np.ndarray, labels: np.ndarray) -> None:
        known = amounts[np.isfinite(amounts)]
        self.edges = np.empty(0)
        if len(known):
            self.edges = bin_edges(*np.unique(known, return_counts=True), BINS, TAIL_ROWS)[1:-1]
        self.trees = HistGradientBoostingClassifier(
            learning_rate=0.05,
            max_iter=100,
            max_leaf_nodes=8,
            min_samples_leaf=TAIL_ROWS,
            early_stopping=False,
            random_state=0,
        )
        self.trees.fit(self._places(amounts), labels)

    def predict(self, amounts: np.ndarray) -> np.ndarray:
        """Return the chance of class 1 at each amount, `(rows,)`."""
        return self.trees.predict_proba(self._places(amounts))[:, 1]

    def _places(self, amounts: np.ndarray) -> np.ndarray:
        places = np.searchsorted(self.edges, amounts, side="right")
        return np.where(np.isfinite(amounts), places, np.nan)[:, None]

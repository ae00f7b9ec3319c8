"""How much the amount alone tells: the share of positives among training rows of a like amount."""

from dataclasses import dataclass

import numpy as np

BINS = 32
PRIOR_ROWS = 20  # a bin's share is drawn towards the overall share as if by so many more rows


@dataclass(frozen=True)
class AmountShares:
    """Share of positives by amount.

    Attributes:
        edges: increasing, `(bins - 1,)`; a value equal to an edge lies above it.
        shares: `(bins + 1,)`, in (0, 1); the last is for missing amounts.
    """

    edges: np.ndarray
    shares: np.ndarray

    @classmethod
    def fit(cls, amounts: np.ndarray, labels: np.ndarray, num_bins: int = BINS) -> "AmountShares":
        """Count positives in bins of equally many rows.

        Args:
            amounts: `(rows,)`, NaN where missing.
            labels: `(rows,)` of 0 and 1.
            num_bins: at most; equal edges merge.
        """
        known = amounts[np.isfinite(amounts)]
        edges = np.unique(np.quantile(known, np.linspace(0, 1, num_bins + 1)[1:-1])) if len(known) else known
        bins = cls._bins(edges, amounts)
        size = len(edges) + 2
        rows, positives = np.bincount(bins, minlength=size), np.bincount(bins, labels, minlength=size)
        overall = (labels.sum() + 1) / (len(labels) + 2)
        return cls(edges, (positives + PRIOR_ROWS * overall) / (rows + PRIOR_ROWS))

    def predict(self, amounts: np.ndarray) -> np.ndarray:
        """Return the share that belongs to each amount, `(rows,)`."""
        return self.shares[self._bins(self.edges, amounts)]

    @staticmethod
    def _bins(edges: np.ndarray, amounts: np.ndarray) -> np.ndarray:
        known = np.isfinite(amounts)
        return np.where(
            known, np.searchsorted(edges, np.where(known, amounts, 0), side="right"), len(edges) + 1
        )

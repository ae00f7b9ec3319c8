"""Whether probabilities can be believed."""

import numpy as np


def calibration_bins(
    confidence: np.ndarray, right: np.ndarray, num_bins: int = 10, by_positives: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean probability, observed share and count of each bin that holds a row.

    Args:
        confidence: shape `(rows,)`, in [0, 1].
        right: 0 and 1, shape `(rows,)`.
        num_bins: of equal width, or holding equally many positives.
        by_positives: bins of equally many positives, for rare positives.
    """
    if by_positives:
        edges = np.quantile(confidence[right == 1], np.linspace(0, 1, num_bins + 1))[1:-1]
    else:
        edges = np.linspace(0, 1, num_bins + 1)[1:-1]
    bins = np.searchsorted(edges, confidence, side="right")
    counts = np.bincount(bins, minlength=num_bins)
    held = counts > 0
    mean = np.bincount(bins, confidence, minlength=num_bins)[held] / counts[held]
    share = np.bincount(bins, right, minlength=num_bins)[held] / counts[held]
    return mean, share, counts[held]


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean distance of probability and observed share over ten bins of equal width, weighted by rows."""
    mean, share, counts = calibration_bins(confidence, right)
    return float(np.average(np.abs(mean - share), weights=counts))


def brier_score(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean squared distance of probability and outcome (Brier 1950), in [0, 1]; 0 is perfect.

    Args:
        labels: 0 and 1, shape `(rows,)`.
        scores: probability of 1, shape `(rows,)`.
    """
    return float(np.mean((np.asarray(scores) - np.asarray(labels)) ** 2))

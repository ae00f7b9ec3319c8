"""The baseline that knows nothing of a row: how often training meets each label, for every row alike."""

from dataclasses import replace

import numpy as np

from ..data.windows import IGNORED
from .scored_rows import ScoredRows

MAJORITY = "majority"
DESCRIPTION = "how often training meets each label, for every row alike"


def majority_scores(training_labels: np.ndarray, problem_type: str, like: ScoredRows) -> ScoredRows:
    """Return the same scores for every row: shares of the classes or labels in training, or means of the targets.

    Args:
        training_labels: `(rows,)` classes, -100 unknown; `(rows, num_labels)` of 0 and 1; `(rows, targets)` float, NaN
            unknown.
        problem_type: as in the model's config.
        like: rows to score, with scores of a model.
    """
    scores = like.scores
    if problem_type == "single_label_classification":
        known = training_labels[training_labels != IGNORED]
        shares = np.bincount(known, minlength=2 if scores.ndim == 1 else scores.shape[1]) / len(known)
        values = shares[1] if scores.ndim == 1 else shares
    else:
        values = np.nanmean(training_labels, axis=0)
    return replace(like, scores=np.broadcast_to(values, scores.shape).astype(float))

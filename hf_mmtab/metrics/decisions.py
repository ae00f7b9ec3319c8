"""From logits to probabilities, from probabilities to decisions, and the thresholds between them.

`problem_type` is the one of transformers' configs: "single_label_classification",
"multi_label_classification" or "regression". A single-label problem with two classes is binary; its
positive class is 1.
"""

from collections.abc import Sequence

import numpy as np
from transformers.utils.logging import get_logger

logger = get_logger(__name__)

PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")
DEFAULT_THRESHOLD = 0.5


def check_problem_type(problem_type: str) -> None:
    """Raise a ValueError that names the known problem types if `problem_type` is not one of them."""
    if problem_type not in PROBLEM_TYPES:
        raise ValueError(f"problem_type must be one of {list(PROBLEM_TYPES)}, got {problem_type!r}.")


def probabilities_from_logits(logits: np.ndarray, problem_type: str) -> np.ndarray:
    """Softmax over the last axis (single label), sigmoid (multi label), or the values themselves (regression).

    Args:
        logits: shape `(rows, num_labels)` or `(rows, steps, num_labels)`; any float type.
        problem_type: one of `PROBLEM_TYPES`.

    Returns:
        float64 of the same shape; in [0, 1] except for regression.

    Raises:
        ValueError: if a logit is NaN or infinite (training has diverged), or the problem type is unknown.
    """
    check_problem_type(problem_type)
    logits = np.asarray(logits, dtype=np.float64)
    bad = ~np.isfinite(logits)
    if bad.any():
        rows = np.unique(np.nonzero(bad)[0])
        raise ValueError(
            f"Expected finite logits, found NaN or infinity in {len(rows)} of {len(logits)} rows, first in "
            f"row {rows[0]}. "
            "Training has probably diverged: lower the learning rate, clip gradients, or leave fp16 for bf16."
        )
    if problem_type == "regression":
        return logits
    if problem_type == "multi_label_classification":
        return np.exp(-np.logaddexp(0.0, -logits))  # the sigmoid, without overflow
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


def decide(
    probabilities: np.ndarray, problem_type: str, thresholds: Sequence[float] | float | None = None
) -> np.ndarray:
    """Turn probabilities into predictions.

    Args:
        probabilities: shape `(rows, num_labels)`.
        problem_type: one of `PROBLEM_TYPES`.
        thresholds: multi label: one per label, or one for all; binary: one, for class 1. Default 0.5. A
            probability equal to its threshold is a yes. More than two classes and regression take none.

    Returns:
        Single label: class ids, shape `(rows,)`, of more than two the lowest wins a tie. Multi label: 0 and
        1, shape `(rows, num_labels)`. Regression: the values unchanged.

    Raises:
        ValueError: if the number of thresholds is not the number of labels, or a threshold has no meaning
            (single label, more than two classes).
    """
    check_problem_type(problem_type)
    probabilities = np.asarray(probabilities)
    if problem_type == "regression":
        return probabilities
    num_labels = probabilities.shape[-1]
    if problem_type == "multi_label_classification":
        cuts = np.atleast_1d(np.asarray(DEFAULT_THRESHOLD if thresholds is None else thresholds, float))
        if len(cuts) not in (1, num_labels):
            raise ValueError(f"Expected 1 or {num_labels} thresholds, one per label, found {len(cuts)}.")
        return (probabilities >= cuts).astype(np.int64)
    if num_labels != 2 and thresholds is None:
        return probabilities.argmax(axis=-1)
    cut = binary_threshold(DEFAULT_THRESHOLD if thresholds is None else thresholds, num_labels)
    return (probabilities[..., 1] >= cut).astype(np.int64)


def binary_threshold(thresholds: Sequence[float] | float, num_labels: int = 2) -> float:
    """The threshold of class 1 of a binary problem, given as a number or as a list of one."""
    cuts = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    if num_labels != 2 or len(cuts) != 1:
        raise ValueError(
            "A single-label problem takes a threshold only if it has two classes, and then exactly one (for class "
            f"1); found {len(cuts)} for {num_labels} classes. Leave `thresholds` out to take the most probable class."
        )
    return float(cuts[0])


def tune_thresholds(probabilities: np.ndarray, labels: np.ndarray) -> list[float]:
    """For each label, the threshold with the highest F1 (`best_cuts`). Give it validation data, never test data.

    A label without a positive keeps 0.5, with a warning.

    Args:
        probabilities: multi label: `(rows, num_labels)`; binary: `(rows,)` of class 1, or `(rows, 2)`.
        labels: 0 and 1, shape `(rows, num_labels)`, or `(rows,)` for binary.

    Returns:
        One threshold per label (binary: a list of one), each in (0, 1].

    Raises:
        ValueError: if the shapes do not fit, there are no rows, or labels are not 0 and 1.
    """
    probabilities, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if labels.ndim == 1 and probabilities.ndim == 2 and probabilities.shape[1] == 2:
        probabilities = probabilities[:, 1]
    thresholds = best_cuts(probabilities, labels)
    without = int((labels.reshape(len(labels), -1).sum(axis=0) == 0).sum())
    if without:
        logger.warning(
            f"{without} of {len(thresholds)} labels have no positive row to tune on: their threshold stays "
            f"{DEFAULT_THRESHOLD}."
        )
    return thresholds.tolist()


def best_cuts(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """For each label, the threshold with the highest F1, `(num_labels,)`; without a positive 0.5.

    Every distinct probability is tried as a cut (all labels sorted at once, counts by cumulative sums).
    Rules: of cuts with equal F1 the highest wins, i.e. the fewest predictions; the threshold lies half-way
    between the lowest probability that it accepts and the next one below (or 0), so that rounding does not
    flip a decision.

    Args:
        probabilities: `(rows, num_labels)`, or `(rows,)` of one label.
        labels: 0 and 1, of the same shape.

    Raises:
        ValueError: if the shapes do not fit, there are no rows, or labels are not 0 and 1.
    """
    if probabilities.shape != labels.shape or len(labels) == 0:
        raise ValueError(
            "Expected probabilities and labels of one shape with at least one row ((rows, num_labels), or (rows,) "
            f"for a binary problem), found {probabilities.shape} and {labels.shape}."
        )
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("Expected labels of 0 and 1; drop unlabelled rows (-100) first.")
    if labels.ndim == 1:
        probabilities, labels = probabilities[:, None], labels[:, None]

    order = np.argsort(-probabilities, axis=0, kind="stable")
    scores = np.take_along_axis(probabilities, order, axis=0)  # (rows, num_labels), descending
    true_positives = np.cumsum(np.take_along_axis(labels, order, axis=0), axis=0)
    predicted = np.arange(1, len(scores) + 1)[:, None]
    positives = true_positives[-1]
    f1 = 2 * true_positives / (predicted + positives)
    below = np.vstack([scores[1:], np.zeros((1, scores.shape[1]))])
    f1[:-1][scores[:-1] == scores[1:]] = -1.0  # a cut inside equal probabilities cannot be made
    best = f1.argmax(axis=0)  # the first, i.e. the highest cut
    columns = np.arange(scores.shape[1])
    accepted, rejected = scores[best, columns], below[best, columns]
    middle = (accepted + rejected) / 2
    thresholds = np.where((middle > rejected) & (middle <= accepted), middle, accepted)
    return np.where(positives == 0, DEFAULT_THRESHOLD, thresholds)

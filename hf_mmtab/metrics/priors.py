"""Probabilities of a model that was trained with other class shares than the data's, brought back to the data's.

Up-sampling positives and class weights both change the prior that training sees, and with it every probability; the
ranking of rows stays. For a model that estimates probabilities (cross entropy) the change is undone exactly by
adding log ratios of the priors to the logits: King and Zeng, Logistic Regression in Rare Events Data, Political
Analysis 9 (2001), eq. 27; Saerens, Latinne and Decaestecker, Neural Computation 14 (2002), eq. 4, for any number of
classes. After focal or squared losses it is an approximation.
"""

from collections.abc import Sequence

import numpy as np


def effective_prior(
    prior: Sequence[float] | np.ndarray,
    class_weights: Sequence[float] | np.ndarray | None = None,
    sampled: Sequence[float] | np.ndarray | None = None,
) -> np.ndarray:
    """Return the share of each class that training sees, `(classes,)`, summing to 1.

    Args:
        prior: of the training rows, `(classes,)` shares or counts.
        class_weights: of the loss, `(classes,)`.
        sampled: shares or counts of the classes in the sampled batches, where they differ from `prior`.

    Raises:
        ValueError: if lengths differ, a number is negative, or all are 0.
    """
    seen = np.array(prior if sampled is None else sampled, dtype=np.float64)
    weights = np.ones(len(seen)) if class_weights is None else np.array(class_weights, dtype=np.float64)
    if not len(prior) == len(seen) == len(weights):
        raise ValueError(
            f"Expected one number per class, found {len(prior)} of the prior, {len(seen)} sampled and {len(weights)} "
            "weights. Give each of them for all classes."
        )
    product = seen * weights
    if not np.isfinite(product).all() or (product < 0).any() or product.sum() == 0:
        raise ValueError(
            f"Expected shares and weights of at least 0, one of them above, found {seen.tolist()} and "
            f"{weights.tolist()}."
        )
    return product / product.sum()


def prior_log_ratios(trained: Sequence[float] | np.ndarray, actual: Sequence[float] | np.ndarray) -> list[float]:
    """Return what to add to each class's logit: log(actual / trained), shifted so that the first is 0.

    Args:
        trained: prior that training saw (`effective_prior`), `(classes,)`.
        actual: prior of the data to predict, as a rule that of the training rows.

    Raises:
        ValueError: if lengths differ, or a class has no share: nothing can be said about one that was never seen.
    """
    seen, wanted = np.asarray(trained, dtype=np.float64), np.asarray(actual, dtype=np.float64)
    if seen.shape != wanted.shape or seen.ndim != 1:
        raise ValueError(f"Expected priors of as many classes, found {seen.tolist()} and {wanted.tolist()}.")
    if not ((seen > 0).all() and (wanted > 0).all()):
        raise ValueError(
            f"Expected every class to have a share above 0, found {seen.tolist()} in training and {wanted.tolist()} "
            "in the data. Leave the correction out, or choose a split in which each class occurs."
        )
    ratios = np.log(wanted / wanted.sum()) - np.log(seen / seen.sum())
    return (ratios - ratios[0]).tolist()

"""Losses of the heads over windows of rows."""

import torch
from torch.nn import functional as F

from .configuration_tabbert import TabBertConfig

IGNORED = -100  # label of a padded row, or of a row that is only context


def rmse_one_hot(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return sqrt(mean((logits − one_hot)²)) over examples and classes, as a published fine-tuning has it.

    Args:
        logits: shape `(..., classes)`.
        labels: shape `(...)`, class numbers, -100 where there is none.
    """
    known = labels != IGNORED
    target = F.one_hot(labels.clamp(min=0), logits.shape[-1]).to(logits.dtype)
    squares = (logits - target).square().mean(dim=-1)  # (...)
    return _root(_mean(squares, known.to(logits.dtype)))


def focal_loss(
    logits: torch.Tensor, labels: torch.Tensor, gamma: float, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the mean of (1 − p)^gamma · −log p of the true class (Lin et al. 2017, arXiv:1708.02002).

    Args:
        logits: shape `(..., classes)`.
        labels: shape `(...)`, class numbers, -100 where there is none.
        gamma: at least 0; 0 gives the cross entropy.
        weight: shape `(classes,)`; the mean is then weighted by it, as in `cross_entropy`.
    """
    known = (labels != IGNORED).to(logits.dtype)
    losses = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none", ignore_index=IGNORED)
    losses = losses.view_as(known)
    if gamma > 0:
        losses = (-torch.expm1(-losses)).clamp(min=0) ** gamma * losses
    return _mean(losses, known if weight is None else known * weight[labels.clamp(min=0)])


def window_loss(logits: torch.Tensor, labels: torch.Tensor, config: TabBertConfig) -> torch.Tensor:
    """Return the loss that the config asks for, a scalar in float32.

    Args:
        logits: shape `(batch, labels)`, or `(batch, rows, labels)` with one label per row.
        labels: class numbers of shape `(batch,)` or `(batch, rows)`, -100 where there is none;
            for regression targets of the shape of `logits`, NaN where there is none.

    Returns:
        The mean over what has a label; zero if nothing has.

    Raises:
        ValueError: if the shapes do not fit, or a class number is out of range.
    """
    logits = logits.float()
    if config.problem_type is None:  # kept, and saved with the model: whoever judges its scores needs it
        config.problem_type = "single_label_classification"
    name = config.classification_loss or ("rmse" if config.problem_type == "regression" else "cross_entropy")
    if name in ("mse", "rmse"):
        target = labels.to(logits.dtype)
        if logits.shape[-1] == 1 and target.shape == logits.shape[:-1]:
            target = target[..., None]
        if target.shape != logits.shape:
            raise ValueError(f"Expected targets of shape {tuple(logits.shape)}, found {tuple(labels.shape)}.")
        known = ~target.isnan()
        mean = _mean((logits - target.nan_to_num()).square(), known.to(logits.dtype))
        return mean if name == "mse" else _root(mean)
    if labels.shape != logits.shape[:-1] or labels.is_floating_point():
        raise ValueError(
            f"Expected class numbers of shape {tuple(logits.shape[:-1])} "
            f"(label_level={config.label_level!r}), found {labels.dtype} of shape {tuple(labels.shape)}."
        )
    if not torch.compiler.is_compiling():
        wrong = ((labels < 0) & (labels != IGNORED)) | (labels >= logits.shape[-1])
        if wrong.any():
            raise ValueError(
                f"Expected class numbers from 0 to {logits.shape[-1] - 1} (num_labels={logits.shape[-1]}), "
                f"found {int(labels[wrong][0])}."
            )
    if name == "rmse_one_hot":
        return rmse_one_hot(logits, labels)
    weight = None
    if config.class_weights is not None:
        weight = torch.tensor(config.class_weights, dtype=logits.dtype, device=logits.device)
    return focal_loss(logits, labels, float(config.focal_gamma) if name == "focal" else 0.0, weight)


def _mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    total = weights.sum()
    return (values * weights).sum() / torch.where(total > 0, total, torch.ones_like(total))


def _root(mean_square: torch.Tensor) -> torch.Tensor:
    # The slope of a square root is infinite at zero: a perfect fit would turn gradients into NaN.
    return mean_square.clamp(min=torch.finfo(mean_square.dtype).tiny).sqrt()

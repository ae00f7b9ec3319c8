"""The loss of the classification heads, named by the configuration's problem type."""

import torch
from torch.nn import functional as F
from transformers import PreTrainedConfig


def classification_loss(config: PreTrainedConfig, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy for one label, binary cross entropy with `config.pos_weight` for several; mean reduction.

    Args:
        config: `problem_type` says which of the two; None is set by the dtype of the labels, as transformers does it.
        logits: shape `(batch, num_labels)`.
        labels: `(batch,)` integers, or `(batch, num_labels)` of 0 and 1.

    Raises:
        ValueError: if the labels' shape does not fit the problem type.
    """
    if config.problem_type is None:  # kept, and saved with the model: whoever judges its scores needs it
        several = labels.dim() == 2 and labels.is_floating_point()
        config.problem_type = "multi_label_classification" if several else "single_label_classification"
    problem_type = config.problem_type
    expected = logits.shape if problem_type == "multi_label_classification" else logits.shape[:1]
    if labels.shape != expected:
        raise ValueError(
            f"Expected labels of shape {tuple(expected)} for {problem_type}, found {tuple(labels.shape)}. "
            "Set config.problem_type to what the labels are."
        )
    logits = logits.float()
    if problem_type == "single_label_classification":
        return F.cross_entropy(logits, labels)
    pos_weight = None if config.pos_weight is None else logits.new_tensor(config.pos_weight)
    return F.binary_cross_entropy_with_logits(logits, labels.float(), pos_weight=pos_weight)

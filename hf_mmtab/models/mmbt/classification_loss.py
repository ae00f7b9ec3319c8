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
        ValueError: if the labels are no tensor, or their shape or dtype does not fit the problem type.
    """
    if not isinstance(labels, torch.Tensor):
        raise ValueError(f"Expected labels as a tensor, found {type(labels).__name__}. Pass `torch.tensor(labels)`.")
    problem_type = config.problem_type
    if problem_type is None:
        several = labels.dim() == 2 and labels.is_floating_point()
        problem_type = "multi_label_classification" if several else "single_label_classification"
    expected = logits.shape if problem_type == "multi_label_classification" else logits.shape[:1]
    if labels.shape != expected:
        raise ValueError(
            f"Expected labels of shape {tuple(expected)} for {problem_type}, found {tuple(labels.shape)}. "
            "Set config.problem_type to what the labels are."
        )
    if problem_type == "single_label_classification" and labels.is_floating_point():
        raise ValueError(
            f"Expected whole numbers as labels of {problem_type}, found {labels.dtype}. Use `labels.long()`, or "
            "problem_type multi_label_classification with a 0 or 1 for each label."
        )
    config.problem_type = problem_type  # kept, and saved with the model: whoever judges its scores needs it
    logits = logits.float()
    if problem_type == "single_label_classification":
        return F.cross_entropy(logits, labels.long())
    pos_weight = None if config.pos_weight is None else logits.new_tensor(config.pos_weight)
    return F.binary_cross_entropy_with_logits(logits, labels.float(), pos_weight=pos_weight)

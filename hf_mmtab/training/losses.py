"""Weighted and focal losses whose gradient does not depend on accumulation or the number of processes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers.utils import logging

logger = logging.get_logger(__name__)

POS_WEIGHT_RULES = ("total_over_positives", "negatives_over_positives")


def count_labels(labels: Any, num_labels: int) -> list[int]:
    """Count the training examples of each class.

    Args:
        labels: class ids, shape `(rows,)`; or 0/1 per class, shape `(rows, num_labels)`; or lists of class ids.
        num_labels: number of classes.
    """
    if len(labels) and isinstance(labels[0], list | tuple) and len(labels[0]) != num_labels:
        flat = torch.tensor([label for row in labels for label in row], dtype=torch.long)
        return torch.bincount(flat, minlength=num_labels).tolist()
    if len(labels) and isinstance(labels[0], list | tuple) and not set(labels[0]) <= {0, 1}:
        return count_labels([label for row in labels for label in row], num_labels)
    tensor = torch.as_tensor(labels)
    if tensor.ndim == 2:
        return (tensor == 1).sum(dim=0).tolist()
    return torch.bincount(tensor[tensor >= 0].long(), minlength=num_labels).tolist()


def pos_weights(counts: Sequence[int], num_examples: int, rule: str) -> list[float]:
    """Return the weight of the positive examples of each label.

    Args:
        counts: training examples that carry each label.
        num_examples: training examples in all.
        rule: `"total_over_positives"`, N / freq, as the original MMBT code weights, or
            `"negatives_over_positives"`, the usual choice.

    Returns:
        One finite weight per label. A label without examples counts as if it had one, with a warning.

    Raises:
        ValueError: if the rule is unknown.
    """
    if rule not in POS_WEIGHT_RULES:
        raise ValueError(f"pos_weight must be one of {POS_WEIGHT_RULES} or a list of numbers, got {rule!r}")
    absent = [index for index, count in enumerate(counts) if count == 0]
    if absent:
        logger.warning(
            f"No training example carries label {absent}: its pos_weight is computed as if one example did. "
            "Check the training split, or drop the label."
        )
    weights = []
    for count in counts:
        positives = max(count, 1)
        total = num_examples if rule == "total_over_positives" else num_examples - positives
        weights.append(total / positives)
    return weights


def balanced_class_weights(counts: Sequence[int]) -> list[float]:
    """Return class weights inverse to frequency whose mean over the training examples is 1.

    A class without examples gets weight 0, with a warning.
    """
    present = sum(count > 0 for count in counts)
    if present < len(counts):
        absent = [index for index, count in enumerate(counts) if count == 0]
        logger.warning(f"No training example has class {absent}: its class weight is 0.")
    total = sum(counts)
    return [total / (present * count) if count else 0.0 for count in counts]


class ClassificationLoss(nn.Module):
    """Cross entropy, binary cross entropy or their focal forms: the sum over labels divided by their number.

    NOTE[DIFF] A weighted loss is divided by the number of labels in the whole accumulated batch of all processes, so
    class weights keep their meaning however the batch is cut; torch's weighted cross entropy divides by the sum of
    the weights in each batch. `balanced_class_weights` has mean 1 and keeps the scale of the loss too.

    Args:
        kind: `"cross_entropy"`, `"bce"`, `"focal"` (one class per example) or `"focal_bce"` (several).
        class_weights: shape `(num_labels,)`, for one class per example.
        pos_weight: shape `(num_labels,)`, for several.
        focal_gamma: exponent of the focal factor (1 − p)^γ; 0 gives the plain loss.
        label_smoothing: in [0, 1), for one class per example.
    """

    def __init__(
        self,
        kind: str,
        class_weights: Sequence[float] | None = None,
        pos_weight: Sequence[float] | None = None,
        focal_gamma: float = 2.0,
        label_smoothing: float = 0.0,
    ):
        super().__init__()
        kinds = ("cross_entropy", "bce", "focal", "focal_bce")
        if kind not in kinds:
            raise ValueError(f"loss must be 'model' or one of {kinds}, got {kind!r}")
        multi_label = kind in ("bce", "focal_bce")
        if multi_label and class_weights is not None:
            raise ValueError(f"class_weights belong to one class per example; with {kind!r} use pos_weight")
        if not multi_label and pos_weight is not None:
            raise ValueError(f"pos_weight is for several labels per example; with loss={kind!r} use class_weights")
        self.kind, self.label_smoothing = kind, label_smoothing
        self.focal_gamma = focal_gamma if kind.startswith("focal") else 0.0
        weights = class_weights if class_weights is not None else pos_weight
        self.weights = None if weights is None else torch.tensor(weights, dtype=torch.float32)

    def forward(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Return the loss.

        Args:
            outputs: a model output with `logits`, shape `(batch, num_labels)`, or `(batch, steps, num_labels)`.
            labels: `(batch,)` or `(batch, steps)` class ids (−100 = ignore), or `(batch, num_labels)` of 0 and 1.
            num_items_in_batch: labels in the accumulated batch of all processes; None counts this batch.
        """
        logits = (outputs["logits"] if isinstance(outputs, dict) else outputs[0]).float()
        weights = None if self.weights is None else self.weights.to(logits.device)
        if self.kind in ("bce", "focal_bce"):
            labels = labels.to(logits.dtype)
            counted = labels != -100
            targets = labels.clamp(min=0)
            loss = nn.functional.binary_cross_entropy_with_logits(
                logits, targets, pos_weight=weights, reduction="none"
            )  # (batch, num_labels)
            if self.focal_gamma:
                chance = torch.sigmoid(logits)
                loss = loss * (1 - torch.where(targets == 1, chance, 1 - chance)) ** self.focal_gamma
            loss = torch.where(counted, loss, torch.zeros_like(loss)).sum()
        else:
            logits, labels = logits.flatten(0, -2), labels.flatten()
            counted = labels != -100
            losses = nn.functional.cross_entropy(
                logits, labels, weight=weights, reduction="none", label_smoothing=self.label_smoothing
            )  # (batch,)
            if self.focal_gamma:
                chance = torch.softmax(logits, dim=-1).gather(1, labels.clamp(min=0)[:, None])[:, 0]
                losses = losses * (1 - chance) ** self.focal_gamma
            loss = losses.sum()
        return loss / (counted.sum() if num_items_in_batch is None else num_items_in_batch)


def loss_from_arguments(
    args: Any, config: Any, label_counts: Sequence[int] | None, num_examples: int | None
) -> ClassificationLoss | None:
    """Return the loss that the training arguments ask for, None for the model's own.

    Args:
        args: `MMTabTrainingArguments`.
        config: the model's config (`problem_type`, `label2id`, `num_labels`).
        label_counts: training examples per class, needed for weights by rule.
        num_examples: training examples in all.

    Raises:
        ValueError: if weights by rule are asked for without counts, or for unknown classes.
    """
    kind = args.loss
    if kind == "model" and args.class_weights is None and args.pos_weight is None:
        return None
    multi_label = getattr(config, "problem_type", None) == "multi_label_classification"
    if kind == "model":
        kind = "bce" if multi_label else "cross_entropy"
    elif kind == "focal" and multi_label:
        kind = "focal_bce"
    class_weights, pos_weight = args.class_weights, args.pos_weight
    for name, value in (("class_weights", class_weights), ("pos_weight", pos_weight)):
        if isinstance(value, str) and label_counts is None:
            raise ValueError(
                f"{name}={value!r} needs the number of training examples per class: pass "
                "label_counts=count_labels(labels, num_labels) to MMTabTrainer, or give the weights by class name"
            )
    if isinstance(class_weights, str):
        if class_weights != "balanced":
            raise ValueError(f"class_weights must be 'balanced' or class → weight, got {class_weights!r}")
        class_weights = balanced_class_weights(label_counts or [])
    elif isinstance(class_weights, dict):
        class_weights = _by_name("class_weights", class_weights, config)
    if isinstance(pos_weight, str):
        if num_examples is None:
            raise ValueError(f"pos_weight={pos_weight!r} needs num_examples: the train set has no length")
        pos_weight = pos_weights(label_counts or [], num_examples, pos_weight)
    elif isinstance(pos_weight, dict):
        pos_weight = _by_name("pos_weight", pos_weight, config)
    smoothing = 0.0 if kind in ("bce", "focal_bce") else args.label_smoothing_factor
    return ClassificationLoss(kind, class_weights, pos_weight, args.focal_gamma, smoothing)


def loss_notes(log_history: Sequence[Mapping[str, Any]], args: Any) -> list[str]:
    """Say what the validation loss holds beside the log loss, if a run logged one.

    Args:
        log_history: of the trained run.
        args: `MMTabTrainingArguments`.
    """
    held = [f"{name}: {getattr(args, name)}" for name in ("class_weights", "pos_weight") if getattr(args, name)]
    held += [f"loss: {args.loss}"] if args.loss.startswith("focal") else []
    if args.label_smoothing_factor:
        held.insert(0, f"label_smoothing_factor: {args.label_smoothing_factor:g}")
    if not held or not any("eval_loss" in entry for entry in log_history):
        return []
    return [
        f"eval_loss is the training loss on validation rows, with {', '.join(held)}, as transformers' Trainer has it: "
        "it is not the log loss of the probabilities, and not comparable with that of another recipe."
    ]


def _by_name(key: str, weights: dict[str, Any], config: Any) -> list[float]:
    """Return weights by class name in the order of class ids; a class that is not named weighs 1."""
    ids = getattr(config, "label2id", None)
    if ids is None:
        raise ValueError(
            "Weights by class name need the names in `model.config.label2id`, and this model has none. Pass a "
            "`compute_loss_func` with the weights instead."
        )
    unknown = [name for name in weights if name not in ids]
    if unknown:
        raise ValueError(f"Unknown classes {unknown} in {key}. The model's classes: {sorted(ids)}")
    for name, weight in weights.items():
        try:
            fits = 0 <= float(weight) < math.inf
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise ValueError(f"{key} of {name!r} must be a number from 0 on, got {weight!r}. Correct it.")
    return [float(weights.get(name, 1.0)) for name in sorted(ids, key=ids.__getitem__)]

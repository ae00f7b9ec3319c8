"""What both pipelines share: one processor beside the model, and labels and scores from logits."""

# The base class declares its parts as None and its steps with no parameters of their own.
# mypy: disable-error-code="override"

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import Pipeline

DEFAULT_THRESHOLD = 0.5
# The default of `top_k`: what the model decides at its own thresholds.
DECIDED: Literal["decided"] = "decided"

Answer = dict[str, Any]  # label and score
TopK = int | Literal["decided"] | None


@dataclass(frozen=True)
class RightPadding:
    """What transformers' batching asks of a tokenizer."""

    pad_token_id: int
    padding_side: str = "right"


def answers(logits: torch.Tensor, config: Any, top_k: TopK) -> Answer | list[Answer]:
    """Turn the logits `(labels,)` of one example into labels and scores.

    Args:
        logits: of one example.
        config: of the model: problem type, names, thresholds that were tuned on validation.
        top_k: so many labels with the highest scores, None: all. "decided": the one label that the model decides for,
            of several labels those that reach their thresholds.

    Returns:
        `{"label", "score"}`, or a list of them with the highest score first. The score is a probability; of a
        regression the value itself, with the name of the target as label.
    """
    names = [config.id2label[i] for i in range(len(logits))]
    if config.problem_type == "regression":
        found = [{"label": name, "score": value} for name, value in zip(names, logits.tolist(), strict=True)]
        return found[0] if len(found) == 1 else found
    several = config.problem_type == "multi_label_classification"
    scores = logits.float().sigmoid() if several else logits.float().softmax(dim=-1)
    ranked = scores.argsort(descending=True, stable=True).tolist()
    if top_k == DECIDED:
        chosen = decided_labels(scores, config)
        ranked = [label for label in ranked if label in chosen]
    else:
        ranked = ranked[:top_k]
    listed = [{"label": names[label], "score": float(scores[label])} for label in ranked]
    return listed[0] if top_k == DECIDED and not several else listed


def decided_labels(scores: torch.Tensor, config: Any) -> list[int]:
    """Return the label that a model decides for; of several labels those that reach their thresholds.

    Args:
        scores: probabilities `(labels,)` of one example.
        config: of the model; MMBT has a threshold per label, TabBERT one for the positive of two classes.
    """
    thresholds = getattr(config, "thresholds", None)
    if config.problem_type == "multi_label_classification":
        cuts = torch.tensor(thresholds or DEFAULT_THRESHOLD)
        return (scores >= cuts).nonzero()[:, 0].tolist()
    cut = thresholds[0] if thresholds else getattr(config, "threshold", None)
    if cut is not None and len(scores) == 2:
        return [int(float(scores[1]) >= cut)]
    return [int(scores.argmax())]


class SavedWithProcessor(Pipeline):
    """What both pipelines share: one processor, padding to the right, and saving both parts."""

    model: Any
    processor: Any
    tokenizer: Any
    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_video_processor: Any = False
    _load_feature_extractor: Any = False
    _load_tokenizer: Any = False

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Judge one input, or a list of them; see the class."""
        if isinstance(inputs, list) and not inputs:  # of which the base class asks for the first
            return []
        return super().__call__(inputs, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save model and processor; loading them takes this package."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


def refuse_unknown(parameters: dict[str, Any], known: Iterable[str]) -> None:
    """Raise a ValueError for parameters that are not `known`."""
    if parameters:
        raise ValueError(
            f"Unknown parameters {sorted(parameters)}. This pipeline takes top_k, {', '.join(known)}."
        )

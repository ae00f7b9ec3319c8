"""Models from arrays to arrays, as ONNX has them: where trees are asked too, the part that is a network."""

from typing import Any

import torch
from torch import nn

from ..models.tabbert import TabBertConfig
from ..models.tabbert.modeling_tabbert_boosted import (
    FUSED,
    STATISTICS,
    TabBertBoostedForSequenceClassification,
    TabBertFusionForSequenceClassification,
    as_two_classes,
    at_judged,
    is_binary,
)
from ..serving.trees import ALONE, BEFORE, BEHIND

TREE_SCORES = "tree_scores"  # an input: of the trees on statistics, for each row


class ArrayModel(nn.Module):
    """A model from arrays to arrays: inputs in the order of their names, logits alone."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.model(**dict(zip(self.names, inputs, strict=True)))
        return outputs.field_logits if "field_logits" in outputs else (outputs.logits,)


class FusionArrays(ArrayModel):
    """A fusion without its trees: they come before as an input, or read what comes out (`tree_inputs`)."""

    model: TabBertFusionForSequenceClassification

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = dict(zip(self.names, inputs, strict=True))
        config, scores = self.model.config, given.pop(TREE_SCORES, None)
        found = self.model.tree_inputs(**given)
        chosen = config.fusion["chosen"]
        if chosen == "trees":
            return (found,)
        binary = is_binary(config)
        joined = found[..., :1] if binary else found  # (..., outputs)
        if scores is not None:
            joined = self.model.join(chosen, joined, at_judged(scores, given["attention_mask"], config))
        return (as_two_classes(joined[..., 0]) if binary else joined,)


def arrays_of(model: Any, names: list[str]) -> ArrayModel:
    """Return a model for export, in evaluation.

    Args:
        model: of this package.
        names: of its inputs.
    """
    fused = isinstance(model, TabBertFusionForSequenceClassification) and model.config.fusion
    return (FusionArrays if fused else ArrayModel)(model, names).eval()


def trees_of(model: Any) -> dict[str, Any] | None:
    """Return which trees a service asks and where, as `serving.trees.SavedTrees` reads it; None: none."""
    if isinstance(model, TabBertBoostedForSequenceClassification):
        name, place, bias = STATISTICS, ALONE, model.bias.tolist()
    elif isinstance(model, TabBertFusionForSequenceClassification) and model.config.fusion:
        chosen = model.config.fusion["chosen"]
        if chosen == "sequence":
            return None
        name = FUSED if chosen == "trees" else STATISTICS
        place, bias = {"trees": BEHIND, "boosted": ALONE}.get(chosen, BEFORE), [0.0] * model.config.num_labels
    else:
        return None
    return {
        "name": name,
        "count": len(model.boosters[name]),
        "place": place,
        "bias": bias,
        "binary": is_binary(model.config),
    }


def reads(config: Any, trees: dict[str, Any] | None) -> list[str]:
    """Return what a service must compute of rows beside their ids: `times`, `statistics`."""
    if not isinstance(config, TabBertConfig):
        return []
    alone = trees is not None and trees["place"] == ALONE
    found = ["times"] if "windowed_surprise" in config.encoded_widths and not alone else []
    return found + (["statistics"] if trees is not None or "statistics" in config.row_parts else [])

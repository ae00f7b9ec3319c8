"""What differs between text models: names of parts, positions, segments, and the pooler that some lack."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED


class FirstTokenPooler(nn.Module):
    """Dense layer and tanh on the first position, as BERT's pooler, for text models that have none."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.dense(states[:, 0]))  # (batch, hidden)


def has_pooler(text_model: PreTrainedModel) -> bool:
    """Whether the text model itself returns a `pooler_output` (BERT, RoBERTa, ALBERT, MPNet)."""
    return getattr(text_model, "pooler", None) is not None


def without_pooler(text_model: Any) -> Any:
    """Return the text model after taking its own pooler, which nothing would read, away."""
    if has_pooler(text_model):
        text_model.pooler = None
    return text_model


def mean_of_states(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean of the states `(batch, seq, hidden)` where the mask `(batch, seq)` is 1, `(batch, hidden)`."""
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def takes(text_model: PreTrainedModel, argument: str) -> bool:
    """Whether `forward` names this argument. One that only disappears in `**kwargs` does not count."""
    return argument in inspect.signature(text_model.forward).parameters


def require_text_encoder(text_model: PreTrainedModel) -> None:
    """Refuse models that cannot read a masked sequence of given vectors in both directions.

    Raises:
        ValueError: for an encoder–decoder, a decoder, or a model without `inputs_embeds` or `attention_mask`.
    """
    config = text_model.config
    decodes = config.is_encoder_decoder or getattr(config, "is_decoder", False)
    decodes = decodes or (config.model_type in CAUSAL and config.model_type not in MASKED)  # GPT-2
    if decodes or not (takes(text_model, "inputs_embeds") and takes(text_model, "attention_mask")):
        raise ValueError(
            f"Expected a text encoder that takes inputs_embeds and attention_mask, found {type(text_model).__name__} "
            f"(model_type {config.model_type!r}). Use an encoder such as BERT, RoBERTa or ModernBERT."
        )


def require_special_words(config: Any, text_model: Any) -> None:
    """Refuse an MMBT whose image part has no words to open and close it.

    Raises:
        ValueError: if `cls_token_id` or `sep_token_id` is None, or not among the text model's words.
    """
    ids = (config.cls_token_id, config.sep_token_id)
    if None in ids:
        raise ValueError(
            f"Expected cls_token_id and sep_token_id in MMBTConfig, found {ids[0]} and {ids[1]}, and none in its "
            "text_config. Set them to the tokenizer's cls_token_id and sep_token_id."
        )
    words = text_model.get_input_embeddings().num_embeddings
    if not all(0 <= one < words for one in ids):
        raise ValueError(
            f"Expected cls_token_id and sep_token_id among the {words} words of the text model, found {ids[0]} and "
            f"{ids[1]}. Set them to the tokenizer's cls_token_id and sep_token_id."
        )


def refuse_plain_texts(input_ids: torch.Tensor | None, opening: int | None) -> None:
    """Refuse texts as a tokenizer alone gives them, for `pipeline("text-classification")` for example.

    Args:
        input_ids: shape `(batch, seq)`.
        opening: id of [CLS], which MMBT puts before the picture.

    Raises:
        ValueError: if every text begins with [CLS].
    """
    if input_ids is None or opening is None or not input_ids.numel() or torch.compiler.is_compiling():
        return
    if bool(input_ids[:, 0].eq(opening).all()):
        raise ValueError(
            "Expected words without a leading [CLS], which opens the image part, found texts that all begin with it, "
            "and no picture. Encode them with the MMBTProcessor, or use "
            'pipeline("image-text-classification") with {"image": None, "text": ...}.'
        )


def text_options(config: PreTrainedConfig, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of a call that go to the text model; what is not given is as the configuration says."""
    options = {
        "output_attentions": config.output_attentions,
        "output_hidden_states": config.output_hidden_states,
        **{name: value for name, value in given.items() if value is not None},
    }
    not_of_it = ("return_dict", "num_items_in_batch")
    return {name: value for name, value in options.items() if name not in not_of_it}


def position_table(text_model: PreTrainedModel) -> nn.Embedding | None:
    """The table of learned absolute positions, or None (rotary and relative positions have none)."""
    for name, module in text_model.named_modules():
        if name.rsplit(".", 1)[-1] == "position_embeddings" and isinstance(module, nn.Embedding):
            return module
    return None


def position_offset(text_model: PreTrainedModel) -> int:
    """Index of the first position: RoBERTa and MPNet count from `padding_idx + 1`, the others from 0."""
    table = position_table(text_model)
    return 0 if table is None or table.padding_idx is None else table.padding_idx + 1


def max_positions(text_model: PreTrainedModel) -> int | None:
    """How many positions the table has for tokens, or None where nothing but memory limits them."""
    table = position_table(text_model)
    return None if table is None else table.num_embeddings - position_offset(text_model)


def has_segments(text_model: PreTrainedModel, config: PreTrainedConfig, num_segments: int) -> bool:
    """Whether the text model's own segment table serves: it takes `token_type_ids` and has the rows."""
    rows = getattr(config, "type_vocab_size", 0) or 0
    return takes(text_model, "token_type_ids") and rows >= num_segments


def layer_path(text_model: PreTrainedModel) -> str:
    """Path of the `ModuleList` of transformer layers, e.g. `encoder.layer` (BERT) or `layers` (ModernBERT).

    Raises:
        ValueError: if the model has no list of modules.
    """
    lists = {name: module for name, module in text_model.named_modules() if isinstance(module, nn.ModuleList)}
    if not lists:
        raise ValueError(f"Found no list of layers in {type(text_model).__name__}.")
    depth = getattr(text_model.config, "num_hidden_layers", None)
    # ALBERT shares one layer among all depths: then the first list is the one.
    return next((name for name, module in lists.items() if len(module) == depth), next(iter(lists)))

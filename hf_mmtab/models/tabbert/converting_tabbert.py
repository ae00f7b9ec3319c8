"""Weights of IBM/TabFormer and of the published fine-tuning model, renamed to ours and back.

Only tensors and plain values pass through here: opening files safely is the caller's part.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from .configuration_tabbert import TabBertConfig
from .converting_checks_tabbert import shape_of

# Ids that the original lacks ([UNK] and [MISSING] of a field) are scored so low that no probability
# changes in float32 (e^-30 = 1e-13), yet can still be learned.
NEW_ID_BIAS = -30.0

# NOTE[DIFF] The pooler that the original builds for pretraining, and never uses nor trains, is left out.
_UNUSED = {
    "pooler.dense.weight": "pooler, which pretraining never uses",
    "pooler.dense.bias": "pooler, which pretraining never uses",
    "embeddings.position_ids": "constant 0, 1, 2, …",
}
_FIELD_LAYER = {
    "self_attn.in_proj_weight": "qkv.weight",
    "self_attn.in_proj_bias": "qkv.bias",
    "self_attn.out_proj.weight": "output.weight",
    "self_attn.out_proj.bias": "output.bias",
    "norm1.weight": "attention_norm.weight",
    "norm1.bias": "attention_norm.bias",
    "linear1.weight": "up.weight",
    "linear1.bias": "up.bias",
    "linear2.weight": "down.weight",
    "linear2.bias": "down.bias",
    "norm2.weight": "output_norm.weight",
    "norm2.bias": "output_norm.bias",
}
_FIELD_PREFIX = "tab_embeddings.transformer_encoder.layers."
_TRANSFORM = re.compile(r"transform\.(dense|LayerNorm)\.(weight|bias)")

_BERT = re.compile(
    r"embeddings\.((position|token_type)_embeddings\.weight|LayerNorm\.(weight|bias))|encoder\.layer\.\d+\."
    r"(attention\.(self\.(query|key|value)|output\.(dense|LayerNorm))|(intermediate|output)\.dense|output\.LayerNorm)"
    r"\.(weight|bias)"
)


@dataclass
class ConvertedTabBert:
    """Our config and tensors, and the fate of each source tensor: "kept as …", "tied to …", "dropped: …"."""

    config: TabBertConfig
    state_dict: dict[str, torch.Tensor]
    fates: dict[str, str] = field(default_factory=dict)


def kind_of_state_dict(state_dict: Mapping[str, torch.Tensor]) -> str:
    """Return "hierarchical", "flat" or "lstm" (the published BertModel + LSTM + Linear).

    Raises:
        ValueError: if it is TabFormer's GPT-2, or none of the known models.
    """
    if any(name.startswith("tab_embeddings.") for name in state_dict):
        return "hierarchical"
    if "lstm.weight_ih_l0" in state_dict and "regressor.weight" in state_dict:
        return "lstm"
    if "bert.embeddings.word_embeddings.weight" in state_dict:
        return "flat"
    if any(name.startswith("transformer.h.") for name in state_dict):
        raise ValueError(
            "Expected a TabFormer BERT checkpoint, found TabFormer's GPT-2 (tensors named transformer.h.*). "
            "It generates rows and has no counterpart here yet: convert one trained with --lm_type bert."
        )
    raise ValueError(
        "Expected a checkpoint of TabFormer or of its published LSTM fine-tuning, "
        f"found tensors {sorted(state_dict)[:5]}."
    )


def name_parts(kind: str) -> tuple[str, str, str | None]:
    """Return the prefix of the BERT, the name of the word embedding and the prefix of the head, if there is one."""
    return {
        "hierarchical": (
            "tb_model.bert.",
            "tab_embeddings.word_embeddings.weight",
            "tb_model.cls.predictions.",
        ),
        "flat": ("bert.", "bert.embeddings.word_embeddings.weight", "cls.predictions."),
        "lstm": ("model.", "model.embeddings.word_embeddings.weight", None),
    }[kind]


def convert_config(
    original: Mapping[str, Any],
    fields: list[str],
    field_ranges: list[list[int]],
    field_ce: bool | None = None,
    **special: Any,
) -> TabBertConfig:
    """Return our config for the `config.json` of a TabFormer checkpoint.

    Args:
        original: the parsed `config.json`.
        fields: columns in input order, `[SEP]` column included.
        field_ranges: `[start, end)` of each column in our ids.
        field_ce: whether the flat model was trained with `--field_ce`; read from `architectures` if left out.
        special: `vocab_size`, `pad_token_id`, `mask_token_id`, … of our ids.

    Raises:
        ValueError: if the columns do not fit, or it cannot be told which loss the model was trained with.
    """
    if original.get("ncols") != len(fields):
        raise ValueError(
            f"Expected {original.get('ncols')!r} columns (ncols of config.json), found {len(fields)} in the "
            f"vocabulary: {', '.join(fields)}. Pass the config.json and the vocabulary of the same run."
        )
    flatten = bool(original["flatten"])
    field_ce = _trained_with_field_ce(original, flatten, field_ce)
    hidden_size = original["hidden_size"]
    same = (
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "hidden_act",
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "max_position_embeddings",
        "type_vocab_size",
        "initializer_range",
        "layer_norm_eps",
    )
    return TabBertConfig(
        fields=fields,
        field_ranges=field_ranges,
        flatten=flatten,
        hidden_size=hidden_size,
        field_hidden_size=original["field_hidden_size"],
        field_num_layers=original.get("num_layers", 1),
        field_num_heads=original.get("nhead", 1 if flatten else 8),
        tie_word_embeddings=flatten,
        head_hidden_size=hidden_size,
        cell_states="slice",
        mlm_loss="field" if field_ce else "vocab",
        **{name: original[name] for name in same},
        **{"vocab_size": original["vocab_size"], **special},
    )


def _trained_with_field_ce(original: Mapping[str, Any], flatten: bool, said: bool | None) -> bool:
    """Return whether a model was trained with `--field_ce`, as `architectures` and the user say."""
    named = set(original.get("architectures") or [])
    known: bool | None = True
    source = "a hierarchical model always is"
    if flatten:
        told = {"TabFormerBertForMaskedLM": True, "BertForMaskedLM": False}
        found = [name for name in told if name in named]
        known = told[found[0]] if found else None
        source = f"architectures: {found}"
    if known is None and said is None:
        raise ValueError(
            "The config of this flat TabFormer model does not tell its loss (no known class in architectures): pass "
            "--field_ce if it was trained with --field_ce, else --no-field_ce (in Python field_ce=True or False)."
        )
    if known is not None and said is not None and known != said:
        raise ValueError(
            f"Expected a model trained {'with' if said else 'without'} --field_ce, as was passed, found one trained "
            f"{'with' if known else 'without'} in its config.json ({source}). Leave out "
            f"{'--field_ce' if said else '--no-field_ce'} (in Python field_ce), or pass the config.json of this model."
        )
    return bool(said if known is None else known)


def convert_state_dict(
    state_dict: Mapping[str, torch.Tensor], config: TabBertConfig, id_map: torch.Tensor | None = None
) -> ConvertedTabBert:
    """Rename a TabFormer or published LSTM model for `TabBertForMaskedLM` or the LSTM classifier.

    Args:
        state_dict: the original's tensors.
        config: our config, see `convert_config`.
        id_map: shape `(original vocab,)`, our id of each original id, -1 for ids that are given up;
            the same ids if left out.

    Raises:
        ValueError: if a tensor is unknown or tied tensors differ. Loading the result with `strict=True` finds
            the ones that lack.
    """
    kind = kind_of_state_dict(state_dict)
    result = ConvertedTabBert(config, {})
    prefix, words_name, head = name_parts(kind)
    ids = _Ids(config, shape_of(state_dict, words_name, 2)[0], id_map)
    tied = {f"{prefix}embeddings.word_embeddings.weight", words_name}
    for name, tensor in state_dict.items():
        if name == words_name:
            result.state_dict["model.embeddings.word_embeddings.weight"] = ids.embeddings(name, tensor)
            result.fates[name] = "kept as model.embeddings.word_embeddings.weight"
        elif head is not None and name.startswith(head):
            _convert_head(name.removeprefix(head), name, tensor, result, ids, state_dict, head, kind)
        elif name in tied:
            _require_equal(state_dict, name, f"{head}decoder.weight")
            result.fates[name] = f"tied to {head}decoder.weight"
        else:
            target = _encoder_name(name, prefix, kind)
            if target is None and name.removeprefix(prefix) in _UNUSED:
                result.fates[name] = f"dropped: {_UNUSED[name.removeprefix(prefix)]}"
            elif target is None:
                raise ValueError(
                    f"Expected only tensors of a {kind} TabFormer model, found {name!r}: "
                    "nothing was converted."
                )
            else:
                result.state_dict[target] = tensor.clone()
                result.fates[name] = f"kept as {target}"
    return result


def _encoder_name(name: str, prefix: str, kind: str) -> str | None:
    if name.startswith(_FIELD_PREFIX):
        layer, _, rest = name.removeprefix(_FIELD_PREFIX).partition(".")
        return f"model.field_encoder.layer.{layer}.{_FIELD_LAYER[rest]}" if rest in _FIELD_LAYER else None
    if name in ("tab_embeddings.lin_proj.weight", "tab_embeddings.lin_proj.bias"):
        return "model.field_encoder.projection." + name.rpartition(".")[2]
    if kind == "lstm" and name.startswith("lstm."):
        return name
    if kind == "lstm" and name in ("regressor.weight", "regressor.bias"):
        return "classifier." + name.rpartition(".")[2]
    if name.startswith(prefix) and _BERT.fullmatch(name.removeprefix(prefix)):
        return "model.row_encoder." + name.removeprefix(prefix)
    return None


def _convert_head(part, name, tensor, result, ids, state_dict, head, kind):
    """Place one tensor of the masked-cell head."""
    if _TRANSFORM.fullmatch(part):
        result.state_dict[f"head.{part}"] = tensor.clone()
        result.fates[name] = f"kept as head.{part}"
    elif part == "bias":
        _require_equal(state_dict, name, f"{head}decoder.bias")
        result.fates[name] = f"tied to {head}decoder.bias"
    elif part == "decoder.weight" and kind == "flat":
        _require_equal(state_dict, name, "bert.embeddings.word_embeddings.weight")
        result.fates[name] = "tied to bert.embeddings.word_embeddings.weight"
    elif part == "decoder.bias" and kind == "flat":
        result.state_dict["head.bias"] = ids.rows(name, tensor, NEW_ID_BIAS)
        result.fates[name] = "kept as head.bias"
    elif part in ("decoder.weight", "decoder.bias"):
        fill, what = (0.0, "weight") if part == "decoder.weight" else (NEW_ID_BIAS, "bias")
        rows = ids.rows(name, tensor, fill)
        for index, (start, end) in enumerate(result.config.field_ranges):
            result.state_dict[f"head.decoder.{index}.{what}"] = rows[start:end].clone()
        result.fates[name] = f"kept as head.decoder.*.{what}, one per column" + ids.given_up()
    else:
        raise ValueError(
            f"Expected only tensors of a {kind} TabFormer model, found {name!r}: nothing was converted."
        )


def _require_equal(state_dict: Mapping[str, torch.Tensor], name: str, other: str) -> None:
    if other not in state_dict:
        raise ValueError(
            f"Expected {other!r} beside {name!r}, to which the original ties it, found none. The checkpoint is not "
            "whole: take the one that the original wrote."
        )
    if not torch.equal(state_dict[name], state_dict[other]):
        raise ValueError(
            f"Expected {name!r} and {other!r} to be the same tensor, as the original ties them; they differ. The "
            "checkpoint was changed or is damaged: copy it again."
        )


class _Ids:
    """Moves rows of a vocabulary from the original's ids to ours."""

    def __init__(self, config: TabBertConfig, original_size: int, id_map: torch.Tensor | None):
        if id_map is None:
            if original_size != config.vocab_size:
                raise ValueError(
                    f"Expected {config.vocab_size} ids (vocab_size), found {original_size} in the "
                    "checkpoint. Pass id_map, our id of each original id."
                )
            id_map = torch.arange(original_size)
        if id_map.shape != (original_size,):
            raise ValueError(
                f"Expected an id of ours for each of the {original_size} ids in the checkpoint (rows of its word "
                f"embedding), found {len(id_map)} ids in the vocabulary (id_map). Pass the vocabulary of the same run."
            )
        self.config, self.size = config, original_size
        self.source = (id_map >= 0).nonzero().squeeze(1)
        self.target = id_map[self.source]
        if len(self.target.unique()) != len(self.target) or self.target.max() >= config.vocab_size:
            raise ValueError(f"Expected id_map to give each id one place below {config.vocab_size}.")

    def rows(self, name: str, tensor: torch.Tensor, fill: float) -> torch.Tensor:
        if not tensor.dim() or tensor.shape[0] != self.size:
            raise ValueError(
                f"Expected {self.size} rows, one for each id of the vocabulary, found shape {tuple(tensor.shape)} in "
                f"{name!r}. The checkpoint was changed or is damaged: copy it again."
            )
        moved = tensor.new_full((self.config.vocab_size, *tensor.shape[1:]), fill)
        moved[self.target] = tensor[self.source]
        return moved

    def embeddings(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Ids that the original lacks start at the mean of their field."""
        moved, new = self.rows(name, tensor, 0.0), torch.ones(self.config.vocab_size, dtype=torch.bool)
        new[self.target] = False
        for start, end in self.config.field_ranges:
            fresh = new[start:end]
            if fresh.any() and not fresh.all():
                moved[start:end][fresh] = moved[start:end][~fresh].mean(0)
        return moved

    def given_up(self) -> str:
        covered = torch.zeros(self.config.vocab_size, dtype=torch.bool)
        for start, end in self.config.field_ranges:
            covered[start:end] = True
        lost = int((~covered[self.target]).sum())
        return f"; rows of {lost} ids that no column can hold are dropped" if lost else ""


def revert_state_dict(
    state_dict: Mapping[str, torch.Tensor],
    config: TabBertConfig,
    id_map: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Rename the tensors of `TabBertForMaskedLM` back for the original code, with tied tensors repeated.

    What the original never uses (pooler, scores of ids that no column can hold) is zero.

    Args:
        state_dict: our tensors.
        config: our config; sizes must be those of the original (`TabBertConfig.paper`).
        id_map: as in `convert_state_dict`.

    Raises:
        ValueError: if the original has no such model.
    """
    if not config.flatten and (config.cell_states != "slice" or config.tie_word_embeddings):
        raise ValueError(
            "Expected a hierarchical model as the original builds it (cell_states='slice', "
            f"tie_word_embeddings=False), found cell_states={config.cell_states!r}, "
            f"tie_word_embeddings={config.tie_word_embeddings}."
        )
    if config.adaptive_softmax_threshold is not None:
        raise ValueError("Expected a model without adaptive softmax, found adaptive_softmax_threshold.")
    where = torch.arange(config.vocab_size) if id_map is None else id_map
    kept = where >= 0

    def back(rows: torch.Tensor) -> torch.Tensor:
        moved = rows.new_zeros((len(where), *rows.shape[1:]))
        moved[kept] = rows[where[kept]]
        return moved

    bert = "bert." if config.flatten else "tb_model.bert."
    head = "cls.predictions." if config.flatten else "tb_model.cls.predictions."
    layer = {ours: theirs for theirs, ours in _FIELD_LAYER.items()}
    original: dict[str, torch.Tensor] = {}
    for name, tensor in state_dict.items():
        if name.startswith("model.row_encoder."):
            original[bert + name.removeprefix("model.row_encoder.")] = tensor
        elif name.startswith("model.field_encoder.projection."):
            original["tab_embeddings.lin_proj." + name.rpartition(".")[2]] = tensor
        elif name.startswith("model.field_encoder.layer."):
            number, _, rest = name.removeprefix("model.field_encoder.layer.").partition(".")
            original[f"{_FIELD_PREFIX}{number}.{layer[rest]}"] = tensor
        elif name.startswith("head.transform."):
            original[head + name.removeprefix("head.")] = tensor
    words = back(state_dict["model.embeddings.word_embeddings.weight"])
    if config.flatten:
        scores, bias = words, back(state_dict["head.bias"])
    else:
        original["tab_embeddings.word_embeddings.weight"] = words
        weight = words.new_zeros(config.vocab_size, config.hidden_size)
        offset = words.new_zeros(config.vocab_size)
        for index, (start, end) in enumerate(config.field_ranges):
            weight[start:end] = state_dict[f"head.decoder.{index}.weight"]
            offset[start:end] = state_dict[f"head.decoder.{index}.bias"]
        scores, bias = back(weight), back(offset)
    original[f"{bert}embeddings.word_embeddings.weight"] = scores
    original[f"{bert}embeddings.position_ids"] = torch.arange(config.max_position_embeddings)[None]
    original[f"{bert}pooler.dense.weight"] = words.new_zeros(config.hidden_size, config.hidden_size)
    original[f"{bert}pooler.dense.bias"] = words.new_zeros(config.hidden_size)
    original[f"{head}decoder.weight"] = scores
    original[f"{head}decoder.bias"] = original[f"{head}bias"] = bias
    return original

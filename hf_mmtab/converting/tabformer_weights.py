"""Weights of IBM/TabFormer and of the published fine-tuning model, renamed to ours and back.

Only tensors and plain values pass through here: `original_files` opens the files.
"""

import re

import torch

from ..models.tabbert.configuration_tabbert import TabBertConfig
from ..models.tabbert.configuration_tabgpt import TabGPT2Config
from .checks import TensorFate, Tensors, shape_of

# Ids that the original lacks ([UNK] and [MISSING] of a field) are scored so low that no probability
# changes in float32 (e^-30 = 1e-13), yet can still be learned.
NEW_ID_BIAS = -30.0

# NOTE[DIFF] The pooler that the original builds for pretraining, and never uses nor trains, is left out.
_POOLER = ("pooler.dense.weight", "pooler.dense.bias")
_UNUSED = dict.fromkeys(_POOLER, "dropped: pooler, which pretraining never uses")
_UNUSED["embeddings.position_ids"] = "dropped: constant 0, 1, 2, …"
_FIELD_PREFIX = "tab_embeddings.transformer_encoder.layers."
_FIELD_LAYER = {
    "self_attn.in_proj_": "qkv.",
    "self_attn.out_proj.": "output.",
    "norm1.": "attention_norm.",
    "linear1.": "up.",
    "linear2.": "down.",
    "norm2.": "output_norm.",
}
_BOTH = r"(weight|bias)"
_FIELD = re.compile(re.escape(_FIELD_PREFIX) + rf"(\d+)\.({'|'.join(map(re.escape, _FIELD_LAYER))}){_BOTH}")
_BERT = (
    r"embeddings\.((position|token_type)_embeddings\.weight|LayerNorm\.(weight|bias))|encoder\.layer\.\d+\."
    r"(attention\.(self\.(query|key|value)|output\.(dense|LayerNorm))|(intermediate|output)\.dense|output\.LayerNorm)"
    rf"\.{_BOTH}"
)


def kind_of_state_dict(state_dict: Tensors) -> str:
    """Return "hierarchical", "flat", "gpt2" or "lstm" (the published BertModel + LSTM + Linear).

    Raises:
        ValueError: if it is none of the known models.
    """
    if any(name.startswith("tab_embeddings.") for name in state_dict):
        return "hierarchical"
    if "lstm.weight_ih_l0" in state_dict and "regressor.weight" in state_dict:
        return "lstm"
    if "bert.embeddings.word_embeddings.weight" in state_dict:
        return "flat"
    if any(name.startswith("transformer.h.") for name in state_dict):
        return "gpt2"
    raise ValueError(
        "Expected a checkpoint of TabFormer or of its published LSTM fine-tuning, "
        f"found tensors {sorted(state_dict)[:5]}."
    )


def name_parts(kind: str) -> tuple[str, str, str | None]:
    """Return the prefix of the BERT, the name of the word embedding and the prefix of the head, if there is one."""
    words = "embeddings.word_embeddings.weight"
    if kind == "hierarchical":
        return "tb_model.bert.", "tab_embeddings.word_embeddings.weight", "tb_model.cls.predictions."
    bert = {"flat": "bert.", "lstm": "model."}[kind]
    return bert, f"{bert}{words}", "cls.predictions." if kind == "flat" else None


def _renamed(kind: str) -> list[tuple[str, str, str]]:
    """Return prefixes of the original and ours, and the pattern of what may follow."""
    prefix, _, head = name_parts(kind)
    own = [("lstm.", "lstm.", ".*"), ("regressor.", "classifier.", _BOTH)]
    if head is not None:
        own = [(f"{head}transform.", "head.transform.", rf"(dense|LayerNorm)\.{_BOTH}")]
    projection = ("tab_embeddings.lin_proj.", "model.field_encoder.projection.", _BOTH)
    return [projection, (prefix, "model.row_encoder.", _BERT), *own]


def _our_name(name: str, kind: str) -> str | None:
    """Return our name of a tensor that is the same here; None for the word embedding, its head and foreign ones."""
    if match := _FIELD.fullmatch(name):
        return f"model.field_encoder.layer.{match[1]}.{_FIELD_LAYER[match[2]]}{match[3]}"
    for theirs, ours, pattern in _renamed(kind):
        if name.startswith(theirs) and re.fullmatch(pattern, name.removeprefix(theirs)):
            return ours + name.removeprefix(theirs)
    return None


def convert_state_dict(
    state_dict: Tensors, config: TabBertConfig, id_map: torch.Tensor | None = None
) -> tuple[dict[str, torch.Tensor], list[TensorFate]]:
    """Rename a TabFormer or published LSTM model for `TabBertForMaskedLM` or the LSTM classifier.

    Args:
        state_dict: the original's tensors.
        config: our config, see `convert_config`.
        id_map: shape `(original vocab,)`, our id of each original id, -1 for ids that are given up;
            the same ids if left out.

    Returns:
        The renamed state dict, and what became of every tensor.

    Raises:
        ValueError: if a tensor is unknown or tied tensors differ. Loading the result with `strict=True` finds
            the ones that lack.
    """
    kind = kind_of_state_dict(state_dict)
    prefix, words_name, head = name_parts(kind)
    ids = MovedIds(config, shape_of(state_dict, words_name, 2)[0], id_map)
    tied = {}
    if kind == "flat":
        tied = {f"{head}bias": f"{head}decoder.bias", f"{head}decoder.weight": words_name}
    elif kind == "hierarchical":
        scores = f"{prefix}embeddings.word_embeddings.weight"
        tied = {f"{head}bias": f"{head}decoder.bias", scores: f"{head}decoder.weight"}
    ours: dict[str, torch.Tensor] = {}
    fates = []
    for name, tensor in state_dict.items():
        target, reason = _our_name(name, kind), "kept"
        if name == words_name:
            target = "model.embeddings.word_embeddings.weight"
            ours[target] = ids.embeddings(name, tensor)
        elif name in tied:
            require_equal(state_dict, name, tied[name])
            reason = f"tied to {tied[name]}"
        elif name == f"{head}decoder.bias" and kind == "flat":
            ours[target := "head.bias"] = ids.rows(name, tensor, NEW_ID_BIAS)
        elif name in (f"{head}decoder.weight", f"{head}decoder.bias"):
            what = name.rpartition(".")[2]
            rows = ids.rows(name, tensor, NEW_ID_BIAS if what == "bias" else 0.0)
            for index, (start, end) in enumerate(config.field_ranges):
                ours[f"head.decoder.{index}.{what}"] = rows[start:end].clone()
            target, reason = f"head.decoder.*.{what}, one per column", "kept" + ids.given_up()
        elif target is not None:
            ours[target] = tensor.clone()
        elif (reason := _UNUSED.get(name.removeprefix(prefix), "")) == "":
            raise ValueError(
                f"Expected only tensors of a {kind} TabFormer model, found {name!r}: nothing was converted."
            )
        fates.append(TensorFate(name, target, reason))
    return ours, fates


def require_equal(state_dict: Tensors, name: str, other: str) -> None:
    """Raise a ValueError unless two tensors that the original ties are there and the same."""
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


class MovedIds:
    """Moves rows of a vocabulary from the original's ids to ours."""

    def __init__(self, config: TabBertConfig | TabGPT2Config, original_size: int, id_map: torch.Tensor | None):
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
        """Return the rows of a tensor at our ids; ids that the original lacks get `fill`."""
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


def moved_back(rows: torch.Tensor, id_map: torch.Tensor) -> torch.Tensor:
    """Return the rows of a tensor at the original's ids; ids that were given up get zeros."""
    moved, kept = rows.new_zeros((len(id_map), *rows.shape[1:])), id_map >= 0
    moved[kept] = rows[id_map[kept]]
    return moved


def revert_state_dict(
    state_dict: Tensors, config: TabBertConfig, id_map: torch.Tensor | None = None
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
    kind = "flat" if config.flatten else "hierarchical"
    bert, _, head = name_parts(kind)
    layer = {ours: theirs for theirs, ours in _FIELD_LAYER.items()}
    original: dict[str, torch.Tensor] = {}
    for name, tensor in state_dict.items():
        if name.startswith("model.field_encoder.layer."):
            number, part, what = name.split(".")[-3:]
            original[f"{_FIELD_PREFIX}{number}.{layer[f'{part}.']}{what}"] = tensor
        for theirs, ours, _ in _renamed(kind):
            if name.startswith(ours):
                original[theirs + name.removeprefix(ours)] = tensor
    words = moved_back(state_dict["model.embeddings.word_embeddings.weight"], where)
    if config.flatten:
        scores, bias = words, moved_back(state_dict["head.bias"], where)
    else:
        original["tab_embeddings.word_embeddings.weight"] = words
        weight = words.new_zeros(config.vocab_size, config.hidden_size)
        offset = words.new_zeros(config.vocab_size)
        for index, (start, end) in enumerate(config.field_ranges):
            weight[start:end] = state_dict[f"head.decoder.{index}.weight"]
            offset[start:end] = state_dict[f"head.decoder.{index}.bias"]
        scores, bias = moved_back(weight, where), moved_back(offset, where)
    original[f"{bert}embeddings.word_embeddings.weight"] = scores
    original[f"{bert}embeddings.position_ids"] = torch.arange(config.max_position_embeddings)[None]
    original[f"{bert}pooler.dense.weight"] = words.new_zeros(config.hidden_size, config.hidden_size)
    original[f"{bert}pooler.dense.bias"] = words.new_zeros(config.hidden_size)
    original[f"{head}decoder.weight"] = scores
    original[f"{head}decoder.bias"] = original[f"{head}bias"] = bias
    return original

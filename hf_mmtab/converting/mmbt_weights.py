"""Weights of the original MMBT code (facebookresearch/mmbt at ad71e9c) in our names, and back.

Only names and shapes: `original_files` opens the pickled files.
"""

import re
from typing import Any

import torch
from transformers import BertConfig

from ..models.mmbt.torchvision_weights import resnet_config, resnet_key, torchvision_key
from .checks import TensorFate, shape_of

KINDS = ("mmbt", "bert", "img", "bow", "concatbow", "concatbert")
# kind → {prefix of the original: ours}. What follows is the same in both, except in the ResNet of `image_model`: there
# torchvision's names, in an `nn.Sequential` that numbers them (_SEQUENTIAL).
_CLASSIFIER = {"clf.": "classifier.0."}  # of concatbert a list of layers; of the others one layer
_IMAGE = {"imgenc.model.": "image_model."}
_PREFIXES = {
    "mmbt": {
        "enc.txt_embeddings.": "model.text_model.embeddings.",
        "enc.encoder.": "model.text_model.encoder.",
        "enc.pooler.": "model.text_model.pooler.",
        "enc.img_embeddings.img_embeddings.": "model.image_projection.",
        "enc.img_encoder.model.": "model.image_model.",
        "clf.": "classifier.",
    },
    "bert": {"enc.bert.": "text_model.", **_CLASSIFIER},
    "img": {"img_encoder.model.": "image_model.", **_CLASSIFIER},
    "bow": {"enc.embed.weight": "word_vectors", **_CLASSIFIER},
    "concatbow": {"txtenc.embed.weight": "word_vectors", **_IMAGE, **_CLASSIFIER},
    "concatbert": {"txtenc.bert.": "text_model.", **_IMAGE, "clf.": "classifier."},
}
# `nn.Sequential(*list(resnet.children())[:-2])`: conv1, bn1, relu, maxpool, four layers
_SEQUENTIAL = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
_NUMBERS = {part: number for number, part in _SEQUENTIAL.items()}
_SHARED = "enc.img_embeddings."  # the image part's view of the text's embedding tables
_UNUSED = "enc.clf."  # a second classifier inside the original's encoder, never called
_TABLES = ("word_embeddings", "position_embeddings", "token_type_embeddings", "LayerNorm")
# Saved all together or, by code that leaves out doubles, not at all.
_TOGETHER = (
    ("enc.clf.weight", "enc.clf.bias"),
    (*(f"{_SHARED}{table}.weight" for table in _TABLES), f"{_SHARED}LayerNorm.bias"),
)


def from_original(kind: str, state_dict: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[TensorFate]]:
    """Rename an original state dict to that of `MMBTForClassification` or `MMBTBaselineForClassification`.

    Args:
        kind: which of the six models, one of `KINDS`.
        state_dict: the original's, as `model.state_dict()` gives it.

    Returns:
        The renamed state dict, and what became of every tensor: kept, tied or dropped, and why.

    Raises:
        ValueError: for a tensor that the named model does not have, shared tables that differ or lack, or one of
            the never used tensors without the other.
    """
    _require_kind(kind)
    for names in _TOGETHER if kind == "mmbt" else ():
        absent = [name for name in names if name not in state_dict]
        if absent and len(absent) < len(names):
            raise ValueError(
                f"Expected {', '.join(names)} together, as the original saves them, found no {', '.join(absent)}. "
                "The checkpoint was changed: take the one that the original wrote."
            )
    ours: dict[str, torch.Tensor] = {}
    fates = []
    for key, value in state_dict.items():
        twin = key.replace(_SHARED, "enc.txt_embeddings.")
        if kind == "mmbt" and key.startswith(_UNUSED):
            fates.append(TensorFate(key, None, "dropped: the original never calls this second classifier"))
        elif kind == "mmbt" and twin != key and twin in state_dict:
            if not torch.equal(value, state_dict[twin]):
                raise ValueError(
                    f"Expected {key} to equal {twin}, which it is shared with; they differ. The checkpoint was "
                    "changed or is damaged: copy it again."
                )
            fates.append(TensorFate(key, _our_key(kind, twin), f"tied: the same tensor as {twin}"))
        else:
            ours[name := _our_key(kind, key)] = value
            fates.append(TensorFate(key, name, "kept"))
    return ours, fates


def to_original(kind: str, state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename our state dict to the original's, complete for its `load_state_dict`.

    The shared embedding tables appear under both names again. `enc.clf`, which the original never calls,
    is zero.

    Args:
        kind: which of the six models, one of `KINDS`.
        state_dict: of `MMBTForClassification` or `MMBTBaselineForClassification` over BERT and ResNet.

    Raises:
        ValueError: for a tensor that the original has no place for.
    """
    _require_kind(kind)
    original = {}
    for key, value in state_dict.items():
        name = _original_key(kind, key)
        original[name] = value
        if kind == "mmbt" and name.startswith("enc.txt_embeddings."):
            original[name.replace("enc.txt_embeddings.", _SHARED)] = value
        if kind == "mmbt" and name.startswith("clf."):
            original[f"enc.{name}"] = torch.zeros_like(value)
    return original


def config_from_original(
    kind: str,
    state_dict: dict[str, torch.Tensor],
    *,
    num_attention_heads: int | None = None,
    dropout: float = 0.1,
    **config_kwargs: Any,
) -> dict[str, Any]:
    """Read sizes off the shapes of an original state dict, as keywords of our configuration class.

    Args:
        kind: which of the six models, one of `KINDS`.
        state_dict: the original's.
        num_attention_heads: of the BERT, which no shape tells; one per 64 hidden units by default.
        dropout: of the BERT and of the hidden layers of `concatbert`.
        **config_kwargs: what shapes cannot tell: `num_image_embeds`, `image_pooling`, `id2label`, ….

    Returns:
        Keywords for `MMBTConfig` (kind `mmbt`) or `MMBTBaselineConfig`.

    Raises:
        ValueError: for an unknown kind, or a tensor that is absent or has not the dimensions that tell a size.
    """
    _require_kind(kind)
    sizes: dict[str, Any] = {}
    prefixes = {ours.removeprefix("model.").rstrip("."): one for one, ours in _PREFIXES[kind].items()}
    if "image_model" in prefixes:
        sizes["image_config"] = _resnet_config(prefixes["image_model"], state_dict)
        sizes["image_hidden_size"] = sizes["image_config"]["hidden_sizes"][-1]
    if kind in ("mmbt", "bert", "concatbert"):
        text_config = _bert_config(kind, state_dict, num_attention_heads, dropout)
        sizes["text_config"] = text_config.to_dict()
        if kind == "mmbt":
            # The ids of bert-base-uncased; a smaller vocabulary needs its own.
            sizes.update(num_segments=text_config.type_vocab_size, cls_token_id=101, sep_token_id=102)
    if "word_vectors" in prefixes:
        rows, width = shape_of(state_dict, prefixes["word_vectors"], 2)
        sizes.update(bow_vocab_size=rows, bow_embedding_size=width)
    layers = sorted(int(key.split(".")[1]) for key in state_dict if re.fullmatch(r"clf\.\d+\.weight", key))
    if kind == "concatbert":
        linear = [n for n in layers if state_dict[f"clf.{n}.weight"].dim() == 2]
        sizes["hidden_sizes"] = [state_dict[f"clf.{n}.weight"].shape[0] for n in linear[:-1]]
        normed = any(re.fullmatch(r"clf\..*running_mean", key) for key in state_dict)
        sizes.update(batch_norm=len(linear) == 1 or normed, hidden_dropout=dropout)
    sizes["num_labels"] = shape_of(state_dict, f"clf.{layers[-1]}.weight" if layers else "clf.weight", 2)[0]
    if "id2label" in config_kwargs:
        del sizes["num_labels"]
    return {**sizes, **config_kwargs}


def _our_key(kind: str, key: str) -> str:
    for original, ours in _PREFIXES[kind].items():
        if key.startswith(original):
            rest = key.removeprefix(original)
            return ours + (resnet_key(_torchvision_name(rest)) if ours.endswith("image_model.") else rest)
    raise ValueError(f"Expected a tensor of the original {kind!r} model, found {key!r}.")


def _original_key(kind: str, key: str) -> str:
    for original, ours in _PREFIXES[kind].items():
        if key.startswith(ours):
            rest = key.removeprefix(ours)
            if ours.endswith("image_model."):
                part, _, rest = torchvision_key(rest).partition(".")
                rest = f"{_NUMBERS[part]}.{rest}"
            return original + rest
    raise ValueError(f"The original {kind!r} model has no place for {key!r}.")


def _torchvision_name(key: str) -> str:
    number, _, rest = key.partition(".")
    if number not in _SEQUENTIAL:
        raise ValueError(f"Expected a tensor of the original's ResNet, found {key!r}.")
    return f"{_SEQUENTIAL[number]}.{rest}"


def _resnet_config(prefix: str, state_dict: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Read the sizes of a ResNet off the kernels that tell the widths of its stages."""
    last = "conv3" if f"{prefix}4.0.conv3.weight" in state_dict else "conv2"
    for name in ("0", *(f"{stage}.0.{conv}" for stage in range(4, 8) for conv in ("conv2", last))):
        shape_of(state_dict, f"{prefix}{name}.weight", 4)
    resnet = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    return resnet_config({_torchvision_name(key): value for key, value in resnet.items()}).to_dict()


def _bert_config(
    kind: str, state_dict: dict[str, torch.Tensor], num_attention_heads: int | None, dropout: float
) -> BertConfig:
    bert = {"mmbt": "enc.", "bert": "enc.bert.", "concatbert": "txtenc.bert."}[kind]
    tables = f"{bert}txt_embeddings." if kind == "mmbt" else f"{bert}embeddings."
    layer = f"{bert}encoder.layer."
    vocab_size, hidden_size = shape_of(state_dict, f"{tables}word_embeddings.weight", 2)
    heads = max(1, hidden_size // 64) if num_attention_heads is None else num_attention_heads
    if heads < 1 or hidden_size % heads:
        raise ValueError(
            f"Expected num_attention_heads to divide the hidden size {hidden_size}, found {heads}. Pass "
            "--num_attention_heads N (in Python num_attention_heads=N) as in the config of the BERT."
        )
    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=len({key[len(layer) :].split(".")[0] for key in state_dict if key.startswith(layer)}),
        num_attention_heads=heads,
        intermediate_size=shape_of(state_dict, f"{layer}0.intermediate.dense.weight", 2)[0],
        max_position_embeddings=shape_of(state_dict, f"{tables}position_embeddings.weight", 2)[0],
        type_vocab_size=shape_of(state_dict, f"{tables}token_type_embeddings.weight", 2)[0],
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )


def _require_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"Expected one of {', '.join(KINDS)}, found {kind!r}.")

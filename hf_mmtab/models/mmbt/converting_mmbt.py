"""Weights of the original MMBT code (facebookresearch/mmbt at ad71e9c) in our names, and back.

Only names and shapes: opening the pickled files is somebody else's work.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from transformers import BertConfig, PreTrainedConfig

from .converting_checks_mmbt import shape_of
from .torchvision_weights import resnet_config, resnet_key, torchvision_key

KINDS = ("mmbt", "bert", "img", "bow", "concatbow", "concatbert")
# `nn.Sequential(*list(resnet.children())[:-2])` numbers the parts: conv1, bn1, relu, maxpool, four layers.
_SEQUENTIAL_PARTS = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
_SEQUENTIAL_NUMBERS = {part: number for number, part in _SEQUENTIAL_PARTS.items()}
# Prefixes of the parts: kind → {original: ours}. What follows them is the same in both.
_TEXT_PREFIXES = {
    "mmbt": {
        "enc.txt_embeddings.": "model.text_model.embeddings.",
        "enc.encoder.": "model.text_model.encoder.",
        "enc.pooler.": "model.text_model.pooler.",
        "enc.img_embeddings.img_embeddings.": "model.image_projection.",
    },
    "bert": {"enc.bert.": "text_model."},
    "concatbert": {"txtenc.bert.": "text_model."},
    "bow": {"enc.embed.weight": "word_vectors"},
    "concatbow": {"txtenc.embed.weight": "word_vectors"},
    "img": {},
}
# Here what follows is torchvision's ResNet there, transformers' here.
_IMAGE_PREFIXES = {
    "mmbt": ("enc.img_encoder.model.", "model.image_model."),
    "img": ("img_encoder.model.", "image_model."),
    "concatbow": ("imgenc.model.", "image_model."),
    "concatbert": ("imgenc.model.", "image_model."),
}
_SHARED = "enc.img_embeddings."  # the image part's view of the text's embedding tables
_UNUSED = "enc.clf."  # a second classifier inside the original's encoder, never called
# Saved all together or, by code that leaves out doubles, not at all.
_TOGETHER = (
    tuple(f"{_UNUSED}{what}" for what in ("weight", "bias")),
    tuple(
        _SHARED + name
        for name in (
            "word_embeddings.weight",
            "position_embeddings.weight",
            "token_type_embeddings.weight",
            "LayerNorm.weight",
            "LayerNorm.bias",
        )
    ),
)


@dataclass(frozen=True)
class TensorFate:
    """What became of one tensor of the original checkpoint."""

    original: str
    ours: str | None  # None: dropped
    reason: str


def from_original(
    kind: str, state_dict: dict[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], list[TensorFate]]:
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
    if kind == "mmbt":
        _require_together(state_dict)
    ours: dict[str, torch.Tensor] = {}
    fates = []
    for key, value in state_dict.items():
        if kind == "mmbt" and key.startswith(_UNUSED):
            fates.append(TensorFate(key, None, "dropped: the original never calls this second classifier"))
            continue
        twin = key.replace(_SHARED, "enc.txt_embeddings.")
        if kind == "mmbt" and key.startswith(_SHARED) and twin in state_dict:
            if not torch.equal(value, state_dict[twin]):
                raise ValueError(
                    f"Expected {key} to equal {twin}, which it is shared with; they differ. The checkpoint was "
                    "changed or is damaged: copy it again."
                )
            fates.append(TensorFate(key, _our_key(kind, twin), f"tied: the same tensor as {twin}"))
            continue
        name = _our_key(kind, key)
        ours[name] = value
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
    found: dict[str, Any] = {}
    if kind in _IMAGE_PREFIXES:
        prefix = _IMAGE_PREFIXES[kind][0]
        resnet = {
            _torchvision_from_sequential(key.removeprefix(prefix)): value
            for key, value in state_dict.items()
            if key.startswith(prefix)
        }
        _require_resnet(resnet, prefix)
        found["image_config"] = resnet_config(resnet).to_dict()
        found["image_hidden_size"] = found["image_config"]["hidden_sizes"][-1]
    if kind in ("mmbt", "bert", "concatbert"):
        text_config = _bert_config(kind, state_dict, num_attention_heads, dropout)
        found["text_config"] = text_config.to_dict()
        if kind == "mmbt":
            # The ids of bert-base-uncased; a smaller vocabulary needs its own.
            found.update(num_segments=text_config.type_vocab_size, cls_token_id=101, sep_token_id=102)
    if kind in ("bow", "concatbow"):
        rows, width = shape_of(state_dict, next(iter(_TEXT_PREFIXES[kind])), 2)
        found.update(bow_vocab_size=rows, bow_embedding_size=width)
    layers = sorted(int(key.split(".")[1]) for key in state_dict if re.fullmatch(r"clf\.\d+\.weight", key))
    if kind == "concatbert":
        linear = [n for n in layers if state_dict[f"clf.{n}.weight"].dim() == 2]
        found["hidden_sizes"] = [state_dict[f"clf.{n}.weight"].shape[0] for n in linear[:-1]]
        found["batch_norm"] = len(linear) == 1 or any(
            key.endswith("running_mean") for key in _of_head(state_dict)
        )
        found["hidden_dropout"] = dropout
    final = f"clf.{layers[-1]}.weight" if layers else "clf.weight"
    found["num_labels"] = shape_of(state_dict, final, 2)[0]
    if "id2label" in config_kwargs:
        del found["num_labels"]
    return {**found, **config_kwargs}


def _require_together(state_dict: dict[str, torch.Tensor]) -> None:
    for names in _TOGETHER:
        absent = [name for name in names if name not in state_dict]
        if absent and len(absent) < len(names):
            raise ValueError(
                f"Expected {', '.join(names)} together, as the original saves them, found no {', '.join(absent)}. "
                "The checkpoint was changed: take the one that the original wrote."
            )


def _require_resnet(resnet: dict[str, torch.Tensor], prefix: str) -> None:
    """Raise a ValueError unless each stage has the kernels that tell its widths."""
    last = "conv3" if "layer1.0.conv3.weight" in resnet else "conv2"
    needed = [
        "conv1.weight",
        *(f"layer{stage}.0.{conv}.weight" for stage in range(1, 5) for conv in ("conv2", last)),
    ]
    named = {prefix + _SEQUENTIAL_NUMBERS[key.split(".")[0]] + key[key.index(".") :]: key for key in needed}
    for original, key in named.items():
        shape_of({original: resnet[key]} if key in resnet else {}, original, 4)


def _of_head(state_dict: dict[str, torch.Tensor]) -> list[str]:
    return [key for key in state_dict if key.startswith("clf.")]


def _our_key(kind: str, key: str) -> str:
    for original, ours in _TEXT_PREFIXES[kind].items():
        if key.startswith(original):
            return ours + key.removeprefix(original)
    if kind in _IMAGE_PREFIXES and key.startswith(_IMAGE_PREFIXES[kind][0]):
        original, ours = _IMAGE_PREFIXES[kind]
        return ours + resnet_key(_torchvision_from_sequential(key.removeprefix(original)))
    if key.startswith("clf."):
        if kind == "mmbt":
            return key.replace("clf.", "classifier.")
        return re.sub(r"^clf\.(?=\D)", "classifier.0.", key).replace("clf.", "classifier.")
    raise ValueError(f"Expected a tensor of the original {kind!r} model, found {key!r}.")


def _original_key(kind: str, key: str) -> str:
    for original, ours in _TEXT_PREFIXES[kind].items():
        if key.startswith(ours):
            return original + key.removeprefix(ours)
    if kind in _IMAGE_PREFIXES and key.startswith(_IMAGE_PREFIXES[kind][1]):
        original, ours = _IMAGE_PREFIXES[kind]
        part, _, rest = torchvision_key(key.removeprefix(ours)).partition(".")
        return f"{original}{_SEQUENTIAL_NUMBERS[part]}.{rest}"
    if key.startswith("classifier."):
        name = key.replace("classifier.", "clf.")
        # Only concatbert keeps its classifier in a list; the others have one linear layer.
        return name if kind in ("mmbt", "concatbert") else name.replace("clf.0.", "clf.")
    raise ValueError(f"The original {kind!r} model has no place for {key!r}.")


def _torchvision_from_sequential(key: str) -> str:
    number, _, rest = key.partition(".")
    if number not in _SEQUENTIAL_PARTS:
        raise ValueError(f"Expected a tensor of the original's ResNet, found {key!r}.")
    return f"{_SEQUENTIAL_PARTS[number]}.{rest}"


def _bert_config(
    kind: str, state_dict: dict[str, torch.Tensor], num_attention_heads: int | None, dropout: float
) -> PreTrainedConfig:
    embeddings = {
        "mmbt": "enc.txt_embeddings",
        "bert": "enc.bert.embeddings",
        "concatbert": "txtenc.bert.embeddings",
    }
    layer = {"mmbt": "enc.encoder", "bert": "enc.bert.encoder", "concatbert": "txtenc.bert.encoder"}[
        kind
    ] + ".layer."
    vocab_size, hidden_size = shape_of(state_dict, f"{embeddings[kind]}.word_embeddings.weight", 2)
    depth = len({key.removeprefix(layer).split(".")[0] for key in state_dict if key.startswith(layer)})
    heads = max(1, hidden_size // 64) if num_attention_heads is None else num_attention_heads
    if heads < 1 or hidden_size % heads:
        raise ValueError(
            f"Expected num_attention_heads to divide the hidden size {hidden_size}, found {heads}. Pass "
            "--num_attention_heads N (in Python num_attention_heads=N) as in the config of the BERT."
        )
    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=shape_of(state_dict, f"{layer}0.intermediate.dense.weight", 2)[0],
        max_position_embeddings=shape_of(state_dict, f"{embeddings[kind]}.position_embeddings.weight", 2)[0],
        type_vocab_size=shape_of(state_dict, f"{embeddings[kind]}.token_type_embeddings.weight", 2)[0],
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )


def _require_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"Expected one of {', '.join(KINDS)}, found {kind!r}.")

"""The MMBT of transformers 2 to 4 (`mmbt.transformer.*`): its names in those of the original code."""

import re
from collections.abc import Mapping

import torch

from .checks import TensorFate, Tensors

# Source: transformers 4.x, models/mmbt/modeling_mmbt.py (MMBTForClassification around a BERT), and the image
# encoder of its example run_mmimdb.py: `nn.Sequential` of a torchvision ResNet's children.
_RENAMED = (
    (re.compile(r"mmbt\.transformer\.embeddings\.(?!position_ids)"), "enc.txt_embeddings."),
    (re.compile(r"mmbt\.transformer\.(encoder|pooler)\."), r"enc.\1."),
    (re.compile(r"mmbt\.modal_encoder\.encoder\.model\."), "enc.img_encoder.model."),
    (re.compile(r"mmbt\.modal_encoder\.proj_embeddings\."), "enc.img_embeddings.img_embeddings."),
    (re.compile(r"mmbt\.modal_encoder\.(?=(position|token_type|word)_embeddings\.)"), "enc.img_embeddings."),
    (re.compile(r"mmbt\.modal_encoder\.(?=LayerNorm\.(weight|bias)$)"), "enc.img_embeddings."),
    (re.compile(r"classifier\.(?=(weight|bias)$)"), "clf."),
)
_POSITION_IDS = re.compile(r"mmbt\.transformer\.embeddings\.position_ids")


def is_transformers4(state_dict: Tensors) -> bool:
    """Whether the names are those of transformers' former MMBT."""
    return any(name.startswith("mmbt.transformer.") for name in state_dict)


def original_names(state_dict: Tensors) -> tuple[dict[str, torch.Tensor], dict[str, str], list[TensorFate]]:
    """Rename to the original code's names.

    Returns:
        The renamed tensors, original name → transformers-4 name, and the fates of dropped tensors.

    Raises:
        ValueError: for a tensor that this model does not have, or another image encoder than a torchvision ResNet.
    """
    renamed: dict[str, torch.Tensor] = {}
    names: dict[str, str] = {}
    dropped = []
    for name, tensor in state_dict.items():
        if _POSITION_IDS.fullmatch(name):
            dropped.append(TensorFate(name, None, "dropped: constant 0, 1, 2, …"))
            continue
        for pattern, replacement in _RENAMED:
            if pattern.match(name):
                original = pattern.sub(replacement, name, count=1)
                renamed[original], names[original] = tensor, name
                break
        else:
            raise ValueError(
                f"Expected a tensor of transformers' MMBT over BERT with the ResNet of its run_mmimdb.py, found "
                f"{name!r}: nothing was converted."
            )
    if renamed.get("enc.txt_embeddings.token_type_embeddings.weight", torch.empty(2)).shape[0] < 2:
        raise ValueError("Expected a BERT with two segments in MMBT, found one: RoBERTa is not supported.")
    return renamed, names, dropped


def fates_in_their_names(
    fates: list[TensorFate], names: Mapping[str, str], dropped: list[TensorFate]
) -> list[TensorFate]:
    """Return what becomes of every tensor, under the names of the transformers-4 checkpoint."""
    renamed = []
    for fate in fates:
        start, _, twin = fate.reason.rpartition(" ")
        reason = f"{start} {names[twin]}" if twin in names else fate.reason
        renamed.append(TensorFate(names[fate.original], fate.ours, reason))
    return renamed + dropped

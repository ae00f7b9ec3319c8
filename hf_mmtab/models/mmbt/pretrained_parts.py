"""Pretrained text and image models, loaded whole, for a model that is composed of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES as ENCODER_DECODERS
from transformers.utils import cached_file, logging

from ..checked_loading import misfit_named, without_report
from .torchvision_weights import is_torchvision, load_torchvision_resnet

logger = logging.get_logger(__name__)

SegmentStart = Literal["pretrained", "first"]
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "spm.model")
IMAGE_FILES = ("preprocessor_config.json",)


def checkpoint_name(name_or_path: Any, what: str) -> str:
    """Return a folder or Hub name as a text.

    Args:
        name_or_path: a text or a path.
        what: it names, for the message.

    Raises:
        ValueError: if it is neither, or `package:NAME`, which recipes resolve before they come here.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise ValueError(
            f"Expected a folder or Hub name of {what}, found {name_or_path!r:.60} ({type(name_or_path).__name__}). "
            "Pass its name; a baseline that reads text or picture alone is an MMBTBaselineForClassification."
        )
    name_or_path = os.fspath(name_or_path)
    if name_or_path.startswith("package:"):
        raise ValueError(
            f"Expected a folder or a Hub name, found {name_or_path!r}, as recipes write it. In Python: "
            f"`hf_mmtab.pretrained_packages.resolve_checkpoint({name_or_path!r})` gives its folder."
        )
    return name_or_path


def load_text_model(name_or_path: str) -> PreTrainedModel:
    """Load a text encoder in float32; only its pooler may be missing, which is then new and logged.

    Raises:
        ValueError: if other weights are missing from the checkpoint, or it is an encoder–decoder.
    """
    name_or_path = checkpoint_name(name_or_path, "the text model")
    with misfit_named(name_or_path, "a text model"):
        config = AutoConfig.from_pretrained(name_or_path)
        if config.is_encoder_decoder or config.model_type in ENCODER_DECODERS:
            raise ValueError(
                f"Expected a text encoder in {name_or_path}, found an encoder–decoder (model_type "
                f"{config.model_type!r}). Use an encoder such as BERT, RoBERTa or ModernBERT."
            )
        return _load_whole(name_or_path, config)


def load_image_model(name_or_path: str) -> PreTrainedModel:
    """Load an image encoder in float32: a transformers checkpoint, its vision half, or `torchvision:…`.

    Raises:
        ValueError: if weights are missing, or torchvision's architecture is not supported.
    """
    name_or_path = checkpoint_name(name_or_path, "the image model")
    if is_torchvision(name_or_path):
        return load_torchvision_resnet(name_or_path)
    with misfit_named(name_or_path, "an image model"):
        config = AutoConfig.from_pretrained(name_or_path)
        return _load_whole(name_or_path, getattr(config, "vision_config", config))


def _load_whole(name_or_path: str, config: PreTrainedConfig) -> PreTrainedModel:
    options = {"config": config, "dtype": torch.float32, "output_loading_info": True}
    with without_report():  # which lists heads, and all weights of CLIP's other tower
        model, info = AutoModel.from_pretrained(name_or_path, **options)
    new = sorted(info["missing_keys"])
    lost = [key for key in new if not key.startswith("pooler.")]
    if lost:
        raise ValueError(
            f"Expected all weights of {type(model).__name__} in {name_or_path}, found none for {lost[:10]} "
            f"({len(lost)} in all). Name a checkpoint of a {config.model_type!r} model."
        )
    parts = {model.base_model_prefix, *(name.partition(".")[0] for name, _ in model.named_children())}
    if foreign := sorted(key for key in info["unexpected_keys"] if key.partition(".")[0] in parts):
        logger.warning(
            f"{name_or_path} holds {len(foreign)} weights of {type(model).__name__} for which its config.json has no "
            f"place, and which are left out: {', '.join(foreign[:10])}. Is it the config.json of this checkpoint?"
        )
    if Path(name_or_path).is_dir():
        model.config._name_or_path = ""  # would be saved with the configuration; it says nothing elsewhere
    if new:
        logger.warning(f"{name_or_path} has no pooler: a new one is trained from random weights ({new}).")
    return model


@contextmanager
def other_part_named(name_or_path: str, wanted: Literal["tokenizer", "image processor"]) -> Iterator[None]:
    """Say so where a part cannot be loaded since the checkpoint holds the other one alone: text and image swapped.

    Raises:
        ValueError: in place of transformers' own error, which speaks of formats of tokenizers.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        files = {"tokenizer": TOKENIZER_FILES, "image processor": IMAGE_FILES}
        held = [part for part, names in files.items() if any(_has_file(name_or_path, one) for one in names)]
        if not held or wanted in held:
            raise
        raise ValueError(
            f"Expected {wanted} files in {name_or_path!r}, found {held[0]} files alone. Pass the text checkpoint "
            "first and the image checkpoint second, or both by name (text=..., image=...)."
        ) from error


def special_token_ids(name_or_path: str, text_config: PreTrainedConfig) -> dict[str, int]:
    """Return `cls_token_id` and `sep_token_id` of the tokenizer beside a text checkpoint, if there is one."""
    # Without files AutoTokenizer would build an empty tokenizer with ids of its own.
    if not any(_has_file(name_or_path, file) for file in TOKENIZER_FILES):
        return {}
    tokenizer: Any = AutoTokenizer.from_pretrained(name_or_path)
    ids = {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
    known = text_config.vocab_size
    return {name: index for name, index in ids.items() if index is not None and index < known}


def _has_file(name_or_path: str, file: str) -> bool:
    try:
        return cached_file(name_or_path, file) is not None
    except OSError:  # not in the folder, the repository or, offline, the cache
        return False


def start_segment_table(
    text_model: PreTrainedModel, num_segments: int, start: SegmentStart = "pretrained"
) -> dict[str, torch.Tensor]:
    """Prepare a text model's own segment table for MMBT's segments: its configuration and the table.

    A table of at least two rows grows; every new row is the mean of the first two. A model with one segment
    or none is left as it is.

    Args:
        start: `pretrained` keeps the rows, as the original. `first` starts every row from the first, which a
            single text had in pretraining: the words mean what they meant there from the first step on. Many
            text models (sentence-transformers) have hardly seen their second segment.

    Returns:
        The entry of the state dict that changes, or nothing.

    Raises:
        ValueError: if `start` is neither.
    """
    if start not in get_args(SegmentStart):
        raise ValueError(f"Expected segment_start to be one of {[*get_args(SegmentStart)]}, found {start!r}.")
    rows = getattr(text_model.config, "type_vocab_size", 0) or 0
    if rows < 2 or (rows >= num_segments and start == "pretrained"):
        return {}
    name = next(key for key in text_model.state_dict() if key.endswith("token_type_embeddings.weight"))
    table = text_model.state_dict()[name]
    if rows < num_segments:
        text_model.config.type_vocab_size = num_segments
        mean = table[:2].mean(dim=0, keepdim=True).expand(num_segments - rows, -1)
        table = torch.cat([table, mean])
    return {name: table if start == "pretrained" else table[:1].expand_as(table).clone()}


@torch.no_grad()
def mean_of_first_two(table: torch.Tensor) -> None:
    """Set the third row of a segment table to the mean of the first two, in place, as the original does."""
    table[2] = table[:2].mean(dim=0)

"""Lengths of a recipe of pictures with texts against the positions of its text model: before data is read."""

from collections.abc import Collection
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

from ...arguments import ENSEMBLE
from ...evaluation.run_results import RESULT_FILE
from ...models.checked_config import refuse_absurd_depths
from ...models.checked_loading import misfit_named
from ...models.mmbt.text_parts import max_positions
from ...pretrained_packages import require_checkpoint, resolve_checkpoint
from .recipe import ImageTextRecipe

READ_TEXT_MODEL = ("mmbt", "bert", "concatbert", ENSEMBLE)  # architectures
SHORTEST = 4  # pieces of a text; see `MMBTProcessor`


def check_part_lengths(recipe: ImageTextRecipe, architectures: Collection[str]) -> None:
    """Refuse texts and pictures that the text model has no positions for, which training would meet at a long one.

    Args:
        recipe: of the run.
        architectures: that are trained.

    Raises:
        ValueError: names the key, its value and the limit.
    """
    model = recipe.model
    readers = [name for name in READ_TEXT_MODEL if name in architectures]
    is_finished = (recipe.folder / RESULT_FILE).is_file() and not recipe.run.overwrite  # it is only read
    if is_finished or model.pretrained is not None or model.text_model is None or not readers:
        return
    limit = _positions(model.text_model)
    if limit is None:
        return
    for name in readers:
        # In mmbt the picture has the place of [CLS], and the words may start later.
        start, opening = (model.text_position_start, 1) if name == "mmbt" else (0, 0)
        has = f"text_model {model.text_model!r} has {limit} positions"
        has += f", and {name} reads texts from position {start} on (text_position_start)" if start else ""
        most = limit - start + opening
        if most < SHORTEST:
            raise ValueError(
                f"Expected text_position_start of at most {limit + opening - SHORTEST}, found {start}: {has}. Lower it."
            )
        if model.max_length != "auto" and model.max_length > most:
            raise ValueError(
                f"Expected max_length of at most {most} for {name}, found {model.max_length}: {has}. Lower it, or "
                "write max_length: auto."
            )
        _check_rounding(recipe, name, limit - start, SHORTEST if model.max_length == "auto" else model.max_length)
    if "mmbt" in readers and model.image_pooling != "none":
        pictures = 1 if model.max_images == "auto" else model.max_images
        columns = len(model.number_columns) + len(model.category_columns)
        check_image_length(recipe, limit, model.num_image_embeds, pictures, columns)


def _check_rounding(recipe: ImageTextRecipe, name: str, positions: int, max_length: int) -> None:
    multiple = recipe.data.pad_to_multiple_of
    longest = max_length - (name == "mmbt")
    if multiple is not None and -(-longest // multiple) * multiple > positions:
        raise ValueError(
            f"Expected pad_to_multiple_of that rounds texts of {longest} word pieces to at most {positions}, the "
            f"positions that {name} has for them, found {multiple}, which rounds them to "
            f"{-(-longest // multiple) * multiple}. Lower it or max_length, or leave it out."
        )


def check_image_length(recipe: ImageTextRecipe, limit: int, regions: int, pictures: int, columns: int) -> None:
    """Refuse more tokens of pictures and columns than the text model has positions for.

    Args:
        recipe: of the run.
        limit: positions of the text model.
        regions: tokens of one picture.
        pictures: of a row.
        columns: beside picture and text.

    Raises:
        ValueError: names the keys and the limit.
    """
    tokens = regions * pictures + columns + 2
    if tokens <= limit:
        return
    model = recipe.model
    of_regions = f"image_pooling: {model.image_pooling}" if model.image_pooling == "none" else "num_image_embeds"
    raise ValueError(
        f"Expected at most {limit} tokens in mmbt's image part, the positions of text_model {model.text_model!r}, "
        f"found {tokens}: {regions} of each picture ({of_regions}), {pictures} pictures a row (max_images: "
        f"{model.max_images}), {columns} columns and 2 that open and close it. Lower max_images, or pool the regions "
        "(image_pooling: avg)."
    )


def check_started_model(recipe: ImageTextRecipe, model: Any, processor: Any) -> None:
    """Refuse what only the data and the image model tell: the pictures of a row, and the regions of a picture.

    Args:
        recipe: of the run.
        model: as it starts.
        processor: of the model.

    Raises:
        ValueError: see `check_image_length`.
    """
    encoder = getattr(model, "model", None)
    limit = getattr(encoder, "max_part_length", None)
    if encoder is None or limit is None:
        return
    regions = model.config.num_image_embeds
    if model.config.image_pooling == "none":
        pixels = processor.encode_pictures({"image": None})["pixel_values"]  # of one picture, or of several
        with torch.no_grad():
            regions = encoder.get_image_features(pixels.reshape(-1, *pixels.shape[-3:])[:1]).shape[1]
    check_image_length(recipe, limit, regions, model.config.max_images, len(processor.columns or ()))


def _positions(text_model: str) -> int | None:
    """Return how many positions a text model has, from its configuration alone; None: as many as wanted."""
    require_checkpoint(text_model := resolve_checkpoint(text_model))
    with misfit_named(text_model, "a text model"), torch.device("meta"):
        config = AutoConfig.from_pretrained(text_model)
        refuse_absurd_depths(config)
        return max_positions(AutoModel.from_config(config))

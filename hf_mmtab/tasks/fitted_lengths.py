"""How much of a row is read, chosen from the training rows: word pieces of a text, and pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import datasets
import numpy as np
import pyarrow.compute as pc

from ..models.mmbt import MMBTProcessor
from ..models.mmbt.text_parts import max_positions

QUANTILE = 0.99
LEAST, STEP = 16, 8
MEASURED = 20_000  # texts, evenly spaced: enough for a quantile


@dataclass(frozen=True)
class TextLength:
    """A length and what it cuts.

    Args:
        max_length: in word pieces.
        cut: share of the training texts that are longer.
        limit: the most that the text model takes.
    """

    max_length: int
    cut: float
    limit: int

    def __str__(self) -> str:
        cut = f"{self.cut:.1%} of the training texts are longer and are cut there" if self.cut else "no text is longer"
        why = ", all that the text model takes" if self.max_length == self.limit else ""
        return (
            f"max_length: auto: texts are read up to {self.max_length} word pieces{why}; {cut}. Set max_length to a "
            "number for another length."
        )


def picture_size_note(image_processor: Any) -> str:
    """Say at which size pictures are read, and whose it is."""
    steps = image_processor.to_dict()
    crop, size = steps.get("crop_size"), steps.get("size") or {}
    read = crop if steps.get("do_center_crop") and crop else size
    edges = f"{read['height']} × {read['width']} pixels" if {"height", "width"} <= read.keys() else f"{read}"
    cut = f", the middle of a picture whose short edge is {size['shortest_edge']}" if size.get("shortest_edge") else ""
    return f"picture size: {edges}{cut if read is crop else ''}, as image_model was trained; another one has its own."


def choose_max_length(
    processor: MMBTProcessor, rows: datasets.Dataset, model: Any, before: int | None = None, multiple: int | None = None
) -> TextLength | None:
    """Return the length that 99 % of the texts need, rounded up to a multiple of 8; None: no text is read.

    Args:
        processor: of the model; its `max_length` is the most that its tokenizer takes.
        rows: of training.
        model: MMBT or one of its baselines.
        before: the length with which the run began; None: it begins now.
        multiple: to which batches round the lengths of texts (`pad_to_multiple_of`), which positions must hold too.
    """
    places = np.linspace(0, len(rows) - 1, min(len(rows), MEASURED)).astype(int)
    lengths = processor.text_lengths(rows if len(places) == len(rows) else rows.select(places))
    if lengths is None:
        return None
    positions = _positions(model) or processor.max_length
    limit = min(processor.max_length, positions // (multiple or 1) * (multiple or 1))
    needed = int(np.quantile(lengths, QUANTILE, method="inverted_cdf"))
    chosen = before or min(limit, max(LEAST, -(-needed // STEP) * STEP))
    return TextLength(chosen, float((lengths > chosen).mean()), limit)


def _positions(model: Any) -> int | None:
    """Return how many pieces the text model has positions for; None: as many as wanted."""
    text_model = getattr(model, "model", model).text_model
    longest = None if text_model is None else max_positions(text_model)
    return None if longest is None else longest - getattr(model.config, "text_position_start", 0)


MOST = 8  # pictures that `auto` reads: with three regions each, as many tokens as a short text


def choose_max_images(rows: datasets.Dataset, asked: int | Literal["auto"], before: int = 1) -> tuple[int, str | None]:
    """Return how many pictures of a row are read, and a line about it; None: rows have one.

    Args:
        rows: of training; those that may have several have a column `images`.
        asked: by the recipe.
        before: by the checkpoint that training starts from.

    Raises:
        ValueError: if rows have several and one is asked for.
    """
    if "images" not in rows.column_names:
        return before, None
    counts = picture_counts(rows)
    largest = max(int(counts.max(initial=1)), 1)
    if asked == 1 and largest > 1:
        raise ValueError(
            f"Expected max_images of at least 2 for rows with up to {largest} pictures, found 1. Leave it out, or name "
            "a column with one picture in image_column."
        )
    chosen = max(before, min(largest, MOST)) if asked == "auto" else asked
    several, left_out = (counts > 1).mean(), (counts > chosen).mean()
    more = f", {left_out:.1%} more than {chosen}, whose further ones are left out" if left_out else ""
    return chosen, (
        f"max_images: {asked}: up to {chosen} pictures of a row are read; {several:.1%} of the training rows have more "
        f"than one{more}. Set max_images to another number to read more or fewer."
    )


def picture_counts(rows: datasets.Dataset) -> np.ndarray:
    """Return how many pictures each row has, of a data set with lists of them, `(rows,)`."""
    column = rows.with_format("arrow")["images"][:]
    return np.asarray(pc.fill_null(pc.list_value_length(column), 0))


def refuse_several_pictures(rows: datasets.Dataset, where: str, most: int) -> None:
    """Refuse rows with several pictures for a model that reads one, before any of them is read.

    Args:
        rows: to train on, judge or predict.
        where: what they are, such as a split's name.
        most: pictures of a row that the model reads.

    Raises:
        ValueError: names the first such row and its pictures.
    """
    if most > 1 or "images" not in rows.column_names:
        return
    counts = picture_counts(rows)
    if (counts <= 1).all():
        return
    first = int(np.flatnonzero(counts > 1)[0])
    undecoded = rows.select([first]).cast_column("images", datasets.List(datasets.Image(decode=False)))
    named = [str(one["path"]) for one in undecoded[0]["images"] if one is not None and one["path"]]
    raise ValueError(
        f"Expected one picture a row, found {counts[first]}: this model reads one (max_images of its processor is 1), "
        f"and row {first + 1} of {where} has {', '.join(named[:3]) or 'more'}. {(counts > 1).sum()} of {len(rows)} "
        f"rows do. Choose one of each, or train with max_images: {counts.max()}."
    )


def further_pictures_note(splits: Mapping[str, datasets.Dataset], most: int) -> str | None:
    """Return a line about rows outside of training with more pictures than are read; None: there are none."""
    told = []
    if most <= 1:  # refused
        return None
    for name, rows in splits.items():
        if name != "train" and "images" in rows.column_names and (left := picture_counts(rows) > most).any():
            told.append(f"{left.mean():.1%} of the {name} rows (the first is row {int(left.argmax()) + 1})")
    return f"More than {most} pictures have {' and '.join(told)}: the further ones are left out." if told else None

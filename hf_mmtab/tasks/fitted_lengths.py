"""How much of a row is read, chosen from the training rows: word pieces of a text, and pictures."""

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


def choose_max_length(
    processor: MMBTProcessor, rows: datasets.Dataset, model: Any, before: int | None = None
) -> TextLength | None:
    """Return the length that 99 % of the texts need, rounded up to a multiple of 8; None: no text is read.

    Args:
        processor: of the model; its `max_length` is the most that its tokenizer takes.
        rows: of training.
        model: MMBT or one of its baselines.
        before: the length with which the run began; None: it begins now.
    """
    places = np.linspace(0, len(rows) - 1, min(len(rows), MEASURED)).astype(int)
    lengths = processor.text_lengths(rows if len(places) == len(rows) else rows.select(places))
    if lengths is None:
        return None
    limit = min(processor.max_length, _positions(model) or processor.max_length)
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
    column = rows.with_format("arrow")["images"][:]
    counts = np.asarray(pc.fill_null(pc.list_value_length(column), 0))
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

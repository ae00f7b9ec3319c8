"""`max_images`: how many pictures of a row are read, from what the training rows have."""

from typing import Literal

import datasets
import numpy as np
import pyarrow.compute as pc

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

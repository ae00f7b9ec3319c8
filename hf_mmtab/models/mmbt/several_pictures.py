"""Several pictures of one row: which are read, and how rows with different numbers of them are put together."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

COLUMNS = ("images", "image")  # of a row, of which the first that is there counts


def pictures_of(row: Mapping[str, Any]) -> Any:
    """Return what a row has as its picture, or as its list of pictures.

    Raises:
        ValueError: if it has both.
    """
    if all(name in row for name in COLUMNS):
        raise ValueError(
            "Expected the picture of a row under `image`, or its pictures under `images`, found both. Leave one out."
        )
    return next((row[name] for name in COLUMNS if name in row), None)


def as_listed(value: Any) -> Any:
    """Return several pictures as a list: of a list, tuple, series, column, array of objects, or array or tensor of
    several pictures `(n, ...)` of four axes; anything else, such as one picture, as it is.
    """
    if isinstance(value, list | tuple):
        return list(value)
    for convert in ("to_pylist", "to_list"):  # Arrow, pandas and polars
        if hasattr(value, convert):
            return list(getattr(value, convert)())
    is_array = isinstance(value, np.ndarray) and value.ndim > 0 and (value.dtype.hasobject or value.dtype.kind in "US")
    return list(value) if is_array or getattr(value, "ndim", 0) == 4 else value


def as_pictures(value: Any, most: int) -> list[Any]:
    """Return the pictures of a row, at most so many: at least one, which may be missing.

    Args:
        value: one picture or None, or a list of them.
        most: the first so many are read.

    Raises:
        ValueError: if there are several and one is read.
    """
    value = as_listed(value)
    if not isinstance(value, list):
        return [value]
    if most == 1 and len(value) > 1:
        raise ValueError(
            f"Expected one picture a row, found {len(value)}: this model reads one (max_images of its processor is 1). "
            "Choose one, or train a model on rows that have several."
        )
    return list(value[:most]) or [None]


def stack_pictures(pictures: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return pictures `(3, H, W)` as `(batch, 3, H, W)`, or rows of them `(n, 3, H, W)` as `(batch, most, 3, H, W)`.

    Raises:
        ValueError: if pictures have different sizes.
    """
    sizes = {tuple(picture.shape[-3:]) for picture in pictures}
    if len(sizes) > 1:
        raise ValueError(
            f"Expected pictures of one size, found {sorted(sizes)}. Use an image processor with a fixed "
            "output size (`size` with height and width, or a centre crop)."
        )
    return torch.stack([*pictures]) if pictures[0].dim() == 3 else pad_sequence([*pictures], batch_first=True)


def stack_masks(masks: Sequence[Any]) -> torch.Tensor:
    """Return whether pictures are there, `(batch,)` of numbers, `(batch, most)` of lists of them; 0 where padded."""
    given = [torch.as_tensor(mask).long() for mask in masks]
    return pad_sequence(given, batch_first=True) if given[0].dim() else torch.stack(given)

"""Is there a readable picture? Asked before training, of many at once."""

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal

from PIL import Image, ImageOps

CheckImages = Literal["off", "header", "decode"]
# JPEGs are decoded at the smallest scale at or above this: all bytes are read, few pixels made.
THUMBNAIL = (64, 64)
# How training reads pictures (`models/mmbt/image_reading_mmbt.py`, which must travel alone; a test compares them):
# JPEGs above this many pixels are decoded smaller, their short side at least that long.
LARGE_PIXELS = 4_000_000
MIN_SIDE = 1024

# Pillow reads these with an outside program (Ghostscript), to which the file is a program to run.
REFUSED_FORMATS = frozenset({"EPS"})


def picture_problem(picture: dict[str, Any] | None, check: CheckImages) -> str | None:
    """Return what is wrong with a picture, or None.

    Args:
        picture: `{"bytes", "path"}` or None for no picture, which is fine.
        check: "header" opens the file; "decode" reads it to its end, too.
    """
    if picture is None or check == "off":
        return None
    path, data = picture.get("path") or "", picture.get("bytes")
    if data is None and not os.path.isfile(path):
        return f"no file {path!r}"
    try:
        with Image.open(io.BytesIO(data) if data is not None else path) as image:
            if image.format in REFUSED_FORMATS:
                return f"{image.format}, which would have to be run as a program"
            if problem := _too_large(image):
                return problem
            if check == "decode":
                if image.width * image.height <= LARGE_PIXELS:  # Pillow goes wrong when it is asked twice
                    image.draft(None, THUMBNAIL)
                image.load()
                ImageOps.exif_transpose(image)
    except Exception as error:  # Pillow's decoders raise whatever the broken bytes lead to
        return f"{type(error).__name__}: {error}"
    return None


def _too_large(image: Image.Image) -> str | None:
    """Return what is wrong with a picture that would not fit in memory, though JPEGs are decoded smaller."""
    width, height = image.size
    if width * height > LARGE_PIXELS and (scale := MIN_SIDE / min(width, height)) < 1:
        image.draft(None, (max(1, int(width * scale)), max(1, int(height * scale))))
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        return f"{width} x {height} pixels, at most {limit:,} allowed"
    return None


def picture_problems(
    pictures: Sequence[dict[str, Any] | None], check: CheckImages, known: dict[str, str | None]
) -> list[str | None]:
    """Return `picture_problem` of each, asked in a few threads (Pillow decodes without the GIL).

    Args:
        pictures: see `picture_problem`.
        check: see `picture_problem`.
        known: answers for picture files asked about before, by path; added to.
    """
    if check == "off":
        return [None] * len(pictures)
    keys = [picture["path"] if picture and picture.get("bytes") is None else None for picture in pictures]
    asked = {key: picture for key, picture in zip(keys, pictures, strict=True) if key and key not in known}
    embedded = [picture for key, picture in zip(keys, pictures, strict=True) if not key]
    with ThreadPoolExecutor(max_workers=min(8, (os.cpu_count() or 1) + 2)) as threads:
        problem = partial(picture_problem, check=check)
        known.update(zip(asked, threads.map(problem, asked.values()), strict=True))
        answers = threads.map(problem, embedded)
        return [known[key] if key else next(answers) for key in keys]

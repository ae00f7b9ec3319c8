"""Is there a readable picture? Asked before training, of many at once."""

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from PIL import Image, ImageOps

CheckImages = Literal["off", "header", "decode"]
THUMBNAIL = (
    64,
    64,
)  # JPEGs are decoded at the smallest scale at or above this: all bytes are read, few pixels made
# A JPEG above this many pixels is decoded at 1/2, 1/4 or 1/8 of its size (DCT scaling), never below the side that
# training asks for; other formats are shrunk by a whole factor right after decoding.
LARGE_PIXELS = 4_000_000
MIN_SIDE = 1024  # pixels; of the short side, where a large picture is decoded smaller

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
            if problem := shrink_while_decoding(image, MIN_SIDE):
                return problem
            if check == "decode":
                if image.width * image.height <= LARGE_PIXELS:  # Pillow goes wrong when it is asked twice
                    image.draft(None, THUMBNAIL)
                image.load()
                ImageOps.exif_transpose(image)
    except Exception as error:  # Pillow's decoders raise whatever the broken bytes lead to
        return f"{type(error).__name__}: {error}"
    return None


def shrink_while_decoding(image: Image.Image, min_side: int) -> str | None:
    """Ask the JPEG decoder for fewer pixels, and return what is wrong with a picture that would not fit in memory.

    Args:
        image: opened, not loaded yet.
        min_side: pixels that the short side keeps.
    """
    width, height = image.size
    if width * height > LARGE_PIXELS:
        scale = min_side / min(width, height)
        if scale < 1:
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
        known.update(
            zip(asked, threads.map(lambda one: picture_problem(one, check), asked.values()), strict=True)
        )
        answers = threads.map(lambda one: picture_problem(one, check), embedded)
        return [known[key] if key else next(answers) for key in keys]

"""Any picture that a user has -> an upright 8-bit RGB PIL image, with bounded memory."""

import io
import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageOps

# A JPEG above this many pixels is decoded at 1/2, 1/4 or 1/8 of its size (DCT scaling), never below the side
# given to `read_image`; other formats are shrunk by a whole factor right after decoding.
LARGE_PIXELS = 4_000_000
# A picture longer than this many times its width keeps only its centre: resizing the short edge of 20,000 x 1
# pixels to 256 would otherwise ask for 256 x 5,120,000 pixels.
MAX_ASPECT_RATIO = 16
# Pillow reads these with an outside program (Ghostscript), to which the file is a program to run.
REFUSED_FORMATS = frozenset({"EPS"})


class ImageReadError(ValueError):
    """A picture that cannot be read; the message says which, what was found there and what to do."""


def is_missing(source: Any) -> bool:
    """Whether a value of a picture column stands for "no picture": None, "", or neither bytes nor a path."""
    if isinstance(source, Mapping):
        return source.get("bytes") is None and not source.get("path")
    return source is None or (isinstance(source, str) and source == "")


def read_image(source: Any, *, min_side: int = 1024, background: int | None = 255, upright: bool = True) -> Image.Image:
    """Decode one picture to 8-bit RGB.

    Args:
        source: PIL image, path, bytes, `{"bytes", "path"}` as `datasets.Image(decode=False)` gives, array
            `(H, W)`, `(H, W, 3|4)` uint8, or tensor `(1|3|4, H, W)` uint8.
        min_side: pictures above 4 million pixels may be decoded smaller, their short side at least this long.
        background: grey level, 0–255, put under transparent pixels; None drops transparency as the original
            did.
        upright: turn the picture as its EXIF orientation says.

    Returns:
        Image of mode "RGB". Of an animation, the first frame. 16-bit greys are scaled to 8 bits.

    Raises:
        ImageReadError: if there is no file, it is not a picture, is cut short, or has too many pixels.
    """
    name = _describe(source)
    try:
        image = _open(source)
        if image.format in REFUSED_FORMATS:
            raise ImageReadError(
                f"Expected a picture made of pixels, found {name}: {image.format}, which would have to be "
                "run as a program. Convert it to PNG."
            )
        _shrink_while_decoding(image, min_side, name)
        image.load()
        if upright:
            image = ImageOps.exif_transpose(image)
        image = _shrink(image, min_side)
        return _to_rgb(image, background)
    except ImageReadError:
        raise
    except FileNotFoundError as error:
        raise ImageReadError(
            f"Expected a picture file, found nothing at {name}. Check the path (relative paths start at the "
            "folder of the data file), or leave the picture empty."
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageReadError(_too_large(name, str(error))) from error
    except Exception as error:  # Pillow's decoders raise whatever the broken bytes lead to
        raise ImageReadError(
            f"Expected a picture that Pillow can read, found {name}: {type(error).__name__}: {error}. "
            "Repair or remove the file, or leave the picture empty."
        ) from error


def crop_extreme_aspect(image: Image.Image) -> Image.Image:
    """Keep the centre of a picture that is more than 16 times as long as wide."""
    width, height = image.size
    longest = MAX_ASPECT_RATIO * min(width, height)
    if max(width, height) <= longest:
        return image
    left, top = max(0, (width - longest) // 2), max(0, (height - longest) // 2)
    return image.crop((left, top, left + min(width, longest), top + min(height, longest)))


def _describe(source: Any) -> str:
    if isinstance(source, str | os.PathLike):
        return repr(os.fspath(source))
    if isinstance(source, Mapping):
        path, data = source.get("path"), source.get("bytes")
        size = f"{len(data)} bytes" if data is not None else ""
        return f"{path!r} ({size})" if path and size else size or repr(path)
    if isinstance(source, bytes | bytearray):
        return f"{len(source)} bytes"
    return f"a {type(source).__name__}"


def _open(source: Any) -> Image.Image:
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, Mapping):
        source = source["bytes"] if source.get("bytes") is not None else source["path"]
    if isinstance(source, bytes | bytearray):
        return Image.open(io.BytesIO(source))
    if isinstance(source, str | os.PathLike):
        return Image.open(source)
    torch = sys.modules.get("torch")  # services read pictures without it
    if torch is not None and isinstance(source, torch.Tensor):
        source = source.permute(1, 2, 0).numpy() if source.ndim == 3 else source.numpy()
        source = source[..., 0] if source.ndim == 3 and source.shape[-1] == 1 else source
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8:
            raise ImageReadError(
                f"Expected an array of uint8 (0–255), found {source.dtype}. Multiply and cast it, or pass a PIL image."
            )
        if not source.size:
            raise ImageReadError(f"Expected an array of pixels, found one of shape {source.shape}. Pass None for none.")
        if source.ndim not in (2, 3) or (source.ndim == 3 and source.shape[-1] not in (2, 3, 4)):
            raise ImageReadError(
                f"Expected an array of shape (height, width) or (height, width, 2 to 4), found {source.shape}. Put the "
                "channels last: `array.transpose(1, 2, 0)`."
            )
        return Image.fromarray(source)
    raise ImageReadError(
        f"Expected a PIL image, path, bytes, array or tensor, found a {type(source).__name__}. "
        "Open the picture first, e.g. with `PIL.Image.open`."
    )


def _shrink_while_decoding(image: Image.Image, min_side: int, name: str) -> None:
    """Ask the JPEG decoder for fewer pixels, and refuse what would not fit in memory."""
    width, height = image.size
    if width * height > LARGE_PIXELS:
        scale = min_side / min(width, height)
        if scale < 1:
            image.draft(None, (max(1, int(width * scale)), max(1, int(height * scale))))
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise ImageReadError(_too_large(name, f"{width} x {height} pixels, at most {limit:,} allowed"))


def _too_large(name: str, what: str) -> str:
    return (
        f"Expected a picture that fits in memory, found {name}: {what}. "
        "Shrink the file, or raise `PIL.Image.MAX_IMAGE_PIXELS` if you trust it."
    )


def _shrink(image: Image.Image, min_side: int) -> Image.Image:
    factor = min(image.size) // min_side
    is_large = image.width * image.height > LARGE_PIXELS and factor > 1
    return image.reduce(factor) if is_large and image.mode in ("L", "RGB", "RGBA", "CMYK") else image


def _to_rgb(image: Image.Image, background: int | None) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _to_eight_bits(image)
    transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    if background is None or not transparent:
        return image.convert("RGB")
    image = image.convert("RGBA")
    canvas = Image.new("RGBA", image.size, (background, background, background, 255))
    return Image.alpha_composite(canvas, image).convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Greys of 16 or 32 bits. Pillow's own conversion clips at 255 and leaves such pictures white."""
    values = np.asarray(image, dtype=np.float32)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if values.min() < 0 or values.max() > 65535:  # clipped, they would be black or white
        raise ImageReadError(
            f"Expected greys from 0 to 1, 255 or 65535, found {values.min():g} to {values.max():g} in a picture of "
            f"mode {image.mode}. Scale them, and write it with 8 or 16 bits."
        )
    if image.mode == "F" and values.max() <= 1.0:
        values = values * 255.0
    elif values.max() > 255.0:
        values = values / 257.0  # 65535 -> 255
    return Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8))

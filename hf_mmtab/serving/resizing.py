"""Resizing as torch does it on 8-bit pictures, to the last bit; Pillow differs by a level here and there."""

import numpy as np

BILINEAR, BICUBIC = 2, 3  # as Pillow numbers them


def resize_as_torch(pixels: np.ndarray, size: tuple[int, int], resample: int) -> np.ndarray:
    """Resize `(H, W, channels)` uint8 with antialiasing, first along the rows, then along the columns.

    Args:
        pixels: of one picture.
        size: height and width.
        resample: `BILINEAR` or `BICUBIC`.
    """
    for axis in (1, 0):
        if pixels.shape[axis] != size[axis]:
            pixels = np.moveaxis(_resized(np.moveaxis(pixels, axis, 0), size[axis], resample), 0, axis)
    return pixels


def _resized(pixels: np.ndarray, out: int, resample: int) -> np.ndarray:
    """Resize along the first axis, with weights of 16 bits as ATen/native/cpu/UpSampleKernel.cpp has them."""
    length = len(pixels)
    scale = length / out
    stretch = max(scale, 1.0)
    support = (1.0 if resample == BILINEAR else 2.0) * stretch
    center = scale * (np.arange(out) + 0.5)
    first = np.maximum((center - support + 0.5).astype(np.int64), 0)
    count = np.minimum((center + support + 0.5).astype(np.int64), length) - first
    taps = first[:, None] + np.arange(count.max())  # (out, taps)
    weights = _filter((taps - center[:, None] + 0.5) / stretch, resample)
    weights[np.arange(count.max()) >= count[:, None]] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    bits = 0
    while bits < 22 and int(0.5 + weights.max() * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    whole = np.where(weights < 0, weights * (1 << bits) - 0.5, weights * (1 << bits) + 0.5).astype(np.int32)
    taps = np.minimum(taps, length - 1)
    total = np.full((out, *pixels.shape[1:]), 1 << (bits - 1), dtype=np.int32)
    for tap in range(taps.shape[1]):
        total += pixels[taps[:, tap]].astype(np.int32) * whole[:, tap, None, None]
    return np.clip(total >> bits, 0, 255).astype(np.uint8)


def _filter(x: np.ndarray, resample: int) -> np.ndarray:
    x = np.abs(x)
    if resample == BILINEAR:
        return np.maximum(1.0 - x, 0.0)
    near, far = (1.5 * x - 2.5) * x * x + 1.0, ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0  # a = -0.5, as Pillow
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))

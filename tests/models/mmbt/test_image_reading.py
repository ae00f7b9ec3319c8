"""Every picture that a user may have becomes an upright 8-bit RGB picture, or a clear error."""

import io
import re
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hf_mmtab.models.mmbt.image_reading_mmbt import ImageReadError, crop_extreme_aspect, is_missing, read_image

RED = (255, 0, 0)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def near(pixel: tuple[int, ...], wanted: tuple[int, ...], levels: int = 3) -> bool:
    return all(abs(a - b) <= levels for a, b in zip(pixel, wanted, strict=True))


def test_path_bytes_dict_array_and_tensor_give_the_same_picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    path = str(tmp_path / "a.png")
    sources = [image, path, Path(path), data, {"bytes": data, "path": None}, {"bytes": None, "path": path}, pixels]
    for source in [*sources, torch.from_numpy(pixels).permute(2, 0, 1)]:
        assert np.array_equal(np.asarray(read_image(source)), pixels)


def test_cmyk_becomes_rgb():
    assert near(read_image(encoded(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "JPEG")).getpixel((0, 0)), RED)


def test_transparency_is_put_on_white_or_dropped():
    clear_red = encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "PNG")
    assert read_image(clear_red).getpixel((0, 0)) == (255, 255, 255)
    assert read_image(clear_red, background=None).getpixel((0, 0)) == RED
    half = encoded(Image.new("LA", (4, 4), (0, 128)), "PNG")
    assert near(read_image(half).getpixel((0, 0)), (127, 127, 127))


def test_palette_with_a_transparent_colour():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 255, 0, 0] + [0] * 750)
    assert read_image(encoded(image, "PNG")).getpixel((0, 0)) == RED
    assert read_image(encoded(image, "PNG", transparency=1)).getpixel((0, 0)) == (255, 255, 255)
    assert read_image(encoded(image, "GIF", transparency=1)).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_are_scaled_not_clipped():
    half = Image.fromarray(np.full((4, 4), 32896, dtype=np.uint16))
    assert read_image(encoded(half, "PNG")).getpixel((0, 0)) == (128, 128, 128)
    assert read_image(encoded(half, "TIFF")).getpixel((0, 0)) == (128, 128, 128)
    assert read_image(Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32))).getpixel((0, 0)) == (128,) * 3
    assert read_image(encoded(Image.new("1", (4, 4), 1), "PNG")).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_counts(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, (0, 255, 0), (0, 0, 255))]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert near(read_image(data).getpixel((4, 4)), RED, levels=12)


def test_exif_orientation_is_followed_unless_asked_not_to():
    image = Image.new("RGB", (6, 4), RED)
    exif = image.getexif()
    exif[0x0112] = 6  # lies on its side
    data = encoded(image, "JPEG", exif=exif)
    assert read_image(data).size == (4, 6)
    assert read_image(data, upright=False).size == (6, 4)


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (20_000, 3)])
def test_one_pixel_and_very_long_pictures_are_cut_to_a_usable_shape(size):
    image = crop_extreme_aspect(read_image(encoded(Image.new("RGB", size, RED), "PNG")))
    assert max(image.size) <= 16 * min(image.size) and image.getpixel((0, 0)) == RED


def test_a_large_jpeg_is_decoded_smaller():
    image = Image.linear_gradient("L").resize((4000, 3000)).convert("RGB")
    small = read_image(encoded(image, "JPEG"), min_side=1024)
    assert small.size == (2000, 1500)
    wanted = image.resize(small.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(small, int) - np.asarray(wanted, int)).max() <= 4


def test_a_picture_20000_pixels_wide_stays_within_memory():
    data = encoded(Image.new("RGB", (20_000, 4_000), RED), "PNG", compress_level=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    image = read_image(data, min_side=1024)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert image.size == (6667, 1334) and image.getpixel((0, 0)) == RED
    assert grown < 500  # megabytes; 240 are the picture itself


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_refused():
    data = encoded(Image.new("1", (20_000, 5_000)), "PNG")
    with pytest.raises(ImageReadError, match=r"fits in memory, found \d+ bytes: 20000 x 5000 pixels, at most 89,"):
        read_image(data)
    with pytest.raises(ImageReadError, match=r"fits in memory, .* Shrink the file, or raise `PIL.Image.MAX_IMAGE_PIX"):
        read_image(encoded(Image.new("1", (20_000, 10_000)), "PNG"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/no/such.jpg", "Expected a picture file, found nothing at '/no/such.jpg'. Check the path (relative paths "),
        (b"hello", "Expected a picture that Pillow can read, found 5 bytes: UnidentifiedImageError"),
        ({"bytes": b"", "path": "x.png"}, "Expected a picture that Pillow can read, found 'x.png' (0 bytes): Unid"),
        (np.zeros((4, 4, 3)), "Expected an array of uint8 (0–255), found float64. Multiply and cast it, or pass a P"),
        (3.5, "Expected a PIL image, path, bytes, array or tensor, found a float. Open the picture first"),
    ],
)
def test_what_is_no_picture_is_named(source, message):
    with pytest.raises(ImageReadError, match=re.escape(message)):
        read_image(source)


def test_a_picture_cut_short_is_an_error():
    data = encoded(Image.effect_noise((200, 200), 60), "JPEG")[:3000]
    with pytest.raises(ImageReadError, match=r"image file is truncated.*Repair or remove the file"):
        read_image(data)


def test_a_picture_that_is_a_program_is_refused():
    data = encoded(Image.new("RGB", (4, 4)), "EPS")
    with pytest.raises(ImageReadError, match=r"Expected a picture made of pixels, found \d+ bytes: EPS, which"):
        read_image(data)


def test_missing_pictures_are_told_from_present_ones():
    assert all(map(is_missing, [None, "", {"bytes": None, "path": None}, {"bytes": None, "path": ""}]))
    assert not any(map(is_missing, ["a.png", {"bytes": b"", "path": None}, Image.new("L", (1, 1)), np.zeros(1)]))


@pytest.mark.parametrize("kind", [np.int32, np.float32])
@pytest.mark.parametrize("greys", [[0, 70_000], [-5, 100]], ids=str)
def test_greys_that_would_be_clipped_are_refused(kind, greys):
    picture = Image.fromarray(np.array([greys], dtype=kind))
    with pytest.raises(ImageReadError, match=rf"Expected greys from 0 to 1, 255 or 65535, found {greys[0]} to"):
        read_image(picture)
    assert np.asarray(read_image(Image.fromarray(np.array([[0, 65535]], dtype=kind))))[..., 0].tolist() == [[0, 255]]


@pytest.mark.parametrize("shape", [(3, 20, 30), (20, 30, 5), (7,)], ids=str)
def test_an_array_of_another_shape_is_named_with_it(shape):
    with pytest.raises(ImageReadError, match=re.escape(f"(height, width, 2 to 4), found {shape}.")):
        read_image(np.zeros(shape, np.uint8))

"""Pictures resized without torch are those of torchvision to the last bit."""

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from hf_mmtab.serving.resizing import BICUBIC, BILINEAR, resize_as_torch

MODES = {BILINEAR: InterpolationMode.BILINEAR, BICUBIC: InterpolationMode.BICUBIC}


@pytest.mark.parametrize("resample", MODES)
@pytest.mark.parametrize("size", [(300, 200), (57, 211), (1000, 40), (64, 64), (5, 3), (1, 900)])
@pytest.mark.skipif(
    "AVX2" not in torch.backends.cpu.get_cpu_capability() and "AVX512" not in torch.backends.cpu.get_cpu_capability(),
    reason="torchvision resizes in floats here",
)
def test_pixels_are_those_of_torchvision(size, resample):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    for wanted in ((64, 64), (96, 40)):
        expected = functional.resize(image, list(wanted), interpolation=MODES[resample], antialias=True)
        assert np.array_equal(resize_as_torch(pixels, wanted, resample), expected.permute(1, 2, 0).numpy())

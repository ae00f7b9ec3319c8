"""What MMBT is measured against on the same rows: logistic regressions on frozen features."""

from .frozen_linear import BASELINES, DESCRIPTIONS, OF_IMAGE, OF_TEXT, FrozenLinear, inputs_of
from .linear_start import LinearStarter, pool_by_mean

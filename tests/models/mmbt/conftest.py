"""Fixtures of the MMBT tests."""

from pathlib import Path

import pytest
import torch
from golden_mmbt import Golden


@pytest.fixture(scope="session")
def mmbt_golden(golden: Path) -> Golden:
    """Weights, inputs and numbers of the original MMBT code."""
    return Golden(golden / "mmbt")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)

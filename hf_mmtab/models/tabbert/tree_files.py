"""Boosted trees in LightGBM's own text format: written, read and asked, without torch and transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def import_lightgbm() -> Any:
    """Return the module.

    Raises:
        ImportError: with the command that installs it.
    """
    try:
        import lightgbm
    except ImportError as error:
        raise ImportError(
            "Expected the package lightgbm for boosted trees (architecture boosted or fusion, baselines boosted_rows "
            'and boosted_history), found none. Install it with `pip install "hf-mmtab[boosting]"`, or leave them out.'
        ) from error
    return lightgbm


def trees_file(name: str, number: int) -> str:
    """Return the name of the file of one booster."""
    return f"{name}_trees_{number}.txt"


def save_trees(boosters: Sequence[Any], name: str, folder: Path) -> None:
    """Write the boosters of one name, a text file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, booster in enumerate(boosters):
        booster.save_model(str(folder / trees_file(name, number)))


def read_trees(file: str) -> Any:
    """Read a booster.

    Raises:
        ImportError: without LightGBM.
        ValueError: if the file is damaged.
    """
    lightgbm = import_lightgbm()
    try:
        return lightgbm.Booster(model_file=file)
    except lightgbm.basic.LightGBMError as error:
        raise ValueError(
            f"Expected boosted trees in {file!r}, found a damaged file ({error}). Copy the model again."
        ) from error


def raw_scores(boosters: Sequence[Any], numbers: np.ndarray) -> np.ndarray:
    """Return log odds of class 1, scores of classes, or values, `(rows, outputs)` float32.

    Args:
        boosters: one for each target, or one for all classes.
        numbers: `(rows, numbers)` float32, NaN where missing.
    """
    found = [booster.predict(numbers, raw_score=True) for booster in boosters]
    return np.concatenate([one.reshape(len(numbers), -1) for one in found], axis=1).astype(np.float32)

"""Boosted trees in LightGBM's own text format: written, read and asked, without torch and transformers."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

LAST_LINES = b"\nend of parameters\n"  # of LightGBM's text format


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
            "and boosted_history), found none. Install it: `pip install lightgbm` (extra `boosting`)."
        ) from error
    return lightgbm


def trees_file(name: str, number: int) -> str:
    """Return the name of the file of one booster."""
    return f"{name}_trees_{number}.txt"


def save_trees(boosters: Sequence[Any], name: str, folder: Path) -> dict[str, str]:
    """Write the boosters of one name, a text file each; return file → SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    hashes = {}
    for number, booster in enumerate(boosters):
        file = folder / trees_file(name, number)
        booster.save_model(str(file))
        hashes[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return hashes


def read_trees(file: str, sha256: str | None = None) -> Any:
    """Read a booster, once its text is known to be whole: LightGBM ends the process on many a damaged one.

    Args:
        file: of the booster.
        sha256: of the file; None: not known, so that only its end is looked for.

    Raises:
        ImportError: without LightGBM.
        ValueError: if the file is damaged.
    """
    lightgbm, text = import_lightgbm(), Path(file).read_bytes()
    is_whole = LAST_LINES in text if sha256 is None else hashlib.sha256(text).hexdigest() == sha256
    try:
        if not is_whole:
            raise ValueError("its end is missing" if sha256 is None else "its hash is not the one in config.json")
        return lightgbm.Booster(model_file=file)
    except (ValueError, lightgbm.basic.LightGBMError) as error:
        raise ValueError(
            f"Expected boosted trees in {file!r}, found a damaged file ({error}). Copy the model again."
        ) from error


def raw_scores(boosters: Sequence[Any], numbers: np.ndarray, is_binary: bool) -> np.ndarray:
    """Return log odds of class 1, scores of classes, or values, `(rows, outputs)` float32.

    Args:
        boosters: of two classes those whose log odds are averaged; else one for each target, or one for all classes.
        numbers: `(rows, numbers)` float32, NaN where missing.
        is_binary: whether there are two classes.
    """
    scores = [booster.predict(numbers, raw_score=True).reshape(len(numbers), -1) for booster in boosters]
    return (np.mean(scores, axis=0) if is_binary else np.concatenate(scores, axis=1)).astype(np.float32)

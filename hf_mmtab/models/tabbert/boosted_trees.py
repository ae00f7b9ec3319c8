"""Boosted trees beside a model's weights, in LightGBM's own text format."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import cached_file

from .checked_loading import HUB_OPTIONS
from .head_settings import trees_file

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
            'and boosted_history), found none. Install it with `pip install "hf-mmtab[boosting]"`, or leave them out.'
        ) from error
    return lightgbm


class BoostedTreesMixin:
    """Goes before a model: saves and loads its trees as text beside the weights; nothing of them is pickled.

    `config.trees` tells how many boosters each name has; several are those of several regression targets.
    """

    config: Any

    def set_trees(self, name: str, boosters: list[Any]) -> None:
        """Keep boosters of LightGBM under a name."""
        self.boosters = {**self.__dict__.get("boosters", {}), name: boosters}
        self.config.trees = {one: len(held) for one, held in self.boosters.items()}

    def tree_scores(self, name: str, numbers: np.ndarray) -> np.ndarray:
        """Return raw scores, `(rows, outputs)` float32: log odds of class 1, scores of classes, or values.

        Args:
            name: of the trees.
            numbers: `(rows, numbers)` float32, NaN where missing.

        Raises:
            ValueError: if these trees are not fitted yet.
        """
        boosters = self.__dict__.get("boosters", {}).get(name)
        if boosters is None:
            raise ValueError(
                f"Expected fitted trees {name!r} in the model, found none. Fine-tune it, or load a saved one."
            )
        found = [booster.predict(numbers, raw_score=True) for booster in boosters]
        return np.concatenate([one.reshape(len(numbers), -1) for one in found], axis=1).astype(np.float32)

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        """Save as transformers does, with a text file for each booster."""
        folder, hashes = Path(save_directory), {}
        for name, held in self.__dict__.get("boosters", {}).items():
            folder.mkdir(parents=True, exist_ok=True)
            for number, booster in enumerate(held):
                file = folder / trees_file(name, number)
                booster.save_model(str(file))
                hashes[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
        self.config.trees_sha256 = hashes or None
        return super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load as the other models of the family, and the trees.

        Raises:
            ImportError: without LightGBM.
            OSError: if a file of trees is absent.
            ValueError: if it is damaged.
        """
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)  # type: ignore[misc]
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        hub = {option: kwargs[option] for option in HUB_OPTIONS if option in kwargs}
        hashes = model.config.trees_sha256 or {}
        for name, count in (model.config.trees or {}).items():
            names = [trees_file(name, i) for i in range(count)]
            files = {one: cached_file(pretrained_model_name_or_path, one, **hub) for one in names}
            model.set_trees(name, [_read(str(file), hashes.get(one)) for one, file in files.items()])
        return loaded


def _read(file: str, sha256: str | None) -> Any:
    """Read trees, once their text is known to be whole: LightGBM ends the process on many a damaged one."""
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

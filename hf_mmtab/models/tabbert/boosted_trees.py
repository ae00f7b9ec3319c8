"""Boosted trees beside a model's weights, in LightGBM's own text format."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import cached_file

from ..checked_loading import HUB_OPTIONS, UnfitWeightsError
from .checked_trees import counts_problem, outputs_problem
from .tree_files import raw_scores, read_trees, save_trees, trees_file


class BoostedTreesMixin:
    """Goes before a model: saves and loads its trees as text beside the weights; nothing of them is pickled.

    `config.trees` tells how many boosters each name has: of two classes those whose log odds are averaged, of a
    regression one for each target.
    """

    config: Any
    kinds_of_trees: tuple[str, ...] = ("statistics",)

    def config_problem(self) -> str | None:
        """Return what of the configuration does not go with saved trees; None: nothing."""
        return counts_problem(self.config, self.kinds_of_trees)

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
        return raw_scores(boosters, numbers, is_binary(self.config))

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        """Save as transformers does, with a text file for each booster."""
        hashes: dict[str, str] = {}
        for name, held in self.__dict__.get("boosters", {}).items():
            hashes |= save_trees(held, name, Path(save_directory))
        self.config.trees_sha256 = hashes or None
        return super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load as the other models of the family, and the trees.

        Raises:
            ImportError: without LightGBM.
            OSError: if a file of trees is absent.
            ValueError: if it is damaged.
            UnfitWeightsError: if the configuration does not fit the trees.
        """
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)  # type: ignore[misc]
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if problem := model.config_problem():
            raise _unfit(pretrained_model_name_or_path, problem)
        hub = {option: kwargs[option] for option in HUB_OPTIONS if option in kwargs}
        hashes = model.config.trees_sha256 or {}
        for name, count in (model.config.trees or {}).items():
            files = (
                (one := trees_file(name, i), _cached(pretrained_model_name_or_path, one, hub)) for i in range(count)
            )
            model.set_trees(name, [read_trees(str(file), hashes.get(one)) for one, file in files])
        if problem := outputs_problem(model.config, model.__dict__.get("boosters", {})):
            raise _unfit(pretrained_model_name_or_path, problem)
        return loaded


def _cached(name: Any, file: str, options: dict[str, Any]) -> str:
    """Return the path of a file of a model, which a folder must hold; transformers would name the Hub's address."""
    folder = Path(name, options.get("subfolder") or "")
    if folder.is_dir() and not (folder / file).is_file():
        raise FileNotFoundError(
            f"Expected boosted trees {file} in {str(folder)!r}, as its config.json says, found none. Copy the model "
            "again, with all of its files."
        )
    return str(cached_file(name, file, **options))


def _unfit(name: Any, problem: str) -> UnfitWeightsError:
    return UnfitWeightsError(
        f"Expected in config.json of {name} {problem}. Copy config.json again from where the model came from."
    )


def is_binary(config: Any) -> bool:
    """Whether the label is one of two classes."""
    return config.problem_type != "regression" and config.num_labels == 2

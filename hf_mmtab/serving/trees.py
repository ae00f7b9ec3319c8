"""Boosted trees of an export: asked alone, before the network, or behind it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..models.tabbert.tree_files import raw_scores, read_trees, trees_file
from .inputs import Inputs

# Where trees are asked: there is no network, their scores are an input of it, or they read its output.
ALONE, BEFORE, BEHIND = "alone", "before", "behind"


class SavedTrees:
    """The trees of a head on statistics, and how their scores become logits.

    Args:
        folder: of the export.
        settings: `name` of their files, `count` of these, `place`, `bias` of the outputs, whether there are two
            classes (`binary`: a score is the log odds of class 1).
        per_row: whether each row has a label, or the last one of a window.

    Raises:
        ImportError: without LightGBM.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], per_row: bool) -> None:
        self.place, self.binary, self.per_row = settings["place"], settings["binary"], per_row
        self.bias = np.float32(settings["bias"])
        files = [folder / trees_file(settings["name"], number) for number in range(settings["count"])]
        self.boosters = [read_trees(str(file)) for file in files]

    def logits(self, batch: Inputs, network: Callable[[Inputs], np.ndarray]) -> np.ndarray:
        """Return `(batch, labels)`, or `(batch, rows, labels)` with a label per row.

        Args:
            batch: inputs, with `statistics`, `(batch, rows, statistics)`.
            network: gives its output for a batch.
        """
        if self.place == BEFORE:
            return network(batch | {"tree_scores": self._scores(batch["statistics"])})
        numbers = batch["statistics"]
        if not self.per_row:
            last = np.maximum(batch["attention_mask"].sum(axis=1) - 1, 0)
            numbers = numbers[np.arange(len(numbers)), last]
        if self.place == BEHIND:
            numbers = np.concatenate([numbers, network(batch)], axis=-1)
        scores = self._scores(numbers)  # (..., outputs)
        if self.binary:
            scores = np.concatenate([np.zeros_like(scores), scores], axis=-1)
        return scores + self.bias

    def _scores(self, numbers: np.ndarray) -> np.ndarray:
        scores = raw_scores(self.boosters, numbers.reshape(-1, numbers.shape[-1]), self.binary)
        return scores.reshape(*numbers.shape[:-1], -1)

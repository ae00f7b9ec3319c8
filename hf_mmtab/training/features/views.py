"""Rows and batches that carry stored features in place of the inputs they were computed from."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from .store import FeatureStore, JoinedStore


class FeatureView(Dataset):
    """A dataset whose rows carry stored features in place of the inputs that they were computed from.

    Args:
        dataset: the plain rows. If it has `without(names)`, replaced inputs are not even decoded.
        specs: part → what its model says in `cacheable_features`.
    """

    def __init__(self, dataset: Any, specs: dict[str, dict[str, Any]]):
        self.dataset, self.specs = dataset, specs
        self.stores: dict[str, FeatureStore | JoinedStore] = {}
        self.keys: dict[str, str] = {}  # part → key under which its store was opened
        with torch.inference_mode(False):  # a view may be made in an evaluation, and changed in training
            self._active = torch.zeros(len(specs), dtype=torch.bool).share_memory_()  # seen by living workers too
        self._reduced: dict[tuple[str, ...], Any] = {}

    def activate(self, parts: Sequence[str]) -> None:
        """Serve stored features for exactly these parts."""
        for position, part in enumerate(self.specs):
            self._active[position] = part in parts

    def active_parts(self) -> tuple[str, ...]:
        """Return the parts whose features are served now."""
        return tuple(part for part, on in zip(self.specs, self._active.tolist(), strict=True) if on)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """Return several rows at once; DataLoader asks for whole batches by this name."""
        parts = self.active_parts()
        if not parts:
            return _rows_of(self.dataset, indices)
        if parts not in self._reduced:
            # Inputs from which the collator makes a mask stay in the row; they are dropped after collating.
            unmasked = [self.specs[part]["inputs"] for part in parts if "mask" not in self.specs[part]]
            names = {name for inputs in unmasked for name in inputs}
            reducible = names and hasattr(self.dataset, "without")
            self._reduced[parts] = self.dataset.without(names) if reducible else self.dataset
        rows = [dict(row) for row in _rows_of(self._reduced[parts], indices)]
        for part in parts:
            for row, index in zip(rows, indices, strict=True):
                row[self.specs[part]["output"]] = self.stores[part][index]
        return rows


def _rows_of(dataset: Any, indices: list[int]) -> list[dict[str, Any]]:
    return dataset.__getitems__(indices) if hasattr(dataset, "__getitems__") else [dataset[index] for index in indices]


class FeatureCollator:
    """Collates rows with a given collator and adds the stored features to the batch.

    Args:
        collator: the collator of the plain rows.
        specs: part → what its model says in `cacheable_features`.
    """

    def __init__(self, collator: Callable[[list[dict[str, Any]]], dict[str, Any]], specs: dict[str, dict[str, Any]]):
        self.collator, self.specs = collator, specs

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "collator":  # unpickling asks before anything is set
            raise AttributeError(name)
        return getattr(self.collator, name)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Collate rows; features are padded with zeros to the longest, or to the length of their mask."""
        stored = [spec for spec in self.specs.values() if spec["output"] in rows[0]]
        if not stored:
            return self.collator(rows)
        rows = [dict(row) for row in rows]
        features = {one["output"]: [torch.as_tensor(row.pop(one["output"])) for row in rows] for one in stored}
        batch = self.collator(rows)
        for spec in stored:
            for name in spec["inputs"]:
                batch.pop(name, None)
            pieces = features[spec["output"]]
            length = max(len(piece) for piece in pieces)
            if "mask" in spec:  # several steps per masked position in a flat model
                positions = max(1, int(batch[spec["mask"]].sum(dim=1).max()))
                length = length // positions * batch[spec["mask"]].shape[1]
            padded = pieces[0].new_zeros((len(pieces), length, *pieces[0].shape[1:]))
            for padded_row, piece in zip(padded, pieces, strict=True):
                padded_row[: len(piece)] = piece
            batch[spec["output"]] = padded
        return batch


class AcceptedInputs:
    """Drops from a collated batch what the model's forward does not take.

    Trainer drops it before collating, and with it the columns that only the collator reads (augment this row, judge
    from this position on).

    Args:
        collator: gets whole rows.
        names: inputs of the model, and labels.
    """

    def __init__(self, collator: Callable[[list[dict[str, Any]]], dict[str, Any]], names: set[str]):
        self.collator, self.names = collator, names

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Collate rows and keep the model's inputs."""
        return {name: value for name, value in self.collator(rows).items() if name in self.names}

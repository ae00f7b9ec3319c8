"""The weights of a saved checkpoint: read one tensor at a time, and loaded whole into a model that trains."""

import os
import pickle
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from functools import reduce
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, rename_source_key

from ..files import read_json


class CheckpointWeights(Mapping):
    """The weights of a checkpoint under the names that its files give them.

    Args:
        path: a checkpoint folder, or a `.safetensors` or `.bin` file.

    Raises:
        FileNotFoundError: if there are no weights.
        ValueError: if a file is damaged.
    """

    def __init__(self, path: str | os.PathLike):
        path = Path(path)
        self.folder = path.parent if path.is_file() else path
        self.files = [path] if path.is_file() else weight_files(path)
        if not self.files:
            raise FileNotFoundError(f"No model.safetensors or pytorch_model.bin in {str(path)!r}")
        self._held: dict[str, Any] = {}
        for file in self.files:
            try:
                self._held.update(_read(file))
            except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
                reason = str(error).partition("\n")[0]
                raise ValueError(
                    f"{file} cannot be read as weights: it is cut off, or not a checkpoint ({reason})"
                ) from error

    def __getitem__(self, name: str) -> torch.Tensor:
        held = self._held[name]
        return held if isinstance(held, torch.Tensor) else held[0].get_tensor(held[1])

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def rename_as_in_the_model(self) -> None:
        """Give the tensors the names that they have in the model.

        transformers saves some models (ViT, DINOv2, Swin, …) under other names, those of the Hub. Without a
        `config.json` of a known model class beside the weights, the names stay as they are.
        """
        model = _empty_model(self.folder)
        if model is None:
            return
        renamings = [one for one in get_model_conversion_mapping(model) if isinstance(one, WeightRenaming)]
        prefix, expected = model.base_model_prefix, model.state_dict()
        # Tensors that loading joins or splits (experts, gates) keep their last name, below the module they belong to.
        names = {name: rename_source_key(name, renamings, [], prefix, expected)[0] for name in self._held}
        kept = {name for name, own in names.items() if own not in expected and name in expected}
        self._held = {name if name in kept else names[name]: held for name, held in self._held.items()}


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a folder that hold a model's weights, none for an adapter or a sharded state."""
    return sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))


def _read(file: Path) -> dict[str, Any]:
    """Return name → tensor, or → the opened file that can read it and the name inside the file."""
    if file.suffix != ".safetensors":
        return torch.load(file, map_location="cpu", weights_only=True)
    opened = safe_open(str(file), framework="pt")
    return {name: (opened, name) for name in opened.keys()}  # noqa: SIM118 (not a dict)


def _empty_model(folder: Path) -> PreTrainedModel | None:
    """Return a model of the class and config that a checkpoint names, without memory for its weights."""
    if not (folder / "config.json").is_file():
        return None
    names = read_json(folder / "config.json", "Save the model again.").get("architectures") or [""]
    classes: dict[str, Any] = {one.__name__: one for one in _subclasses(PreTrainedModel)}
    model_class = classes.get(names[0]) or getattr(transformers, names[0], None)
    if model_class is None:
        return None
    with torch.device("meta"):
        return model_class(model_class.config_class.from_pretrained(folder))


def _subclasses(parent: Any) -> Iterator[Any]:
    for child in parent.__subclasses__():
        yield child
        yield from _subclasses(child)


@torch.no_grad()
def load_weights(model: nn.Module, folder: str | os.PathLike) -> None:
    """Copy the weights of a checkpoint into a model, whose parameters stay the same objects.

    A model that transformers saves under other names is read by `from_pretrained`, which renames them back.

    Raises:
        ValueError: if the checkpoint is damaged, lacks a weight of the model, or holds one that does not belong to it.
    """
    saved: Mapping[str, torch.Tensor] = CheckpointWeights(folder)  # names a damaged file
    if isinstance(model, PreTrainedModel) and get_model_conversion_mapping(model, add_legacy=False):
        saved, absent, foreign = _from_pretrained(model, folder)
    else:
        absent, foreign = model.state_dict().keys() - saved.keys(), saved.keys() - model.state_dict().keys()
    absent -= _absent_by_design(model, absent)
    if absent or foreign:
        raise ValueError(
            f"The weights in {str(folder)!r} do not fit {type(model).__name__}: {len(absent)} are absent from the "
            f"checkpoint ({_examples(absent)}), {len(foreign)} do not belong to the model ({_examples(foreign)}). "
            "Resume with the model that the checkpoint was saved from."
        )
    model.load_state_dict(saved, strict=False)


def _from_pretrained(
    model: PreTrainedModel, folder: str | os.PathLike
) -> tuple[dict[str, torch.Tensor], set[str], set[str]]:
    """Return the checkpoint's weights under the model's names, and what is absent or foreign in it."""
    dtypes = {tensor.dtype for tensor in model.state_dict().values() if tensor.is_floating_point()}
    widest = reduce(torch.promote_types, dtypes)  # rounds nothing
    load: Any = type(model).from_pretrained
    saved, report = load(folder, config=deepcopy(model.config), dtype=widest, output_loading_info=True)
    return saved.state_dict(), set(report["missing_keys"]), set(report["unexpected_keys"])


def _absent_by_design(model: nn.Module, absent: set[str]) -> set[str]:
    """Return the names that saving leaves out: weights tied to a saved one, and what the model excludes."""
    state = model.state_dict()
    held = {tensor.data_ptr() for name, tensor in state.items() if name not in absent}
    tied = {name for name in absent if name in state and state[name].data_ptr() in held}
    return tied | set(getattr(model, "_keys_to_ignore_on_save", None) or ())


def _examples(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:3]) or "none"

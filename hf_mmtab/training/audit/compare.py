"""Compare two saved checkpoints part by part."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ...files import read_json
from ..checkpoint_weights import CheckpointWeights
from ..checkpoints import SCHEDULE_NAME
from ..parts import owner_by_path
from .report import format_table, short_change

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass
class PartDifference:
    """The difference of one part, or of its batch-norm statistics, between two sets of weights."""

    part: str
    tensors: int = 0
    changed: int = 0
    squared_change: float = 0.0
    squared_norm: float = 0.0
    largest: float = 0.0
    by_reference: int = 0
    reshaped: int = 0
    not_finite: int = 0

    @property
    def relative(self) -> float:
        """‖b − a‖ / ‖a‖ over the tensors that have one shape in both; NaN where none has."""
        if self.reshaped == self.tensors:
            return float("nan")
        return (self.squared_change / (self.squared_norm or 1.0)) ** 0.5

    def note(self) -> str:
        """Return the numbers in words."""
        if self.by_reference:
            shared = f"{self.by_reference} share memory"
            return f"the same tensor was saved twice: {shared}, clone() before training"
        if self.reshaped:
            return f"{self.reshaped} tensors have another shape"
        if self.not_finite:
            return f"{self.not_finite} tensors hold NaN or inf"
        if self.changed == 0:
            return "unchanged, bit for bit"
        if self.relative < 1e-5:
            return "changed, but less than torch.allclose notices (1e-5)"
        some = "" if self.changed == self.tensors else f" in {self.changed} of {self.tensors} tensors"
        return f"changed{some}"


def compare_states(
    before: Mapping[str, torch.Tensor],
    after: Mapping[str, torch.Tensor],
    parts: Mapping[str, list[str]] | None = None,
    depth: int = 2,
) -> dict[str, PartDifference]:
    """Compare two state dicts part by part.

    Args:
        before, after: name → tensor.
        parts: part → module paths; the rest is grouped around them. Without it, names are grouped by their first
            `depth` components.

    Returns:
        Part → difference; `"PART (statistics)"` for batch-norm statistics.

    Raises:
        ValueError: if the two have no name in common.
    """
    common = [name for name in before if name in after]
    if not common:
        raise ValueError(
            f"The two have no weight in common: {sorted(before)[:3]}… and {sorted(after)[:3]}…. "
            "Compare checkpoints of the same model."
        )
    differences: dict[str, PartDifference] = {}
    for name in common:
        part = owner_by_path(name, parts) if parts else ".".join(name.split(".")[:-1][:depth])
        part += " (statistics)" if name.rpartition(".")[2] in STATISTICS else ""
        _add(differences.setdefault(part, PartDifference(part)), before[name], after[name])
    return differences


def _add(difference: PartDifference, a: torch.Tensor, b: torch.Tensor) -> None:
    """Count one tensor."""
    difference.tensors += 1
    if a.shape != b.shape:
        difference.reshaped += 1
        difference.changed += 1
        return
    if a.numel() and a.data_ptr() == b.data_ptr():
        difference.by_reference += 1
        return
    a, b = a.double(), b.double()
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        difference.not_finite += 1
    change = b - a
    difference.changed += int((change != 0).any())
    difference.squared_change += change.square().sum().item()
    difference.squared_norm += a.square().sum().item()
    difference.largest = max(difference.largest, change.abs().max().item() if change.numel() else 0.0)


def saved_parts(*folders: str | os.PathLike) -> dict[str, list[str]] | None:
    """Return the parts that the freeze schedule saved in one of the folders names, None if there is none."""
    for folder in folders:
        for place in (Path(folder), Path(folder).parent):
            if (place / SCHEDULE_NAME).is_file():
                return read_json(place / SCHEDULE_NAME, "Delete that file.")["parts"]
    return None


def compare_checkpoints(a: str | os.PathLike, b: str | os.PathLike, depth: int = 2) -> str:
    """Return the comparison of two checkpoints as a table with a sentence on top."""
    first, second = CheckpointWeights(a), CheckpointWeights(b)
    first.rename_as_in_the_model()
    second.rename_as_in_the_model()
    pairs = [(x, y) for x in first.files for y in second.files if x.name == y.name]
    same_file = [x.name for x, y in pairs if os.path.samefile(x, y)]
    differences = compare_states(first, second, saved_parts(a, b), depth)
    rows = [("part", "tensors", "changed", "relative change", "largest change", "")]
    for part, difference in differences.items():
        relative = short_change(difference.relative) if difference.changed else "0"
        largest = f"{difference.largest:.1e}" if difference.changed else "0"
        counts = (str(difference.tensors), str(difference.changed))
        rows.append((part, *counts, relative, largest, difference.note()))
    lines = []
    if same_file:
        lines.append(f"Both paths lead to the same file ({', '.join(same_file)}): nothing can differ.")
    moved = [part for part, d in differences.items() if d.changed and "(statistics)" not in part]
    still = [part for part, d in differences.items() if not d.changed and "(statistics)" not in part]
    lines.append(f"Moved: {', '.join(moved) or 'nothing'}. Unchanged: {', '.join(still) or 'nothing'}.")
    for label, names in (("only in A", set(first) - set(second)), ("only in B", set(second) - set(first))):
        if names:
            lines.append(f"{len(names)} tensors {label}, e.g. {sorted(names)[0]}.")
    if any("(statistics)" in part and d.changed for part, d in differences.items()):
        lines.append("Batch-norm statistics move without training, so they are counted apart.")
    return "\n".join([*lines, "", format_table(rows)])

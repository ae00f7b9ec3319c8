"""When each part of a model is frozen: the schedule as a recipe writes it, and its plan in steps for one run."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from transformers.trainer_utils import _is_peft_model

from .adapters import frozen_statistics
from .moments import Moment, join_windows, parse_windows, told_of, window_steps
from .parts import check_names, find_part, part_layers, plain_name


@dataclass(frozen=True)
class FreezeUnit:
    """A part, or one layer of it, that freezes and thaws as a whole; `windows` are `[start, end)` in steps."""

    name: str
    part: str
    paths: tuple[str, ...]
    parameter_names: tuple[str, ...]  # parameters directly on a module that has thawing layers below it
    windows: tuple[tuple[float, float], ...]

    def is_frozen(self, step: float) -> bool:
        """Return whether the unit is frozen when `step` optimizer steps are done."""
        return any(start <= step < end for start, end in self.windows)

    def next_thaw(self, step: float) -> float:
        """Return the first step from `step` on at which the unit trains (`inf` if never)."""
        while any(start <= step < end for start, end in self.windows):
            step = max(end for start, end in self.windows if start <= step < end)
        return step

    def frozen_since(self, step: float) -> float:
        """Return the first step of the window around `step` (0 if the unit trains at `step`)."""
        return next((start for start, end in self.windows if start <= step < end), 0)

    def last_thaw(self, step: float) -> float:
        """Return when the unit that trains at `step` was thawed (0 if it has trained from the start)."""
        return max((end for _, end in self.windows if end <= step), default=0)


@dataclass
class FreezeSchedule:
    """The freeze schedule as a recipe writes it.

    Args:
        freeze: part → until when it is frozen, see `parse_windows`.
        gradual_unfreezing: part → time between two layers. The last layer thaws when `freeze` says (at once
            if it says nothing), each layer below one interval later.
        mode: `"eval"` keeps batch-norm statistics and dropout of a frozen part still; `"train"` lets them
            run, as the original MMBT code does.

    Example:
        >>> schedule = FreezeSchedule({"image_encoder": "3 epochs", "text_encoder": "forever"})
    """

    freeze: dict[str, Any] = field(default_factory=dict)
    gradual_unfreezing: dict[str, Any] = field(default_factory=dict)
    mode: str = "eval"

    def __post_init__(self):
        if self.mode not in ("eval", "train"):
            raise ValueError(f"frozen_mode must be 'eval' or 'train', got {self.mode!r}")
        for argument in ("freeze", "gradual_unfreezing"):
            check_names(argument, getattr(self, argument))
        for part, value in self.freeze.items():
            with told_of(f"freeze of {part!r}"):
                parse_windows(value)
        for part, interval in self.gradual_unfreezing.items():
            with told_of(f"gradual_unfreezing of {part!r}"):
                moment = Moment.parse(interval)
            if moment.unit == "forever":
                raise ValueError(f"gradual_unfreezing of {part!r} needs a finite interval, got {interval!r}")

    def units(self, model: nn.Module, steps_per_epoch: int, total_steps: int) -> list[FreezeUnit]:
        """Return the units of `model` with their frozen windows in optimizer steps."""
        units = []
        for part in {**self.freeze, **self.gradual_unfreezing}:
            paths = find_part(model, part)
            windows = join_windows(
                window_steps(window, steps_per_epoch, total_steps) for window in parse_windows(self.freeze.get(part, 0))
            )
            if part not in self.gradual_unfreezing:
                units.append(FreezeUnit(part, part, paths, (), windows))
                continue
            interval = Moment.parse(self.gradual_unfreezing[part]).to_step(steps_per_epoch, total_steps)
            layers = part_layers(model, paths)
            thaw = FreezeUnit(part, part, paths, (), windows).next_thaw(0)
            for index, (layer_paths, names) in enumerate(layers):
                until = thaw + interval * (len(layers) - 1 - index)
                frozen = join_windows([(0, until), *windows])
                units.append(FreezeUnit(f"{part}.{index}", part, layer_paths, names, frozen))
        return units

    def plan(self, model: nn.Module, steps_per_epoch: int, total_steps: int) -> "FreezePlan":
        """Return the plan of this schedule for one run.

        Raises:
            ValueError: if a part is unknown, or nothing trains during a stretch of the run.
        """
        units = self.units(model, steps_per_epoch, total_steps)
        plan = FreezePlan(model, units, self.mode, steps_per_epoch, total_steps)
        plan.check_something_trains()
        return plan

    def to_dict(self) -> dict[str, Any]:
        """Return the schedule in plain JSON types."""
        schedule = {"freeze": self.freeze, "gradual_unfreezing": self.gradual_unfreezing}
        return {**schedule, "frozen_mode": self.mode}


def frozen_by_user(parameter: nn.Parameter) -> bool:
    """Return whether the user froze a parameter, rather than the schedule of an earlier run."""
    return not parameter.requires_grad and not getattr(parameter, "frozen_by_schedule", False)


class FreezePlan:
    """The freeze schedule of one model in one run: a pure function of the number of optimizer steps done.

    Args:
        model: the unwrapped model; its modules are looked up here, before wrappers change their paths.
        units: see `FreezeSchedule.units`.
        mode: `"eval"` or `"train"`.
        steps_per_epoch: optimizer steps in one epoch.
        total_steps: optimizer steps of the run.
    """

    def __init__(self, model: nn.Module, units: list[FreezeUnit], mode: str, steps_per_epoch: int, total_steps: int):
        self.units, self.mode = units, mode
        self.steps_per_epoch, self.total_steps = steps_per_epoch, total_steps
        self.boundary_steps = frozenset(self.boundaries())
        self._model, self._frozen_statistics = model, frozen_statistics(model)
        modules = {plain_name(name): module for name, module in model.named_modules()}
        self._modules = {unit.name: [modules[path] for path in unit.paths] for unit in units}
        self._holders = {
            unit.name: [(modules[name.rpartition(".")[0]], name.rpartition(".")[2]) for name in unit.parameter_names]
            for unit in units
        }
        self.taken_over: list[str] = []  # parts that the user had frozen as a whole, and that the plan thaws
        self._kept = self._find_kept(modules)
        self.kept_names = tuple(".".join((path, name)).lstrip(".") for path, _, name in self._kept)

    def parameters(self, unit: FreezeUnit) -> list[nn.Parameter]:
        """Return the unit's parameters as they are now (sharding replaces the objects)."""
        own = [getattr(module, name) for module, name in self._holders[unit.name]]
        return own + [p for module in self._modules[unit.name] for p in module.parameters()]

    def _find_kept(self, modules: dict[str, nn.Module]) -> list[tuple[str, nn.Module, str]]:
        """Return the scheduled parameters that the user froze (by hand, PEFT) inside parts that otherwise train.

        A part that the user froze as a whole is left to the schedule, which thaws it; not so what peft froze.
        """
        by_part: dict[str, dict[int, bool]] = {}
        for unit in self.units:
            frozen = {id(p): frozen_by_user(p) for p in self.parameters(unit)}
            by_part.setdefault(unit.part, {}).update(frozen)
        whole = {part for part, frozen in by_part.items() if frozen and all(frozen.values())}
        # Checkpoints of peft hold the adapters alone: thawed weights would be lost.
        if _is_peft_model(self._model):
            whole = set()
        self.taken_over = sorted(whole)
        kept = {p for frozen in by_part.values() for p, off in frozen.items() if off}
        kept -= {p for part in whole for p in by_part[part]}
        return [
            (path, module, name)
            for path, module in modules.items()
            for name, p in module.named_parameters(recurse=False)
            if id(p) in kept
        ]

    def kept_frozen(self) -> set[int]:
        """Return the ids of the parameters that stay frozen because the user froze them."""
        return {id(getattr(module, name)) for _, module, name in self._kept}

    def apply(self, step: int) -> bool:
        """Set `requires_grad` of all scheduled parameters for `step`; return whether any changed."""
        kept = self.kept_frozen()
        scheduled = {id(p) for unit in self.units if unit.is_frozen(step) for p in self.parameters(unit)}
        frozen_ids = scheduled | kept
        changed = False
        for unit in self.units:
            for parameter in self.parameters(unit):
                trains = id(parameter) not in frozen_ids
                if id(parameter) not in kept:
                    parameter.frozen_by_schedule = not trains  # type: ignore[attr-defined]
                if parameter.requires_grad != trains:
                    parameter.requires_grad_(trains)
                    parameter.grad = None  # a gradient left over would let momentum and decay move it
                    changed = True
        return changed

    def _frozen_forever(self) -> set[int]:
        forever = [unit for unit in self.units if math.isinf(unit.next_thaw(0))]
        return {id(p) for unit in forever for p in self.parameters(unit)}

    def due_parameters(self, unit: FreezeUnit) -> list[nn.Parameter]:
        """Return the parameters of a unit that train after its thaw: no other unit and no user keeps them frozen."""
        never = self.kept_frozen()
        if math.isfinite(unit.next_thaw(0)):
            never |= self._frozen_forever()
        return [p for p in self.parameters(unit) if id(p) not in never]

    def unfreeze_for_optimizer(self) -> None:
        """Let every scheduled parameter require gradients unless it is frozen forever: optimizers skip the others."""
        forever, kept = self._frozen_forever(), self.kept_frozen()
        for unit in self.units:
            for parameter in self.parameters(unit):
                if id(parameter) not in kept:
                    parameter.frozen_by_schedule = id(parameter) in forever  # type: ignore[attr-defined]
                    parameter.requires_grad_(id(parameter) not in forever)

    def hold_still(self, step: int) -> None:
        """Put the frozen modules in eval mode again, after `model.train()`."""
        for module in self._frozen_statistics:
            module.eval()
        if self.mode == "train":
            return
        for unit in self.units:
            if unit.is_frozen(step):
                for module in self._modules[unit.name]:
                    module.eval()

    def frozen_units(self, step: int) -> list[FreezeUnit]:
        """Return the units that are frozen when `step` optimizer steps are done."""
        return [unit for unit in self.units if unit.is_frozen(step)]

    def is_still(self, modules: list[nn.Module], first_step: int, last_step: int) -> bool:
        """Return whether whole modules are frozen and in eval mode from `first_step` to `last_step`, both included."""
        needed = {id(p) for module in modules for p in module.parameters()}
        steps = {first_step, *(edge for edge in self.boundary_steps if first_step <= edge <= last_step)}
        frozen = [{id(p) for unit in self.frozen_units(step) for p in self.parameters(unit)} for step in steps]
        return self.mode == "eval" and bool(needed) and all(needed <= ids for ids in frozen)

    def boundaries(self) -> list[int]:
        """Return the steps inside the run at which some unit freezes or thaws, in order."""
        edges = {edge for unit in self.units for window in unit.windows for edge in window}
        return sorted(int(edge) for edge in edges if 0 < edge < self.total_steps)

    def check_something_trains(self) -> None:
        """Raise if the schedule lets nothing train during a stretch of the run."""
        scheduled = {id(p) for unit in self.units for p in self.parameters(unit)} - self.kept_frozen()
        if any(p.requires_grad and id(p) not in scheduled for p in self._model.parameters()):
            return
        edges = [0, *self.boundaries(), self.total_steps]
        for start, end in pairwise(edges):
            frozen_ids = {id(p) for unit in self.frozen_units(start) for p in self.parameters(unit)}
            if scheduled and scheduled <= frozen_ids:
                is_whole = (start, end) == (0, self.total_steps)
                what = "in the whole run" if is_whole else f"from step {start} to {end}"
                raise ValueError(
                    f"The freeze schedule lets nothing train {what}: every trainable parameter is frozen. "
                    "Thaw a part earlier, or leave the classifier out of the schedule."
                )

    def warnings(self, steps_per_evaluation: float | None = None, patience: int | None = None) -> list[str]:
        """Return what is probably wrong: a thaw after the end of the run, or after early stopping may end it.

        Args:
            steps_per_evaluation: optimizer steps between two evaluations, None without evaluation.
            patience: evaluations without improvement after which the run stops, None without early stopping.
        """
        messages = []
        for unit in self.units:
            thaw = unit.next_thaw(0)
            late = [start for start, _ in unit.windows if start >= self.total_steps]
            if late:
                messages.append(
                    f"{unit.name} is to be frozen from {self.describe(min(late))} on, but the run ends after step "
                    f"{self.total_steps}: that never happens."
                )
            if math.isinf(thaw) or thaw == 0:
                continue
            if thaw >= self.total_steps:
                messages.append(
                    f"{unit.name} is frozen until {self.describe(thaw)}, but the run ends after step "
                    f"{self.total_steps}: it will never train. Train longer, thaw earlier or write 'forever'."
                )
            elif steps_per_evaluation and patience and thaw >= steps_per_evaluation * (patience + 1):
                stop = int(steps_per_evaluation * (patience + 1))
                messages.append(
                    f"{unit.name} is frozen until {self.describe(thaw)}, but early stopping with patience "
                    f"{patience} may end the run at step {stop}, before it trains. Raise "
                    "early_stopping_patience or thaw earlier."
                )
        return messages

    def notes(self, thaw_warmup: Iterable[str]) -> list[str]:
        """Return what a user should know: what was frozen before training, and warm-ups of parts that never thaw."""
        notes = []
        if self.kept_names and not _is_peft_model(self._model):
            notes.append(
                f"{len(self.kept_names)} parameters of scheduled parts did not require gradients before training, e.g. "
                f"{self.kept_names[0]}: they stay frozen, and the schedule moves the rest of their part. Set "
                "requires_grad to True before training to let them thaw."
            )
        thawing = {unit.part for unit in self.units if unit.next_thaw(0) < self.total_steps}
        decided = "did not require gradients before training; the freeze schedule decides on it now."
        notes += [f"{part} {decided}" for part in self.taken_over if part in thawing]
        thaws = {unit.part for unit in self.units if any(end < self.total_steps for _, end in unit.windows)}
        idle = "has no effect: the freeze schedule never thaws a part of this name."
        notes += [f"thaw_warmup of {part} {idle}" for part in thaw_warmup if part not in thaws]
        return notes

    def check_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Raise `RuntimeError` if parameters of a part that will train are missing from the optimizer."""
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for unit in self.units:
            due = self.due_parameters(unit)
            missing, thaw = sum(id(p) not in held for p in due), unit.next_thaw(0)
            if missing and thaw < self.total_steps:
                raise RuntimeError(
                    f"{unit.name} trains from {self.describe(thaw)} on, but {missing} of its {len(due)} parameters are "
                    "not in the optimizer, so they would never move. Let MMTabTrainer create the optimizer, or build "
                    "yours from all of model.parameters()."
                )

    def describe(self, step: float) -> str:
        """Return a step as text, with its epoch."""
        if math.isinf(step):
            return "the end of the run (forever)"
        epochs = Moment(round(step / self.steps_per_epoch, 2), "epochs")
        return f"step {int(step)} ({epochs})"

    def timeline(self, width: int = 60) -> str:
        """Draw the plan as text: one row per part (or layer), time from left to right."""
        epochs = max(1, math.ceil(self.total_steps / self.steps_per_epoch))
        cells = min(width, self.total_steps) if epochs > width else epochs * max(1, width // epochs)
        names = [unit.name for unit in self.units] + ["everything else"]
        indent = max(len(name) for name in names) + 2
        ruler = [" "] * (cells + 6)
        free_from = 0
        for epoch in range(0, epochs, max(1, epochs // cells)):
            at, label = round(epoch * self.steps_per_epoch * cells / self.total_steps), str(epoch + 1)
            if at >= free_from and at < cells:
                ruler[at : at + len(label)] = label
                free_from = at + len(label) + 1
        lines = [
            f"Freeze schedule: {self.total_steps} steps, {self.steps_per_epoch} per epoch (░ frozen, █ training)",
            "epoch".ljust(indent) + "".join(ruler).rstrip(),
        ]
        for unit in self.units:
            steps = [int(cell * self.total_steps / cells) for cell in range(cells)]
            bar = "".join("░" if unit.is_frozen(step) else "█" for step in steps)
            lines.append(f"{unit.name.ljust(indent)}{bar}  {self._summary(unit)}")
        others = ", ".join(self._others()) or "nothing"
        lines.append(f"{'everything else'.ljust(indent)}{'█' * cells}  trains: {others}")
        return "\n".join(lines)

    def _others(self) -> list[str]:
        """Return the outermost modules, or single parameters, that no unit schedules and that train."""
        scheduled = {id(p) for unit in self.units for p in self.parameters(unit)}

        def outermost(module: nn.Module, path: str) -> list[str]:
            own = [p for p in module.parameters() if id(p) not in scheduled and p.requires_grad]
            if not own:
                return []
            if path and not scheduled & {id(p) for p in module.parameters()}:
                return [path]
            lead = f"{path}." if path else ""
            inside = [name for child, one in module.named_children() for name in outermost(one, lead + child)]
            held = {id(p) for p in own}
            return inside + [lead + n for n, p in module.named_parameters(recurse=False) if id(p) in held]

        return [plain_name(path) for path in outermost(self._model, "")]

    def _summary(self, unit: FreezeUnit) -> str:
        """Return a row of the timeline in words."""
        if not unit.windows:
            return "trains"
        words = []
        for start, end in unit.windows:
            if math.isinf(end):
                words.append("frozen forever" if start == 0 else f"frozen again from {self.describe(start)}")
            elif start == 0:
                words.append(f"thaws at {self.describe(end)}")
            else:
                words.append(f"frozen from {self.describe(start)} to {self.describe(end)}")
        return ", ".join(dict.fromkeys(words))

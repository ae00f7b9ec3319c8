"""Warm-ups that stack on any scheduler, and reduce-on-plateau in the direction of the metric."""

from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers import TrainerCallback

from .freezing import FreezePlan
from .moments import Moment


class Plateau(ReduceLROnPlateau):
    """`ReduceLROnPlateau` whose best value is a plain float, so that a checkpoint loads with `weights_only`."""

    def step(self, metrics, epoch=None):  # type: ignore[override]  # as the base class
        """Look at the metric of one evaluation and reduce the learning rate if it has stalled."""
        super().step(float(metrics), epoch)


class WarmupCallback(TrainerCallback):
    """Scales the learning rate of each group for the duration of one optimizer step.

    The scheduler never sees the scaled rate, so a warm-up stacks on every scheduler, plateau included. It is a pure
    function of the step: nothing to save, nothing to resume.
    """

    def begin(self, plan: FreezePlan, start_steps: int, thaw_warmup: dict[str, Any]) -> None:
        """Set up a run.

        Args:
            plan: says when parts thaw.
            start_steps: linear warm-up of all groups at the start of the run; 0 where the scheduler has its own.
            thaw_warmup: part → how long its learning rate warms up after it thaws.
        """
        self.plan, self.start_steps = plan, start_steps
        self.thaw_steps = {
            part: Moment.parse(length).to_step(plan.steps_per_epoch, plan.total_steps)
            for part, length in thaw_warmup.items()
        }
        self._rates: list[float] = []

    def start_factor(self, step: int) -> float:
        """Return the factor of the warm-up at the start of the run (0 at step 0, as in transformers)."""
        return min(1.0, step / self.start_steps) if self.start_steps else 1.0

    def factor(self, step: int, owner: str) -> float:
        """Return the factor on the group of a part, or of a layer of it (`"PART[LAYER]"`), in one step."""
        part, _, layer = owner.rstrip("]").partition("[")
        length = self.thaw_steps.get(part, 0)
        thaws = [unit.last_thaw(step) for unit in self.plan.units if unit.name in (part, f"{part}.{layer}")]
        thawed_at = max(thaws, default=0)
        after_thaw = min(1.0, (step - thawed_at + 1) / length) if length and thawed_at > 0 else 1.0
        return self.start_factor(step) * after_thaw

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        """Scale the learning rates for the coming step."""
        self._rates = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * self.factor(state.global_step, group.get("part", ""))

    def on_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        """Put the learning rates back."""
        for group, rate in zip(optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate


def plateau_scheduler(optimizer: torch.optim.Optimizer, args: Any) -> Plateau:
    """Return the reduce-on-plateau scheduler of `MMTabTrainingArguments`, in the direction of their metric."""
    settings = {"factor": args.plateau_factor, "patience": args.plateau_patience}
    settings |= args.mapping("lr_scheduler_kwargs")
    return Plateau(optimizer, mode="max" if args.greater_is_better else "min", **settings)

"""Warm-up factors that work with any scheduler, and reduce-on-plateau in the right direction."""

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau


class Plateau(ReduceLROnPlateau):
    """`ReduceLROnPlateau` that keeps its best value as a plain float, so that a checkpoint of it loads
    safely.
    """

    def step(self, metrics, epoch=None):  # type: ignore[override]  # as the base class
        """Look at the metric of one evaluation and reduce the learning rate if it has stalled."""
        super().step(float(metrics), epoch)


class WarmupFactors:
    """Scales the learning rate of each group for the duration of one optimizer step.

    The scheduler keeps its own view of the learning rate: it is put back after the step. So warm-up stacks on
    every scheduler, plateau included, and is a pure function of the step: nothing to save, nothing to resume.

    Args:
        warmup_steps: linear warm-up of all groups at the start of the run; 0 where the scheduler has its own.
    """

    def __init__(self, warmup_steps: int = 0):
        self.warmup_steps = warmup_steps
        self._saved: list[float] | None = None

    def global_factor(self, step: int) -> float:
        """Return the factor of the warm-up at the start of the run (0 at step 0, as in transformers)."""
        return min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0

    @staticmethod
    def thaw_factor(step: int, thawed_at: float, warmup: float) -> float:
        """Return the factor of a part's own warm-up: from `1 / warmup` in its first step to 1."""
        return min(1.0, (step - thawed_at + 1) / warmup) if warmup and thawed_at > 0 else 1.0

    def scale(self, optimizer: torch.optim.Optimizer, factors: list[float]) -> None:
        """Multiply the learning rate of each group by its factor until `restore`."""
        self._saved = [group["lr"] for group in optimizer.param_groups]
        for group, factor in zip(optimizer.param_groups, factors, strict=True):
            if factor != 1.0:
                group["lr"] = group["lr"] * factor

    def restore(self, optimizer: torch.optim.Optimizer) -> None:
        """Put the learning rates back that `scale` changed."""
        if self._saved is not None:
            for group, lr in zip(optimizer.param_groups, self._saved, strict=True):
                group["lr"] = lr
            self._saved = None

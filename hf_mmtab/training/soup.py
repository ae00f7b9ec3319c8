"""Greedy soup (arXiv:2203.05482) of one run: the mean of its last checkpoints, as far as validation agrees."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .checkpoint_weights import load_weights
from .checkpoints import damaged_files, numbered_checkpoints, rotate_checkpoints, step_of
from .trainer import MMTabTrainer

CHECKPOINTS = 5  # the newest, with the one that the run ends with
Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Soup:
    """What was averaged.

    Args:
        steps: optimizer steps of the averaged weights, in the order in which they were taken; the first are those that
            the run would have kept by itself.
        tried: how many other checkpoints there were.
        metric: of validation that decided.
        before: its value at the weights of the first step.
        after: at the average.
    """

    steps: list[int]
    tried: int
    metric: str
    before: float
    after: float

    def __str__(self) -> str:
        values = f"{self.metric} on validation {self.before:.4f}"
        if len(self.steps) == 1:
            return (
                f"soup: the weights of step {self.steps[0]} stay as they are ({values}): each of {self.tried} other "
                "checkpoints made it or the loss worse."
            )
        return (
            f"soup: the weights are the mean of {len(self.steps)} checkpoints of this run (steps "
            f"{', '.join(map(str, sorted(self.steps)))}); {values} → {self.after:.4f}. Each was taken because neither "
            "it nor the loss on validation became worse."
        )


def greedy_soup(trainer: MMTabTrainer, metric: str, greater_is_better: bool) -> Soup | None:
    """Average the weights of a trained run with those of its last checkpoints, the best on validation first.

    A checkpoint is taken where neither the metric nor the loss of the average is worse than without it: on a hundred
    rows the metric alone rises by chance, and did so for soups that were worse on test. The model of the trainer holds
    the average afterwards. None: there is no other checkpoint.

    Args:
        trainer: after training; its checkpoints, in its output folder, are those of this run alone.
        metric: that an evaluation of its `eval_dataset` gives.
        greater_is_better: whether more of it is better.
    """
    model, state = trainer.accelerator.unwrap_model(trainer.model), trainer.state
    sign = 1 if greater_is_better else -1

    def scores() -> torch.Tensor:
        found = trainer.predict(trainer.eval_dataset, metric_key_prefix="eval").metrics or {}
        undefined = float("nan")  # of the metric, e.g. without a positive row
        return torch.tensor([sign * found.get(f"eval_{metric}", undefined), -found["eval_loss"]])

    best = state.best_model_checkpoint if trainer.args.load_best_model_at_end else None
    kept = step_of(Path(best)) if best else state.global_step
    logged = {row["step"]: sign * row[f"eval_{metric}"] for row in state.log_history if f"eval_{metric}" in row}
    others = [one for one in _checkpoints(trainer, state.global_step) if step_of(one) != kept]
    others.sort(key=lambda one: (logged.get(step_of(one), float("-inf")), step_of(one)), reverse=True)
    if not others:
        return None
    steps, mean = [kept], _copy(model)
    before = best_scores = scores()
    for folder in others:
        load_weights(model, folder)
        share = 1 / (len(steps) + 1)
        joined = {name: torch.lerp(mean[name], one, share) for name, one in _floats(model).items()}
        model.load_state_dict({**mean, **joined})
        if bool((found := scores()).ge(best_scores).all()):
            steps, mean, best_scores = [*steps, step_of(folder)], _copy(model), found
    model.load_state_dict(mean)
    return Soup(steps, len(others), metric, sign * before[0].item(), sign * best_scores[0].item())


def keep_enough(args: Any) -> int | None:
    """Let a run keep as many checkpoints as a soup reads; return the limit that its recipe has."""
    limit = args.save_total_limit
    args.save_total_limit = None if limit is None else max(limit, CHECKPOINTS)
    return limit


def remove_surplus(trainer: MMTabTrainer, limit: int | None) -> None:
    """Remove the checkpoints that only the soup needed."""
    trainer.args.save_total_limit = limit
    trainer.accelerator.wait_for_everyone()
    if trainer.args.should_save:
        rotate_checkpoints(str(trainer.args.output_dir), limit, trainer.state.best_model_checkpoint)


def _checkpoints(trainer: MMTabTrainer, last_step: int) -> list[Path]:
    """Return the newest whole checkpoints with all weights in plain files."""
    folders = numbered_checkpoints(trainer.args.output_dir)
    found = [one for one in folders if step_of(one) <= last_step][-CHECKPOINTS:]
    return [one for one in found if trainer.holds_plain_weights(str(one)) and not damaged_files(one)]


def _copy(model: torch.nn.Module) -> Weights:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _floats(model: torch.nn.Module) -> Weights:
    return {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}

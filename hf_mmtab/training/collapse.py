"""A run whose validation metric collapses goes back to its best checkpoint and learns more slowly from there."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.utils import logging

from .learning_rates import Plateau
from .optimizers import BertAdam

logger = logging.get_logger(__name__)

LEAST_FALL = 0.1  # of a metric of which more is better
NOISE = 0.02  # of a metric, below which a run did not end worse than it began
SLOWER = 0.25  # factor on the learning rate: two collapses make it a sixteenth
PUT_BACK = "start_was_put_back"  # entry of a run that is what it started from, since training made it worse
RECORD = "collapsed_metric"  # entry of the log history, so that reports and resumed runs know of it


class CollapseCallback(TrainerCallback):
    """Compares each evaluation with the best one before it, see `collapse_factor`.

    All that it changes (weights, optimizer, learning rates) is saved in the checkpoint of the same step, so a resumed
    run equals one without a stop.

    Args:
        load_best: loads the weights of `state.best_model_checkpoint`.

    Attributes:
        floor: metric of a guess that needs no model, if it is known: a run that was better and becomes worse than the
            guess has collapsed, too.
    """

    def __init__(self, load_best: Callable[[], None]):
        self.load_best, self.training = load_best, False
        self.floor: float | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        """Watch evaluations from here on."""
        self.training = True

    def on_train_end(self, args, state, control, **kwargs):
        """Stop watching: later evaluations are of the best weights, or of other rows."""
        self.training = False

    def on_evaluate(self, args, state, control, metrics=None, optimizer=None, lr_scheduler=None, **kwargs):
        """Go back if the metric collapsed."""
        name = (args.metric_for_best_model or "").removeprefix("eval_")
        value, best = (metrics or {}).get(f"eval_{name}"), state.best_metric
        if not self.training or args.collapse_factor is None or value is None or best is None:
            return
        more_is_better = bool(args.greater_is_better)
        if not has_collapsed(value, best, args.collapse_factor, more_is_better, self.floor):
            return
        kept = state.best_model_checkpoint
        goes_back = kept is not None and Path(kept).is_dir()
        if goes_back:
            self.load_best()
            forget_moments(optimizer)
            lower_rates(optimizer, lr_scheduler)
        record = {RECORD: name, "value": value, "best": best, "went_back": goes_back}
        state.log_history.append({**record, "epoch": state.epoch, "step": state.global_step})
        logger.warning(collapse_notes(state.log_history[-1:])[0])


def has_collapsed(value: float, best: float, factor: float, more_is_better: bool, floor: float | None = None) -> bool:
    """Tell whether a metric fell from its best by a factor, to NaN, or from above to below a guess without a model.

    Example:
        >>> has_collapsed(99.0, best=63.0, factor=1.5, more_is_better=False)
        True
    """
    if not math.isfinite(best):
        return False  # there was no evaluation before
    if math.isnan(value):
        return True
    if not more_is_better:
        value, best, floor = -value, -best, None if floor is None else -floor
    if floor is not None and value < floor < best:
        return True
    if more_is_better and best - value < LEAST_FALL:
        return False  # of few positives, a small metric halves by chance
    return value < (best / factor if best > 0 else best * factor)


def forget_moments(optimizer: Any) -> None:
    """Let the optimizer begin anew: its moments are those of gradients that led to the collapse."""
    inner = getattr(optimizer, "optimizer", optimizer)
    if not isinstance(inner, BertAdam):
        inner.state.clear()
        return
    for state in inner.state.values():  # its steps stay: its schedule counts them
        state["exp_avg"].zero_()
        state["exp_avg_sq"].zero_()


def lower_rates(optimizer: Any, scheduler: Any) -> None:
    """Multiply all learning rates of the rest of the run by `SLOWER`."""
    for group in optimizer.param_groups:
        for name in {"lr", "initial_lr"} & group.keys():
            group[name] *= SLOWER
    if not isinstance(scheduler, Plateau):  # which goes by the groups
        scheduler.base_lrs = [rate * SLOWER for rate in scheduler.base_lrs]


def collapse_notes(log_history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say of each collapse in a log history what happened, and what the run did."""
    notes = []
    for entry in log_history:
        if RECORD in entry:
            did = (
                f"The run went back to its best weights, and its learning rates were multiplied by {SLOWER:g}."
                if entry["went_back"]
                else "There is no checkpoint to go back to: save_strategy: epoch keeps one."
            )
            notes.append(
                f"Collapse in epoch {entry['epoch']:.4g} (step {entry['step']}): {entry[RECORD]} on validation was "
                f"{entry['best']:.4g} and became {entry['value']:.4g}. {did} The learning rate may be too high, above "
                "all for a part that has just thawed (part_learning_rates, thaw_warmup)."
            )
    return notes


def course_notes(log_history: Sequence[Mapping[str, Any]], args: Any) -> list[str]:
    """Say where a run collapsed, and if it ends worse than after its first evaluation, with weights that are kept.

    Args:
        log_history: of the trained run.
        args: `MMTabTrainingArguments`.
    """
    name = f"eval_{(args.metric_for_best_model or 'loss').removeprefix('eval_')}"
    values = [entry[name] for entry in log_history if name in entry]
    notes = collapse_notes(log_history)
    if len(values) < 2 or args.load_best_model_at_end or any(PUT_BACK in entry for entry in log_history):
        return notes
    better = bool(args.greater_is_better) if args.metric_for_best_model else False
    if abs(values[-1] - values[0]) > NOISE * abs(values[0]) and (values[-1] > values[0]) != better:
        notes.append(
            f"The run ends worse than it began: {name.removeprefix('eval_')} on validation was {values[0]:.4g} in its "
            f"first evaluation and {values[-1]:.4g} in its last. load_best_model_at_end: true keeps the best weights."
        )
    return notes

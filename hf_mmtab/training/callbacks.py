"""What happens at the steps of a run: freezing, the audit, early stopping, and when a checkpoint is written."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from tqdm.auto import tqdm
from transformers import EarlyStoppingCallback, ProgressCallback, TrainerCallback, TrainerState
from transformers.trainer_utils import IntervalStrategy, has_length
from transformers.utils import logging

from ..progress import progress_bar
from .arguments import MMTabTrainingArguments
from .audit.report import plot_audit
from .audit.update_audit import RECORDS_NAME, UpdateAudit, read_records
from .checkpoints import TRAINER_STATE_NAME, write_schedule
from .freezing import FreezePlan, FreezeSchedule
from .optimizers import applied_learning_rate
from .parts import partition_parameters

logger = logging.get_logger(__name__)


def show(args: MMTabTrainingArguments, text: str) -> None:
    """Write text beside the progress bar, on the main process, unless `show_freeze_report` is off."""
    if args.show_freeze_report and args.process_index == 0:
        tqdm.write(text)


class NamedProgress(ProgressCallback):
    """`ProgressCallback` whose bars say what they count, and are plain lines where the output is no terminal."""

    def on_train_begin(self, args, state, control, **kwargs):
        """Open the bar of the training steps."""
        if state.is_world_process_zero:
            self.training_bar = progress_bar(total=state.max_steps, dynamic_ncols=True, desc="Training, steps")
        self.current_step = 0

    def on_step_begin(self, args, state, control, **kwargs):
        """Let the time of what is computed once before the first step not count as that of a step."""
        bar: Any = self.training_bar  # None: another process shows it
        if self.current_step == 0 and bar is not None:
            bar.unpause()

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs):
        """Open the bar of an evaluation's batches with the first of them."""
        if self.prediction_bar is None and state.is_world_process_zero and has_length(eval_dataloader):
            shown = {"leave": self.training_bar is None, "dynamic_ncols": True, "desc": "Evaluating, batches"}
            self.prediction_bar = progress_bar(total=len(eval_dataloader), **shown)
        super().on_prediction_step(args, state, control, eval_dataloader, **kwargs)


class MovedBest(TrainerCallback):
    """Finds the best checkpoint of a resumed run beside the one it goes on from, wherever the run was before.

    Attributes:
        resumed_from: checkpoint; None: the run begins.
    """

    resumed_from: str | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        """Take the best checkpoint from the state that was saved: transformers drops one whose folder is gone."""
        if self.resumed_from is None or not (Path(self.resumed_from) / TRAINER_STATE_NAME).is_file():
            return
        here = Path(self.resumed_from)
        best = TrainerState.load_from_json(str(here / TRAINER_STATE_NAME)).best_model_checkpoint
        if best is not None and (place := here.parent / Path(best).name).is_dir():
            state.best_model_checkpoint = str(place)


class EarlyStopping(EarlyStoppingCallback):
    """`EarlyStoppingCallback` that continues counting where the checkpoint of a resumed run stopped."""

    def on_train_begin(self, args, state, control, **kwargs):
        """Take the count from the checkpoint, or start anew."""
        saved = state.stateful_callbacks.get(type(self).__name__) if state.global_step else None
        attributes = saved["attributes"] if isinstance(saved, dict) else {}
        self.early_stopping_patience_counter = attributes.get("early_stopping_patience_counter", 0)
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True  # it had fired when the checkpoint was written
        return control


class SaveAfterEvaluation(TrainerCallback):
    """Lets a checkpoint that falls on the end of an epoch wait for the evaluation of that epoch.

    A run that resumes a checkpoint without the evaluation starts with the next epoch: the evaluation, with its effect
    on early stopping and plateau, would never happen.
    """

    def __init__(self) -> None:
        self._waits = False

    def on_step_end(self, args, state, control, **kwargs):
        """Hold the checkpoint back if the step ends an epoch."""
        if control.should_save and args.eval_strategy == IntervalStrategy.EPOCH and state.epoch % 1 == 0:
            control.should_save, self._waits = False, True
        return control

    def on_epoch_end(self, args, state, control, **kwargs):
        """Ask for the checkpoint that waited."""
        control.should_save, self._waits = control.should_save or self._waits, False
        return control


class FreezeCallback(TrainerCallback):
    """Freezes and thaws the parts of a model at the steps of a plan.

    Args:
        schedule: as the recipe writes it.
        after_change: called after parameters were frozen or thawed, and before the first step.
    """

    plan: FreezePlan  # set by `begin`, when the number of steps is known

    def __init__(self, schedule: FreezeSchedule, after_change: Callable[[], None]):
        self.schedule, self.after_change = schedule, after_change

    def begin(self, plan: FreezePlan, parts: dict[str, tuple[str, ...]]) -> None:
        """Follow this plan in the coming run; `parts` maps all parts to their module paths."""
        self.plan, self.parts = plan, parts

    def save(self, folder: str | Path) -> None:
        """Write the schedule, the parts and the timeline into a folder."""
        write_schedule(folder, self.schedule, self.parts, self.plan)

    def on_train_begin(self, args, state, control, optimizer=None, **kwargs):
        """Freeze as at the last step that was made; check the plan and show it.

        What thaws with the next step does so when it begins: a run that is resumed at its end has no next step.
        """
        self.plan.apply(max(0, state.global_step - 1))
        self.after_change()
        self.plan.check_optimizer(optimizer)
        per_evaluation = self.plan.steps_per_epoch if args.eval_strategy == IntervalStrategy.EPOCH else None
        if args.eval_strategy == IntervalStrategy.STEPS:
            per_evaluation = state.eval_steps
        for message in self.plan.warnings(per_evaluation, args.early_stopping_patience):
            logger.warning(message)
        for message in self.plan.notes(args.mapping("thaw_warmup")):
            logger.warning(message)
        if args.should_save:
            self.save(args.output_dir)
        if self.plan.units:
            show(args, self.plan.timeline())

    def on_step_begin(self, args, state, control, **kwargs):
        """Freeze and thaw what the plan says for this step."""
        if state.global_step in self.plan.boundary_steps and self.plan.apply(state.global_step):
            self.after_change()
            frozen = ", ".join(unit.name for unit in self.plan.frozen_units(state.global_step)) or "nothing"
            logger.info(f"Step {state.global_step}: the freeze schedule changed; frozen now: {frozen}")


class AuditCallback(TrainerCallback):
    """Audits a run: creates the `UpdateAudit`, shows it every step, and reports at the end.

    Args:
        freezing: has the plan and the parts of the run.
        everywhere: create the audit on all processes, which sharded parameters need, not only where files are written.
    """

    def __init__(self, freezing: FreezeCallback, everywhere: bool = False):
        self.freezing, self.everywhere = freezing, everywhere
        self.resumed_from: str | None = None
        self.audit: UpdateAudit | None = None
        self.recorded = False  # whether the last step has a record

    def on_train_begin(self, args, state, control, model=None, optimizer=None, **kwargs):
        """Create the audit of this run, or continue that of the checkpoint."""
        wanted = args.audit and (args.should_save or self.everywhere)
        self.audit = self._create(args, model, optimizer) if wanted else None
        if self.audit is None:
            return
        if self.resumed_from is not None:
            self.audit.resume(self.resumed_from, state.global_step, args.process_index)
        elif self.audit.path is not None:
            self.audit.path.unlink(missing_ok=True)

    def _create(self, args: MMTabTrainingArguments, model: nn.Module, optimizer: Any) -> UpdateAudit:
        plan = self.freezing.plan
        layers = {unit.name: unit.paths for unit in plan.units if unit.name != unit.part and unit.paths}
        return UpdateAudit(
            model,
            partition_parameters(model, {**self.freezing.parts, **layers}),
            plan,
            optimizer,
            Path(args.output_dir) / RECORDS_NAME if args.should_save else None,
            every=args.audit_steps,
            samples=args.audit_samples,
            accumulation=args.gradient_accumulation_steps,
            learning_rate=partial(applied_learning_rate, optimizer),
        )

    def on_substep_end(self, args, state, control, **kwargs):
        """Count the micro-batches of an accumulation window."""
        if self.audit is not None:
            self.audit.micro_batch()

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        """Look at gradients and weights before the step."""
        if self.audit is not None:
            self.audit.before_step(state.global_step)

    def on_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        """Compare the weights after the step, unless the gradient scaler skipped it."""
        self.recorded = False
        if self.audit is not None and not getattr(optimizer, "step_was_skipped", False):
            step = state.global_step
            self.recorded = self.audit.after_step(step, (step + 1) / self.freezing.plan.steps_per_epoch)

    def on_train_end(self, args, state, control, **kwargs):
        """Write the table and the plot, and show the table."""
        if self.audit is None:
            return
        self.audit.end(float(state.epoch or 0))
        if not args.should_save:
            return
        if state.global_step and (sentences := self.audit.nothing_moved()):
            logger.warning(f"This run trained nothing. {sentences}")
        table, folder = self.audit.table(), Path(args.output_dir)
        (folder / "update_audit.txt").write_text(table + "\n", encoding="utf-8")
        if args.audit_plot:
            self._plot(folder)
        show(args, "Update audit\n" + table)

    def _plot(self, folder: Path) -> None:
        """Draw the records; a figure that cannot be drawn does not end a run whose weights are not saved yet."""
        records = read_records(folder / RECORDS_NAME) if (folder / RECORDS_NAME).is_file() else []
        try:
            if records:
                plot_audit(records, folder / "update_audit.png", self.freezing.plan.boundaries())
        except Exception:
            told = f"update_audit.png was not drawn; its numbers are in {RECORDS_NAME}"
            logger.warning(told, exc_info=True)

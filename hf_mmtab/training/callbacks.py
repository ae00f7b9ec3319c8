"""Callbacks of `MMTabTrainer`: freezing and audit at each step, early stopping that survives a restart."""

from typing import TYPE_CHECKING

from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.trainer_utils import IntervalStrategy

if TYPE_CHECKING:
    from .trainer import MMTabTrainer


class EarlyStopping(EarlyStoppingCallback):
    """`EarlyStoppingCallback` that continues counting where the checkpoint of a resumed run stopped."""

    def on_train_begin(self, args, state, control, **kwargs):
        """Take the count from the checkpoint, or start anew."""
        saved = state.stateful_callbacks.get(type(self).__name__) if state.global_step else None
        self.early_stopping_patience_counter = (
            saved["attributes"]["early_stopping_patience_counter"] if isinstance(saved, dict) else 0
        )
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True  # it had fired when the checkpoint was written
        return control


class FreezeCallback(TrainerCallback):
    """Calls the trainer's freezing, learning-rate factors, audit and feature cache at the right moments."""

    def __init__(self, trainer: "MMTabTrainer"):
        self.trainer = trainer
        self._save_after_evaluation = False

    def on_train_begin(self, args, state, control, **kwargs):
        """Apply the plan to the step that the run starts or resumes at, check it and show it."""
        self.trainer.begin_run()

    def on_epoch_begin(self, args, state, control, **kwargs):
        """Choose between stored and computed features for the coming epoch."""
        self.trainer.enter_epoch()

    def on_step_begin(self, args, state, control, **kwargs):
        """Freeze and thaw."""
        self.trainer.enter_step()

    def on_substep_end(self, args, state, control, **kwargs):
        """Count the micro-batches of an accumulation window."""
        if self.trainer.audit is not None:
            self.trainer.audit.micro_batch()

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        """Scale the learning rates for this step and let the audit look."""
        self.trainer.before_optimizer_step()

    def on_optimizer_step(self, args, state, control, **kwargs):
        """Let the audit compare and put the learning rates back."""
        self.trainer.after_optimizer_step()

    def on_step_end(self, args, state, control, **kwargs):
        """Keep a checkpoint at the end of an epoch from being written before that epoch's evaluation.

        Resuming such a checkpoint would start with the next epoch, and the evaluation, with what it means for
        early stopping and plateau, would never happen.
        """
        ends_epoch = state.global_step % self.trainer.steps_per_epoch == 0
        if control.should_save and ends_epoch and args.eval_strategy == IntervalStrategy.EPOCH:
            control.should_save = False
            self._save_after_evaluation = True
        return control

    def on_epoch_end(self, args, state, control, **kwargs):
        """Write the checkpoint that waited for the evaluation."""
        if self._save_after_evaluation:
            control.should_save = True
            self._save_after_evaluation = False
        return control

    def on_train_end(self, args, state, control, **kwargs):
        """Show the audit's table and write its plot."""
        self.trainer.end_run()

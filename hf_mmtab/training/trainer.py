"""`MMTabTrainer`: transformers' Trainer with a freeze schedule and an audit of what moved."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import SequentialSampler
from transformers import ProcessorMixin, ProgressCallback, get_scheduler
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, PredictionOutput, _is_peft_model
from transformers.utils import logging

from .arguments import PART_ARGUMENTS, MMTabTrainingArguments
from .audit.update_audit import UpdateAudit
from .callbacks import AuditCallback, EarlyStopping, FreezeCallback, MovedBest, NamedProgress, SaveAfterEvaluation
from .checkpoint_weights import load_weights, weight_files
from .checkpoints import (
    damaged_files,
    last_complete_checkpoint,
    read_schedule,
    refuse_file,
    refuse_files_in_place,
    rotate_checkpoints,
    states_of,
    write_manifest,
)
from .collapse import CollapseCallback
from .ddp_reducer import ReducedParameters
from .features.serving import FeatureTrainer
from .features.views import FeatureView
from .freezing import FreezeSchedule
from .learning_rates import WarmupCallback, plateau_scheduler
from .loss_scaling import uses_num_items
from .losses import loss_from_arguments
from .optimizers import BertAdam, bertadam_settings, split_groups_by_part
from .parts import find_part, freezable_modules
from .precision import settle, warn_if_changed, write_choice
from .pushing import PublicPushTrainer
from .random_state import keep_random_state
from .sampling import LengthSampler
from .tracking import TrackingCallback, continue_runs, trackers_of

logger = logging.get_logger(__name__)


class MMTabTrainer(FeatureTrainer, PublicPushTrainer):
    """Trainer for the models of this package and any `PreTrainedModel` or `nn.Module`.

    Args:
        model: model to train; parts are named by its `freezable_modules` or by module paths.
        args: `MMTabTrainingArguments`; by default with all their defaults.
        trainer_options: what `Trainer` takes by position after these two (`data_collator`, `train_dataset`, …).
        label_counts: training examples per class, for `class_weights: balanced` and `pos_weight` by rule.
        num_examples: training examples in all, for `pos_weight` by rule; by default the length of the train set.
        train_sampler: of the training examples, in place of Trainer's.
        kwargs: everything else that `Trainer` takes, and `eval_collator`, see `FeatureTrainer`.

    Example:
        >>> args = MMTabTrainingArguments("run", freeze={"text_encoder": "1 epoch"})
        >>> trainer = MMTabTrainer(model, args, data_collator=collator, train_dataset=rows)
        >>> output = trainer.train()
        >>> sentence = trainer.audit.explain("text_encoder")
    """

    lr_scheduler: Any
    optimizer: Any

    # called with the name of a checkpoint's folder before it is written, on the process that writes it
    before_checkpoint: Callable[[str], None] = staticmethod(lambda folder: None)

    def __init__(
        self,
        model: nn.Module | None = None,
        args: MMTabTrainingArguments | None = None,
        *trainer_options: Any,
        label_counts: Sequence[int] | None = None,
        num_examples: int | None = None,
        train_sampler: Any = None,
        **kwargs: Any,
    ):
        # The default of transformers' Trainer.
        args = MMTabTrainingArguments("tmp_trainer") if args is None else args
        if not isinstance(args, MMTabTrainingArguments):
            raise TypeError(
                f"MMTabTrainer expects MMTabTrainingArguments, found {type(args).__name__}. MMTabTrainingArguments "
                "takes every keyword of TrainingArguments: change the class where the arguments are created."
            )
        freeze, gradual = args.mapping("freeze"), args.mapping("gradual_unfreezing")
        schedule = FreezeSchedule(freeze, gradual, args.frozen_mode)
        self.choice = settle(model, args)
        refuse_file(args.output_dir)
        self.train_sampler = train_sampler
        super().__init__(model, args, *trainer_options, **kwargs)
        # Trainer reads the special tokens of every processor; one of pictures alone has no tokenizer.
        self._processor_without_tokenizer: ProcessorMixin | None = None
        given = self.processing_class
        if isinstance(given, ProcessorMixin) and getattr(given, "tokenizer", None) is None:
            self._processor_without_tokenizer, self.processing_class = given, None
        self.parts = self._find_parts()
        if self.compute_loss_func is None:
            rows = num_examples if num_examples is not None else _length(self.train_dataset)
            config = getattr(self.model, "config", None)
            self.compute_loss_func = loss_from_arguments(args, config, label_counts, rows)
        # A model may say so itself; for all others the first batch shows whether the loss uses `num_items_in_batch`.
        self._probes_loss = not hasattr(self._plain_model(), "accepts_loss_kwargs")
        if self._probes_loss and self.compute_loss_func is not None:
            self.model_accepts_loss_kwargs = False
        self._reduced = ReducedParameters()
        self.freezing = FreezeCallback(schedule, lambda: self._reduced.update(self.model_wrapped))
        self.warmup = WarmupCallback()
        self.auditing = AuditCallback(self.freezing, everywhere=self.is_fsdp_enabled)
        self.collapse = CollapseCallback(self._load_best_model)
        self.add_callback(self.collapse)
        if args.early_stopping_patience is not None:
            self.add_callback(EarlyStopping(args.early_stopping_patience, args.early_stopping_threshold))
        if self.pop_callback(ProgressCallback) is not None:
            self.add_callback(NamedProgress())
        tracking = TrackingCallback(self.auditing, lambda: self.callback_handler.callbacks)
        self.moved_best = MovedBest()
        for callback in (SaveAfterEvaluation(), self.moved_best, self.freezing, self.warmup, self.auditing, tracking):
            self.add_callback(callback)

    @property
    def audit(self) -> UpdateAudit | None:
        """The audit of the last run, None on processes that do not write.

        Raises:
            ValueError: before training, and with `audit: false`.
        """
        if self.auditing.audit is None and not self.args.audit:
            raise ValueError("Expected audit: true for an audit, found audit: false. Leave it out and train again.")
        if self.auditing.audit is None and self.plan is None:
            raise ValueError("Expected a run to audit, found none yet. Call `trainer.train()` before `trainer.audit`.")
        return self.auditing.audit

    @property
    def plan(self) -> Any:  # type: ignore[override]
        """The `FreezePlan` of the last run, None before it."""
        return getattr(self.freezing, "plan", None)

    def _find_parts(self) -> dict[str, tuple[str, ...]]:
        """Return all parts that the model declares or the arguments name, with their module paths."""
        named = dict.fromkeys(freezable_modules(self.model))
        for argument in PART_ARGUMENTS:
            named |= dict.fromkeys(self.args.mapping(argument))
        return {part: find_part(self.model, part) for part in named}

    def _plain_model(self) -> nn.Module:
        """Return the model without wrappers (DDP, torch.compile)."""
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    # ---- Setting up a run ----

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train; `resume_from_checkpoint=True` takes the last checkpoint that was written completely."""
        refuse_files_in_place(self.args.output_dir)
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_complete_checkpoint(self.args.output_dir)
            if resume_from_checkpoint is None:
                raise ValueError(f"No complete checkpoint to resume from in {self.args.output_dir!r}")
        elif resume_from_checkpoint and (problems := damaged_files(resume_from_checkpoint)):
            raise ValueError(
                f"Expected a whole checkpoint in {str(resume_from_checkpoint)!r}, found {'; '.join(problems[:3])}. "
                "Resume from another one; resume_from_checkpoint=True takes the last whole one."
            )
        self.auditing.resumed_from = self.moved_best.resumed_from = resume_from_checkpoint or None
        if self.is_world_process_zero():
            logger.info(self.choice.sentence)
            trackers = trackers_of(self.callback_handler.callbacks)
            if self.args.run_name is None:  # else MLflow draws one, with a seed the same in every run
                self.args.run_name = Path(self.args.output_dir).name
            continue_runs(self.args.output_dir, bool(resume_from_checkpoint), trackers)
            if resume_from_checkpoint:
                warn_if_changed(resume_from_checkpoint, self.choice)
                logger.info(f"Resuming from {resume_from_checkpoint}")
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def get_train_dataloader(self) -> Any:
        """Return the loader of the train set.

        Raises:
            ValueError: if it has no row, or no whole batch where others are dropped.
        """
        rows, batch = _length(self.train_dataset), self.args.train_batch_size
        if rows == 0:
            raise ValueError("Expected rows in train_dataset, found none. Pass the rows to train on.")
        loader = super().get_train_dataloader()
        if _length(loader) == 0:
            told = f"{rows} rows" if rows is not None else "fewer rows"
            raise ValueError(
                f"Expected a whole batch of {batch} rows for each of {self.args.world_size} processes, found {told} to "
                "train on: dataloader_drop_last leaves nothing. Lower per_device_train_batch_size, or leave "
                "dataloader_drop_last out."
            )
        return loader

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        """Refuse rows of which the model would get nothing but labels."""
        kept = super()._remove_unused_columns(dataset, description)
        labels = {"label", "labels", "label_ids", *self.label_names}
        if self.args.remove_unused_columns and set(kept.column_names) <= labels:
            raise ValueError(
                f"Expected encoded rows for {type(self._plain_model()).__name__}, found the columns "
                f"{', '.join(dataset.column_names)}. Encode them first, as with `dataset.map(processor, batched=True)` "
                "or `EncodedDataset`. If a transform (`with_transform(processor)`) or the data_collator encodes them, "
                "set remove_unused_columns=False in the training arguments."
            )
        return kept

    def set_initial_training_values(self, *args: Any, **kwargs: Any) -> Any:
        """Work out the freeze schedule as soon as the number of steps is known."""
        values = super().set_initial_training_values(*args, **kwargs)
        steps_per_epoch, total_steps = max(1, values[1]), values[-1]
        self.parts = self._find_parts()
        plan = self.freezing.schedule.plan(self.model, steps_per_epoch, total_steps)
        self.freezing.begin(plan, self.parts)
        plateau = self.args.lr_scheduler_type == "reduce_lr_on_plateau" and self.args.optim_preset is None
        # The plateau scheduler has no warm-up of its own.
        start_steps = self.args.get_warmup_steps(total_steps) if plateau else 0
        self.warmup.begin(plan, start_steps, self.args.mapping("thaw_warmup"))
        return values

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimizer over all parameters that train at some step, frozen or not at this one."""
        if self.plan is None:
            return super().create_optimizer(model)
        args, given = self.args, self.optimizer is not None
        self.plan.unfreeze_for_optimizer()
        if not given and args.optim_preset == "bertadam":
            self.optimizer_cls_and_kwargs = (BertAdam, bertadam_settings(args, self.plan.total_steps))
        super().create_optimizer(model)
        if not given:
            split_groups_by_part(self.optimizer, self.accelerator.unwrap_model(self.model), self.parts, args)
        elif args.part_learning_rates or args.layerwise_lr_decay or args.thaw_warmup:
            raise ValueError(
                "part_learning_rates, layerwise_lr_decay and thaw_warmup need the Trainer to build the optimizer; "
                "leave `optimizers` out, or set the learning rates of your own groups"
            )
        self.plan.apply(self.state.global_step)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """Create transformers' scheduler, a plateau in the metric's direction, or none beside BertAdam's own."""
        plateau = self.args.lr_scheduler_type == "reduce_lr_on_plateau"
        if self.lr_scheduler is None and (plateau or self.args.optim_preset):
            optimizer = self.optimizer if optimizer is None else optimizer
            if plateau:
                self.lr_scheduler = plateau_scheduler(optimizer, self.args)
            else:
                self.lr_scheduler = get_scheduler("constant", optimizer)
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Return the given sampler or Trainer's; to group by length, one that asks the rows for their lengths."""
        if self.train_sampler is not None:
            return self.train_sampler
        dataset: Any = self.train_dataset if train_dataset is None else train_dataset
        rows = dataset.dataset if isinstance(dataset, FeatureView) else dataset
        if self.args.train_sampling_strategy == "group_by_length" and hasattr(rows, "lengths"):
            lengths = rows.lengths()
            if lengths is not None:
                seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
                return LengthSampler(lengths, self.args.train_batch_size, seed)
        return super()._get_train_sampler(train_dataset)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        """Return a sampler in the order of the rows: Trainer's own, by length, would mix up predictions."""
        if self.args.train_sampling_strategy == "group_by_length":
            return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None
        return super()._get_eval_sampler(eval_dataset)

    # ---- Steps ----

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Make one forward and backward pass; a loss that is not finite makes the audit look for the part."""
        loss = super().training_step(*args, **kwargs)
        # With this filter Trainer reads the loss anyway; without it, reading would stall the device.
        audit = self.auditing.audit
        if audit is not None and self.args.logging_nan_inf_filter and not torch.isfinite(loss):
            audit.look_closely(self.state.global_step)
        return loss

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Compute the loss, scaled as the model's head scales it, with frozen parts in eval mode.

        Trainer puts the whole model in train mode at each step.
        """
        if self._probes_loss and self.model_accepts_loss_kwargs and num_items_in_batch is not None:
            uses = uses_num_items(self._plain_model(), inputs)
            self._probes_loss, self.model_accepts_loss_kwargs = uses is None, uses is not False
        if not self.model_accepts_loss_kwargs and self.compute_loss_func is None:
            num_items_in_batch = None
        if model.training and self.is_in_train:
            self.freezing.plan.hold_still(self.state.global_step)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def _clip_grad_norm(self, model):
        """Clip all gradients together, except for BertAdam, which clips each parameter on its own."""
        return None if self.args.optim_preset == "bertadam" else super()._clip_grad_norm(model)

    def _get_learning_rate(self) -> float:
        """Return the learning rate for the log, with warm-up."""
        step, inner = self.state.global_step, getattr(self.optimizer, "optimizer", self.optimizer)
        own = inner.schedule_factor(step) if isinstance(inner, BertAdam) else self.warmup.start_factor(step)
        return super()._get_learning_rate() * own

    @keep_random_state()
    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate as Trainer does, and leave the random numbers of the training as they were."""
        return super().evaluate(*args, **kwargs)

    @keep_random_state()
    def predict(self, *args: Any, **kwargs: Any) -> PredictionOutput:
        """Predict as Trainer does, and leave the random numbers of the training as they were."""
        return super().predict(*args, **kwargs)

    # ---- Checkpoints ----

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint, and last the list of its files, so that a damaged one is known."""
        folder = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        place = Path(self._get_output_dir(trial=kwargs.get("trial")))
        if self.args.should_save:
            self.before_checkpoint(folder)
        before, limit = states_of(place / folder), self.args.save_total_limit
        self.args.save_total_limit = None  # Trainer would remove folders with files of others in them
        try:
            super()._save_checkpoint(*args, **kwargs)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            write_manifest(place / folder, before)
            rotate_checkpoints(place, limit, self.state.best_model_checkpoint)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save weights and processor."""
        super()._save(output_dir, state_dict)
        if self._processor_without_tokenizer is not None and self.args.should_save:
            self._processor_without_tokenizer.save_pretrained(output_dir or self.args.output_dir)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Save the freeze schedule and the audit beside the optimizer."""
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save and self.plan is not None:
            self.freezing.save(output_dir)
            write_choice(output_dir, self.choice)
        if self.auditing.audit is not None:
            self.auditing.audit.save(output_dir, self.args.process_index)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Load the weights to resume from, complete and under the model's own names."""
        if self.holds_plain_weights(resume_from_checkpoint):
            logger.info(f"Loading the weights of {resume_from_checkpoint}")
            load_weights(self._plain_model(), resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        """Load the best checkpoint's weights, complete and under the model's own names."""
        best = self.state.best_model_checkpoint or ""
        if self.holds_plain_weights(best):
            logger.info(f"Loading the best model from {best} (score: {self.state.best_metric})")
            load_weights(self._plain_model(), best)
        else:
            super()._load_best_model()

    def holds_plain_weights(self, folder: str) -> bool:
        """Return whether a checkpoint holds all weights in plain files (no adapter, no sharded state)."""
        own_format = self.is_fsdp_enabled or self.is_deepspeed_enabled or _is_peft_model(self.model)
        return not own_format and bool(weight_files(Path(folder)))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load the optimizer; raise `ValueError` where its state was saved for groups of other parts."""
        parts = [group.get("part") for group in self.optimizer.param_groups]
        mismatch = (
            f"The optimizer state in {checkpoint!r} was saved for other parts than this run trains. Saved freeze "
            f"schedule: {read_schedule(checkpoint)}; now: {self.freezing.schedule.to_dict()}. Resume with the saved "
            "one (moments of a time may differ, 'forever' may not come or go), or start a new run from its weights."
        )
        try:
            super()._load_optimizer_and_scheduler(checkpoint)
        except ValueError as error:
            raise ValueError(mismatch) from error
        if [group.get("part") for group in self.optimizer.param_groups] != parts:
            raise ValueError(mismatch)


def _length(dataset: Any) -> int | None:
    """Return the number of rows of a dataset, None if it has no length."""
    try:
        return len(dataset)
    except TypeError:
        return None

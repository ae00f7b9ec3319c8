"""`MMTabTrainer`: transformers' Trainer with a freeze schedule that is right and an audit that proves what
moved.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm
from transformers import Trainer, get_scheduler
from transformers.utils import logging

from .arguments import MMTabTrainingArguments, parse_size
from .callbacks import EarlyStopping, FreezeCallback
from .checkpoints import last_complete_checkpoint, read_schedule, write_schedule
from .feature_cache import AcceptedInputs, FeatureCache, FeatureCollator
from .freezing import FreezeSchedule
from .losses import loss_from_arguments
from .moments import Moment
from .optimizers import BertAdam, layer_owners, split_groups, warmup_share
from .parts import find_part, freezable_modules, partition_parameters
from .precision import NAMES, read_choice, settle, write_choice
from .reducing import rebuild_reducer, trainable_names
from .reporting import plot_audit
from .schedulers import Plateau, WarmupFactors
from .update_audit import RECORDS_NAME, UpdateAudit, read_records

logger = logging.get_logger(__name__)


class MMTabTrainer(Trainer):
    """Trainer for the models of this package and any `PreTrainedModel`.

    Args:
        model: model to train; parts are named by its `freezable_modules` or by module paths.
        args: `MMTabTrainingArguments`.
        label_counts: training examples per class, for `class_weights: balanced` and `pos_weight` by rule.
        num_examples: training examples in all, for `pos_weight` by rule; by default the length of the train
            set.
        kwargs: everything else that `Trainer` takes.

    Example:
        >>> args = MMTabTrainingArguments("run", freeze={"bert": "1 epoch"})
        >>> trainer = MMTabTrainer(model, args, train_dataset=rows)
        >>> trainer.train()
        >>> trainer.audit.explain("bert")
    """

    args: MMTabTrainingArguments
    data_collator: Any
    eval_dataset: Any
    features: Any
    lr_scheduler: Any
    model: Any  # Trainer allows None, which a running trainer never has
    optimizer: Any
    plan: Any

    def __init__(
        self,
        model: nn.Module | None = None,
        args: MMTabTrainingArguments | None = None,
        label_counts: Sequence[int] | None = None,
        num_examples: int | None = None,
        **kwargs: Any,
    ):
        if not isinstance(args, MMTabTrainingArguments):
            raise TypeError(f"MMTabTrainer expects MMTabTrainingArguments, found {type(args).__name__}")
        self.freeze_schedule = FreezeSchedule(
            args.mapping("freeze"), args.mapping("gradual_unfreezing"), args.frozen_mode
        )
        self.plan = None
        self.audit: UpdateAudit | None = None
        self.steps_per_epoch, self.total_steps = 1, 1
        self._reduced: frozenset[str] | None = None
        self.choice = settle(model, args)
        super().__init__(model=model, args=args, **kwargs)
        self.parts = self._find_parts()
        # Trainer takes a `forward(**kwargs)` for a loss that is divided by `num_items_in_batch`, and multiplies it by
        # the processes and accumulation steps. transformers' classifiers return a plain mean, so that their gradients
        # would grow with both. A model whose loss does divide says `accepts_loss_kwargs = True`.
        if getattr(self.accelerator.unwrap_model(self.model), "accepts_loss_kwargs", None) is not True:
            self.model_accepts_loss_kwargs = False
        if self.compute_loss_func is None:
            rows = num_examples if num_examples is not None else _length(self.train_dataset)
            self.compute_loss_func = loss_from_arguments(args, self.model.config, label_counts, rows)
        self.features = None
        if args.feature_cache and getattr(self.model, "cacheable_features", None):
            self.data_collator = FeatureCollator(self.data_collator, self.model.cacheable_features)
        if args.early_stopping_patience is not None:
            self.add_callback(EarlyStopping(args.early_stopping_patience, args.early_stopping_threshold))
        self.add_callback(FreezeCallback(self))

    def _find_parts(self) -> dict[str, tuple[str, ...]]:
        """Return all parts that the model declares or the arguments name, with their module paths."""
        args = self.args
        named = {
            **freezable_modules(self.model),
            **args.mapping("freeze"),
            **args.mapping("gradual_unfreezing"),
        }
        named |= {
            **args.mapping("part_learning_rates"),
            **args.mapping("layerwise_lr_decay"),
            **args.mapping("thaw_warmup"),
        }
        return {part: find_part(self.model, part) for part in named}

    # ---- Setting up a run ----

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train; `resume_from_checkpoint=True` takes the last checkpoint that was written completely."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_complete_checkpoint(self.args.output_dir)
            if resume_from_checkpoint is None:
                raise ValueError(f"No complete checkpoint to resume from in {self.args.output_dir!r}")
        self._resumed_from = resume_from_checkpoint or None
        if self.is_world_process_zero():
            logger.info(self.choice.sentence)
            self._warn_if_precision_changed()
        if self._resumed_from and self.is_world_process_zero():
            logger.info(f"Going on from {self._resumed_from}")
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _warn_if_precision_changed(self) -> None:
        """Warn where a checkpoint of another folder was trained in another precision."""
        before = read_choice(str(self._resumed_from)) if self._resumed_from else None
        if before is not None and before.precision != self.choice.precision:
            logger.warning(
                f"The run of {self._resumed_from} computed in {NAMES[before.precision]} and goes on in "
                f"{NAMES[self.choice.precision]}: it will not repeat bit for bit. Set `precision: {before.precision}` "
                "to go on as it began."
            )

    def set_initial_training_values(self, *args: Any, **kwargs: Any) -> Any:
        """Work the freeze schedule out as soon as the number of steps is known."""
        values = super().set_initial_training_values(*args, **kwargs)
        self.steps_per_epoch, self.total_steps = max(1, values[1]), values[-1]
        self.parts = self._find_parts()
        self.plan = self.freeze_schedule.plan(self.model, self.steps_per_epoch, self.total_steps)
        plateau = self.args.lr_scheduler_type == "reduce_lr_on_plateau"
        own_warmup = plateau and self.args.optim_preset is None
        self.warmup = WarmupFactors(self.args.get_warmup_steps(self.total_steps) if own_warmup else 0)
        return values

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimizer over everything that will ever train, frozen or not at this moment."""
        if self.plan is None:
            return super().create_optimizer(model)
        ours = self.optimizer is None
        self.plan.allow_all_that_ever_trains()
        if ours and self.args.optim_preset == "bertadam":
            self.optimizer_cls_and_kwargs = (BertAdam, self._bertadam_arguments())
        super().create_optimizer(model)
        if ours:
            self._split_by_part()
        elif self.args.part_learning_rates or self.args.layerwise_lr_decay or self.args.thaw_warmup:
            raise ValueError(
                "part_learning_rates, layerwise_lr_decay and thaw_warmup need the Trainer to build the "
                "optimizer; "
                "leave `optimizers` out, or set the learning rates of your own groups"
            )
        self.plan.apply(self.state.global_step)
        return self.optimizer

    def _bertadam_arguments(self) -> dict[str, Any]:
        """Return the original's settings, where the arguments say nothing else."""
        args = self.args
        return {
            "lr": args.learning_rate,
            "warmup": warmup_share(args.warmup_steps, self.total_steps),
            "total_steps": self.total_steps,
            "weight_decay": args.weight_decay,
            "max_grad_norm": args.max_grad_norm,
        }

    def _split_by_part(self) -> None:
        """Give each part its own optimizer groups, and each layer where its learning rate or thaw differs."""
        model, args = self.accelerator.unwrap_model(self.model), self.args
        by_layer = {*args.mapping("layerwise_lr_decay"), *args.mapping("gradual_unfreezing")}
        owners, depth = layer_owners(model, partition_parameters(model, self.parts), self.parts, by_layer)
        rates = {}
        for owner in set(owners.values()):
            part = owner.split("[")[0]
            rate = args.mapping("part_learning_rates").get(part, args.learning_rate)
            rates[owner] = rate * args.mapping("layerwise_lr_decay").get(part, 1.0) ** depth.get(owner, 0)
        split_groups(self.optimizer, owners, rates)

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> Any:
        """Create the scheduler: transformers' own, plateau in the metric's direction, or none beside
        BertAdam's.
        """
        args = self.args
        if self.lr_scheduler is None and (
            args.lr_scheduler_type == "reduce_lr_on_plateau" or args.optim_preset
        ):
            optimizer = self.optimizer if optimizer is None else optimizer
            if args.lr_scheduler_type == "reduce_lr_on_plateau":
                settings: dict[str, Any] = {"factor": args.plateau_factor, "patience": args.plateau_patience}
                settings |= args.mapping("lr_scheduler_kwargs")
                self.lr_scheduler = Plateau(
                    optimizer, mode="max" if args.greater_is_better else "min", **settings
                )
            else:
                self.lr_scheduler = get_scheduler("constant", optimizer)
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    # ---- Data ----

    def get_train_dataloader(self) -> Any:
        """Return the loader of the train set, which can serve stored features of frozen parts."""
        if not isinstance(self.data_collator, FeatureCollator):
            return super().get_train_dataloader()
        self.features = self._create_feature_cache()
        plain = self.train_dataset
        self.train_dataset = plain if self.features is None else self.features.view(plain)
        try:
            return super().get_train_dataloader()
        finally:
            self.train_dataset = plain

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Return the loader of an evaluation set; stored features serve as long as they hold."""
        if self.features is None:
            return super().get_eval_dataloader(eval_dataset)
        plain, by_name = self.eval_dataset, isinstance(eval_dataset, str)
        rows = plain[eval_dataset] if by_name else plain if eval_dataset is None else eval_dataset
        view = self._served(rows)
        self.eval_dataset = {**plain, eval_dataset: view} if by_name else view
        try:
            return super().get_eval_dataloader(eval_dataset if by_name else None)
        finally:
            self.eval_dataset = plain

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        """Return the loader of rows to predict; stored features serve as long as they hold."""
        return super().get_test_dataloader(
            test_dataset if self.features is None else self._served(test_dataset)
        )

    def _served(self, rows: Any) -> Any:
        """Return rows with the stored features of parts that stand still.

        In training that is what is frozen at this moment, and features are computed if they are not stored. After it,
        what was frozen throughout and has the weights of the store; features that are read once are stored only in a
        folder that runs share (`feature_cache_dir`).
        """
        # The weights of a part that thaws at this very step have not moved yet.
        last = max(0, self.state.global_step - 1)
        still = self._still_parts(last if self.is_in_train else 0, last)
        fill = self.is_in_train or self.args.feature_cache_dir is not None
        collator = self.data_collator.collator
        self.features.serve(rows, collator, still, fill=fill, verify=not self.is_in_train)
        return self.features.view(rows)

    def _get_collator_with_removed_columns(self, data_collator: Any, description: str | None = None) -> Any:
        """Let collators other than transformers' own see whole rows; drop what the model does not take afterwards."""
        innermost = getattr(data_collator, "collator", data_collator)
        module = getattr(innermost, "__module__", "") or type(innermost).__module__
        if not self.args.remove_unused_columns or module.startswith("transformers."):
            return super()._get_collator_with_removed_columns(data_collator, description)
        self._set_signature_columns_if_needed()
        return AcceptedInputs(data_collator, set(self._signature_columns or ()))

    def _create_feature_cache(self) -> FeatureCache | None:
        """Create the cache of frozen parts' outputs, None where it cannot work."""
        if self.is_fsdp_enabled:
            self._show("Feature cache off: under FSDP a part cannot be called by itself")
            return None
        args = self.args
        return FeatureCache(
            self.accelerator.unwrap_model(self.model),
            args.feature_cache_dir or Path(args.output_dir) / "_feature_cache",  # never pushed to the Hub
            parse_size(args.feature_cache_budget),
            self.accelerator,
            args.per_device_eval_batch_size,
            int(args.dataloader_num_workers),
            self._show,
            getattr(torch, args.feature_cache_dtype) if args.feature_cache_dtype else None,
            progress=not args.disable_tqdm,
        )

    # ---- Moments of a run, called by FreezeCallback ----

    def begin_run(self) -> None:
        """Apply the plan, check it against the optimizer, and say what will happen."""
        self.plan.apply(self.state.global_step)
        self._sync_reducer()
        self._check_optimizer()
        for message in self.plan.warnings(self._steps_per_evaluation(), self.args.early_stopping_patience):
            logger.warning(message)
        for message in self._notes_on_plan():
            logger.warning(message)
        if self.args.should_save:
            write_schedule(self.args.output_dir, self.freeze_schedule, self.parts, self.plan)
        if self.plan.units:
            self._show(self.plan.timeline())
        self.audit = self._create_audit() if self.args.audit else None

    def enter_epoch(self) -> None:
        """Serve stored features for the parts that stay still for the whole epoch; compute them if it
        pays.
        """
        if self.features is None:
            return
        step = self.state.global_step
        epoch_end = (step // self.steps_per_epoch + 1) * self.steps_per_epoch
        still = self._still_parts(step, epoch_end - 1)
        pays = bool(self._still_parts(step, epoch_end + self.steps_per_epoch - 1))
        self.features.serve(self.train_dataset, self.data_collator.collator, still, fill=pays)

    def _still_parts(self, first_step: int, last_step: int) -> dict[str, list[nn.Module]]:
        """Return the parts with cacheable outputs that are frozen in these steps, with their modules."""
        model = self.accelerator.unwrap_model(self.model)
        parts = {
            part: [model.get_submodule(path) for path in self.parts[part]] for part in self.features.specs
        }
        return {
            part: modules
            for part, modules in parts.items()
            if self.plan.is_still(modules, first_step, min(last_step, self.total_steps - 1))
        }

    def enter_step(self) -> None:
        """Freeze and thaw what the plan says for this step."""
        if self.state.global_step in self.plan.boundary_steps and self.plan.apply(self.state.global_step):
            self._sync_reducer()
            still = (
                ", ".join(unit.name for unit in self.plan.frozen_units(self.state.global_step)) or "nothing"
            )
            logger.info(f"Step {self.state.global_step}: the freeze schedule changed; frozen now: {still}")

    def before_optimizer_step(self) -> None:
        """Scale the learning rates for one step; let the audit look at gradients and weights."""
        self.warmup.scale(self.optimizer, [self._factor(group) for group in self.optimizer.param_groups])
        if self.audit is not None:
            self.audit.before_step(self.state.global_step)

    def after_optimizer_step(self) -> None:
        """Let the audit compare the weights; put the learning rates back."""
        if self.audit is not None and not self.accelerator.optimizer_step_was_skipped:
            self.audit.after_step(self.state.global_step, (self.state.global_step + 1) / self.steps_per_epoch)
        self.warmup.restore(self.optimizer)

    def end_run(self) -> None:
        """Show the audit's table and write its plot."""
        if self.audit is None:
            return
        self.audit.end(float(self.state.epoch or 0))
        if not self.args.should_save:
            return
        table = self.audit.table()
        folder = Path(self.args.output_dir)
        (folder / "update_audit.txt").write_text(table + "\n", encoding="utf-8")
        records = read_records(folder / RECORDS_NAME) if (folder / RECORDS_NAME).is_file() else []
        if records and self.args.audit_plot:
            plot_audit(records, folder / "update_audit.png", self.plan.boundaries())
        self._show("Update audit\n" + table)

    # ---- Helpers ----

    def _show(self, text: str) -> None:
        """Show text to the user beside the progress bar."""
        if self.args.show_freeze_report and self.is_world_process_zero():
            tqdm.write(text)

    def _factor(self, group: dict[str, Any]) -> float:
        """Return the factor of the warm-ups on one group's learning rate for the coming step."""
        step = self.state.global_step
        factor = self.warmup.global_factor(step)
        owner = group.get("part", "")
        part, _, layer = owner.rstrip("]").partition("[")
        if part in self.args.mapping("thaw_warmup"):
            warmup = Moment.parse(self.args.mapping("thaw_warmup")[part]).to_step(
                self.steps_per_epoch, self.total_steps
            )
            names = {part, f"{part}.{layer}"}
            thaws = [unit.last_thaw(step) for unit in self.plan.units if unit.name in names]
            factor *= self.warmup.thaw_factor(step, max(thaws, default=0), warmup)
        return factor

    def _group_learning_rate(self, group: dict[str, Any]) -> float:
        """Return the learning rate that the coming step applies to a group (BertAdam has a schedule
        inside).
        """
        rate = float(group["lr"])
        inner = getattr(self.optimizer, "optimizer", self.optimizer)
        if isinstance(inner, BertAdam):
            steps = [int(inner.state[p]["step"]) if inner.state.get(p) else 0 for p in group["params"][:1]]
            rate *= inner.schedule_factor(max(steps, default=0))
        return rate

    def _get_learning_rate(self) -> float:
        """Return the learning rate for the log, with warm-up."""
        step = self.state.global_step
        inner = getattr(self.optimizer, "optimizer", self.optimizer)
        factor = (
            inner.schedule_factor(step) if isinstance(inner, BertAdam) else self.warmup.global_factor(step)
        )
        return super()._get_learning_rate() * factor

    def _sync_reducer(self) -> None:
        """Under DDP, reduce the gradients of exactly what trains now."""
        wrapped = getattr(self.model_wrapped, "_orig_mod", self.model_wrapped)
        if isinstance(wrapped, DistributedDataParallel):
            trainable = trainable_names(self.model)
            if self._reduced is not None and trainable != self._reduced:
                rebuild_reducer(wrapped)
            self._reduced = trainable

    def _check_optimizer(self) -> None:
        """Raise if a part that will thaw is missing from the optimizer."""
        held = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        for unit in self.plan.units:
            due = self.plan.due_parameters(unit)
            missing = [p for p in due if id(p) not in held]
            thaw = unit.next_thaw(0)
            if missing and thaw < self.total_steps:
                raise RuntimeError(
                    f"{unit.name} trains from {self.plan.describe(thaw)} on, but {len(missing)} of its "
                    f"{len(due)} parameters are not in the optimizer, so they would "
                    f"never "
                    "move. Let MMTabTrainer create the optimizer, or build yours from all of "
                    "model.parameters()."
                )

    def _notes_on_plan(self) -> list[str]:
        """Return what a person should know: what was frozen outside of the schedule, warm-ups without a thaw."""
        notes = []
        if self.plan.kept_names:
            names = self.plan.kept_names
            notes.append(
                f"{len(names)} parameters of scheduled parts did not require gradients before training, e.g. "
                f"{names[0]}: they stay frozen, and the schedule moves the rest of their part. Set requires_grad to "
                "True before training to let them thaw."
            )
        notes += [
            f"{part} did not require gradients before training; the freeze schedule decides on it now."
            for part in self.plan.taken_over
            if any(unit.next_thaw(0) < self.total_steps for unit in self.plan.units if unit.part == part)
        ]
        for part in self.args.mapping("thaw_warmup"):
            thaws = [end for unit in self.plan.units if unit.part == part for _, end in unit.windows]
            if not any(end < self.total_steps for end in thaws):
                notes.append(
                    f"thaw_warmup of {part} has no effect: the freeze schedule never thaws a part of this name."
                )
        return notes

    def _steps_per_evaluation(self) -> float | None:
        """Return the optimizer steps between two evaluations, None if there are none."""
        if self.args.eval_strategy == "epoch":
            return self.steps_per_epoch
        return self.state.eval_steps if self.args.eval_strategy == "steps" else None

    def _create_audit(self) -> UpdateAudit | None:
        """Create the audit on the process that writes it (on all where parameters are sharded)."""
        if not (self.args.should_save or self.is_fsdp_enabled):
            return None
        model = self.accelerator.unwrap_model(self.model)
        path = Path(self.args.output_dir) / RECORDS_NAME
        layers = {unit.name: unit.paths for unit in self.plan.units if unit.name != unit.part and unit.paths}
        audit = UpdateAudit(
            model,
            # layers that thaw one by one are told apart
            partition_parameters(model, {**self.parts, **layers}),
            self.plan,
            self.optimizer,
            path if self.args.should_save else None,
            every=self.args.audit_steps,
            samples=self.args.audit_samples,
            accumulation=self.args.gradient_accumulation_steps,
            learning_rate=self._group_learning_rate,
        )
        if self._resumed_from is not None:
            audit.resume(self._resumed_from, self.state.global_step, self.args.process_index)
        elif self.args.should_save:
            path.unlink(missing_ok=True)
        return audit

    # ---- Steps ----

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Run an epoch, unless the run had already been stopped when the checkpoint it resumes was written."""
        if not self.control.should_training_stop:
            super()._run_epoch(*args, **kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Compute the loss with frozen parts held still (Trainer puts the whole model in train mode each
        step).
        """
        if model.training and self.plan is not None and self.is_in_train:
            self.plan.hold_still(self.state.global_step)
        return super().compute_loss(
            model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
        )

    def _clip_grad_norm(self, model):
        """Clip all gradients together, except for BertAdam, which clips each parameter on its own."""
        return None if self.args.optim_preset == "bertadam" else super()._clip_grad_norm(model)

    # ---- Checkpoints ----

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Save the freeze schedule and the audit beside the optimizer."""
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save and self.plan is not None:
            write_schedule(output_dir, self.freeze_schedule, self.parts, self.plan)
            write_choice(output_dir, self.choice)
        if self.audit is not None:
            self.audit.save(output_dir, self.args.process_index)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load the optimizer, and refuse moments that would go to another part."""
        parts = [group.get("part") for group in self.optimizer.param_groups]
        try:
            super()._load_optimizer_and_scheduler(checkpoint)
        except ValueError as error:
            raise ValueError(self._schedule_mismatch(checkpoint)) from error
        if [group.get("part") for group in self.optimizer.param_groups] != parts:
            raise ValueError(self._schedule_mismatch(checkpoint))

    def _schedule_mismatch(self, checkpoint: str | None) -> str:
        return (
            f"The optimizer state in {checkpoint!r} was saved for other parts than this run trains. Saved "
            f"freeze "
            f"schedule: {read_schedule(checkpoint)}; now: {self.freeze_schedule.to_dict()}. Resume with the "
            f"saved "
            "one (moments of a time may differ, 'forever' may not come or go), or start a new run from its "
            "weights."
        )


def _length(dataset: Any) -> int | None:
    """Return the number of rows of a dataset, None if it has no length."""
    try:
        return len(dataset)
    except TypeError:
        return None

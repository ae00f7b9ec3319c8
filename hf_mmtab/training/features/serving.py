"""A `Trainer` that serves stored features of the parts that are frozen."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import Trainer
from transformers.trainer_utils import _is_peft_model

from ..arguments import MMTabTrainingArguments
from ..callbacks import show
from ..freezing import FreezePlan
from .cache import FeatureCache
from .store import FeatureStore, JoinedStore
from .views import AcceptedInputs, FeatureCollator


class FeatureTrainer(Trainer):
    """Computes the outputs of frozen parts once, for models that declare `cacheable_features`.

    Args:
        args, kwargs: as `Trainer` takes them.
        eval_collator: of evaluations and predictions; None: `data_collator`.
    """

    args: MMTabTrainingArguments
    data_collator: Any
    eval_dataset: Any
    model: Any  # Trainer allows None, which a running trainer never has

    # Set by the subclass when the number of steps is known.
    plan: FreezePlan
    parts: dict[str, tuple[str, ...]]

    def __init__(self, *args: Any, eval_collator: Any = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.eval_collator = eval_collator
        self.features: FeatureCache | None = None
        # Adapters are not modules of the part whose weights name the store.
        cacheable = getattr(self.model, "cacheable_features", None) and not _is_peft_model(self.model)
        if self.args.feature_cache and cacheable:
            specs = self.model.cacheable_features
            self.data_collator = FeatureCollator(self.data_collator, specs)
            self.eval_collator = eval_collator and FeatureCollator(eval_collator, specs)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Collate with the collator of evaluations."""
        training = self.data_collator
        self.data_collator = self.eval_collator or training
        try:
            yield
        finally:
            self.data_collator = training

    def get_train_dataloader(self) -> Any:
        """Return the loader of the train set, whose rows can carry stored features."""
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
        """Return the loader of an evaluation set, with stored features of the parts that have not moved."""
        with self._evaluating():
            return self._eval_dataloader(eval_dataset)

    def _eval_dataloader(self, eval_dataset: Any) -> Any:
        if self.features is None:
            return super().get_eval_dataloader(eval_dataset)
        plain, by_name = self.eval_dataset, isinstance(eval_dataset, str)
        rows = plain[eval_dataset] if by_name else plain if eval_dataset is None else eval_dataset
        view = self._serve_unmoved(self.features, rows)
        self.eval_dataset = {**plain, eval_dataset: view} if by_name else view
        try:
            return super().get_eval_dataloader(eval_dataset if by_name else None)
        finally:
            self.eval_dataset = plain

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        """Return the loader of rows to predict, with stored features of the parts that have not moved."""
        never_trained = self.features is None and self.plan is None
        if never_trained and self.args.feature_cache_dir and isinstance(self.data_collator, FeatureCollator):
            self.features = self._create_feature_cache()
        with self._evaluating():
            rows = test_dataset if self.features is None else self._serve_unmoved(self.features, test_dataset)
            return super().get_test_dataloader(rows)

    def frozen_features(self, rows: Any, part: str) -> FeatureStore | JoinedStore | None:
        """Return what a part gives for all rows as it is now, computed where it is not stored yet.

        None: features are not stored (`feature_cache: false`, no room, or they differ each time).
        """
        if not isinstance(self.data_collator, FeatureCollator):
            return None
        self.features = features = self.features or self._create_feature_cache()
        if features is None:
            return None
        features.serve(rows, self.data_collator.collator, {part: self._modules(features)[part]}, fill=True)
        return features.view(rows).stores.get(part)

    def enter_epoch(self) -> None:
        """Serve stored features of the parts that are frozen for the whole epoch.

        Missing ones are computed for parts that are frozen in the next epoch too.
        """
        if self.features is None:
            return
        step, length = self.state.global_step, self.plan.steps_per_epoch
        epoch_end = (step // length + 1) * length
        frozen = self._frozen_parts(self.features, step, epoch_end - 1)
        pays = bool(self._frozen_parts(self.features, step, epoch_end + length - 1))
        self.features.serve(self.train_dataset, self.data_collator.collator, frozen, fill=pays)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Run an epoch, unless the run had already been stopped when the checkpoint it resumes was written."""
        self.enter_epoch()
        collator = getattr(self.data_collator, "collator", self.data_collator)
        rows: Any = self.train_dataset
        for drawing in (collator, rows):  # what they draw follows from the epoch and their seed alone
            if hasattr(drawing, "set_epoch"):
                drawing.set_epoch(self.state.global_step // self.plan.steps_per_epoch)
        if not self.control.should_training_stop:
            super()._run_epoch(*args, **kwargs)

    def _serve_unmoved(self, features: FeatureCache, rows: Any) -> Any:
        """Return the view of rows that serves the parts whose weights are those of the store.

        During training these are the parts frozen now; what is not stored is computed. After it features are computed
        only into a named folder (`feature_cache_dir`): of the parts frozen throughout, which other runs share, and of
        all parts that read pictures, which an ablation reads again.
        """
        last = max(0, self.state.global_step - 1)  # a part that thaws at this very step has not moved yet
        first = last if self.is_in_train else 0
        frozen = {} if self.plan is None else self._frozen_parts(features, first, last)
        if not self.is_in_train and self.args.feature_cache_dir:
            modules = self._modules(features)
            frozen |= {part: held for part, held in modules.items() if features.shares_rows(rows, part)}
        fill = self.is_in_train or self.args.feature_cache_dir is not None
        features.serve(rows, self.data_collator.collator, frozen, fill=fill, verify=not self.is_in_train)
        return features.view(rows)

    def _frozen_parts(self, features: FeatureCache, first: int, last: int) -> dict[str, list[nn.Module]]:
        """Return the parts with cacheable outputs that are frozen from step `first` to `last`, with their modules."""
        last = min(last, self.plan.total_steps - 1)
        modules = self._modules(features)
        return {part: held for part, held in modules.items() if self.plan.is_still(held, first, last)}

    def _modules(self, features: FeatureCache) -> dict[str, list[nn.Module]]:
        """Return the modules of each part with cacheable outputs."""
        model = self.accelerator.unwrap_model(self.model)
        return {part: [model.get_submodule(path) for path in self.parts[part]] for part in features.specs}

    def _get_collator_with_removed_columns(self, data_collator: Any, description: str | None = None) -> Any:
        """Let collators other than transformers' own see whole rows; drop what the model does not take afterwards."""
        innermost = getattr(data_collator, "collator", data_collator)
        module = getattr(innermost, "__module__", "") or type(innermost).__module__
        if not self.args.remove_unused_columns or module.startswith("transformers."):
            return super()._get_collator_with_removed_columns(data_collator, description)
        self._set_signature_columns_if_needed()
        return AcceptedInputs(data_collator, set(self._signature_columns or ()))

    def _create_feature_cache(self) -> FeatureCache | None:
        """Return a new cache, None under FSDP, where a part cannot be called by itself."""
        if self.is_fsdp_enabled:
            show(self.args, "Feature cache off: under FSDP a part cannot be called by itself")
            return None
        return FeatureCache(self.accelerator.unwrap_model(self.model), self.args, self.accelerator)

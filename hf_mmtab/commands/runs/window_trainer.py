"""The trainer of heads on windows: a sampler of its own, and cells that only training replaces by [UNK]."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ...training import MMTabTrainer
from ...training.features.views import FeatureCollator
from ...training.imbalance import ImbalanceSampler


class WindowTrainer(MMTabTrainer):
    """Draws training windows with a sampler of its own, if there is one; only training replaces cells by [UNK].

    Args:
        sampler: of the training windows; None: each once, shuffled.
        kwargs: what `MMTabTrainer` takes.
    """

    def enter_epoch(self) -> None:
        """Tell the collator which epoch it is."""
        super().enter_epoch()
        collator = getattr(self.data_collator, "collator", self.data_collator)
        collator.set_epoch(self.state.global_step // self.plan.steps_per_epoch)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Return the loader of an evaluation set, in which nothing is replaced."""
        with self._unchanged_cells():
            return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        """Return the loader of rows to predict, in which nothing is replaced."""
        with self._unchanged_cells():
            return super().get_test_dataloader(test_dataset)

    @contextmanager
    def _unchanged_cells(self) -> Iterator[None]:
        training = self.data_collator
        wrapped = isinstance(training, FeatureCollator)
        plain = replace(training.collator if wrapped else training, unknown_probability=0.0)
        self.data_collator = FeatureCollator(plain, training.specs) if wrapped else plain
        try:
            yield
        finally:
            self.data_collator = training

    def __init__(self, *args: Any, sampler: ImbalanceSampler | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sampler = sampler

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.sampler if self.sampler is not None else super()._get_train_sampler(train_dataset)

"""A head trained beside a run, on the same table: to choose its inputs, or to score rows it has not learned from."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import set_seed

from ...data.windows.cutting import WindowDataset
from ...files import PARTIAL_SUFFIX, make_folder
from ...tasks.table_labels import epoch_sampler
from ...training import MMTabTrainer
from .folder import select_by
from .own_names import CACHE_FOLDER


@contextmanager
def trained_trial(run: Any, train: WindowDataset | None = None, **changes: Any) -> Iterator[tuple[Any, MMTabTrainer]]:
    """Yield a `HeadRun` like the given one and its trainer, trained.

    Its folder is a draft in the run's: it goes at the end, or, after a kill, at the next start.

    Args:
        run: whose table, windows, processor and feature cache are used.
        train: other training windows, some without a label; default: the run's own.
        changes: values of recipe keys; unless they say so, nothing is saved or stopped early. Nothing is audited or
            sent.
    """
    recipe = run.recipe
    make_folder(recipe.folder)
    with tempfile.TemporaryDirectory(prefix=".trial-", suffix=PARTIAL_SUFFIX, dir=recipe.folder) as scratch:
        changes = {"save_strategy": "no", "load_best_model_at_end": False, "early_stopping_patience": None} | changes
        changes |= {"architecture": recipe.model.architecture}  # `auto` is decided
        changes |= {"output_dir": scratch, "audit": False, "push_to_hub": False, "report_to": "none"}
        trial = type(run)(recipe.variant(recipe.shared, **changes), run.is_reference)
        data, training = trial.recipe.data, trial.recipe.training
        data.stride, data.eval_stride = recipe.data.stride, recipe.data.eval_stride
        cache = recipe.shared_folder / CACHE_FOLDER  # what a frozen encoder gives depends on no label and no head
        training.feature_cache_dir = recipe.training.feature_cache_dir or str(cache)
        trial.table, trial.processor = run.table, run.processor
        trial.windows = run.windows if train is None else {**run.windows, "train": train}
        set_seed(training.seed)  # the same head whatever was drawn before it, as in a run that goes on after a kill
        model = trial.start()
        metric, more_is_better = trial.selection
        select_by(training, metric, more_is_better, known=trial.known_metrics)
        if train is not None:
            trial.sampler = epoch_sampler(trial.recipe.run, train, training.seed, known=True)
        trainer = trial.new_trainer(model)
        trial.adjust(trainer)
        trainer.train()
        yield trial, trainer

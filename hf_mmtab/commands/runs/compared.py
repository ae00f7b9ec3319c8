"""A run that can stand in a table beside other runs, and beside baselines that are fitted on the same rows."""

import time
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from transformers.utils import logging

from ...evaluation.comparison import ScoredModel, require_same_rows
from ...evaluation.judging import MAJORITY, majority_scores
from ...evaluation.run_results import RESULT_FILE
from ...evaluation.scored_rows import ScoredRows
from ...files import json_text, read_json, write_whole
from ...metrics import scores_for
from ...metrics.names import lower_is_better, metric_name
from ...training import MMTabTrainer
from ...training.soup import greedy_soup, keep_enough, remove_surplus
from .recipe import Recipe
from .report import PREDICTIONS_FOLDER, predictions_file
from .walk import Run

logger = logging.get_logger(__name__)
AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)


class UntrainedTrainer(MMTabTrainer):
    """Trains nothing by gradients: the run fits trees or joins trained models. It predicts and saves as any trainer."""

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Leave the model as it is."""


class ComparedRun(Run[AnyRecipe]):
    """Adds to a run what the comparison needs of it.

    Attributes:
        architectures: that can be trained.
        baselines: names in `compare` that are fitted and not trained; `majority` is added to every comparison.
        one_input: architectures that read a part of the inputs; the report says whether one that reads all is better.
        without_seed: baselines in which nothing is random.
        baselines_need_one_process: whether fitting them waits for every process.
        tells_reasons: whether its report shows reasons; of several architectures that of the first alone does.
    """

    architectures: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()
    one_input: tuple[str, ...] = ()
    without_seed: tuple[str, ...] = ()
    baselines_need_one_process: bool = True
    tells_reasons: bool = True
    _checkpoint_limit: int | None = None

    def check(self) -> None:
        """Refuse a soup without checkpoints to average.

        Raises:
            ValueError: with LoRA adapters, or if none are saved.
        """
        recipe = self.recipe
        if not recipe.run.soup:
            return
        saved = str(getattr(recipe.training.save_strategy, "value", recipe.training.save_strategy))
        if recipe.model.lora is not None or saved == "no":
            what = "adapters (`lora`)" if recipe.model.lora is not None else "save_strategy: no"
            raise ValueError(
                f"Expected whole checkpoints for `soup`, which averages them, found {what}. Use save_strategy: epoch "
                "without `lora`, or take `soup` out."
            )

    def adjust(self, trainer: MMTabTrainer) -> None:
        """Keep the checkpoints that a soup reads."""
        if self.recipe.run.soup:
            self._checkpoint_limit = keep_enough(trainer.args)

    def average(self, trainer: MMTabTrainer) -> None:
        """Average the last checkpoints, if the recipe asks for a soup."""
        if self.recipe.run.soup:
            self.soup = greedy_soup(trainer, *self.selection)
            self.notes.append(str(self.soup or "soup: this run has no other checkpoint; its weights stay as they are."))
            logger.info(self.notes[-1])

    def tidy(self, trainer: MMTabTrainer) -> None:
        """Remove the checkpoints that only a soup needed."""
        if self.recipe.run.soup:
            remove_surplus(trainer, self._checkpoint_limit)

    @property
    def explained(self) -> str | None:
        """The folder whose model tells the reasons in the report; None: another run's report has them, or none."""
        return str(self.recipe.folder) if self.recipe.run.reasons and self.tells_reasons else None

    @property
    def resample_by(self) -> Any:
        """What the intervals draw, see `hf_mmtab.evaluation.row_evaluation.resampling_groups`."""
        return "row"

    @classmethod
    def check_baseline(cls, name: str, architecture: str) -> None:
        """Raise a ValueError before any training if a baseline cannot stand beside this architecture."""

    @abstractmethod
    def read_scored(self, folder: Path) -> dict[str, ScoredRows]:
        """Read the predictions of a finished run; `restore` comes first."""

    def write_predictions(self) -> None:
        """Write what was predicted for each row of the evaluated splits."""
        self.write_scored(self.recipe.folder, self.scored)

    @abstractmethod
    def write_scored(self, folder: Path, scored: dict[str, ScoredRows]) -> None:
        """Write the predictions of a model or baseline."""

    @abstractmethod
    def training_labels(self) -> np.ndarray:
        """Return the labels of the training rows."""

    @abstractmethod
    def fit_baseline(self, name: str, seed: int) -> dict[str, ScoredRows]:
        """Fit one of `baselines` on the training rows; return the scores of the other splits."""

    @abstractmethod
    def tune(self, scored: ScoredRows) -> list[float] | None:
        """Return the decision thresholds that suit scored validation rows; None: decisions take none."""

    def tell_if_a_guess_is_as_good(self, results: Mapping[str, Any]) -> None:
        """Warn and note if the model is not better than training's mean, or shares of the classes, for every row.

        Args:
            results: fields of `RunResults`, of the rows in `scored`.
        """
        split, metric, kind = results["split"], results["headline"][0], self.config.problem_type
        guess = majority_scores(self.training_labels(), kind, self.scored[split]).labelled
        assert guess.labels is not None
        guessed = scores_for(kind, guess.labels, guess.probabilities, self.config.id2label).get(metric)
        value = results["metrics"][split].get(metric)
        if value is None or guessed is None or (value < guessed if lower_is_better(metric) else value > guessed):
            return
        what = "the mean of the training rows" if kind == "regression" else "the classes' shares in training"
        self.notes.append(
            f"This model is not better than a guess, {what} for every row: {metric_name(metric)} on {split} "
            f"{value:.3f}, of the guess {guessed:.3f}. Look at the learning rate, the epochs and the labels."
        )
        logger.warning(self.notes[-1])

    def run_baseline(self, root: Path, name: str, seeds: list[int], split: str) -> list[ScoredModel]:
        """Fit a baseline on the rows of this run and keep its predictions under `root`; `restore` comes first.

        Args:
            root: gets a folder `NAME-seedSEED` for each seed.
            name: one of `baselines`, or "majority".
            seeds: of its sampling; without anything random the first alone.
            split: the main one.

        Returns:
            One for each seed, with the minutes that fitting it took, in this call or an earlier one.
        """
        made = []
        for seed in seeds[:1] if name in (MAJORITY, *self.without_seed) else seeds:
            folder = root / f"{name}-seed{seed}"
            if (before := self._fitted_before(folder)) is not None:
                logger.info(f"{name}: the predictions of {folder.name} are those of an earlier call.")
                made.append(ScoredModel(before[split], self.tune(before["validation"]), fitted_minutes(folder)))
                continue
            started = time.time()
            if name == MAJORITY:
                labels, kind = self.training_labels(), self.config.problem_type
                scored = {one: majority_scores(labels, kind, rows) for one, rows in self.scored.items()}
            else:
                scored = self.fit_baseline(name, seed)
            minutes = (time.time() - started) / 60
            # Before the predictions, which mark a baseline as fitted.
            write_whole(_minutes_file(folder), json_text({"minutes": minutes}))
            self.write_scored(folder, scored)
            made.append(ScoredModel(scored[split], self.tune(scored["validation"]), minutes))
        return made

    def _fitted_before(self, folder: Path) -> dict[str, ScoredRows] | None:
        """Return what a baseline predicted for the rows of this run after it was finished; None: it is to be fitted."""
        files = [predictions_file(folder, split) for split in self.scored]
        if not all(file.is_file() for file in files):
            return None
        finished = (self.recipe.folder / RESULT_FILE).stat().st_mtime_ns
        if min(file.stat().st_mtime_ns for file in files) <= finished:
            return None
        try:
            found = self.read_scored(folder)
            for split, rows in self.scored.items():
                require_same_rows("the run", rows, folder.name, found[split])
        except (OSError, ValueError) as error:
            logger.info(f"{folder.name} is fitted anew: {error}")
            return None
        return found


def fitted_minutes(folder: Path) -> float | None:
    """Return how long fitting the baseline in a folder took; None: an earlier version did not write it down."""
    return read_json(_minutes_file(folder), "Delete that file: the minutes are then not known.").get("minutes")


def _minutes_file(folder: Path) -> Path:
    return folder / PREDICTIONS_FOLDER / "minutes.json"

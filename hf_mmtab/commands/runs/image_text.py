"""Fine-tuning MMBT or one of its baselines on pictures with texts, and judging a saved one."""

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from transformers import AutoConfig
from transformers.utils import logging

from ...arguments import ENSEMBLE, IMAGE_TEXT_ARCHITECTURES
from ...data.reading.records import BadRecord, many_left_out
from ...evaluation.ablation import AblationRow, ablation_table
from ...evaluation.judging import DESCRIPTION, MAJORITY, judge_splits
from ...evaluation.prediction_tables import gold_labels, read_split_predictions, write_split_predictions
from ...evaluation.row_evaluation import HEADLINE
from ...evaluation.run_results import RESULT_FILE, RunResults
from ...evaluation.scored_rows import ScoredRows
from ...image_text_baselines import BASELINES, DESCRIPTIONS, FrozenLinear, LinearStarter, inputs_of
from ...metrics import (
    Thresholds,
    compute_metrics_for,
    cross_fitted_thresholds,
    metric_names,
    possible_metric_names,
    probabilities_from_logits,
    scores_for,
)
from ...metrics.for_trainer import first_of
from ...metrics.names import label_names
from ...models.mmbt import MMBTProcessor
from ...reports import SplitPredictions
from ...tasks import ImageTextTask, label_ids_of_model
from ...tasks.fitted_lengths import choose_max_length
from ...tasks.image_text import columns_beside
from ...training import MMTabTrainer
from ...training.checkpoints import last_complete_checkpoint
from ...training.precision import NAMES
from .absent_inputs import absent_input_note
from .compared import ComparedRun
from .epochs import fit_epochs
from .folder import leave_out_absent_parts
from .own_names import CACHE_FOLDER
from .part_lengths import check_part_lengths, check_started_model
from .probe_start import keep_better_start, start_from_probe
from .recipe import ImageTextRecipe
from .report import predictions_file
from .shown_reasons import of_pictures

logger = logging.get_logger(__name__)

ONE_INPUT = ("bow", "img", "bert")  # architectures that read the text or the picture alone
_SENTENCES = {
    "single_label_classification": "One of {labels} classes from {inputs}.",
    "multi_label_classification": "Any of {labels} labels from {inputs}.",
}


class ImageTextRun(ComparedRun[ImageTextRecipe]):
    """One architecture with one seed."""

    architectures = IMAGE_TEXT_ARCHITECTURES
    baselines = BASELINES
    one_input = ONE_INPUT
    without_seed = BASELINES
    possible_metrics = possible_metric_names(*_SENTENCES)

    splits: datasets.DatasetDict
    skipped: list[BadRecord]

    @classmethod
    def check_baseline(cls, name: str, architecture: str) -> None:
        """Raise a ValueError if the architecture has no pretrained model for the inputs of the baseline."""
        inputs_of(name, architecture)

    def check(self) -> None:
        """Refuse also an architecture without its checkpoints, and texts and pictures too long for the text model."""
        super().check()
        recipe = self.recipe
        is_finished = (recipe.folder / RESULT_FILE).is_file() and not recipe.run.overwrite  # it is only read
        if recipe.model.pretrained is None and recipe.model.architecture != ENSEMBLE and not is_finished:
            recipe.task.checkpoints(recipe.model)
        members = recipe.run.ensemble_members if ENSEMBLE in (recipe.model.architecture, *recipe.run.compare) else []
        check_part_lengths(recipe, {recipe.model.architecture, *recipe.run.compare, *members})

    def prepare(self) -> Any:
        """Read all splits, build the processor and start the model."""
        recipe, task = self.recipe, self.recipe.task
        self.splits, self.skipped = task.load(recipe.data, **columns_beside(recipe.model))
        if absent := [name for name in ("train", "validation") if name not in self.splits]:
            sizes = ", ".join(f"{name} {len(rows)}" for name, rows in self.splits.items())
            raise ValueError(
                f"Expected records of {' and '.join(absent)} in {recipe.data.data!r}, found {sizes or 'none'}: one "
                "file is split by label, and its labels have too few records. Add records, or a file dev.jsonl."
            )
        if note := absent_input_note(recipe):
            self.notes.append(note)
        problem_type, names = task.labels(self.splits["train"])
        if problem_type == "single_label_classification" and len(names) < 2:
            raise ValueError(
                f"Expected training records of at least two classes in {recipe.data.data!r}, found {names}. Name "
                "another label_column, or add records."
            )
        if problem_type == "multi_label_classification" and recipe.training.label_smoothing_factor:
            recipe.training.label_smoothing_factor = 0.0
            self.notes.append(
                "label_smoothing_factor is for one label a row and left out: rows have several here. The recipe "
                "image_text_labels is made for them."
            )
        if note := fit_epochs(recipe.training, recipe.run.recipe_rows, len(self.splits["train"])):
            self.notes.append(note)
        self.processor = task.processor(recipe.model)
        task.fit_columns(recipe.model, self.processor, self.splits["train"])
        self.notes += task.fit_images(recipe.model, self.processor, self.splits)
        model = self.new_model(problem_type, names)
        check_started_model(recipe, model, self.processor)
        self.config = model.config
        if recipe.model.pretrained is not None:
            self._number_labels()
        else:
            self._fit_text_length(model)
        if self.processor.tokenizer is not None and "train_sampling_strategy" not in recipe.values:
            # Otherwise most of a batch would be padding.
            recipe.training.train_sampling_strategy = "group_by_length"
        self.known_metrics = metric_names(problem_type, model.config.id2label)
        self.selection = (HEADLINE[problem_type][0], True)
        return model

    def new_model(self, problem_type: str, names: list[str]) -> Any:
        """Return the model as it starts; its frozen outputs are shared between runs, and evaluations add to them."""
        recipe = self.recipe
        if recipe.training.feature_cache_dir is None:
            recipe.training.feature_cache_dir = str(recipe.shared_folder / CACHE_FOLDER)
        has_pairs = "sentence2" in self.splits["train"].column_names
        model = recipe.task.model(recipe.model, problem_type, names, self.processor, has_pairs)
        rates = recipe.training.mapping("part_learning_rates")
        if self.processor.columns and "model.image_projection" in rates:  # tokens start at random like it
            recipe.training.part_learning_rates = {"model.column_tokens": rates["model.image_projection"], **rates}
        as_written = self.is_reference and model.config.text_pooling == "cls"  # else there is no pooler
        leave_out_absent_parts(recipe, recipe.task.parts, model, as_written)
        return model

    def _fit_text_length(self, model: Any) -> None:
        """Choose how many word pieces of a text are read, as the checkpoint does that the run goes on from."""
        if self.recipe.model.max_length != "auto":
            return
        checkpoint = last_complete_checkpoint(self.recipe.folder)
        before = None if checkpoint is None else type(self.processor).from_pretrained(checkpoint).max_length
        if chosen := choose_max_length(
            self.processor, self.splits["train"], model, before, self.recipe.data.pad_to_multiple_of
        ):
            self.processor.max_length = chosen.max_length
            self.notes.append(str(chosen))

    def describe(self, model: Any) -> str:
        """Return what was chosen from the data."""
        return "\n".join(self.notes)

    def _number_labels(self) -> None:
        """Number the labels of all splits as the model does."""
        numbered = {name: label_ids_of_model(rows, self.config) for name, rows in self.splits.items()}
        self.splits = datasets.DatasetDict(numbered)

    def trainer_arguments(self, model: Any) -> dict[str, Any]:
        """Return data, collator and metrics."""
        task, train = self.recipe.task, self.splits["train"]
        return {
            "train_dataset": task.encode(train, self.processor, augment=True),
            "eval_dataset": task.encode(self.splits["validation"], self.processor),
            "data_collator": task.collator(self.recipe.data, self.processor, self.config.num_labels),
            "compute_metrics": compute_metrics_for(self.config.problem_type, self.config.id2label),
            "label_counts": task.label_counts(train),
        }

    def adjust(self, trainer: MMTabTrainer) -> None:
        """Choose the pooling, and start from a linear probe, where the recipe asks for it."""
        super().adjust(trainer)
        start_from_probe(self, trainer)

    def average(self, trainer: MMTabTrainer) -> None:
        """Average checkpoints where the recipe asks for it, and put a better start back."""
        super().average(trainer)
        keep_better_start(self, trainer)

    def scores_of(self, trainer: MMTabTrainer, split: str) -> ScoredRows:
        """Return the scores of the rows of a split."""
        return predict_rows(trainer, self.recipe.task, self.splits[split], self.processor)

    def linear_starter(self, trainer: MMTabTrainer) -> LinearStarter:
        """Return what fits regressions on what the trainer's model gives for training and validation rows."""
        splits, number = {name: self.splits[name] for name in ("train", "validation")}, trainer.model.config.num_labels
        encoded = {name: self.recipe.task.encode(rows, self.processor) for name, rows in splits.items()}
        return LinearStarter(trainer, encoded, {name: gold_labels(rows, number) for name, rows in splits.items()})

    def calibrate(self, trainer: MMTabTrainer) -> None:
        """Choose the thresholds of several labels on validation."""
        self.config = trainer.model.config
        if self.config.problem_type == "multi_label_classification":
            chosen = _thresholds(self.scores_of(trainer, "validation"))
            self.config.thresholds = chosen.values
            self.notes.append(str(chosen))

    def judge(self, trainer: MMTabTrainer) -> dict[str, Any]:
        """Evaluate every split but that of training, the main one also with each input taken away."""
        recipe, task, rows = self.recipe, self.recipe.task, self.evaluated
        self.scored = {name: predict_rows(trainer, task, one, self.processor) for name, one in rows.items()}
        main = "test" if "test" in rows else "validation"
        bootstrap = recipe.run.bootstrap if trainer.is_world_process_zero() else 0
        results = judge_image_text(self.scored, self.config, main, bootstrap)
        self.tell_if_a_guess_is_as_good(results)
        if recipe.run.ablation:
            intact = results["metrics"][main]
            results["ablation"] = ablate_modalities(task, trainer, rows[main], self.processor, intact)
        sizes = ", ".join(f"{len(one):,} {name}" for name, one in self.splits.items())
        whole = {name: one.info.splits[name].num_examples for name, one in self.splits.items()}  # before max_rows
        computed_in = NAMES.get(trainer.accelerator.mixed_precision, "float32")
        return {
            **results,
            "architecture": recipe.model.architecture,
            "details": {"data": f"{sizes} rows", "computed in": computed_in},
            "inputs": list(task.modalities(self.splits["train"])),
            "skipped": self.skipped,
            "left_out": many_left_out(self.skipped, whole),
        }

    @property
    def evaluated(self) -> dict[str, datasets.Dataset]:
        """Split → rows, without training."""
        return {name: rows for name, rows in self.splits.items() if name != "train"}

    def write_scored(self, folder: Path, scored: dict[str, ScoredRows]) -> None:
        """Write predictions of each split beside the columns of its rows, decided at thresholds that suit them."""
        config = self.config
        if scored is not self.scored:
            config = copy.copy(config)
            config.thresholds = self.tune(scored["validation"])
        for name, rows in self.evaluated.items():
            write_split_predictions(predictions_file(folder, name), rows, scored[name], config)

    def training_labels(self) -> np.ndarray:
        """Return the labels of the training rows."""
        return gold_labels(self.splits["train"], self.config.num_labels)

    @cached_property
    def _frozen_linear(self) -> FrozenLinear:
        """Frozen features of all splits, from the model as it starts."""
        recipe, task = self.recipe, self.recipe.task
        self.processor = MMBTProcessor.from_pretrained(recipe.folder)
        model = self.new_model(self.config.problem_type, label_names(self.config))
        return FrozenLinear(
            MMTabTrainer(model=model, args=recipe.training, **self.trainer_arguments(model)),
            self.processor,
            self.splits,
            {name: task.encode(rows, self.processor) for name, rows in self.splits.items()},
            {name: gold_labels(rows, self.config.num_labels) for name, rows in self.splits.items()},
        )

    def fit_baseline(self, name: str, seed: int) -> dict[str, ScoredRows]:
        """Fit a logistic regression on frozen features."""
        return self._frozen_linear.run(name, self.recipe.model.architecture)

    def tune(self, scored: ScoredRows) -> list[float] | None:
        """Return the threshold of each of several labels."""
        return _thresholds(scored).values if self.config.problem_type == "multi_label_classification" else None

    def facts(self, results: RunResults, others: Mapping[str, ScoredRows]) -> Mapping[str, Any]:
        """Return title, labels and predictions."""
        return image_text_facts(results, self.config, self.scored, self.evaluated, self.explained)

    def restore(self) -> None:
        """Read the data and what a finished run predicted."""
        self.splits, self.skipped = self.recipe.task.load(self.recipe.data, **columns_beside(self.recipe.model))
        self.config = AutoConfig.from_pretrained(self.recipe.folder)
        self._number_labels()
        self.scored = self.read_scored(self.recipe.folder)

    def read_scored(self, folder: Path) -> dict[str, ScoredRows]:
        """Read the predictions of a finished run.

        Raises:
            ValueError: if they are of other rows, or of rows with other labels, than the data has now.
        """
        evaluated = self.evaluated.items()
        return {
            split: read_split_predictions(predictions_file(folder, split), rows, self.config)
            for split, rows in evaluated
        }


def _thresholds(scored: ScoredRows) -> Thresholds:
    assert scored.labels is not None
    return cross_fitted_thresholds(scored.probabilities, scored.labels)


def predict_rows(trainer: MMTabTrainer, task: ImageTextTask, rows: datasets.Dataset, processor: Any) -> ScoredRows:
    """Return the scores of every row, gathered over all processes."""
    output = trainer.predict(task.encode(rows, processor))  # type: ignore[arg-type]
    problem_type = trainer.model.config.problem_type
    probabilities = probabilities_from_logits(first_of(output.predictions), problem_type)
    return ScoredRows(probabilities, np.asarray(output.label_ids))


def judge_image_text(scored: Mapping[str, ScoredRows], config: Any, main: str, bootstrap: int) -> dict[str, Any]:
    """Judge splits of pictures with texts: rows are independent, and every class is judged."""
    return judge_splits(scored, config, main, bootstrap, "row", HEADLINE[config.problem_type], per_class=True)


def ablate_modalities(
    task: ImageTextTask, trainer: MMTabTrainer, rows: datasets.Dataset, processor: Any, intact: Mapping[str, float]
) -> list[AblationRow]:
    """Blank and shuffle one input at a time, if the model reads more than one.

    Args:
        task: of the data.
        trainer: holds the model.
        rows: to judge on.
        processor: of the model.
        intact: metrics of the rows as they are.
    """
    config = trainer.model.config
    modalities = task.modalities(rows)
    if processor.columns:
        modalities["columns"] = list(processor.columns)
    if getattr(config, "baseline", "") in ONE_INPUT or len(modalities) < 2 or len(rows) < 2:
        return []

    def scores(ablated: datasets.Dataset) -> dict[str, float]:
        scored = predict_rows(trainer, task, ablated, processor)
        assert scored.labels is not None
        thresholds = getattr(config, "thresholds", None)
        judged = (scored.labels, scored.probabilities, config.id2label, thresholds)
        return scores_for(config.problem_type, *judged)

    metrics = [name for name in HEADLINE[config.problem_type] if name in intact]  # others are not defined on these rows
    return ablation_table(scores, rows, modalities, metrics, intact=intact)


def image_text_facts(
    results: RunResults,
    config: Any,
    scored: Mapping[str, ScoredRows],
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    explained: str | None = None,
) -> dict[str, Any]:
    """Return the fields of `RunFacts` that are those of pictures with texts.

    Args:
        results: of the run or evaluation.
        config: of the model.
        scored: split → its scores.
        rows: split → its rows, for the examples.
        explained: folder of the model, for the reasons of single rows; None: they are not shown.
    """
    beside = sorted(chain.from_iterable(columns_beside(config).values()))
    read = [*results.inputs, *([f"the column{'s' * (len(beside) > 1)} {', '.join(beside)}"] if beside else [])]
    inputs = " and ".join([", ".join(read[:-1]), read[-1]] if len(read) > 1 else read or ["its inputs"])
    data = Path(results.data)
    picture_folder = data if data.is_dir() else data.parent if data.is_file() else None
    return {
        "title": f"{results.architecture} on {Path(results.data).name}",
        "problem_type": config.problem_type,
        "id2label": config.id2label,
        "explained": DESCRIPTIONS | {MAJORITY: DESCRIPTION},
        "task": _SENTENCES[config.problem_type].format(labels=config.num_labels, inputs=inputs),
        "predictions": {
            split: SplitPredictions(
                one.probabilities,
                one.labels,
                rows[split],
                picture_folder=picture_folder,
                explain=None if explained is None else of_pictures(explained, rows[split]),
            )
            for split, one in scored.items()
        },
    }

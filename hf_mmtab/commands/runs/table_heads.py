"""Fine-tuning a head on windows of a table's rows: an LSTM, a perceptron or a linear layer on the encoder."""

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoConfig, EvalPrediction
from transformers.utils import logging

from ...data.windows.cutting import WindowDataset
from ...data.windows.shard_sampling import shard_sampler
from ...data.windows.splits import leak_check
from ...evaluation.judging import judge_splits
from ...evaluation.row_evaluation import choose_threshold
from ...evaluation.run_results import RunResults
from ...evaluation.scored_rows import ScoredRows, labels_of, scored_rows
from ...metrics import metric_names, possible_metric_names, scores_for
from ...metrics.for_trainer import first_of
from ...models.tabbert.collating_tabbert import TabBertCollator
from ...statistics import OldLabels
from ...table_baselines import BASELINES, TableBaselines
from ...table_baselines.running import AMOUNT, BOOSTED_HISTORY
from ...tasks import PreparedTable
from ...tasks.checkpoints import recipe_of
from ...tasks.table_heads import (
    AUTO,
    HEAD_PARTS,
    HEADS,
    WITHOUT_ENCODER,
    beside_ids,
    fit_statistics,
    head_model,
    old_labels,
    reads_statistics,
    take_statistics,
)
from ...tasks.table_labels import (
    check_labels,
    class_shares,
    correct_bias,
    epoch_sampler,
    share_of_labels,
    start_bias,
    with_labels,
)
from ...training import MMTabTrainer
from ...training.sampling import ImbalanceSampler
from ..console import counted, parameters
from ..tables.orderings import check_statistics_are_read, read_beside_of_saved, read_orderings
from .compared import ComparedRun, UntrainedTrainer
from .fusion import check_trees, fit_boosted, fuse
from .head_choice import choose_architecture, take_boosted_if_better
from .head_inputs import choose_inputs, inputs_note
from .head_training import check_baselines, check_metric_of_labels, choose_freezing, choose_loss, loss_name
from .members import add_members, check_members
from .own_names import TABLE_FOLDER
from .recipe import HeadRecipe
from .report import predictions_file
from .table_facts import table_facts
from .table_notes import (
    data_summary,
    describe_windows,
    head_note,
    later_rows_note,
    leak_sentence,
    length_note,
    missing_note,
    pretraining_note,
    rows_before,
    score_note,
    stride_note,
    tell_unseen,
)

logger = logging.get_logger(__name__)

EVALUATED = ("validation", "test")


class HeadRun(ComparedRun[HeadRecipe]):
    """One head with one seed."""

    architectures = (*HEADS, AUTO)
    baselines = BASELINES
    baselines_need_one_process = False  # they read the encoded rows, without a model
    without_seed = (AMOUNT,)
    possible_metrics = possible_metric_names("single_label_classification", "regression")

    table: PreparedTable
    windows: dict[str, WindowDataset]
    training_windows: WindowDataset  # those without a label too: values are counted in them
    shares: Any = None
    inputs: dict[str, Any] | None = None
    sampler: ImbalanceSampler | None = None
    choices: Sequence[str] = ()  # notes of `architecture: auto`

    @property
    def trainer_type(self) -> type[MMTabTrainer]:  # type: ignore[override]
        """Of networks, or of trees, which `calibrate` fits."""
        return UntrainedTrainer if self.recipe.model.architecture == "boosted" else MMTabTrainer

    @property
    def resample_by(self) -> Any:
        """What intervals draw."""
        return self.recipe.run.resample_by

    def prepare(self) -> Any:
        """Encode the table, cut labelled windows, and start the head."""
        with self.recipe.training.main_process_first(desc="preparing the table"):
            self.read_table()
        check_labels(self.windows)
        check_metric_of_labels(self.recipe, self.table)
        check_baselines(self.recipe, self.table)
        undecided = choose_architecture(self)
        check_trees(self)
        self.processor.statistics = None  # those of another head, which the encoder may have had
        check_statistics_are_read(self)
        statistics = take_statistics(self.recipe.model, self.processor.plan)
        self.inputs = choose_inputs(self)
        self.choices = take_boosted_if_better(self, statistics) if undecided else ()
        self.read_beside()
        return self.start()

    def start(self) -> Any:
        """Start the head on the windows that were cut."""
        recipe = self.recipe
        model: Any = head_model(recipe.data, recipe.model, self.table, self.windows["train"])
        self.config = model.config
        freezing = choose_freezing(self, model)
        check_members(self)
        choose_loss(recipe)
        self.known_metrics = metric_names(model.config.problem_type, model.config.id2label)
        if model.config.problem_type == "regression":
            self.selection = ("rmse", False)
        else:
            self.selection = ("average_precision" if model.config.num_labels == 2 else "macro_f1", True)
        self.sampler = epoch_sampler(recipe.run, self.windows["train"], recipe.training.seed)
        self.leaks = {split: leak_check(self.windows["train"], self.windows[split], split) for split in EVALUATED}
        self.notes = [leak_sentence(split, leak) for split, leak in self.leaks.items()]
        self.notes += [*stride_note(recipe.data.seq_len, recipe.data.stride), *missing_note(self.processor)]
        self.notes += [*self.choices, *inputs_note(self.inputs), *freezing]
        if recipe.model.pretrained is not None:
            before = recipe_of(recipe.model.pretrained)
            self.notes += pretraining_note(before, recipe.values) + length_note(before, recipe.data.seq_len)
            self.notes += head_note(recipe.model.pretrained, recipe.model.architecture)
        if later := later_rows_note(model.config, recipe.model.architecture not in WITHOUT_ENCODER):
            logger.warning(later[0])
        return model

    def read_table(self) -> None:
        """Encode the table, into the folder that runs share if there is one, and cut labelled windows of every split.

        Where the recipe does not say how far windows are apart, each row is the last one of a window (`last`), windows
        lie side by side (`any`), or overlap by half, so that a judged row has at least half a window before it
        (`every`).
        """
        recipe = self.recipe
        data, label, task = recipe.data, recipe.run.window_label, recipe.task
        apart = {"last": 1, "any": data.seq_len, "every": max(1, data.seq_len // 2)}[label]
        if recipe.values.get("stride") is None:
            data.stride = apart
        if data.eval_stride is None and data.split != "paper":
            data.eval_stride = apart
        folder = recipe.shared_folder / TABLE_FOLDER
        self.table = task.prepare(data, folder, recipe.model.pretrained, needs_label=True)
        if recipe.run.label_share < 1:
            if recipe.model.label_lag is not None or data.split == "paper":
                beside = "split: paper, whose windows overlap" if data.split == "paper" else "label_lag"
                raise ValueError(f"Expected no {beside} beside label_share, which hides labels. Remove one of them.")
            self.table.rows = share_of_labels(self.table.rows, recipe.run.label_share, data.split_seed)
        windows = {split: task.windows(data, self.table.rows, split, label) for split in ("train", *EVALUATED)}
        self.windows, self.training_windows = with_labels(windows), windows["train"]
        self.processor = self.table.processor

    def read_beside(self) -> None:
        """Give windows what the head reads beside ids; the processor keeps what later tables need for it."""
        model = self.recipe.model
        known = {**self.windows["train"].beside} if self.processor.statistics is not None else {}
        if not reads_statistics(model):
            self.processor.statistics, known = None, {}
        elif "statistics" not in known:
            read_orderings(self.table, model.orderings or {})
            fit_statistics(model, self.table, self.training_windows, self.old_labels)
            known = beside_ids(self.table, statistics=True, times=False)
        if "windowed_surprise" in model.row_inputs and self.processor.plan.time is None:
            raise ValueError(
                "Expected a time column beside row_inputs: windowed_surprise, whose windows are hours and days, found "
                "a column plan without `time`. Name time_column, or leave windowed_surprise out."
            )
        if model.architecture == "fusion" or "windowed_surprise" in model.row_inputs:
            known["times"] = self.table.rows.time
        for found in self.windows.values():
            found.beside = known

    def describe(self, model: Any) -> str:
        """Return rows, windows, the model, what leaks, and what an epoch draws."""
        recipe = self.recipe
        on = {"raw_lstm": "raw cells", "boosted": "statistics"}.get(
            recipe.model.architecture, f"the encoder of {recipe.model.pretrained}"
        )
        if (statistics := model.config.statistics) and recipe.model.architecture != "boosted":
            on += " and statistics"
        lines = [
            describe_windows(
                self.windows, recipe.data.seq_len if self.reads_windows else None, recipe.run.window_label
            ),
            f"{recipe.model.architecture} on {on}"
            + (f": {weights} parameters" if (weights := _weights(model)) else ""),
            *([counted(len(statistics), "statistic of the past", "statistics of the past")] if statistics else []),
            *self.notes,
        ]
        if self.sampler is not None:
            share = self.sampler.drawn_positives / len(self.sampler)
            lines.append(f"An epoch draws {len(self.sampler):,} windows, {share:.1%} of them positive.")
        return "\n".join(lines)

    @property
    def reads_windows(self) -> bool:
        """Whether the model reads windows; trees alone read a row and statistics of its whole past."""
        return self.recipe.model.architecture != "boosted"

    def trainer_arguments(self, model: Any) -> dict[str, Any]:
        """Return windows, collator, metrics and sampler."""
        train, validation = self.windows["train"], self.windows["validation"]
        has_classes = bool(self.table.rows.label_names)
        own = {"row_labels": self.config.label_level == "row", "seed": self.recipe.training.seed}
        # Embeddings that are frozen, at first or for ever, are those of pretraining.
        keeps_cells = set(self.recipe.training.mapping("freeze")) & set(HEAD_PARTS)
        unknown = 0.0 if keeps_cells else self.recipe.run.unknown_probability
        return {
            "train_dataset": train,
            "eval_dataset": validation,
            "data_collator": TabBertCollator(self.processor, **own, unknown_probability=unknown),
            "eval_collator": TabBertCollator(self.processor, **own),
            "compute_metrics": metrics_on(validation, self.config),
            "label_counts": train.class_counts().sum(axis=0).tolist() if has_classes else None,
            "train_sampler": shard_sampler(train, self.recipe.training.seed, self.sampler),
        }

    def adjust(self, trainer: MMTabTrainer) -> None:
        """Start the classifier from how often training meets each class."""
        super().adjust(trainer)
        if self.recipe.model.architecture == "boosted":
            return
        loss: Any = trainer.compute_loss_func
        weights = None if loss is None or loss.weights is None else loss.weights.tolist()
        self.shares = class_shares(self.windows["train"], self.sampler, weights)
        if self.shares is not None and loss_name(self.recipe) in ("cross_entropy", "focal"):
            start_bias(trainer.model.classifier, self.shares)
        if self.recipe.training.metric_for_best_model in ("rmse", "eval_rmse"):
            mean = np.nanmean(self.training_labels(), axis=0)
            errors = labels_of(self.windows["validation"]) - mean
            trainer.collapse.floor = float(np.sqrt(np.nanmean(errors**2)))  # a row without a label has NaN

    def correct_prior(self, model: Any) -> bool:
        """Bring a trained model's probabilities back to the classes' shares; return whether training met others."""
        if self.shares is None or not self.shares.differ:
            return False
        if self.recipe.run.correct_prior and loss_name(self.recipe) == "cross_entropy":
            self.shares = correct_bias(model.classifier, self.shares)
        return True

    def calibrate(self, trainer: MMTabTrainer) -> None:
        """Bring probabilities back to the classes' actual shares, and choose the threshold on validation."""
        self.config = config = trainer.model.config
        told = len(self.notes)  # when the run began
        if self.correct_prior(trainer.model):
            assert self.shares is not None
            self.notes.append(self.shares.note(str(config.id2label[config.num_labels - 1])))
        begun = time.time()
        add_members(self, trainer)
        if self.recipe.model.architecture == "boosted":
            fit_boosted(self, trainer.model)
        elif self.recipe.model.architecture == "fusion":
            fuse(self, trainer)
        self.minutes_before = (0.0, (time.time() - begun) / 60)
        for note in self.notes[told:]:
            logger.info(note)
        self.scored = {"validation": predict_windows(trainer, self.windows["validation"], config)}
        config.threshold = choose_threshold(self.scored["validation"])

    def judge(self, trainer: MMTabTrainer) -> dict[str, Any]:
        """Judge validation and test rows."""
        recipe, config = self.recipe, self.config
        self.scored["test"] = predict_windows(trainer, self.windows["test"], config)
        results = judge_splits(self.scored, config, "test", recipe.run.bootstrap, recipe.run.resample_by)
        self.tell_if_a_guess_is_as_good(results)
        judged = np.unique(self.scored["test"].rows)
        unseen, told = tell_unseen(self.table, judged, "test rows")
        self.notes += [*score_note(results["metrics"]["test"], bool(unseen)), *told]
        return {
            **results,
            "unseen": unseen,
            "row_inputs": self.inputs,
            "architecture": recipe.model.architecture,
            "window_label": config.window_label,
            "seq_len": config.seq_len,
            "windows": {split: len(windows) for split, windows in self.windows.items()},
            "leaks": self.leaks,
            "skipped": self.table.skipped,
            "details": self._details(trainer.model),
        }

    def _details(self, model: Any) -> dict[str, str]:
        """Return what the head of the report says about the model."""
        details = {"data": data_summary(self.table)} | ({"parameters": weights} if (weights := _weights(model)) else {})
        if self.reads_windows:
            details["window"] = f"{self.recipe.data.seq_len} rows"
            details["windows"] = ", ".join(f"{len(cut):,} {split}" for split, cut in self.windows.items())
        if self.reads_windows and self.recipe.run.window_label != "any":
            by = " by the LSTM" if self.recipe.model.architecture == "fusion" else ""  # its trees read the whole past
            details[f"read{by} before a judged row"] = rows_before(self.windows["test"])
        encoder = self.recipe.model.pretrained
        return details | ({"encoder": encoder} if encoder else {})

    def write_scored(self, folder: Path, scored: dict[str, ScoredRows]) -> None:
        """Write scored rows of each split."""
        for split, rows in scored.items():
            rows.save(predictions_file(folder, split), self.table.rows.row_numbers)

    def facts(self, results: RunResults, others: Mapping[str, ScoredRows]) -> Mapping[str, Any]:
        """Return title, labels and predictions."""
        return table_facts(results, self.config, self.table, self.windows, self.scored, others, self.explained)

    def restore(self) -> None:
        """Read the table and what a finished run predicted."""
        self.read_table()
        self.config = AutoConfig.from_pretrained(self.recipe.folder)
        self.scored = self.read_scored(self.recipe.folder)
        if self.explained and self.table.values is not None:
            read_beside_of_saved(self.table, self.windows, self.config, str(self.recipe.folder))

    def read_scored(self, folder: Path) -> dict[str, ScoredRows]:
        """Read the predictions of a finished run."""
        return {split: ScoredRows.load(predictions_file(folder, split)) for split in EVALUATED}

    def refuse_or_leave_out(self, keys: Sequence[str], why: str) -> None:
        """Raise a ValueError for keys without effect; of a recipe for another architecture, say that they have none."""
        words = () if self.recipe.shared else {word.partition("=")[0] for word in shlex.split(self.recipe.command)}
        if self.is_reference or any(f"--{key}" in words for key in keys):
            raise ValueError(why)
        logger.warning(f"{' and '.join(keys)} has no effect on architecture {self.recipe.model.architecture}.")

    def training_labels(self) -> np.ndarray:
        """Return the labels of the rows that training windows are judged on."""
        return labels_of(self.windows["train"])

    @cached_property
    def old_labels(self) -> OldLabels | None:
        """Labels that are statistics of later rows."""
        return old_labels(self.recipe.data, self.recipe.model, self.table)

    @cached_property
    def _baselines(self) -> TableBaselines:
        return TableBaselines(self.table, self.windows, old_labels=self.old_labels)

    def boosted_on_validation(self) -> ScoredRows:
        """Return what gradient boosting on the statistics says of the labelled rows of validation."""
        return self._baselines.run(BOOSTED_HISTORY, self.recipe.training.seed)["validation"].labelled

    def fit_baseline(self, name: str, seed: int) -> dict[str, ScoredRows]:
        """Fit the amount or boosted trees."""
        return self._baselines.run(name, seed)

    def tune(self, scored: ScoredRows) -> list[float] | None:
        """Return the threshold of the positive class."""
        threshold = choose_threshold(scored)
        return None if threshold is None else [threshold]


def predict_windows(trainer: MMTabTrainer, windows: WindowDataset, config: Any) -> ScoredRows:
    """Return the scores of the rows that windows are judged on; the trainer's processes share the work."""
    # `compute_metrics` counts the rows of the validation windows.
    computed, trainer.compute_metrics = trainer.compute_metrics, None
    try:
        output = trainer.predict(windows)  # type: ignore[arg-type]
    finally:
        trainer.compute_metrics = computed
    return scored_rows(windows, first_of(output.predictions), config.problem_type)


def metrics_on(windows: WindowDataset, config: Any) -> Callable[[EvalPrediction], dict[str, float]]:
    """Return Trainer's `compute_metrics` for these windows: every judged row counts once."""

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        scored = scored_rows(windows, first_of(prediction.predictions), config.problem_type).labelled
        assert scored.labels is not None
        return scores_for(config.problem_type, scored.labels, scored.probabilities, config.id2label)

    return compute_metrics


def _weights(model: Any) -> str | None:
    """Return how many parameters a model has; None: nothing of it trains by gradients."""
    return parameters(model.num_parameters()) if model.freezable_modules else None

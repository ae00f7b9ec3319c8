"""Pretraining TabBERT on a table: masked cells are recovered, or each next row is predicted."""

import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from ...data.windows.cutting import WindowDataset
from ...data.windows.shard_sampling import shard_sampler
from ...data.windows.shifted_windows import shifted
from ...data.windows.splits import leak_check
from ...evaluation.cell_baselines import FieldScore, field_scores, field_table, guess_masked_cells, most_frequent_ids
from ...evaluation.cell_errors import surest_cell_errors
from ...evaluation.run_results import RunResults
from ...evaluation.scored_rows import ScoredRows
from ...files import whole_file
from ...metrics.masked_cells import MaskedCellMetrics
from ...models.tabbert import TabBertForMaskedLM, TabBertProcessor, TabGPT2Config, TabGPT2LMHeadModel
from ...models.tabbert.processing.column_plan import ColumnPlan
from ...reports.facts import MASKED_LM
from ...tasks import PreparedTable
from ...tasks.saved_processor import PROCESSOR_FILE
from ...tasks.table import PROCESSOR_FOLDER
from ...training import MMTabTrainer
from ...training.callbacks import NamedProgress
from ..console import counted, parameters
from .own_names import TABLE_FOLDER
from .recipe import PretrainingRecipe
from .table_notes import data_summary, leak_sentence, missing_note, stride_note, tell_unseen
from .walk import Run

PLAN_FILE = "column_plan.yaml"
EVALUATED = ("validation", "test")
BATCH_DEPENDENT = ("loss", "model_preparation_time")  # metrics that Trainer adds


class ShortLog(NamedProgress):
    """A progress bar whose log lines leave the numbers of single fields to the log history."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        short = {name: value for name, value in (logs or {}).items() if "/" not in name}
        super().on_log(args, state, control, logs=short, **kwargs)


class PretrainingRun(Run[PretrainingRecipe]):
    """One encoder with one seed."""

    selection = ("masked_loss", False)
    possible_metrics = ("masked_loss", "accuracy")

    table: PreparedTable
    windows: dict[str, WindowDataset]
    metrics: MaskedCellMetrics

    def check(self) -> None:
        """Refuse to go on, or to read results, where `column_plan.yaml` was edited after the run began.

        Raises:
            ValueError: with how to start anew with the edited plan.
        """
        folder = self.recipe.folder
        written = folder / PLAN_FILE
        processors = [folder / TABLE_FOLDER / PROCESSOR_FOLDER, folder]
        saved = next((one for one in processors if (one / PROCESSOR_FILE).exists()), None)
        if self.recipe.run.overwrite or saved is None or not written.exists():
            return
        try:
            plan = ColumnPlan.from_yaml(written)
        except ValueError as error:
            raise ValueError(
                f"Expected the column plan of the run in {str(written)!r}, found {error} Correct that file, or "
                "delete it."
            ) from error
        how = with_plan(folder) if self.recipe.data.rows is None else "prepare the table with it (`plan`)."
        if plan.to_dict() != TabBertProcessor.from_pretrained(saved).plan.to_dict():
            raise ValueError(
                f"Expected {written} as the run wrote it, found it edited; the run there has the plan from before. To "
                f"train with the edited plan: {how} To keep the run, choose another output_dir."
            )

    def prepare(self) -> Any:
        """Encode the table, cut windows, and start the model."""
        recipe, training, task = self.recipe, self.recipe.training, self.recipe.task
        training.batch_eval_metrics, training.remove_unused_columns = True, False
        with training.main_process_first(desc="preparing the table"):
            folder = recipe.folder / TABLE_FOLDER
            self.table = task.prepare(recipe.data, folder, recipe.model.pretrained)
        self.processor = self.table.processor
        rows = self.table.rows
        self.windows = {split: task.windows(recipe.data, rows, split) for split in ("train", *EVALUATED)}
        windows, offsets = self.windows, recipe.run.random_offsets
        if offsets or (offsets is None and recipe.data.split != "paper"):
            data = recipe.data
            windows["train"] = shifted(windows["train"], data.stride, data.max_gap, training.seed)
        self.leaks = {split: leak_check(windows["train"], windows[split], split) for split in EVALUATED}
        self.notes = [leak_sentence(split, leak) for split, leak in self.leaks.items()]
        self.notes += stride_note(recipe.data.seq_len, recipe.data.stride) + missing_note(self.processor)
        model = task.masked_lm(recipe.data, recipe.model, self.processor)
        self.config = model.config
        self.metrics = MaskedCellMetrics(model.config.fields, model.config.mlm_loss == "field")
        self.known_metrics = self.metrics.names
        if training.process_index == 0:
            with whole_file(recipe.folder / PLAN_FILE) as partial:
                self.processor.plan.to_yaml(partial)
        return model

    def describe(self, model: Any) -> str:
        """Return the plan's file, rows, windows, the model, and what leaks."""
        processor, rows, folder = self.processor, self.table.rows, self.recipe.folder
        parts = ", ".join(f"{len(cut):,} {split}" for split, cut in self.windows.items())
        known = {*processor.plan.columns, *processor.plan.label}
        columns = [] if self.table.values is None else self.table.values.column_names
        unread = [name for name in columns if name not in known]
        lines = [
            f"Column plan: {folder / PLAN_FILE}. {self._change_of_plan()}",
            f"{len(rows):,} rows of {counted(rows.num_entities, 'history', 'histories')}; windows: {parts}",
            f"{counted(len(processor.fields), 'field', 'fields')}, {processor.vocab_size:,} ids; model of "
            f"{model.num_parameters():,} parameters",
            *([f"Columns that no field reads: {', '.join(unread)}"] if unread else []),
            *self.notes,
        ]
        return "\n".join(lines)

    def _change_of_plan(self) -> str:
        if self.recipe.data.rows is None:
            return f"To change it: edit the file, then {with_plan(self.recipe.folder)}"
        return f"It is that of the rows in {self.recipe.data.rows}: with another, prepare the table anew."

    def trainer_arguments(self, model: Any) -> dict[str, Any]:
        """Return windows, masking and metrics."""
        return {
            "train_dataset": self.windows["train"],
            "eval_dataset": self.windows["validation"],
            "data_collator": self._masking(trains=True),
            "eval_collator": self._masking(),
            "compute_metrics": self.metrics,
            "train_sampler": shard_sampler(self.windows["train"], self.recipe.training.seed),
        }

    def adjust(self, trainer: MMTabTrainer) -> None:
        """Log few numbers a line."""
        if trainer.pop_callback(NamedProgress) is not None:
            trainer.add_callback(ShortLog())

    def _masking(self, trains: bool = False) -> Any:
        recipe = self.recipe
        seed, next_row = recipe.training.seed, self.config.next_row
        return recipe.task.masking(recipe.run, self.processor, seed, next_row, trains)

    def judge(self, trainer: MMTabTrainer) -> dict[str, Any]:
        """Judge the masked cells of validation and test windows, beside guesses without a model."""
        scores, fields = {}, {}
        for split in EVALUATED:
            loader = trainer.get_eval_dataloader(self.windows[split])
            output = trainer.evaluation_loop(loader, f"Evaluation of {split}", metric_key_prefix=split)
            assert output.metrics is not None
            args, state, control = trainer.args, trainer.state, trainer.control
            # Closes the progress bar.
            trainer.callback_handler.on_predict(args, state, control, output.metrics)
            named = {name.removeprefix(f"{split}_"): value for name, value in output.metrics.items()}
            scores[split] = {name: value for name, value in named.items() if name not in BATCH_DEPENDENT}
            if trainer.is_world_process_zero():
                fields[split] = self._compare_with_guesses(trainer, split)
        unseen, told = tell_unseen(self.table, "test", "test rows", of_missing=False)
        self.notes += told
        return {
            "unseen": unseen,
            "architecture": self.config.model_type,
            "split": "test",
            "metrics": scores,
            "fields": fields,
            "windows": {split: len(cut) for split, cut in self.windows.items()},
            "leaks": self.leaks,
            "skipped": self.table.skipped,
            "details": {"data": data_summary(self.table), "parameters": parameters(trainer.model.num_parameters())},
        }

    def _compare_with_guesses(self, trainer: Any, split: str) -> list[FieldScore]:
        """Judge the guesses on the cells that the model was just judged on."""
        processor, collator = self.processor, trainer.eval_collator
        unknown = [-1] * len(processor.fields) if collator.mask_unknown else processor.unknown_ids()
        usual = most_frequent_ids(self.table.rows, processor.field_ranges, unknown)
        guesses = guess_masked_cells(self.windows[split], collator, usual)
        return field_scores(processor.fields, processor.field_ranges, self.metrics.totals, guesses)

    def judge_saved(self, trainer: Any) -> dict[str, Any]:
        """Return the wrong cells that the saved model is surest of."""
        kind = TabGPT2LMHeadModel if isinstance(self.config, TabGPT2Config) else TabBertForMaskedLM
        model = kind.from_pretrained(self.recipe.folder).to(trainer.args.device).eval()
        windows = self.windows["test"]
        return {"cell_errors": surest_cell_errors(model, self.processor, windows, trainer.eval_collator)}

    def closing_words(self, results: RunResults) -> list[str]:
        """Return the table of fields."""
        split, config = results.split, self.config
        scores = results.fields.get(split, [])
        judged = "Cells of the next row" if config.next_row else "Masked cells"
        summed = "summed over fields" if config.mlm_loss == "field" else "mean of all cells"
        metrics = results.metrics[split]
        return [
            f"\n{judged} of {split} ({results.windows[split]:,} windows), {results.minutes:.1f} minutes:",
            *([field_table(scores)] if scores else []),
            f"all: loss {metrics['masked_loss']:.3f} ({summed}), accuracy {metrics['accuracy']:.3f}; "
            f"{sum(score.lead > 0 for score in scores)} of {len(scores)} fields beat both guesses",
        ]

    def facts(self, results: RunResults, others: Mapping[str, ScoredRows]) -> Mapping[str, Any]:
        """Return title, fields and wrong cells."""
        fields = results.fields[results.split]
        beaten = sum(score.lead > 0 for score in fields)
        is_gpt = isinstance(self.config, TabGPT2Config)
        what = "Predicts the cells of the next row" if self.config.next_row else "Recovers masked cells"
        what += " one after another" if is_gpt else ""
        return {
            "title": f"{'TabGPT' if is_gpt else 'TabBERT'} pretrained on {Path(results.data).name}",
            "problem_type": MASKED_LM,
            "id2label": {},
            "task": f"{what} of {len(fields)} fields; in {beaten} of them better than both guesses that need no model.",
        }

    def predicted(self, results: RunResults) -> Collection[str]:
        """Return no split: cells are judged, and not kept."""
        return ()

    def restore(self) -> None:
        """Read the config of a finished run."""
        self.config = AutoConfig.from_pretrained(self.recipe.folder)


def with_plan(folder: Path) -> str:
    """Return how a run starts anew with the plan that lies in its folder."""
    return f"the same command with `--plan {shlex.quote(str(folder / PLAN_FILE))} --overwrite true`."

"""`pretrain RECIPE.yaml [--field value …]`: TabBERT learns a table by recovering masked cells.

The table is read, split, encoded to disk and cut into windows; the best checkpoint is saved with its processor, and
every field's accuracy stands beside what two guesses without a model are worth. A run that was interrupted resumes.
"""

import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import ProgressCallback, set_seed
from transformers.utils import logging

from ..arguments import PretrainingArguments
from ..data.splits import leak_check
from ..data.windows import WindowDataset
from ..evaluation.cell_baselines import (
    FieldScore,
    field_scores,
    field_table,
    guess_masked_cells,
    most_frequent_ids,
)
from ..evaluation.cell_errors import surest_cell_errors
from ..metrics.masked_cells import MaskedCellMetrics
from ..models.tabbert import TabBertConfig, TabBertForMaskedLM, TabBertProcessor
from ..models.tabbert.column_plan import ColumnPlan
from ..reports.page import PAGE_NAME
from ..tasks import PreparedTable, TableTask
from ..tasks.saved_processor import PROCESSOR_FILE
from ..tasks.table import PROCESSOR_FOLDER
from ..training import MMTabTrainer
from ..training.checkpoints import last_complete_checkpoint
from .console import counted, parameters, say, start_logging
from .pretrain_report import write_pretraining_report
from .run_folder import (
    TABLE_FOLDER,
    Recipe,
    SaveProcessor,
    load_recipe_of,
    resume_or_refuse,
    select_by,
    tell_changed_data,
)
from .run_report import REPORT_FOLDER, RESULT_FILE

logger = logging.get_logger(__name__)

PLAN_FILE = "column_plan.yaml"
EVALUATED = ("validation", "test")
LEAKS = " Leak: a model may remember these rows, so scores are too good. Choose split: time or entity."
BATCH_DEPENDENT = ("loss", "model_preparation_time")  # what Trainer adds to our metrics


class PretrainingTrainer(MMTabTrainer):
    """Masks other cells in each epoch of training, and the same ones at each evaluation.

    Args:
        eval_collator: of evaluations, in place of `data_collator`.
        kwargs: what `MMTabTrainer` takes.
    """

    def __init__(self, *args: Any, eval_collator: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.eval_collator = eval_collator

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Return the loader of an evaluation set, with the evaluations' own collator."""
        training, self.data_collator = self.data_collator, self.eval_collator
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = training

    def enter_epoch(self) -> None:
        """Tell the collator which epoch it is: what it masks follows from that and the seed alone."""
        super().enter_epoch()
        self.data_collator.set_epoch(self.state.global_step // self.steps_per_epoch)


class ShortLog(ProgressCallback):
    """A progress bar whose log lines leave the numbers of single fields to the log history."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        short = {name: value for name, value in (logs or {}).items() if "/" not in name}
        super().on_log(args, state, control, logs=short, **kwargs)


def main(arguments: Sequence[str] | None = None) -> None:
    """Pretrain as the recipe and the command line say."""
    start_logging()
    recipe = load_recipe(list(sys.argv[1:] if arguments is None else arguments))
    results = pretrain(recipe)
    say(results["summary"], recipe.training.process_index == 0)


def load_recipe(arguments: Sequence[str]) -> Recipe:
    """Build the dataclasses of a run.

    Raises:
        ValueError: misspelt key, value of the wrong type, no such task.
    """
    return load_recipe_of(arguments, "pretrain", TableTask, PretrainingArguments)


def pretrain(recipe: Recipe) -> dict[str, Any]:
    """Train and evaluate one run; a finished run is only read.

    Returns:
        What `results.json` holds.
    """
    folder = Path(recipe.training.output_dir)
    refuse_edited_plan(recipe, folder)
    if (done := resume_or_refuse(recipe, folder)) is not None:
        logger.info(f"{folder} holds this run already; reading its results.")
        tell_changed_data(done, recipe.task.data_digest(recipe.data), folder)
        return done
    started = time.time()
    training, task = recipe.training, recipe.task
    training.batch_eval_metrics, training.remove_unused_columns = True, False
    select_by(training, "masked_loss", greater_is_better=False)
    set_seed(training.seed)
    with training.main_process_first(desc="preparing the table"):
        table = task.prepare(recipe.data, folder / TABLE_FOLDER, recipe.model.pretrained)
    windows = {split: task.windows(recipe.data, table.rows, split) for split in ("train", *EVALUATED)}
    leaks = {split: leak_check(windows["train"], windows[split], split) for split in EVALUATED}
    model = task.masked_lm(recipe.data, recipe.model, table.processor)
    if training.process_index == 0:
        table.processor.plan.to_yaml(folder / PLAN_FILE)
        say(f"Column plan: {folder / PLAN_FILE}. To change it: edit the file, then {with_plan(folder)}")
        say(describe(table, windows, leaks, model))

    collator = task.masking(recipe.run, table.processor, training.seed, model.config.next_row)
    metrics = MaskedCellMetrics(model.config.fields, model.config.mlm_loss == "field")
    trainer = PretrainingTrainer(
        model=model,
        args=training,
        train_dataset=windows["train"],
        eval_dataset=windows["validation"],
        data_collator=collator,
        eval_collator=task.masking(recipe.run, table.processor, training.seed, model.config.next_row),
        compute_metrics=metrics,
        callbacks=[SaveProcessor(table.processor)],
    )
    if not training.disable_tqdm:
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(ShortLog)
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(str(folder)))
    trainer.save_model()
    trainer.save_state()
    if trainer.is_world_process_zero():
        table.processor.save_pretrained(folder)

    scores, fields = {}, {}
    for split in EVALUATED:
        found = trainer.evaluation_loop(
            trainer.get_eval_dataloader(windows[split]), f"Evaluation of {split}", metric_key_prefix=split
        )
        assert found.metrics is not None
        trainer.callback_handler.on_predict(
            training, trainer.state, trainer.control, found.metrics
        )  # ends its bar
        named = {name.removeprefix(f"{split}_"): value for name, value in found.metrics.items()}
        scores[split] = {name: value for name, value in named.items() if name not in BATCH_DEPENDENT}
        if trainer.is_world_process_zero():
            fields[split] = beside_guesses(table, windows[split], trainer.eval_collator, metrics)
    results = {
        "architecture": "tabbert",
        "data": recipe.data.data,
        "data_digest": recipe.task.data_digest(recipe.data),
        "seed": training.seed,
        "minutes": (time.time() - started) / 60,
        "split": "test",
        "metrics": scores,
        "fields": {split: [dataclasses.asdict(score) for score in found] for split, found in fields.items()},
        "windows": {split: len(found) for split, found in windows.items()},
        "leaks": leaks,
        "notes": [leak_sentence(split, leak) for split, leak in leaks.items()],
        "skipped": [record.to_dict() for record in table.skipped],
        "details": {"parameters": parameters(model.num_parameters())},
    }
    if trainer.is_world_process_zero():
        trained = TabBertForMaskedLM.from_pretrained(folder).to(training.device).eval()
        wrong = surest_cell_errors(trained, table.processor, windows[results["split"]], trainer.eval_collator)
        results["cell_errors"] = [dataclasses.asdict(error) for error in wrong]
    results["summary"] = summarise(folder, results, fields, model.config)
    if trainer.is_world_process_zero():
        (folder / RESULT_FILE).write_text(json.dumps(results, indent=1), encoding="utf-8")
        write_pretraining_report(folder, recipe.command, recipe.run.license)
    trainer.accelerator.wait_for_everyone()
    return results


def with_plan(folder: Path) -> str:
    """Say how a run starts anew with the plan that lies in its folder."""
    return f"the same command with `--plan {shlex.quote(str(folder / PLAN_FILE))} --overwrite true`."


def refuse_edited_plan(recipe: Recipe, folder: Path) -> None:
    """Refuse to go on, or to read results, where `column_plan.yaml` was edited after the run began.

    Raises:
        ValueError: with how to start anew with the edited plan.
    """
    written = folder / PLAN_FILE
    processors = [folder / TABLE_FOLDER / PROCESSOR_FOLDER, folder]
    saved = next((one for one in processors if (one / PROCESSOR_FILE).exists()), None)
    if recipe.run.overwrite or saved is None or not written.exists():
        return
    mine = TabBertProcessor.from_pretrained(saved).plan.to_dict()
    if ColumnPlan.from_yaml(written).to_dict() != mine:
        raise ValueError(
            f"Expected {written} as the run wrote it, found it edited; the run there has the plan from before. To "
            f"train with the edited plan: {with_plan(folder)} To keep the run, choose another output_dir."
        )


def beside_guesses(
    table: PreparedTable, windows: WindowDataset, collator: Any, metrics: MaskedCellMetrics
) -> list[FieldScore]:
    """Judge the guesses on the cells that the model was just judged on."""
    processor = table.processor
    unknown = [-1] * len(processor.fields) if collator.mask_unknown else processor.unknown_ids()
    usual = most_frequent_ids(table.rows, processor.field_ranges, unknown)
    guesses = guess_masked_cells(windows, collator, usual)
    return field_scores(processor.fields, processor.field_ranges, metrics.totals, guesses)


def describe(
    table: PreparedTable, windows: dict[str, WindowDataset], leaks: dict[str, Any], model: Any
) -> str:
    """Return what is about to be trained, on what, and what leaks."""
    processor = table.processor
    parts = ", ".join(f"{len(found):,} {split}" for split, found in windows.items())
    known = {*processor.plan.columns, *processor.plan.label}
    unread = [name for name in table.dataset.column_names if name not in known]
    lines = [
        f"{len(table.rows):,} rows of {counted(len(table.rows.entity_starts), 'history', 'histories')}; "
        f"windows: {parts}",
        f"{counted(len(processor.fields), 'field', 'fields')}, {processor.vocab_size:,} ids; model of "
        f"{model.num_parameters():,} parameters",
        *([f"Columns that no field reads: {', '.join(unread)}"] if unread else []),
        *(leak_sentence(split, leak) for split, leak in leaks.items()),
    ]
    return "\n".join(lines)


def leak_sentence(split: str, leak: dict[str, Any]) -> str:
    """Say what a split shares with training, and that it leaks where labelled rows are shared."""
    return (
        f"Of {leak['windows']:,} {split} windows, {leak['sharing_labelled_rows']:,} "
        f"({leak['sharing_labelled_rows_share']:.1%}) are judged on rows that training windows contain, and "
        f"{leak['sharing_entities']:,} ({leak['sharing_entities_share']:.1%}) belong to an entity of training."
        + (LEAKS if leak["sharing_labelled_rows"] else "")
    )


def summarise(
    folder: Path, results: dict[str, Any], fields: dict[str, list[FieldScore]], config: TabBertConfig
) -> str:
    """Return the closing words of a run."""
    split = results["split"]
    found = fields.get(split, [])
    judged = "Cells of the next row" if config.next_row else "Masked cells"
    summed = "summed over fields" if config.mlm_loss == "field" else "mean of all cells"
    lines = [
        f"\n{judged} of {split} ({results['windows'][split]:,} windows), {results['minutes']:.1f} minutes:",
        *([field_table(found)] if found else []),
        f"all: loss {results['metrics'][split]['masked_loss']:.3f} ({summed}), "
        f"accuracy {results['metrics'][split]['accuracy']:.3f}; "
        f"{sum(score.lead > 0 for score in found)} of {len(found)} fields beat both guesses",
        f"Model, processor and card: {folder}",
        f"Report: {folder / REPORT_FOLDER / PAGE_NAME}",
    ]
    return "\n".join(lines)

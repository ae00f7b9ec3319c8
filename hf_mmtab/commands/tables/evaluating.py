"""`eval_checkpoint` for tables: a split of a table, or all of it, judged at the saved threshold."""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ...data.windows.cutting import IGNORED, WindowDataset, WindowLabel
from ...data.windows.splits import SPLITS, leak_check
from ...data.windows.window_index import DEFAULT_SEQ_LEN
from ...evaluation.judging import judge_splits
from ...evaluation.run_results import RunResults
from ...models.tabbert.collating_tabbert import TabBertCollator
from ...tasks import PreparedTable, TableTask, get_task
from ...tasks.checkpoints import data_arguments, load_head, recipe_of
from ...tasks.table_heads import beside_ids
from ...training import MMTabTrainer
from ..console import rank
from ..outputs import draft_of
from ..runs.own_names import TABLE_FOLDER
from ..runs.report import finish_evaluation, predictions_file
from ..runs.table_facts import table_facts
from ..runs.table_heads import predict_windows
from ..runs.table_notes import leak_sentence, same_data, tell_unseen
from ..scoring_flags import evaluation_arguments
from .orderings import ordered_surprise

ALL_ROWS = "all"


def evaluate_table(options: argparse.Namespace, command: str) -> RunResults:
    """Evaluate one split of a table.

    Raises:
        ValueError: if there is no such split, no label, another kind of label, or the checkpoint has no head.
    """
    started = time.time()
    model = load_head(options.checkpoint)
    config, split = model.config, options.split
    folder = Path(options.out)
    with draft_of(folder / f"rows-{rank()}") as draft:
        scratch = draft / TABLE_FOLDER
        scratch.mkdir()
        table, windows, notes = judged_windows(options, config, scratch)
        model.check_processor(table.processor.fingerprint)
        table.ordered = ordered_surprise(table, scratch)
        windows.beside = beside_ids(table, config.statistics, getattr(model, "reads_times", False))
        arguments = evaluation_arguments(options, model, remove_unused_columns=False)
        collator = TabBertCollator(table.processor, row_labels=config.label_level == "row")
        trainer = MMTabTrainer(model=model, args=arguments, data_collator=collator)
        scored = {split: predict_windows(trainer, windows, config)}
        judged = np.unique(scored[split].rows)
        unseen, told = tell_unseen(table, judged, "judged rows")
        notes += told
        results = RunResults(
            **judge_splits(scored, config, split, options.bootstrap, options.resample_by),
            checkpoint=options.checkpoint,
            architecture=type(model).__name__,
            data=options.data,
            window_label=config.window_label,
            seq_len=config.seq_len,
            windows={split: len(windows)},
            unseen=unseen,
            notes=notes,
            skipped=table.skipped,
            minutes=(time.time() - started) / 60,
        )
        if trainer.is_world_process_zero():
            scored[split].save(predictions_file(folder, split), table.rows.row_numbers)
            explained = options.checkpoint if options.reasons else None
            own = table_facts(results, config, table, {split: windows}, scored, explained=explained)
            finish_evaluation(folder, results, command, own)
    return results


def judged_windows(
    options: argparse.Namespace, config: Any, scratch: Path
) -> tuple[PreparedTable, WindowDataset, list[str]]:
    """Encode the table and cut the windows of the split, as the run did; say what the split shares with training.

    Raises:
        ValueError: if there is no such split, or no labels of the model's kind.
    """
    if options.split not in (*SPLITS, ALL_ROWS):
        raise ValueError(f"Expected --split to be one of {[*SPLITS, ALL_ROWS]}, found {options.split!r}.")
    recipe = recipe_of(options.checkpoint)
    task = get_task(options.task or recipe.get("task", TableTask.default), TableTask)
    data = data_arguments(recipe, task, options.data, options.on_bad_record, options.separator)
    if options.label_column is not None:
        data.label_columns = [options.label_column]
    label: WindowLabel = config.window_label or "last"
    seq_len = config.seq_len or DEFAULT_SEQ_LEN
    apart = {"last": 1, "any": seq_len, "every": max(1, seq_len // 2)}[label]
    stride = recipe.get("stride") or apart
    data = replace(data, seq_len=seq_len, max_gap=config.max_gap, stride=stride)
    if data.eval_stride is None and data.split != "paper":
        data.eval_stride = config.eval_stride or apart
    split = options.split
    if split == ALL_ROWS:
        data = replace(data, split="time", split_fractions=[1.0, 0.0, 0.0], stride=data.eval_stride or stride)
        split = "train"
    table = task.prepare(data, scratch, options.checkpoint, needs_label=True)
    number_labels(table, config)
    windows = task.windows(data, table.rows, split, label, judges=True)
    notes = seen_note(recipe.get("data"), options.data, options.split)
    if options.split in ("validation", "test"):
        leak = leak_check(task.windows(data, table.rows, "train", label), windows, options.split)
        notes = [leak_sentence(options.split, leak)]
    return table, windows, notes


def seen_note(trained_on: str | None, data: str, split: str) -> list[str]:
    """Say where rows are judged that the model was trained on.

    Args:
        trained_on: `data` of the checkpoint's recipe, if it has one.
        data: that is judged.
        split: that is judged.
    """
    if trained_on is None or split not in ("train", ALL_ROWS):
        return []
    if not same_data(trained_on, data):
        return []
    what = "its training rows" if split == "train" else "all of its rows, those that it learned from too,"
    return [
        f"The model was trained on this table, and {what} are judged here: the numbers are too good for new data. "
        "`--split test` judges the rows that it has not seen."
    ]


def number_labels(table: PreparedTable, config: Any) -> None:
    """Number the labels of a table's rows as the model does, by name.

    Raises:
        ValueError: if the rows have a label that the model does not know, or another kind of label.
    """
    rows, known = table.rows, list(config.id2label.values())
    assert rows.labels is not None
    if config.problem_type == "regression":
        values = pl.Series(rows.label_names, dtype=pl.String).cast(pl.Float32, strict=False)
        if len(known) == 1 and len(values) and not values.null_count():  # few different numbers are read as classes
            codes = np.array(rows.labels)
            rows.labels = np.where(codes >= 0, values.to_numpy()[np.maximum(codes, 0)], np.float32(np.nan))[:, None]
            rows.label_names = []
        targets = rows.labels.shape[1] if rows.labels.ndim > 1 else 0
        if targets != len(known):
            raise ValueError(
                f"Expected numbers for the {len(known)} targets {', '.join(known)}, found {targets or 'classes'}. Name "
                "the columns with `label_columns`, or give another table."
            )
        return
    if not rows.label_names or (unknown := [name for name in rows.label_names if name not in known]):
        found = ", ".join(unknown) if rows.label_names else "numbers" if rows.labels.ndim > 1 else "no label in any row"
        raise ValueError(
            f"Expected labels that the model knows ({', '.join(known)}), found {found}. Rename or remove these rows."
        )
    if rows.label_names != known:
        number = np.array([known.index(name) for name in rows.label_names])
        labels = np.array(rows.labels)
        rows.labels = np.where(labels >= 0, number[np.maximum(labels, 0)], IGNORED).astype(np.int16)
        rows.label_names = known

"""`generate CHECKPOINT OUT`: rows like those that a TabGPT was trained on, drawn cell by cell.

With `--condition TABLE` the rows go on from each history's past. OUT has the entity's columns, the time, and the
columns that fields read: a category as it is, a number drawn within its bin. The same seed gives the same rows.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from ..evaluation.unseen_values import unseen_note, unseen_values
from ..models.tabbert import TabBertProcessor, TabGPT2Config, TabGPT2LMHeadModel
from ..models.tabbert.drawn_rows import draw_rows
from ..progress import progress_bar
from ..tasks.checkpoints import saved_config
from ..tasks.saved_processor import open_processor
from .console import counted, say, start_logging
from .damaged_files import damage_named
from .flags import parse
from .outputs import check_output, draft_of
from .runs.table_notes import warn_each
from .tables.blocks import encode_table
from .tables.window_blocks import current_device
from .tables.writer import check_suffix, table_writer

START = "2020-01-01"  # before the first row of new histories


def main(arguments: Sequence[str]) -> None:
    """Generate as the command line says."""
    start_logging()
    options = parse("generate", arguments)
    out = Path(options.out)
    check_suffix(out)
    check_output(out, [options.checkpoint, *([options.condition] if options.condition else [])])
    if options.start is not None and options.condition:
        raise ValueError(
            "Expected --start for new histories alone, found it beside --condition. Leave one of them out."
        )
    if len(set(options.entities or ())) != len(options.entities or ()):
        raise ValueError(
            f"Expected each name of --entities once, found {' '.join(options.entities)}: two histories would be taken "
            "for one. Take other names."
        )
    if out.exists():
        raise ValueError(f"Expected a new file to write, found {options.out!r}. Choose another name.")
    with damage_named(options.checkpoint):
        histories = generate(options)
    told = counted(histories, "history", "histories")
    say(f"{counted(histories * options.rows, 'row', 'rows')} of {told} in {options.out}")


def generate(options: argparse.Namespace) -> int:
    """Write the rows; return the number of histories.

    Raises:
        ValueError: if the checkpoint is no TabGPT, or the table has no history of that name.
    """
    config = saved_config(options.checkpoint)
    if not isinstance(config, TabGPT2Config):
        raise ValueError(
            f"Expected a TabGPT in {options.checkpoint!r}, found a model of type {config.model_type!r}. Train one with "
            "`hf-mmtab pretrain RECIPE.yaml --architecture gpt2`, or convert the original's."
        )
    processor = open_processor(options.checkpoint)
    model = TabGPT2LMHeadModel.from_pretrained(options.checkpoint, dtype="float32").to(current_device()).eval()
    model.check_processor(processor.fingerprint)
    out = Path(options.out)
    with (
        tempfile.TemporaryDirectory() as folder,
        draft_of(out) as draft,
        table_writer(draft / out.name, out.suffix) as write,
    ):
        past = _past(options, config, Path(folder)) if options.condition else _no_past(options, processor)
        count = len(past.last)
        with progress_bar(total=count, unit=" histories", desc="Generating") as progress:
            for numbers in np.split(np.arange(count), range(options.batch_size, count, options.batch_size)):
                write(_generate(model, processor, past, numbers, options))
                progress.update(len(numbers))
    return count


class Past(NamedTuple):
    """What histories go on from.

    Args:
        names: entity column → the name of each history.
        last: microseconds of the row before the first new one, `(histories,)`.
        ids: number of a history → ids of its last rows, `(rows, fields)`.
        in_kind: turns microseconds into what the time column holds.
    """

    names: dict[str, pa.Array]
    last: np.ndarray
    ids: Callable[[int], np.ndarray]
    in_kind: Callable[[np.ndarray], pa.Array]


def _past(options: argparse.Namespace, config: TabGPT2Config, folder: Path) -> Past:
    source = (options.checkpoint, options.condition, folder, options.task, options.on_bad_record)
    table = encode_table(*source, separator=options.separator)
    rows = table.rows
    warn_each(unseen_note(unseen_values(rows, table.processor), "rows that histories go on from"))
    names = {name: pa.array(rows.entity_names[name].to_arrow()) for name in rows.entity_names.columns}
    chosen = np.arange(len(rows.entity_starts))
    if options.entities:
        owners = next(iter(names.values()), pa.array([], pa.string())).cast(pa.string())
        if absent := sorted(set(options.entities) - set(owners.to_pylist())):
            known = ", ".join(sorted(set(owners.to_pylist()))[:5]) or "no entity columns"
            raise ValueError(
                f"Expected histories of {', '.join(absent)} in {options.condition!r}, found none. There are {known} …"
            )
        chosen = np.flatnonzero(pc.is_in(owners, value_set=pa.array(options.entities)).to_numpy(False))
    stops = np.append(rows.entity_starts[1:], len(rows))[chosen]
    begins = np.maximum(rows.entity_starts[chosen], stops - config.max_rows)
    return Past(
        {name: one.take(pa.array(chosen)) for name, one in names.items()},
        np.array(rows.time)[stops - 1],
        lambda number: rows.take(np.arange(begins[number], stops[number])),
        table.in_kind,
    )


def _no_past(options: argparse.Namespace, processor: TabBertProcessor) -> Past:
    names = pa.array(options.entities or ["new"])
    last = np.full(len(names), np.datetime64(options.start or START, "us").astype(np.int64))
    none = np.empty((0, len(processor.fields)), dtype=np.int64)
    return Past(
        dict.fromkeys(processor.plan.entity, names),
        last,
        lambda _: none,
        lambda times: pa.array(times.astype("datetime64[us]")),
    )


def _generate(
    model: TabGPT2LMHeadModel, processor: TabBertProcessor, past: Past, numbers: np.ndarray, options: argparse.Namespace
) -> pa.Table:
    """Return the new rows of some histories."""
    known = [past.ids(number) for number in numbers]
    drawn: dict[str, Any] = {"seed": options.seed, "numbers": numbers.tolist()}
    ids = model.generate_rows(
        [torch.from_numpy(one) for one in known],
        options.rows,
        temperature=options.temperature,
        # [UNK] has no value, and [MISSING] of a column that misses none was never trained.
        forbidden=[*processor.unknown_ids(), *processor.ids_without_rows()],
        fixed=_fixed(processor, known),
        **drawn,
    )
    columns = draw_rows(processor, ids.numpy(), past.last[numbers], **drawn)
    time = processor.plan.time
    if time in columns and pa.types.is_timestamp(columns[time].type):
        columns[time] = past.in_kind(columns[time].to_numpy().astype(np.int64))
    owner = pa.array(np.repeat(numbers, options.rows))
    names = {name: one.take(owner) for name, one in past.names.items()}
    return pa.table(names | {name: one for name, one in columns.items() if name not in names})


def _fixed(processor: TabBertProcessor, known: Sequence[np.ndarray]) -> torch.Tensor:
    """Return the ids that columns always get, `(histories, fields)`: [SEP], and what is the same in all past rows."""
    fixed = np.full((len(known), len(processor.fields)), -1)
    entity = [str(processor.plan.source(one)) in processor.plan.entity for one in processor.plan.fields]
    static = np.array(processor.static_fields()) | np.array(entity + [False] * processor.plan.sep_column)
    for row, ids in enumerate(known):
        if len(ids):
            fixed[row, static] = ids[-1, static]
    if processor.plan.sep_column:
        fixed[:, -1] = processor.sep_token_id
    return torch.from_numpy(fixed)

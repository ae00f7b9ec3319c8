"""`generate CHECKPOINT OUT`: rows like those that a TabGPT was trained on, drawn cell by cell.

With `--condition TABLE` the rows go on from each history's past. OUT has the entity's columns, the time, and the
columns that fields read: a category as it is, a number drawn within its bin. The same seed gives the same rows.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import AutoConfig

from ..models.tabbert import TabBertProcessor, TabGPT2Config, TabGPT2LMHeadModel
from ..models.tabbert.drawn_rows import draw_rows
from ..progress import progress_bar
from ..tasks.saved_processor import open_processor
from .console import say, start_logging
from .damaged_files import damage_named
from .outputs import check_output, draft_of
from .tables.blocks import EncodedTable, current_device, encode_table
from .tables.writer import check_suffix, table_writer


def main(arguments: Sequence[str]) -> None:
    """Generate as the command line says."""
    start_logging()
    options = _parser().parse_args(arguments)
    out = Path(options.out)
    check_suffix(out)
    check_output(out, [options.checkpoint, *([options.condition] if options.condition else [])])
    if out.exists():
        raise ValueError(f"Expected a new file to write, found {options.out!r}. Choose another name.")
    with damage_named(options.checkpoint):
        histories = generate(options)
    say(f"{histories * options.rows:,} rows of {histories:,} histories in {options.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hf_mmtab generate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="folder or Hub name of a TabGPT with its processor")
    parser.add_argument("out", help="file to write: .parquet, .jsonl or .csv")
    parser.add_argument("--rows", type=int, default=10, help="new rows of each history (10)")
    parser.add_argument("--condition", metavar="TABLE", help="file or folder whose histories go on")
    parser.add_argument(
        "--entities",
        nargs="+",
        metavar="NAME",
        help="first entity column: which histories of TABLE go on (all); without TABLE names of new histories (new)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (0)")
    parser.add_argument("--temperature", type=float, default=1.0, help="below 1: likelier values more often")
    parser.add_argument(
        "--start",
        type=datetime.fromisoformat,
        default=datetime(2020, 1, 1),
        help="new histories: the time before their first row (2020-01-01)",
    )
    parser.add_argument("--batch_size", type=int, default=64, help="histories at once (64)")
    parser.add_argument(
        "--task", help="which reader of TABLE; default: that of the checkpoint's recipe, else table"
    )
    parser.add_argument("--on_bad_record", choices=["raise", "skip"], default="raise")
    return parser


def generate(options: argparse.Namespace) -> int:
    """Write the rows; return the number of histories.

    Raises:
        ValueError: if the checkpoint is no TabGPT, or the table has no history of that name.
    """
    config = AutoConfig.from_pretrained(options.checkpoint)
    if not isinstance(config, TabGPT2Config):
        raise ValueError(
            f"Expected a TabGPT in {options.checkpoint!r}, found a model of type {config.model_type!r}. Train one with "
            "`hf-mmtab pretrain RECIPE.yaml --architecture gpt2`, or convert the original's."
        )
    processor = open_processor(options.checkpoint)
    model = (
        TabGPT2LMHeadModel.from_pretrained(options.checkpoint, dtype="float32").to(current_device()).eval()
    )
    model.check_processor(processor.fingerprint)
    out = Path(options.out)
    with (
        tempfile.TemporaryDirectory() as folder,
        draft_of(out) as draft,
        table_writer(draft / out.name, out.suffix) as write,
    ):
        past = _known(options, Path(folder)) if options.condition else _new(options, processor)
        with progress_bar(total=len(past), unit=" histories", desc="Generating") as progress:
            for numbers in past.batches(options.batch_size):
                write(_generate(model, processor, past, numbers, options))
                progress.update(len(numbers))
    return len(past)


class Histories:
    """Histories that go on.

    Args:
        names: entity column → the name of each history.
        last: microseconds of the row before the first new one, `(histories,)`.
        table: with the past rows; None: there are none.
        places: of the histories among those of the table, `(histories,)`.
    """

    def __init__(
        self,
        names: dict[str, pa.Array],
        last: np.ndarray,
        table: EncodedTable | None = None,
        places: np.ndarray | None = None,
    ) -> None:
        self.names, self.last, self.table, self.places = names, last, table, places

    def __len__(self) -> int:
        return len(self.last)

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """Yield the numbers of `size` histories at a time."""
        yield from np.split(np.arange(len(self)), range(size, len(self), size))

    def ids(self, number: int, most: int, fields: int) -> np.ndarray:
        """Return the ids of a history's last rows, `(at most `most`, fields)`."""
        if self.table is None or self.places is None:
            return np.empty((0, fields), dtype=np.int64)
        starts = np.append(self.table.rows.entity_starts, len(self.table.rows))
        first, stop = starts[self.places[number]], starts[self.places[number] + 1]
        return self.table.rows.take(np.arange(max(first, stop - most), stop))

    def in_kind_of_table(self, times: pa.Array, time: str) -> pa.Array:
        """Return generated moments as the table has its time column: moments, or numbers in its unit."""
        if self.table is None or not pa.types.is_timestamp(times.type):
            return times
        return self.table.in_kind(times.cast(pa.int64()).to_numpy())


def _known(options: argparse.Namespace, folder: Path) -> Histories:
    table = encode_table(options.checkpoint, options.condition, folder, options.task, options.on_bad_record)
    rows = table.rows
    names = {name: pa.array(rows.entity_names[name].to_arrow()) for name in rows.entity_names.columns}
    places = np.arange(len(rows.entity_starts))
    if options.entities:
        first = next(iter(names.values()), pa.array([], pa.string())).cast(pa.string()).to_pylist()
        if absent := sorted(set(options.entities) - set(first)):
            shown = ", ".join(sorted(set(first))[:5]) or "no entity column"
            raise ValueError(
                f"Expected histories of {', '.join(absent)} in {options.condition!r}, found none. There are {shown} …"
            )
        places = np.array([i for i, one in enumerate(first) if one in set(options.entities)])
    last = np.array(rows.time)[np.append(rows.entity_starts[1:], len(rows)) - 1]
    return Histories({k: v.take(pa.array(places)) for k, v in names.items()}, last[places], table, places)


def _new(options: argparse.Namespace, processor: TabBertProcessor) -> Histories:
    names = pa.array(options.entities or ["new"])
    start = np.datetime64(options.start, "us").astype(np.int64)
    return Histories(dict.fromkeys(processor.plan.entity, names), np.full(len(names), start))


def _generate(
    model: TabGPT2LMHeadModel,
    processor: TabBertProcessor,
    past: Histories,
    numbers: np.ndarray,
    options: argparse.Namespace,
) -> pa.Table:
    """Return the new rows of some histories."""
    known = [past.ids(n, model.config.max_rows, model.config.num_fields) for n in numbers]
    settings: dict[str, Any] = {"seed": options.seed, "numbers": numbers.tolist()}
    ids = model.generate_rows(
        [torch.from_numpy(one) for one in known],
        options.rows,
        temperature=options.temperature,
        # [UNK] has no value, and [MISSING] of a column that misses none was never trained.
        forbidden=[*processor.unknown_ids(), *processor.ids_without_rows()],
        fixed=_fixed(processor, known),
        **settings,
    ).numpy()
    columns = draw_rows(processor, ids, past.last[numbers], **settings)
    chosen = pa.array(np.repeat(numbers, options.rows))
    columns = {name: one.take(chosen) for name, one in past.names.items()} | {
        name: one for name, one in columns.items() if name not in past.names
    }
    time = processor.plan.time
    if time in columns:
        columns[time] = past.in_kind_of_table(columns[time], time)
    return pa.table(columns)


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

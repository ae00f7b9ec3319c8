"""`predict` and `embed` on a Ray cluster: shards of whole histories, scored by workers that hold a model each."""

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...data.image_text_loading import warn_about
from ...data.shards.preparing import prepare_rows
from ...data.shards.writing import TableShards, count_shards
from ...data.windows.encoded_rows import CountedIds
from ...data.windows.histories import require_columns
from ...data.windows.sharded_rows import read_arrays
from ...statistics.features import LATELY, OF_ALL_HISTORIES, USUAL
from ...statistics.of_all_histories import OfAllHistories
from ...statistics.reading import typed_columns, typed_times
from ...tasks import TableTask, get_task
from ...tasks.checkpoints import data_arguments, recipe_of
from ...tasks.saved_processor import open_processor
from ..outputs import draft_of
from ..runs.own_names import TABLE_FOLDER
from .blocks import EncodedTable, Scorer
from .window_blocks import ALL_ROWS
from .writer import table_writer

PARTS = "parts"  # one Parquet file for each shard


@dataclass(frozen=True)
class RayScores:
    """What scoring a table on Ray gave, beside the output.

    Args:
        told: what the scorers counted.
        ids: how often each id occurs in the rows.
        skipped: rows that could not be read.
    """

    told: Counter[str]
    ids: CountedIds
    skipped: int


def score_on_ray(
    options: argparse.Namespace, make: Callable[[argparse.Namespace], Scorer], spreadsheet_safe: bool = False
) -> RayScores:
    """Read a table into shards of whole histories, score each with the scorer that a worker made, write the output.

    The output, `options.out`, is one file, or without an ending a folder with a Parquet file for each shard. Its rows
    are those that one process writes, a history's together, in the order of time; histories come shard by shard.

    Args:
        options: of the command line, with `ray_address`.
        make: makes a scorer of the options, once in each worker.
        spreadsheet_safe: see `table_writer`.

    Raises:
        ImportError: if Ray is not installed.
        ValueError: if the table does not fit the model, or the model reads what rows of other histories tell.
    """
    from ...data.shards.ray_engine import RayEngine

    if Path(options.checkpoint).exists():
        options.checkpoint = str(Path(options.checkpoint).resolve())  # workers have a working directory of their own
    processor, out = open_processor(options.checkpoint), Path(options.out)
    groups = _groups_of_all(processor.statistics, options.checkpoint)
    with draft_of(out) as draft:
        scratch = draft / TABLE_FOLDER
        parts = draft / (PARTS if out.suffix else out.name)
        for folder in (scratch, parts):
            folder.mkdir()
        engine = RayEngine(scratch, options.ray_address)
        try:
            shards, numbers, offsets, skipped = _scattered(engine, options, processor, scratch)
            if groups:
                _look_at_all(engine, processor, groups, shards, numbers, offsets)
            worker = partial(_ShardScorer, make, options, shards, offsets, parts)
            told: Counter[str] = Counter()
            for one in engine.map_with(worker, list(enumerate(numbers))):
                told.update(one)
        finally:
            engine.close()
        files = [parts / f"{place:05}.parquet" for place in range(len(numbers))]
        ids = CountedIds.added(_counts_file(shards, place) for place in range(len(numbers)))
        for left in set(parts.iterdir()) - set(files):  # of workers that were lost
            left.unlink()
        if out.suffix:
            with table_writer(draft / out.name, out.suffix, spreadsheet_safe) as write:
                for file in files:
                    for batch in pq.ParquetFile(file).iter_batches():
                        write(pa.Table.from_batches([batch]))
        return RayScores(told, ids, skipped)


def _groups_of_all(statistics: dict[str, Any] | None, checkpoint: str) -> tuple[str, ...]:
    """Return the groups of statistics of all histories that a model reads.

    Raises:
        ValueError: if some of them need labels, or encoders of other orderings.
    """
    groups = tuple(group for group in (statistics or {}).get("groups", ()) if group in OF_ALL_HISTORIES)
    if others := [group for group in groups if group not in (LATELY, USUAL)]:
        raise ValueError(
            f"Expected a model that reads neither old labels nor other orderings for --engine ray, found one that "
            f"reads statistics of the groups {', '.join(others)} in {checkpoint!r}. Score with --engine local, or "
            "fine-tune without label_lag and orderings."
        )
    return groups


def _look_at_all(
    engine: Any, processor: Any, groups: tuple[str, ...], shards: TableShards, numbers: list[int], offsets: np.ndarray
) -> None:
    """Make statistics of all histories, a file for each shard."""
    starts = np.cumsum([0, *(shards.facts(number).rows for number in numbers)])
    columns = partial(typed_columns, shards, processor.bare(), numbers, offsets)
    times = partial(typed_times, shards, numbers, offsets)
    files = [_of_all_file(shards, place) for place in range(len(numbers))]
    crowded = frozenset(processor.statistics["crowded"])
    OfAllHistories(starts, times, columns, shards.folder / "of-all", groups, crowded=crowded).run(engine, files)


def _of_all_file(shards: TableShards, place: int) -> Path:
    return shards.folder / f"of-all-{place:06}.arrow"


def _scattered(
    engine: Any, options: argparse.Namespace, processor: Any, scratch: Path
) -> tuple[TableShards, list[int], np.ndarray, int]:
    """Bring the rows of the input into shards; return these, their numbers, rows before each piece, and bad rows.

    Raises:
        BadRecordError: at a broken row, unless they are to be skipped.
        ValueError: if the table has no row, or lacks a column.
    """
    recipe, plan = recipe_of(options.checkpoint), processor.plan
    reader = get_task(options.task or recipe.get("task", TableTask.default), TableTask)
    arguments = data_arguments(recipe, reader, options.input, options.on_bad_record, options.separator)
    table = reader.builder_of(arguments, scratch, options.checkpoint)
    require_columns(list(table.info.features or ()), plan.columns)
    count, with_values = count_shards(table, plan, engine.workers), processor.statistics is not None
    shards = TableShards(scratch, table, plan, (), count, with_values=with_values)
    pieces = table.pieces(engine.piece_rows)
    numbers = engine.scatter(shards, pieces, options.on_bad_record, None)
    offsets, skipped = shards.rows_before(len(pieces), options.input)
    shards.look_over(numbers, int(offsets[-1]))
    return shards, numbers, offsets, len(warn_about(skipped))


class _ShardScorer:
    """What a worker holds: a scorer, for one shard after another.

    Args:
        make, options: of the scorer.
        shards: of the table.
        offsets: rows of the table before each piece.
        parts: folder to write to.
    """

    def __init__(
        self,
        make: Callable[[argparse.Namespace], Scorer],
        options: argparse.Namespace,
        shards: TableShards,
        offsets: np.ndarray,
        parts: Path,
    ) -> None:
        self.scorer, self.shards, self.offsets, self.parts = make(options), shards, offsets, parts
        self.processor = open_processor(options.checkpoint)

    def __call__(self, item: tuple[int, int]) -> Counter[str]:
        """Score a shard; return what the scorer counted.

        Args:
            item: place of the shard among those that hold rows, and its number.
        """
        place, number = item
        self.scorer.told.clear()
        with (
            tempfile.TemporaryDirectory(prefix="hf_mmtab-") as scratch,
            _renamed(self.parts / f"{place:05}.parquet") as file,
            table_writer(file, ".parquet") as write,
        ):
            table = self._encoded(place, number, Path(scratch))
            for block, _ in self.scorer.tables(table, Path(scratch)):
                write(block)
            with _renamed(_counts_file(self.shards, place)) as counts:
                CountedIds.of(table.rows, self.processor).save(counts)
        return Counter(self.scorer.told)

    def _encoded(self, place: int, number: int, folder: Path) -> EncodedTable:
        typed, numbers = self.shards.typed_rows(number, self.offsets)
        dataset = datasets.Dataset(typed, fingerprint=f"shard-{number}")  # type: ignore[arg-type]
        rows = prepare_rows(dataset, self.processor, folder / "rows", ALL_ROWS, label=[])
        if self.processor.plan.time is None:
            rows.time = numbers  # rows come in the order of the whole table
        file, order = _of_all_file(self.shards, place), rows.row_numbers
        made = read_arrays(file) if file.is_file() else {}
        of_all = made if order is None else {name: values[np.array(order)] for name, values in made.items()}
        return EncodedTable(rows, self.processor, [], dataset, of_all=of_all, of_table=numbers)


def _counts_file(shards: TableShards, place: int) -> Path:
    return shards.folder / f"counts-{place:06}.npz"


@contextmanager
def _renamed(target: Path) -> Iterator[Path]:
    """Yield a file that becomes the target once it is whole; another worker may be writing the same."""
    draft = target.with_name(f".{uuid4().hex}{target.suffix}")
    yield draft
    os.replace(draft, target)

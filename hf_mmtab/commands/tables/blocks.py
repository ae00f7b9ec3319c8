"""A table of any length through a saved TabBERT, block after block: nothing but the ids on disk grows with it."""

import argparse
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from transformers.utils import logging

from ...data.reading.records import free_names
from ...data.shards.preparing import prepare_rows
from ...data.windows.cutting import WindowDataset
from ...data.windows.histories import MICROSECONDS
from ...evaluation.scored_rows import JudgedRows
from ...locking import lock_folder
from ...progress import progress_bar
from ...statistics.features import of_other_histories
from ...tasks import PreparedTable, TableTask, get_task
from ...tasks.checkpoints import data_arguments, recipe_of
from ...tasks.saved_processor import open_processor
from ...tasks.table_heads import beside_ids
from ..outputs import draft_of
from ..runs.own_names import TABLE_FOLDER
from ..scoring_flags import in_bf16
from .orderings import ordered_surprise
from .state import with_history, write_state
from .window_blocks import ALL_ROWS, WindowCut, current_device
from .writer import table_writer

logger = logging.get_logger(__name__)

ROW = "row"  # column of an output: the number of the row in the input


@dataclass
class EncodedTable(PreparedTable):
    """A table that a command scores.

    Args:
        of_table: number of each typed row in the table of which they are a part, `(rows,)`; None: they are all of it.
    """

    of_table: np.ndarray | None = None

    def new_rows(self, windows: WindowDataset, judged: JudgedRows) -> tuple[WindowDataset, JudgedRows]:
        """Return the judged rows that are new, and the windows that judge them."""
        if not self.earlier:
            return windows, judged
        new = self.numbers(judged.row) >= self.earlier
        kept, window = np.unique(judged.window[new], return_inverse=True)
        return windows.select(kept), JudgedRows(window, judged.place[new], judged.row[new])

    def tell_late(self) -> None:
        """Warn of new rows that a state's rows of other histories should have known."""
        statistics, plan = self.processor.statistics, self.processor.plan
        if not self.earlier or statistics is None or plan.time is None:
            return
        others, new = of_other_histories(statistics, plan.entity), self.numbers() >= self.earlier
        newest = np.max(self.rows.time, where=~new, initial=np.iinfo(np.int64).min)
        if others and (late := int(np.count_nonzero(self.rows.time[new] < newest))):
            logger.warning(
                f"{late:,} of {int(new.sum()):,} new rows happened before the newest row of the state "
                f"({self.in_kind(np.array([newest]))[0]}): the model counts rows of other histories "
                f"({', '.join(others)}), and scores of earlier calls did not know these. Give rows in the order of "
                "time, or the whole table without --state."
            )

    def beside_keys(self, places: np.ndarray, found: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
        """Return whose and when rows are: entity columns, the time column, and `row`, its number in the input; and what
        was found of them. A column of the table that is called like one of the others becomes `input_NAME`.

        Args:
            places: `(n,)` places in `rows`.
            found: columns of `n` values.
        """
        rows, plan = self.rows, self.processor.plan
        number = rows.entity_of(places)
        columns = {name: pa.array(rows.entity_names[name][number].to_arrow()) for name in rows.entity_names.columns}
        if plan.time is not None:
            columns[plan.time] = self.times(places)
        made = {ROW: pa.array(self.numbers(places).astype(np.int64) - self.earlier), **found}
        free = free_names([*columns], made)
        return {free[name]: column for name, column in columns.items()} | made

    def numbers(self, places: np.ndarray | None = None) -> np.ndarray:
        """Return the numbers of rows in the table that was read, `(n,)`.

        Args:
            places: in `rows`; None: all.
        """
        places = np.arange(len(self.rows)) if places is None else places
        found = places if self.rows.row_numbers is None else np.array(self.rows.row_numbers[places])
        return found if self.of_table is None else self.of_table[found]

    def times(self, places: np.ndarray) -> pa.Array:
        """Return the times of rows in the kind of the time column: a moment, or a number."""
        return self.in_kind(np.array(self.rows.time[places]))

    def in_kind(self, raw: np.ndarray) -> pa.Array:
        """Return microseconds since 1970, `(n,)`, in the kind of the time column."""
        plan = self.processor.plan
        kind = pa.schema(self.dataset.features.arrow_schema).field(plan.time).type
        if pa.types.is_floating(kind):
            return pa.array(raw * 1e3 if plan.time_unit == "ns" else raw / MICROSECONDS[plan.time_unit or "s"])
        if pa.types.is_integer(kind):
            return pa.array(raw * 1000 if plan.time_unit == "ns" else raw // MICROSECONDS[plan.time_unit or "us"])
        return pa.array(raw.astype("datetime64[us]"))


def encode_table(
    checkpoint: str,
    data: str,
    folder: Path,
    task: str | None,
    on_bad_record: str,
    state: str | None = None,
    separator: str | None = None,
) -> EncodedTable:
    """Read a table with the task of the checkpoint's recipe and encode it with the checkpoint's processor.

    Args:
        checkpoint: folder or Hub name.
        data: file or folder.
        folder: for the encoded rows.
        task: default: the recipe's, else `table`.
        on_bad_record: "raise", or "skip" broken rows.
        state: folder with the rows of earlier calls.
        separator: of CSV files; None: the recipe's, else by their ending.
    """
    processor = open_processor(checkpoint)
    recipe = recipe_of(checkpoint)
    reader = get_task(task or recipe.get("task", TableTask.default), TableTask)
    arguments = data_arguments(recipe, reader, data, on_bad_record, separator)
    dataset, skipped = reader.read(arguments, folder, checkpoint)
    earlier = 0
    if state is not None:
        old = (processor.statistics or {}).get("old_labels") or {"columns": []}  # labels that are statistics
        plans = [processor.plan, *(open_processor(place).plan for place in processor.orderings.values())]
        columns, time = [name for plan in plans for name in plan.columns], processor.plan.time
        dataset, earlier = with_history(dataset, Path(state), columns, processor.fingerprint, time, old["columns"])
    rows = prepare_rows(dataset, processor, folder / "rows", ALL_ROWS, label=[], earlier=earlier)
    table = EncodedTable(rows, processor, skipped, dataset, earlier=earlier)
    table.tell_late()
    return table


class Scorer(Protocol):
    """What a command writes of the rows of a table.

    Attributes:
        told: what was counted while rows were scored.
    """

    told: Counter[str]

    def tables(self, table: EncodedTable, scratch: Path) -> Iterator[tuple[pa.Table, int]]:
        """Yield the output block by block, and how many rows of the table each block covers."""


class WindowScorer(ABC):
    """A model that reads windows of rows, and what a command writes of them; see `Scorer`.

    Args:
        options: of the command line.
        model: its processor must be the table's.
        cut: how the rows are cut into windows.
    """

    def __init__(self, options: argparse.Namespace, model: Any, cut: WindowCut) -> None:
        self.options, self.cut, self.told = options, cut, Counter[str]()
        self.device = current_device()
        self.model = model.to(self.device).eval()
        self.bf16 = in_bf16(options, model, self.device)

    @abstractmethod
    def columns(self, table: EncodedTable, windows: WindowDataset, judged: JudgedRows) -> dict[str, pa.Array]:
        """Return the output for the judged rows of some windows."""

    def tables(self, table: EncodedTable, scratch: Path) -> Iterator[tuple[pa.Table, int]]:
        """Yield the output block by block, and how many rows of the table each block covers.

        Args:
            table: its statistics in other orders are filled in.
            scratch: folder for encoded rows.
        """
        self.model.check_processor(table.processor.fingerprint)
        if self.model.config.statistics:
            table.ordered = ordered_surprise(table, scratch)
        beside = beside_ids(table, self.model.config.statistics, getattr(self.model, "reads_times", False))
        for windows, judged, covered in self.cut.blocks(table.rows):
            windows.beside = beside
            windows, judged = table.new_rows(windows, judged)
            if len(windows):
                yield pa.table(self.columns(table, windows, judged)), covered


@contextmanager
def scored_table(options: argparse.Namespace, scorer: Scorer, spreadsheet_safe: bool = False) -> Iterator[EncodedTable]:
    """Encode the input of a command and write what a scorer says of it; yield the table.

    The output appears when the block ends.

    Args:
        options: `checkpoint`, `input`, `out`, `task`, `on_bad_record` of the command line.
        scorer: of the rows.
        spreadsheet_safe: see `table_writer`.
    """
    out, state = Path(options.out), getattr(options, "state", None)
    with ExitStack() as held:
        if state is not None:
            held.enter_context(lock_folder(Path(state), True, "--state"))
        with draft_of(out) as draft:
            scratch = draft / TABLE_FOLDER
            scratch.mkdir()
            source = (options.checkpoint, options.input, scratch, options.task, options.on_bad_record, state)
            table = encode_table(*source, separator=options.separator)
            with (
                table_writer(draft / out.name, out.suffix, spreadsheet_safe) as write,
                progress_bar(total=len(table.rows), unit=" rows", desc="Scoring") as progress,
            ):
                for block, covered in scorer.tables(table, scratch):
                    write(block)
                    progress.update(covered)
            yield table
        if state is not None:  # written after the output has appeared
            write_state(Path(state), table.dataset, table.processor.fingerprint)

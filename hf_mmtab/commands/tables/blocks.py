"""A table of any length through a saved TabBERT, block after block: nothing but the ids on disk grows with it."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import datasets
import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader

from ...data.encoded_rows import EncodedRows
from ...data.histories import MICROSECONDS
from ...data.preparing import prepare_rows
from ...data.records import BadRecord
from ...data.splits import Split
from ...data.window_index import cut_growing, cut_windows
from ...data.windows import WindowDataset
from ...evaluation.scored_rows import JudgedRows, judged_rows
from ...models.tabbert import TabBertProcessor
from ...models.tabbert.collating_tabbert import TabBertCollator
from ...progress import progress_bar
from ...tasks import TableTask, get_task
from ...tasks.checkpoints import data_arguments, recipe_of
from ...tasks.saved_processor import open_processor
from ...tasks.table_heads import beside_ids
from ..outputs import draft_of
from ..runs.own_names import TABLE_FOLDER
from ..runs.shown_reasons import MODEL_INPUTS
from .state import with_history, write_state
from .writer import table_writer

BLOCK_ROWS = 65_536
ALL_ROWS = Split("time", (1.0, 0.0, 0.0))  # no split: every row lies in the first part
Level = Literal["row", "window"]


@dataclass
class EncodedTable:
    """A table whose rows lie on disk as ids, in the order of histories and time.

    Args:
        rows: the ids.
        dataset: the typed rows as they were read.
        processor: that made the ids.
        skipped: rows that could not be read.
        earlier: how many of the typed rows, the first ones, come from earlier calls (`--state`).
    """

    rows: EncodedRows
    dataset: datasets.Dataset
    processor: TabBertProcessor
    skipped: list[BadRecord]
    earlier: int = 0

    def new_rows(self, windows: WindowDataset, judged: JudgedRows) -> tuple[WindowDataset, JudgedRows]:
        """Return the judged rows that are new, and the windows that judge them."""
        if not self.earlier:
            return windows, judged
        new = self.numbers(judged.row) >= self.earlier
        kept, window = np.unique(judged.window[new], return_inverse=True)
        return windows.select(kept), JudgedRows(window, judged.place[new], judged.row[new])

    def keys(self, places: np.ndarray) -> dict[str, pa.Array]:
        """Return whose and when rows are: entity columns, the time column, and `row`, its number in the input.

        Args:
            places: `(n,)` places in `rows`.
        """
        rows, plan = self.rows, self.processor.plan
        number = rows.entity_of(places)
        columns = {name: pa.array(rows.entity_names[name][number].to_arrow()) for name in rows.entity_names.columns}
        if plan.time is not None:
            columns[plan.time] = self.times(places)
        return columns | {"row": pa.array(self.numbers(places).astype(np.int64) - self.earlier)}

    def numbers(self, places: np.ndarray | None = None) -> np.ndarray:
        """Return the numbers of rows in the table that was read, `(n,)`.

        Args:
            places: in `rows`; None: all.
        """
        places = np.arange(len(self.rows)) if places is None else places
        return places if self.rows.row_numbers is None else np.array(self.rows.row_numbers[places])

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
    checkpoint: str, data: str, folder: Path, task: str | None, on_bad_record: str, state: str | None = None
) -> EncodedTable:
    """Read a table with the task of the checkpoint's recipe and encode it with the checkpoint's processor.

    Args:
        checkpoint: folder or Hub name.
        data: file or folder.
        folder: for the encoded rows.
        task: default: the recipe's, else `table`.
        on_bad_record: "raise", or "skip" broken rows.
        state: folder with the rows of earlier calls.
    """
    processor = open_processor(checkpoint)
    recipe = recipe_of(checkpoint)
    reader = get_task(task or recipe.get("task", TableTask.default), TableTask)
    dataset, skipped = reader.read(data_arguments(recipe, reader, data, on_bad_record), folder, checkpoint)
    earlier = 0
    if state is not None:
        plan = processor.plan
        dataset, earlier = with_history(dataset, Path(state), [*plan.columns], processor.fingerprint, plan.time)
    rows = prepare_rows(dataset, processor, folder / "rows", ALL_ROWS, label=[])
    return EncodedTable(rows, dataset, processor, skipped, earlier)


@dataclass(frozen=True)
class WindowCut:
    """How a table is cut into windows for scoring.

    Args:
        seq_len: rows of a window.
        level: "row": each row is judged once. "window": windows lie side by side and are judged once each.
        every: whether one window judges all of its rows; then windows overlap by half.
        max_gap: seconds; no window spans a longer pause.
        stride: rows between windows that judge all of their rows; None: half a window.
    """

    seq_len: int
    level: Level
    every: bool = False
    max_gap: float | None = None
    stride: int | None = None

    def blocks(self, rows: EncodedRows, size: int = BLOCK_ROWS) -> Iterator[tuple[WindowDataset, JudgedRows, int]]:
        """Yield windows that cover about `size` rows at a time, which rows they judge, and how many they cover."""
        begins = np.zeros(len(rows), dtype=bool)
        begins[rows.entity_starts] = True
        if self.max_gap is not None:
            begins[1:] |= np.diff(rows.time) > self.max_gap * 1e6
        first = np.flatnonzero(begins)
        rows_of = np.diff(np.append(first, len(rows)))
        # A multiple of seq_len, so that no window is cut.
        size = max(self.seq_len, size // self.seq_len * self.seq_len)
        pieces = (rows_of + size - 1) // size
        owner = np.repeat(np.arange(len(first)), pieces)
        start = first[owner] + (np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)) * size
        stop = np.minimum(start + size, (first + rows_of)[owner])
        block = (np.cumsum(stop - start) - 1) // size
        for chosen in np.split(np.arange(len(start)), np.flatnonzero(np.diff(block)) + 1):
            if len(chosen):
                windows, judged = self._windows(rows, start[chosen], stop[chosen], first[owner][chosen])
                yield windows, judged, int((stop - start)[chosen].sum())

    def _windows(
        self, rows: EncodedRows, start: np.ndarray, stop: np.ndarray, earliest: np.ndarray
    ) -> tuple[WindowDataset, JudgedRows]:
        if self.level == "window":
            index = cut_windows(start, stop, self.seq_len, self.seq_len, earliest)
        elif self.every:
            stride = min(self.stride or max(1, self.seq_len // 2), self.seq_len)
            index = cut_growing(start, stop, self.seq_len, stride, earliest)
        else:
            index = cut_windows(start, stop, self.seq_len, 1, earliest, align="end")
        windows = WindowDataset(rows, index)
        return windows, judged_rows(windows, "every" if self.every and self.level == "row" else "last")


@contextmanager
def scoring_into(
    options: argparse.Namespace, model: Any, cut: WindowCut, spreadsheet_safe: bool = False
) -> Iterator[tuple[EncodedTable, Iterator[tuple[WindowDataset, JudgedRows]], Callable[[dict[str, pa.Array]], None]]]:
    """Encode the input of a command, and open its output, which appears when it is whole.

    Args:
        options: `checkpoint`, `input`, `out`, `task`, `on_bad_record` of the command line.
        model: whose processor the checkpoint must hold.
        cut: how the rows are cut into windows.
        spreadsheet_safe: see `table_writer`.

    Yields:
        The table, its blocks (with a progress bar), and a function that appends columns to the output.
    """
    out = Path(options.out)
    with draft_of(out) as draft, table_writer(draft / out.name, out.suffix, spreadsheet_safe) as write:
        scratch = draft / TABLE_FOLDER
        scratch.mkdir()
        state = getattr(options, "state", None)
        table = encode_table(options.checkpoint, options.input, scratch, options.task, options.on_bad_record, state)
        model.check_processor(table.processor.fingerprint)
        beside = beside_ids(table, model.config.statistics, getattr(model, "reads_times", False))
        with progress_bar(total=len(table.rows), unit=" rows", desc="Scoring") as progress:

            def blocks() -> Iterator[tuple[WindowDataset, JudgedRows]]:
                for windows, judged, covered in cut.blocks(table.rows):
                    windows.beside = beside
                    windows, judged = table.new_rows(windows, judged)
                    if len(windows):
                        yield windows, judged
                    progress.update(covered)

            yield table, blocks(), lambda columns: write(pa.table(columns))
    if state is not None:  # written after the output has appeared
        write_state(Path(state), table.dataset, table.processor.fingerprint)


@torch.inference_mode()
def run_windows(
    function: Any,
    windows: WindowDataset,
    processor: TabBertProcessor,
    batch_size: int,
    device: torch.device,
    bf16: bool = False,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield what a function says of each batch of windows, as float32 on the CPU, and the batch's attention mask.

    Args:
        function: takes `MODEL_INPUTS`, the last two where the windows have them, and returns a tensor.
    """
    loader = DataLoader(cast(Any, windows), batch_size=batch_size, collate_fn=TabBertCollator(processor))
    for batch in loader:
        inputs = {name: batch[name].to(device) for name in MODEL_INPUTS if name in batch}
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            yield function(**inputs).float().cpu(), batch["attention_mask"]


def current_device() -> torch.device:
    """Return the accelerator, if there is one, else the CPU."""
    return torch.device(torch.accelerator.current_accelerator(check_available=True) or "cpu")

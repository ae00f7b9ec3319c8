"""`embed CHECKPOINT INPUT OUT.parquet`: what a TabBERT encoder makes of each row, or of each window, of a table.

For models beside the neural one, such as gradient boosting. A row is embedded with the rows before it and none after,
a window as the mean of its rows. Rows are read, embedded and written in pieces. `--what statistics` writes the
statistics of the past that a model (architecture boosted or fusion) reads of each row, a column each.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import AutoConfig

from ..data.windows.cutting import WindowDataset
from ..data.windows.encoded_rows import CountedIds, EncodedRows
from ..data.windows.window_index import DEFAULT_SEQ_LEN
from ..evaluation.scored_rows import JudgedRows
from ..evaluation.unseen_values import unseen_note, unseen_values
from ..models.tabbert import TabBertPooledForSequenceClassification
from ..tasks.checkpoints import is_table_checkpoint, recipe_of
from ..tasks.saved_processor import open_processor
from ..tasks.table_heads import HEADS, WITHOUT_ENCODER, beside_ids
from .console import left_out, say, start_logging
from .damaged_files import damage_named
from .flags import parse
from .outputs import check_new_folder, check_output_file
from .runs.table_notes import warn_each
from .scoring_flags import is_folder
from .tables.blocks import EncodedTable, WindowScorer, scored_table
from .tables.orderings import ordered_surprise
from .tables.ray_scoring import score_on_ray
from .tables.window_blocks import BLOCK_ROWS, WindowCut, judged_values, run_windows


def main(arguments: Sequence[str]) -> None:
    """Embed as the command line says."""
    start_logging()
    options = parse("embed", arguments)
    _check_output(options)
    with damage_named(options.checkpoint):
        if not is_table_checkpoint(options.checkpoint):
            raise ValueError(f"Expected a TabBERT checkpoint in {options.checkpoint!r}, found another model.")
        count, width, skipped = embed(options)
    what = "rows of statistics, each" if options.what == "statistics" else "embeddings"
    used = count if options.level == "row" else None
    say(f"{count} {what} of {width} numbers in {options.out}{left_out(skipped, used)}")


class RowEmbedder(WindowScorer):
    """An encoder, and what it makes of rows or windows; see `Scorer`.

    Args:
        options: of the command line.

    Raises:
        ValueError: if the checkpoint has no encoder.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        classes = AutoConfig.from_pretrained(options.checkpoint).architectures or []
        if {HEADS[name].__name__ for name in WITHOUT_ENCODER} & set(classes):
            raise ValueError(
                f"Expected a TabBERT with an encoder in {options.checkpoint!r}, found {classes[0]}, which has none. "
                "Name a pretrained encoder, or a head on one."
            )
        build: Any = TabBertPooledForSequenceClassification.from_pretrained_encoder
        model = build(options.checkpoint, row_inputs="states")
        config = model.config
        seq_len = options.seq_len or config.seq_len or recipe_of(options.checkpoint).get("seq_len")
        seq_len = seq_len or DEFAULT_SEQ_LEN
        # An encoder that sees nothing later embeds all rows of a window at once.
        cut = WindowCut(seq_len, options.level, every=config.next_row, max_gap=config.max_gap)
        super().__init__(options, model, cut)
        self.width, self.dtype = config.row_width, np.float16 if options.float16 else np.float32

    def _states(self, **inputs: torch.Tensor) -> torch.Tensor:
        return self.model.row_vectors(self.model.get_row_states(**inputs))  # (batch, rows, width)

    def columns(self, table: EncodedTable, windows: WindowDataset, judged: JudgedRows) -> dict[str, pa.Array]:
        """Return keys and embeddings of the judged rows of some windows."""
        of_windows = self.options.level == "window"
        size = self.options.batch_size
        batches = run_windows(self._states, windows, table.processor, size, self.device, self.bf16)
        if of_windows:
            weighted = ((rows, mask[:, :, None].float()) for rows, mask in batches)
            means = [((rows * weights).sum(dim=1) / weights.sum(dim=1)).numpy() for rows, weights in weighted]
            found = np.concatenate(means).astype(self.dtype)
        else:
            found = judged_values((rows for rows, _ in batches), judged, self.dtype)
        columns: dict[str, pa.Array] = {"rows": pa.array(windows.index.length)} if of_windows else {}
        flat = pa.array(found.reshape(-1))
        self.told["embeddings"] += len(found)
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, self.width)
        return table.beside_keys(judged.row, columns)


class StatisticsReader:
    """The statistics of the past of each row; see `Scorer`.

    Args:
        options: of the command line.

    Raises:
        ValueError: if the checkpoint has no statistics.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.names: list[str] = (open_processor(options.checkpoint).statistics or {}).get("names", [])
        self.width, self.told = len(self.names), Counter[str]()

    def tables(self, table: EncodedTable, scratch: Path) -> Iterator[tuple[pa.Table, int]]:
        """Yield the output block by block."""
        table.ordered = ordered_surprise(table, scratch)
        values = beside_ids(table, statistics=True, times=False)["statistics"]
        for first in range(0, len(values), BLOCK_ROWS):
            block = np.array(values[first : first + BLOCK_ROWS])
            columns = {f"statistic: {n}": pa.array(c) for n, c in zip(self.names, block.T, strict=True)}
            self.told["embeddings"] += len(block)
            yield pa.table(table.beside_keys(np.arange(first, first + len(block)), columns)), len(block)


def embed(options: argparse.Namespace) -> tuple[int, int, int]:
    """Write embeddings or statistics; return how many, their width, and how many rows of the input were left out.

    Raises:
        ValueError: if the checkpoint has no encoder, or no statistics.
    """
    make = StatisticsReader if options.what == "statistics" else RowEmbedder
    scorer = make(options)
    if options.engine == "ray":
        found = score_on_ray(options, make)
        _warn_of_unseen(options, found.ids, open_processor(options.checkpoint))
        return found.told["embeddings"], scorer.width, found.skipped
    with scored_table(options, scorer) as table:
        skipped = len(table.skipped)
        _warn_of_unseen(options, table.rows, table.processor)
    return scorer.told["embeddings"], scorer.width, skipped


def _warn_of_unseen(options: argparse.Namespace, rows: EncodedRows | CountedIds, processor: Any) -> None:
    if options.what != "statistics":  # which are made of the values themselves
        warn_each(unseen_note(unseen_values(rows, processor), "embedded rows"))


def _check_output(options: argparse.Namespace) -> None:
    out, inputs = Path(options.out), [options.input, options.checkpoint]
    if is_folder(options):
        check_new_folder(out, inputs)
        return
    if out.suffix != ".parquet":
        raise ValueError(f"Expected the output to end in .parquet, found {out.name!r}.")
    check_output_file(out, inputs)

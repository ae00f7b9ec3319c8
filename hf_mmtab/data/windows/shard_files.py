"""Encoded rows in shards: Arrow files with whole histories, written by several processes, and a list of them."""

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from ...files import PARTIAL_SUFFIX, file_digest, json_text, whole_file, write_whole
from .encoded_rows import FACTS_FILE, SPLITS, as_codes, id_layout

SHARDS_FOLDER, PROCESSOR_FOLDER, PLAN_FILE = "shards", "processor", "column_plan.yaml"
TIME, SPLIT, LABEL, ROW, START = "#time", "#split", "#label", "#row", "#start"
_OWN = re.compile(r"\.?\d{5,}(\.entities|\.values|\.of-all)?\.arrow(" + re.escape(PARTIAL_SUFFIX) + ")?")
_OWN_TOP = {FACTS_FILE, SHARDS_FOLDER, PROCESSOR_FOLDER, PLAN_FILE}


@dataclass(frozen=True)
class ShardWriter:
    """Writes a folder of sharded encoded rows; several processes may write shards, one begins and finishes.

    The folder holds `shards/00000.arrow` (one uncompressed record batch: a column of ids per field, then `#time`,
    `#split`, `#label`, `#row`), `shards/00000.entities.arrow` (one row per history: its names and `#start`, its first
    row in the shard), `shards/00000.values.arrow` (the values of the rows, where they are kept),
    `shards/00000.of-all.arrow` (statistics of all histories, where they were made), `processor/`, `column_plan.yaml`
    and, written last, `rows.json`. Without `rows.json` the folder is unfinished.

    Args:
        folder: where to.
        field_ranges: field → `[start, end)` that holds all its ids, those of unknown values included.
        num_targets: None: rows without labels. 0: classes. Else how many numbers a row's label has.
        row_numbers: whether the number of each row in the table that was read is known.
    """

    folder: Path
    field_ranges: dict[str, list[int]]
    num_targets: int | None = None
    row_numbers: bool = False

    def begin(self) -> None:
        """Make the folder, and remove what an earlier `prepare` left in it.

        Raises:
            ValueError: if it holds files of others.
        """
        foreign = sorted(path.name for path in _foreign(self.folder))
        if foreign:
            raise ValueError(
                f"Expected a folder for sharded rows alone, found {', '.join(foreign[:3])} in {str(self.folder)!r}, "
                "which would be lost. Move that elsewhere, or choose another folder."
            )
        (self.folder / FACTS_FILE).unlink(missing_ok=True)  # first: from here on the folder is unfinished
        for name in (SHARDS_FOLDER, PROCESSOR_FOLDER):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / SHARDS_FOLDER).mkdir(parents=True)

    def write(
        self,
        number: int,
        ids: pa.Table,
        time: np.ndarray,
        split: np.ndarray,
        entity_starts: np.ndarray,
        entity_names: pl.DataFrame,
        labels: np.ndarray | None = None,
        row_numbers: np.ndarray | None = None,
        values: pa.Table | None = None,
    ) -> dict[str, Any]:
        """Write one shard of whole histories, whose rows lie together and in order; replaces one of the same number.

        Args:
            number: of the shard, from 0.
            ids: a column per field, in the order of `field_ranges`.
            time: `(rows,)` microseconds.
            split: `(rows,)` into `SPLITS`.
            entity_starts: `(entities,)` first row of each history in the shard.
            entity_names: one row per history; without columns if the table is one history.
            labels: `(rows,)` classes, -100 unknown, or `(rows, targets)`.
            row_numbers: `(rows,)`.
            values: columns of the rows as they were read.

        Returns:
            What `finish` wants to know of the shard.

        Raises:
            ValueError: if lengths differ, ids are outside of their field, or starts are not those of histories.
        """
        columns = {name: self._codes(name, ids.column(i)) for i, name in enumerate(self.field_ranges)}
        beside = {TIME: pa.array(time.astype(np.int64)), SPLIT: pa.array(split.astype(np.uint8))}
        if self.num_targets is not None:
            assert labels is not None
            beside[LABEL] = _label_column(labels, self.num_targets)
        if self.row_numbers:
            assert row_numbers is not None
            beside[ROW] = pa.array(row_numbers.astype(np.int64))
        starts = np.asarray(entity_starts, dtype=np.int64)
        self._check(number, {**columns, **beside}, starts, entity_names)
        names = [*columns, *beside]
        batch = pa.RecordBatch.from_arrays([*columns.values(), *beside.values()], names=names)
        names_of = [column.combine_chunks() for column in entity_names.to_arrow().columns]
        entities = pa.RecordBatch.from_arrays([*names_of, pa.array(starts)], names=[*entity_names.columns, START])
        batches = [batch, entities]
        if values is not None:
            chunks = [column.combine_chunks() for column in values.columns]
            batches.append(pa.RecordBatch.from_arrays(chunks, names=values.column_names))
        files = shard_files(self.folder, number)
        written = [write_batch(file, one) for file, one in zip(files, batches, strict=False)]
        return {
            "file": files[0].name,
            "rows": len(time),
            "entities": len(starts),
            "splits": np.bincount(split, minlength=len(SPLITS)).tolist(),
            "times": [int(time.min()), int(time.max())] if len(time) else None,
            "bytes": [size for size, _ in written],
            "digests": [digest for _, digest in written],
        }

    def finish(self, shards: Sequence[dict[str, Any]], facts: dict[str, Any], processor: Any) -> None:
        """Write the processor, its plan and, last, the list of the shards.

        Args:
            shards: what `write` returned, in the order of the shards' numbers.
            facts: kept in `rows.json` beside those of the shards; `fingerprint`, `processor_fingerprint`,
                `label_names`, `order` and `split` must be among them.
            processor: that encoded the rows.

        Raises:
            ValueError: if a shard is left out.
        """
        wanted = [shard_files(self.folder, number)[0].name for number in range(len(shards))]
        if (found := [shard["file"] for shard in shards]) != wanted:
            raise ValueError(f"Expected shards {', '.join(wanted[:3])} and so on, found {', '.join(found[:3])}.")
        layout = [id_layout(bounds) for bounds in self.field_ranges.values()]
        own = {
            "fields": list(self.field_ranges),
            "dtypes": [dtype for dtype, _ in layout],
            "bases": [base for _, base in layout],
            "num_targets": self.num_targets,
            "reordered": self.row_numbers,
            "rows": sum(shard["rows"] for shard in shards),
            "shards": list(shards),
        }
        processor.save_pretrained(self.folder / PROCESSOR_FOLDER)
        with whole_file(self.folder / PLAN_FILE) as partial:
            processor.plan.to_yaml(partial)
        write_whole(self.folder / FACTS_FILE, facts_text(facts | own))

    def _codes(self, name: str, ids: pa.ChunkedArray) -> pa.Array:
        start, end = self.field_ranges[name]
        found = ids.to_numpy()
        if len(found) and not (start <= found.min() and found.max() < end):
            raise ValueError(
                f"Expected ids of {name!r} from {start} to {end - 1}, found {found.min()} to {found.max()}. Encode the "
                "rows with the processor that the ranges are of."
            )
        return pa.array(as_codes(ids, *id_layout([start, end])))

    def _check(self, number: int, columns: dict[str, pa.Array], starts: np.ndarray, names: pl.DataFrame) -> None:
        lengths = {name: len(column) for name, column in columns.items()}
        rows = lengths[TIME]
        if wrong := {name: length for name, length in lengths.items() if length != rows}:
            raise ValueError(f"Expected {rows} rows in each column of shard {number}, found {wrong}.")
        begins_well = (len(starts) == 0) if rows == 0 else (len(starts) > 0 and starts[0] == 0 and starts[-1] < rows)
        if not begins_well or (np.diff(starts) <= 0).any() or (names.width and names.height != len(starts)):
            raise ValueError(
                f"Expected first rows of histories from 0 up to below {rows} in shard {number}, one per name, found "
                f"{starts[:3].tolist()} to {starts[-3:].tolist()} and {names.height} names."
            )


def shard_files(folder: Path, number: int) -> list[Path]:
    """Return the files of a shard: its rows, its histories and, where there are some, values and statistics of rows."""
    return [folder / SHARDS_FOLDER / f"{number:05}{what}.arrow" for what in ("", ".entities", ".values", ".of-all")]


def facts_text(facts: dict[str, Any]) -> str:
    """Return what `rows.json` holds: the list of the shards, and what is known of them."""
    return json_text(facts, indent=1, ensure_ascii=False)


def is_sharded(folder: Path) -> bool:
    """Tell whether a folder holds finished sharded rows."""
    return (folder / FACTS_FILE).is_file() and (folder / SHARDS_FOLDER).is_dir()


def _foreign(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if path.name not in _OWN_TOP and not _is_partial(path))
    if (folder / SHARDS_FOLDER).is_dir():
        yield from (path for path in (folder / SHARDS_FOLDER).iterdir() if not _OWN.fullmatch(path.name))


def _is_partial(path: Path) -> bool:
    return path.name in {f".{name}{PARTIAL_SUFFIX}" for name in (FACTS_FILE, PLAN_FILE)}


def _label_column(labels: np.ndarray, targets: int) -> pa.Array:
    if not targets:
        return pa.array(labels.astype(np.int16))
    return pa.FixedSizeListArray.from_arrays(pa.array(labels.astype(np.float32).reshape(-1)), targets)


def write_batch(path: Path, batch: pa.RecordBatch) -> tuple[int, str]:
    """Write an Arrow file whole and return its bytes and hash."""
    with whole_file(path) as partial:
        with pa.OSFile(str(partial), "wb") as out, pa.ipc.new_file(out, batch.schema) as writer:
            writer.write_batch(batch)
        return partial.stat().st_size, file_digest(partial)

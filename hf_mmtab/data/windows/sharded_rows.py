"""Encoded rows in shards, read as one table of which only what is asked for is in memory."""

from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property, partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from ...files import file_digest, require_size
from .encoded_rows import FACTS_FILE, EncodedRows
from .joined_arrays import JoinedArray
from .shard_files import LABEL, ROW, SPLIT, START, TIME, is_sharded, shard_files

MIXED = 4  # shards whose windows are shuffled together
KEPT = 2 * MIXED  # shards that a process keeps open: those it reads, and those it comes to next


class ShardedRows(EncodedRows):
    """Rows as ids in a folder that `ShardWriter` wrote: what `EncodedRows` has, and its shards one by one.

    Shards lie one behind the other: row 0 of the second follows the last of the first. Columns, times, splits and
    labels are read from memory-mapped files when they are asked for; `entity_starts` and `entity_names` of the whole
    table are read at their first use, and `parts` needs neither.

    Attributes:
        starts: `(shards + 1,)` rows before each shard, and in all.

    Raises:
        ValueError: if a file is absent or damaged; names it.
    """

    def __init__(self, folder: str | Path) -> None:
        rows = self._read_facts(folder, "`hf-mmtab prepare` encodes the table anew")
        if not isinstance(self.facts.get("shards"), list):
            self._refuse(self.folder / FACTS_FILE, "a list of shards", f"{self.facts.get('shards')!r:.80}")
        for shard in self.facts["shards"]:
            if not isinstance(shard, dict) or {"rows", "entities", "times", "bytes"} - set(shard):
                self._refuse(self.folder / FACTS_FILE, "rows, entities, times and bytes of each shard", f"{shard}")
        self.starts = np.cumsum([0, *(shard["rows"] for shard in self.facts["shards"])])
        self._checked: set[Path] = set()  # files whose hash was looked at
        self._opened: OrderedDict[int, Shard] = OrderedDict()
        self._given: np.ndarray | None = None  # labels in place of those of the files
        if rows != self.starts[-1]:
            self._refuse(self.folder, f"{rows:,} rows", f"shards of {self.starts[-1]:,}")
        for number, shard in enumerate(self.facts["shards"]):
            for path, wanted in zip(shard_files(self.folder, number), shard["bytes"], strict=False):
                require_size(path, wanted, self._copied)
        types = self.facts["dtypes"]
        self.columns = [self._join(partial(_column, i), dtype) for i, dtype in enumerate(types)]
        self.time, self.split = self._join(attrgetter("time"), "int64"), self._join(attrgetter("split"), "uint8")
        targets = self.facts["num_targets"]
        self.labels = None
        if targets is not None:
            self.labels = self._join(attrgetter("labels"), "float32" if targets else "int16", targets or None)
        self.row_numbers = self._join(attrgetter("row_numbers"), "int64") if self.facts["reordered"] else None

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.folder, self._given)  # to another process go no rows, it opens the files itself

    def relabelled(self, labels: np.ndarray) -> "ShardedRows":
        """Return the same rows with other labels, of the shape of `labels`."""
        found = super().relabelled(labels)
        found._given, found._opened = labels, OrderedDict()
        return found

    def _join(self, read: Any, dtype: str, width: int | None = None) -> Any:
        return JoinedArray(self.starts, partial(_of_shard, self, read), dtype, width)

    @property
    def _copied(self) -> str:
        return f"Copy it anew from where it was made, or: {self.remedy[0].lower()}{self.remedy[1:]}"

    def _refuse(self, path: Path, expected: str, found: str) -> None:
        raise ValueError(f"Expected {expected} in {str(path)!r}, found {found}: the file is damaged. {self._copied}")

    def open(self, number: int, kind: int) -> pa.RecordBatch:
        """Return the rows of a file of a shard, memory-mapped; `kind` is its place in `shard_files`.

        Raises:
            ValueError: if it is damaged; at its first opening by a process all of it is looked at.
        """
        path = shard_files(self.folder, number)[kind]
        wanted = self.facts["shards"][number].get("digests", [None] * (kind + 1))[kind]
        if wanted is not None and path not in self._checked and (found := file_digest(path)) != wanted:
            self._refuse(path, f"content with the hash {wanted}", found)
        self._checked.add(path)
        try:
            with pa.memory_map(str(path)) as file:  # what was mapped stays so; the handle is given back
                return pa.ipc.open_file(file).get_batch(0)
        except (pa.ArrowInvalid, OSError) as error:
            self._refuse(path, "an Arrow file", str(error))
            raise

    @property
    def has_values(self) -> bool:
        """Whether the values of the rows were kept beside their ids."""
        return all(len(shard["bytes"]) >= 3 for shard in self.facts["shards"])

    @property
    def num_shards(self) -> int:
        """How many shards there are."""
        return len(self.starts) - 1

    def shard(self, number: int) -> "Shard":
        """Return a shard; the last few of them are kept open."""
        if number not in self._opened:
            self._opened[number] = shard = Shard(self, number)
            if self._given is not None:
                shard.labels = self._given[self.starts[number] : self.starts[number + 1]]
            if len(self._opened) > KEPT:
                self._opened.popitem(last=False)
        self._opened.move_to_end(number)
        return self._opened[number]

    def parts(self) -> Iterator[EncodedRows]:
        """Yield the shards."""
        return map(self.shard, range(self.num_shards))

    @cached_property
    def entity_starts(self) -> np.ndarray:  # type: ignore[override]
        """First row of each history of the whole table, `(entities,)` int64."""
        return np.concatenate(
            [part.entity_starts + start for part, start in zip(self.parts(), self.starts[:-1], strict=True)]
        )

    @cached_property
    def entity_names(self) -> pl.DataFrame:  # type: ignore[override]
        """One row per history of the whole table."""
        return pl.concat([part.entity_names for part in self.parts()])

    @property
    def num_entities(self) -> int:
        """How many histories there are."""
        return sum(shard["entities"] for shard in self.facts["shards"])

    @property
    def time_bounds(self) -> tuple[int, int]:
        """The first and the last time of any row."""
        bounds = [shard["times"] for shard in self.facts["shards"] if shard["times"]]
        return min(first for first, _ in bounds), max(last for _, last in bounds)

    def names_of(self, place: int) -> dict[str, Any]:
        """Return the names of the history that a row belongs to, by entity column."""
        number = int(np.searchsorted(self.starts, place, side="right")) - 1
        return self.shard(number).names_of(place - int(self.starts[number]))


class Shard(EncodedRows):
    """One shard, memory-mapped.

    Args:
        rows: of which it is a part.
        number: of the shard.
    """

    def __init__(self, rows: ShardedRows, number: int) -> None:
        for name in ("folder", "facts", "fields", "label_names", "fingerprint", "processor_fingerprint", "_bases"):
            setattr(self, name, getattr(rows, name))
        wanted = [*self.fields, TIME, SPLIT, *[LABEL] * (rows.labels is not None), *[ROW] * self.facts["reordered"]]
        table = rows.open(number, 0)
        if table.schema.names != wanted or table.num_rows != self.facts["shards"][number]["rows"]:
            path, found = shard_files(rows.folder, number)[0], ", ".join(table.schema.names)
            rows._refuse(path, f"columns {', '.join(wanted)}", found)
        arrays = [column.to_numpy(zero_copy_only=True) for column in table.columns[: len(self.fields) + 2]]
        self.columns, (self.time, self.split) = arrays[:-2], arrays[-2:]
        self.labels = _labels(table.column(len(self.fields) + 2)) if rows.labels is not None else None
        self.row_numbers = table.columns[-1].to_numpy() if self.facts["reordered"] else None
        self._entities, self._whole, self._number = rows.open(number, 1), rows, number
        self.entity_starts = self._entities.column(self._entities.num_columns - 1).to_numpy(zero_copy_only=True)

    @cached_property
    def values(self) -> pa.Table:
        """Columns of the rows as they were read, memory-mapped; only where `ShardedRows.has_values`."""
        return pa.Table.from_batches([self._whole.open(self._number, 2)])

    @property
    def of_all_histories(self) -> dict[str, np.ndarray]:
        """Statistics of all histories, `(rows,)` each, by group and name, memory-mapped; only where they were made."""
        return arrays_of(self._whole.open(self._number, 3))

    @cached_property
    def entity_names(self) -> pl.DataFrame:  # type: ignore[override]
        """One row per history of the shard."""
        return pl.DataFrame(pl.from_arrow(pa.Table.from_batches([self._entities]).drop_columns([START])))


def _reopened(folder: Path, labels: np.ndarray | None) -> ShardedRows:
    rows = ShardedRows(folder)
    return rows if labels is None else rows.relabelled(labels)


def open_rows(folder: str | Path) -> EncodedRows:
    """Open encoded rows, in shards or as one machine writes them.

    Raises:
        ValueError: if a file is absent or damaged; names it.
    """
    return ShardedRows(folder) if is_sharded(Path(folder)) else EncodedRows(folder)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the columns of an Arrow file, memory-mapped."""
    with pa.memory_map(str(path)) as file:
        return arrays_of(pa.ipc.open_file(file).get_batch(0))


def arrays_of(batch: pa.RecordBatch) -> dict[str, np.ndarray]:
    """Return the columns of a batch by name."""
    return {name: column.to_numpy() for name, column in zip(batch.schema.names, batch.columns, strict=True)}


def _labels(column: pa.Array) -> np.ndarray:
    if not pa.types.is_fixed_size_list(column.type):
        return column.to_numpy(zero_copy_only=True)
    return column.flatten().to_numpy(zero_copy_only=True).reshape(len(column), column.type.list_size)


def _of_shard(rows: ShardedRows, read: Any, number: int) -> np.ndarray:
    return read(rows.shard(number))


def _column(field: int, shard: Shard) -> np.ndarray:
    return shard.columns[field]

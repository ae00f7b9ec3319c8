"""Encoded rows on disk: one array per field, memory-mapped, each entity's rows together and in order."""

import copy
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from ...files import json_text, read_json, require_size, write_array

FACTS_FILE = "rows.json"
NEEDED_FACTS = (
    "fields", "dtypes", "bases", "label_names", "fingerprint", "processor_fingerprint", "rows", "num_targets",
    "reordered", "split",
)  # fmt: skip
ROWS_AT_ONCE = 1_000_000  # that are counted
TAKEN_AT_ONCE = 262_144
_OWN = re.compile(r"field\d+\.bin|(time|split|entity_starts|labels|row_numbers)\.bin|entities\.arrow|rows\.json")
SPLITS = ("train", "validation", "test")
IGNORED = -100  # class of a row whose label is not known


class EncodedRows:
    """Rows as ids, opened from a folder that `EncodedRows.write` made.

    Attributes:
        fields: names of the columns of ids.
        columns: for each field `(rows,)` memory-mapped ids minus the field's base.
        labels: `(rows,)` int16 classes (-100 unknown) or `(rows, targets)` float32, memory-mapped; None: no
            labels.
        label_names: names of the classes; empty for numbers.
        time: `(rows,)` int64 microseconds.
        split: `(rows,)` uint8 into `SPLITS`.
        entity_starts: `(entities,)` int64, first row of each; rows of entity i end where i + 1 starts.
        entity_names: one row per entity.
        row_numbers: `(rows,)` int64, the row's number in the table that was read; None: the same.

    Raises:
        ValueError: if a file is absent or damaged; names it.
    """

    def __init__(self, folder: str | Path) -> None:
        rows = self._read_facts(folder, "the same command encodes the rows anew")
        self.columns = [self._map(f"field{i}.bin", dtype, rows) for i, dtype in enumerate(self.facts["dtypes"])]
        self.time = self._map("time.bin", "int64", rows)
        self.split = self._map("split.bin", "uint8", rows)
        targets = self.facts["num_targets"]
        self.labels: np.ndarray | None = None
        if targets is not None:
            flat = self._map("labels.bin", "float32" if targets else "int16", rows * (targets or 1))
            self.labels = flat.reshape(-1, targets) if targets else flat
        self.row_numbers = self._map("row_numbers.bin", "int64", rows) if self.facts["reordered"] else None
        self.entity_names = self._read_names()
        entities = self.entity_names.height if self.entity_names.width else min(rows, 1)
        self.entity_starts = np.array(self._map("entity_starts.bin", "int64", entities))

    def _read_facts(self, folder: str | Path, remedy: str) -> int:
        """Read what is known of all rows, and return how many there are.

        Args:
            folder: of the rows.
            remedy: what makes a damaged folder anew once it is deleted.
        """
        self.folder = Path(folder)
        self.remedy = f"Delete the folder {str(self.folder)!r}: {remedy}."
        self.facts = read_json(self.folder / FACTS_FILE, self.remedy)
        if not self.facts:
            raise ValueError(f"Expected {FACTS_FILE} in {str(self.folder)!r}, found none. {self.remedy}")
        if absent := [name for name in NEEDED_FACTS if name not in self.facts]:
            raise ValueError(
                f"Expected {', '.join(NEEDED_FACTS)} in {str(self.folder / FACTS_FILE)!r}, found no "
                f"{', '.join(absent)}: the file is damaged. {self.remedy}"
            )
        self.fields: list[str] = self.facts["fields"]
        self.label_names: list[str] = self.facts["label_names"]
        self.fingerprint: str = self.facts["fingerprint"]
        self.processor_fingerprint: str = self.facts["processor_fingerprint"]
        self._bases = np.array(self.facts["bases"], dtype=np.int64)
        return self.facts["rows"]

    def _map(self, name: str, dtype: str, length: int) -> np.ndarray:
        path, wanted = self.folder / name, length * np.dtype(dtype).itemsize
        require_size(path, wanted, self.remedy)
        return np.memmap(path, dtype=dtype, mode="r") if wanted else np.empty(0, dtype=dtype)

    def _read_names(self) -> pl.DataFrame:
        path = self.folder / "entities.arrow"
        try:
            with open(path, "rb") as file:  # polars takes [ and * in a path for a pattern
                return pl.read_ipc(file)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise ValueError(
                f"Expected the names of histories in {str(path)!r}, found {error}. {self.remedy}"
            ) from error

    def __len__(self) -> int:
        return len(self.time)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return ids of the given rows as int64, shape `(len(rows), fields)`."""
        out = np.empty((len(rows), len(self.columns)), dtype=np.int64)
        for i, column in enumerate(self.columns):
            out[:, i] = column[rows]
        return out + self._bases

    def entity_of(self, places: np.ndarray) -> np.ndarray:
        """Return the numbers of the histories that rows belong to, by `entity_starts`; shape of `places`, int64."""
        return np.searchsorted(self.entity_starts, places, side="right") - 1

    def relabelled(self, labels: np.ndarray) -> Any:
        """Return the same rows with other labels, of the shape of `labels`."""
        found = copy.copy(self)
        found.__dict__.pop("label_sums", None)
        found.labels = labels
        return found

    @property
    def num_entities(self) -> int:
        """How many histories there are."""
        return len(self.entity_starts)

    @property
    def time_bounds(self) -> tuple[int, int]:
        """The first and the last time of any row."""
        return int(self.time.min()), int(self.time.max())

    def names_of(self, place: int) -> dict[str, Any]:
        """Return the names of the history that a row belongs to, by entity column."""
        number = int(self.entity_of(np.asarray(place)))
        return {name: self.entity_names[name][number] for name in self.entity_names.columns}

    def parts(self) -> Iterator["EncodedRows"]:
        """Yield the rows piece by piece, each with whole histories: here at once, of `ShardedRows` shard by shard."""
        yield self

    def share_of(self, field: int, id_: int, rows: np.ndarray | slice | str = slice(None)) -> float:
        """Return the share of an id among the rows of a field; 0 without rows.

        Args:
            field: its number.
            id_: of the value.
            rows: numbers, flags, or the name of a split; all by default.
        """
        count = total = 0
        for part in self.parts() if isinstance(rows, str) else [self]:
            wanted: Any = np.asarray(part.split) == SPLITS.index(rows) if isinstance(rows, str) else rows
            pieces = [wanted]
            if isinstance(wanted, np.ndarray) and wanted.dtype != bool:
                pieces = [wanted[first : first + TAKEN_AT_ONCE] for first in range(0, len(wanted), TAKEN_AT_ONCE)]
            for piece in pieces:
                column = part.columns[field][piece]
                count, total = count + int((column == id_ - self._bases[field]).sum()), total + len(column)
        return count / total if total else 0.0

    def batches_of(self, split: str) -> Iterator[np.ndarray]:
        """Yield the ids of the rows of a split, `(rows, fields)` int64, some at a time."""
        for part in self.parts():
            places = np.flatnonzero(np.asarray(part.split) == SPLITS.index(split))
            for first in range(0, len(places), TAKEN_AT_ONCE):
                yield part.take(places[first : first + TAKEN_AT_ONCE])

    def count_ids(self, field: int, size: int, rows: np.ndarray | None = None) -> np.ndarray:
        """Return how often each id below `size` occurs in a field, `(size,)` int64.

        Args:
            field: its number.
            size: one more than the field's last id.
            rows: their numbers; all by default.
        """
        column, counts = self.columns[field], np.zeros(size, dtype=np.int64)
        for start in range(0, len(column) if rows is None else len(rows), ROWS_AT_ONCE):
            piece = slice(start, start + ROWS_AT_ONCE)
            codes = np.asarray(column[piece if rows is None else rows[piece]], dtype=np.int64)
            counts += np.bincount(codes + self._bases[field], minlength=size)
        return counts

    @cached_property
    def label_sums(self) -> tuple[np.ndarray, np.ndarray]:
        """How many rows before each row (and after the last) are positive, and how many have a label."""
        assert self.labels is not None
        positive = np.concatenate([[0], np.cumsum(self.labels > 0)])
        return positive, np.concatenate([[0], np.cumsum(self.labels >= 0)])

    @classmethod
    def write(
        cls,
        folder: str | Path,
        tables: Iterable[pa.Table],
        field_ranges: dict[str, list[int]],
        entity: np.ndarray,
        time: np.ndarray,
        split: np.ndarray,
        entity_names: pl.DataFrame,
        labels: np.ndarray | None,
        label_names: list[str],
        row_numbers: np.ndarray | None,
        facts: dict[str, Any],
    ) -> "EncodedRows":
        """Write encoded tables and what is known of each row; the folder appears only when it is whole.

        Args:
            tables: ids per field, in the order of `entity`, `time`, `split` and `labels`.
            field_ranges: field -> `[start, end)` that holds all its ids, those of unknown values included.
            entity: `(rows,)`; rows need not lie together.
            facts: kept in `rows.json`; `fingerprint` and `processor_fingerprint` must be among them.

        Raises:
            ValueError: if the folder holds files of others.
        """
        target = Path(folder)
        refuse_foreign_files(target)
        draft = target.with_name(f"{target.name}.{os.getpid()}.part")
        draft.mkdir(parents=True)
        try:
            layout = {name: id_layout(bounds) for name, bounds in field_ranges.items()}
            rows = _write_ids(draft, tables, layout)
            if rows != len(entity):
                raise ValueError(f"Expected {len(entity)} encoded rows, found {rows}.")
            order = None
            if (np.diff(entity) < 0).any():
                order = np.argsort(entity, kind="stable")
                entity, time, split = entity[order], time[order], split[order]
                labels = labels[order] if labels is not None else None
                row_numbers = order if row_numbers is None else row_numbers[order]
                for i, (dtype, _) in enumerate(layout.values()):
                    write_array(draft / f"field{i}.bin", np.fromfile(draft / f"field{i}.bin", dtype=dtype)[order])
            starts = np.flatnonzero(np.concatenate([[True], np.diff(entity) != 0])) if rows else entity
            write_array(draft / "time.bin", time.astype(np.int64))
            write_array(draft / "split.bin", split.astype(np.uint8))
            write_array(draft / "entity_starts.bin", starts.astype(np.int64))
            entity_names.write_ipc(draft / "entities.arrow")
            if labels is not None:
                write_array(draft / "labels.bin", labels.astype(np.float32 if labels.ndim > 1 else np.int16))
            if row_numbers is not None:
                write_array(draft / "row_numbers.bin", row_numbers.astype(np.int64))
            told = {
                "fields": list(field_ranges),
                "dtypes": [dtype for dtype, _ in layout.values()],
                "bases": [base for _, base in layout.values()],
                "num_targets": None if labels is None else (labels.shape[1] if labels.ndim > 1 else 0),
                "label_names": label_names,
                "reordered": row_numbers is not None,
                "rows": rows,
            }
            with open(draft / FACTS_FILE, "w", encoding="utf-8") as file:
                file.write(json_text(told | facts, indent=1, ensure_ascii=False))
            if target.exists():
                shutil.rmtree(target)
            draft.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return cls(target)


class CountedIds:
    """How often each id occurs in rows that lie elsewhere: what `field_drift` and `unseen_values` ask of `EncodedRows`.

    Args:
        counts: for each field, by id.
    """

    def __init__(self, counts: list[np.ndarray]) -> None:
        self.counts = counts

    @classmethod
    def of(cls, rows: EncodedRows, processor: Any) -> "CountedIds":
        """Count the ids of rows that a processor encoded."""
        return cls([rows.count_ids(number, end) for number, (_, end) in enumerate(processor.field_ranges)])

    def save(self, file: Path) -> None:
        """Write the counts, for `added`."""
        np.savez(file, *self.counts)

    @classmethod
    def added(cls, files: Iterable[Path]) -> "CountedIds":
        """Return the sum of the counts in files, which are read one after another."""
        total: list[np.ndarray] = []
        for file in files:
            with np.load(file) as saved:
                counts = [saved[name] for name in saved.files]
            total = [one + more for one, more in zip(total, counts, strict=True)] if total else counts
        return cls(total)

    def __len__(self) -> int:
        return int(self.counts[0].sum())

    def count_ids(self, field: int, size: int, rows: np.ndarray | None = None) -> np.ndarray:
        """Return how often each id below `size` occurs in a field, `(size,)` int64; of all rows."""
        return self.counts[field][:size]

    def share_of(self, field: int, id_: int, rows: Any = slice(None)) -> float:
        """Return the share of an id among all rows of a field."""
        return float(self.counts[field][id_] / max(1, len(self)))


def refuse_foreign_files(folder: Path) -> None:
    """Raise a ValueError if a folder that is to be replaced holds anything but encoded rows."""
    foreign = sorted(path.name for path in folder.iterdir() if not _OWN.fullmatch(path.name)) if folder.is_dir() else []
    if foreign:
        raise ValueError(
            f"Expected a folder for encoded rows alone, found {', '.join(foreign[:3])} in {str(folder)!r}, which "
            "would be lost. Move that elsewhere, or choose another folder."
        )


def id_layout(bounds: list[int]) -> tuple[str, int]:
    """Return the smallest type that holds a field's ids minus its base, and the base."""
    start, end = bounds
    size = end - start
    return ("uint8" if size <= 2**8 else "uint16" if size <= 2**16 else "uint32"), start


def as_codes(ids: pa.ChunkedArray, dtype: str, base: int) -> np.ndarray:
    """Return ids minus their field's base in its smallest type, see `id_layout`."""
    return (ids.to_numpy() - ids.type.to_pandas_dtype()(base)).astype(dtype)


def _write_ids(folder: Path, tables: Iterable[pa.Table], layout: dict[str, tuple[str, int]]) -> int:
    rows = 0
    files = {name: folder / f"field{i}.bin" for i, name in enumerate(layout)}
    for file in files.values():
        file.write_bytes(b"")
    for table in tables:
        rows += table.num_rows
        for name, (dtype, base) in layout.items():
            with files[name].open("ab") as out:  # one at a time: there may be more fields than a process may open files
                out.write(as_codes(table[name], dtype, base).tobytes())
    return rows

"""Which rows of a table belong to one history, and in which order they happened."""

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import pyarrow as pa
from transformers.utils import logging

from ..reading.cell_types import time_type
from ..reading.column_names import near_names
from ..reading.records import shorten
from ..reading.written_times import wall_clock

logger = logging.get_logger(__name__)

BATCH_ROWS = 262_144
CODE = "#code"  # column of an entity's number
RELEASED_BYTES = 2**26
MOST_NAMED = 3  # rows, in a message
YEAR_1980, YEAR_2100 = 315_532_800, 4_102_444_800  # seconds since 1970
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
MICROSECONDS = {"s": 10**6, "ms": 10**3, "us": 1, "number": 10**6}


def iter_tables(
    dataset: datasets.Dataset, columns: list[str] | None = None, rows: int = BATCH_ROWS
) -> Iterator[pa.Table]:
    """Yield a dataset's rows in tables of at least `rows / 4` rows, in memory that does not grow with them.

    Args:
        columns: only these, in this order.
    """
    wanted = columns if columns is not None else dataset.column_names
    require_columns(dataset.column_names, wanted)
    if not dataset.cache_files or dataset._indices is not None or not _is_plain(dataset):
        for batch in dataset.select_columns(wanted).with_format("arrow").iter(batch_size=rows):
            yield batch
        return
    held: list[pa.RecordBatch] = []
    count = 0
    for cache in dataset.cache_files:
        for batch in _stream(cache["filename"]):
            held.append(batch.select(wanted))
            count += batch.num_rows
            if count >= rows // 4:
                yield _together(held)
                held, count = [], 0
    if held:
        yield _together(held)


def require_columns(names: Sequence[str], columns: Sequence[str]) -> None:
    """Raise a ValueError if a table with columns `names` lacks some that the plan reads."""
    if absent := [name for name in columns if name not in dict.fromkeys(names)]:
        raise ValueError(
            f"Expected columns {absent}, found {list(names)}.{near_names(absent, names)} Rename the table's columns, "
            "or correct the plan, entity_columns or time_column."
        )


def _stream(path: str) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of an Arrow stream file, memory-mapped.

    Pages behind the reader are given back: else they would count as this process' memory. Whoever still holds an
    earlier batch may read it all the same, the pages come back from the file.
    """
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    source = pa.BufferReader(pa.py_buffer(mapped))
    released = 0
    for batch in pa.ipc.open_stream(source):
        yield batch
        done = source.tell() // mmap.PAGESIZE * mmap.PAGESIZE
        if done - released >= RELEASED_BYTES:
            if hasattr(mapped, "madvise"):  # not on Windows, which trims a process' mapped pages by itself
                mapped.madvise(mmap.MADV_DONTNEED, released, done - released)
            released = done


def _together(batches: list[pa.RecordBatch]) -> pa.Table:
    table = pa.Table.from_batches(batches)
    return table if len(batches) == 1 else table.combine_chunks()


def _is_plain(dataset: datasets.Dataset) -> bool:
    """Whether the files hold exactly the dataset's rows (no slice, no renamed column in between)."""
    rows, names = 0, set(dataset.column_names)
    for cache in dataset.cache_files:
        with pa.memory_map(cache["filename"]) as source, pa.ipc.open_stream(source) as reader:
            names &= set(reader.schema.names)
            rows += sum(batch.num_rows for batch in reader)
    return rows == len(dataset) and names == set(dataset.column_names)


@dataclass
class Histories:
    """Entity and time of every row, in the order of the table.

    Attributes:
        entity: `(rows,)` int32, numbered by first appearance.
        time: `(rows,)` int64 microseconds, or the row's number where the table has no time.
        names: the entity columns' values, one row per entity.
        late: numbers of the rows before which the same entity has a later one.
        grouped: whether each entity's rows lie together.
    """

    entity: np.ndarray
    time: np.ndarray
    names: pl.DataFrame
    late: np.ndarray
    grouped: bool


def read_histories(
    dataset: datasets.Dataset, entity: list[str], time: str | None, unit: str | None = None
) -> Histories:
    """Read who and when.

    Args:
        entity: columns that name the history; empty: the table is one.
        time: column that orders rows; None: the order of the table.
        unit: of a column of numbers: s, ms, us, ns, or "number" (seconds); None: us of whole numbers, s of others.

    Raises:
        ValueError: if a column is absent, a time is too large, or an entity or a time is missing (with
            the first such row).
    """
    codes, times = [], []
    index = EntityIndex(entity)
    done = 0
    columns = list(dict.fromkeys([*entity, *([time] if time else [])]))
    for table in iter_tables(dataset, columns) if columns else ():
        codes.append(index.codes(table, done))
        if time is not None:
            times.append(times_of(table[time], time, done, unit))
        done += table.num_rows
    rows = len(dataset)
    all_codes = np.concatenate(codes) if entity and codes else np.zeros(rows, dtype=np.int32)
    all_times = np.concatenate(times) if times else np.arange(rows, dtype=np.int64)
    grouped = bool(np.count_nonzero(all_codes[1:] != all_codes[:-1]) < max(1, len(index.names)))
    order = None if grouped else np.argsort(all_codes, kind="stable")
    late = late_places(all_codes, all_times) if order is None else late_places(all_codes[order], all_times[order])
    late = late if order is None else np.sort(order[late])
    return Histories(all_codes, all_times, index.names, late, grouped)


def late_places(codes: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the places of rows that come after a later row of their history; the rows of a history lie together."""
    return np.flatnonzero((times[1:] < times[:-1]) & (codes[1:] == codes[:-1])) + 1


def in_order(
    dataset: datasets.Dataset, found: Histories, entity: list[str], time: str, folder: str | Path, earlier: int = 0
) -> tuple[datasets.Dataset, np.ndarray]:
    """Return a sorted copy of the dataset, each entity's rows together and in time order, and the numbers they had.

    Rows of the same time keep their order.

    Args:
        found: who and when.
        entity, time: columns, for the warning.
        folder: for the copy.
        earlier: how many rows, the first ones, are of earlier calls, which told of them.
    """
    late = found.late[found.late >= earlier]
    if len(late):
        cells = dataset.select(late[:MOST_NAMED]).select_columns(list(dict.fromkeys([*entity, time])))
        named = [f"{''.join(f'{name} {shorten(row[name])} ' for name in entity)}at {row[time]}" for row in cells]
        more = f" and {len(late) - len(named):,} more" if len(late) > len(named) else ""
        new, before = ("new ", " Scores of earlier calls did not know them.") if earlier else ("", "")
        logger.warning(
            f"{len(late):,} of {len(dataset) - earlier:,} {new}rows come after a later row of the same history "
            f"({', '.join(named)}{more}); the table is put in order by entity and time.{before}"
        )
    order = np.lexsort((found.time, found.entity))
    Path(folder).mkdir(parents=True, exist_ok=True)
    target = str(Path(folder) / "in_order.arrow")
    table = dataset.with_format("arrow")[:] if dataset._indices is not None else dataset.data.table
    with pa.OSFile(target, "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        for first in range(0, len(order), BATCH_ROWS):
            taken = table.take(pa.array(order[first : first + BATCH_ROWS]))
            writer.write_table(taken.combine_chunks(), max_chunksize=BATCH_ROWS)
    return datasets.Dataset.from_file(target), order


class EntityIndex:
    """Numbers entities by first appearance, batch after batch.

    Args:
        entity: columns that name them; empty: the table is one.

    Attributes:
        names: the entity columns' values, one row per entity, and its number as `#code`.
    """

    def __init__(self, entity: list[str]) -> None:
        if CODE in entity:
            raise ValueError(f"Expected entity columns other than {CODE!r}, found {entity}. Rename the column.")
        self.entity = entity
        self.names = pl.DataFrame()

    def codes(self, table: pa.Table, done: int) -> np.ndarray:
        """Return the number of each row's entity, `(rows,)` int32.

        Args:
            table: a batch of rows.
            done: rows before it, for messages.

        Raises:
            ValueError: if an entity is missing.
        """
        if not self.entity or table.num_rows == 0:
            return np.zeros(table.num_rows, dtype=np.int32)
        keys = pl.DataFrame(pl.from_arrow(table.select(self.entity)))
        changes = np.zeros(len(keys), dtype=bool)
        changes[0] = True
        for name in self.entity:
            values = keys[name]
            check_entity(values, done)
            changes[1:] |= (values.slice(1) != values.slice(0, len(values) - 1)).to_numpy()
        starts = np.flatnonzero(changes)
        runs = keys[starts]
        if self.names.is_empty():
            self.names = runs.clear().with_columns(pl.lit(0, dtype=pl.Int32).alias(CODE))
        found = runs.join(self.names, on=self.entity, how="left", maintain_order="left")
        if found[CODE].null_count():
            fresh = found.filter(pl.col(CODE).is_null()).select(self.entity).unique(maintain_order=True)
            numbers = pl.int_range(pl.len(), dtype=pl.Int32) + len(self.names)
            self.names = pl.concat([self.names, fresh.with_columns(numbers.alias(CODE).cast(pl.Int32))])
            found = runs.join(self.names, on=self.entity, how="left", maintain_order="left")
        return np.repeat(found[CODE].to_numpy(), np.diff(np.append(starts, len(keys))))


def check_entity(values: pl.Series, done: int) -> None:
    """Raise a ValueError if an entity column has no value in a row of a batch, or several; `done` rows came before."""
    if values.dtype.is_nested():
        raise ValueError(
            f"Expected single values in column {values.name!r}, which names the entity, found {values.dtype}. Name "
            "another column."
        )
    if values.null_count():
        at = done + int(values.is_null().arg_true()[0])
        raise ValueError(
            f"Column {values.name!r} names the entity and is missing in {values.null_count()} rows of a"
            f" batch (first: row {at}). Fill or remove those rows."
        )


def times_of(column: pa.ChunkedArray, name: str, done: int, unit: str | None) -> np.ndarray:
    """Return a time column of a batch as int64 microseconds, `(rows,)`.

    Args:
        column: timestamps, dates or numbers.
        name: of the column, for messages.
        done: rows before the batch, for messages.
        unit: of numbers, see `read_histories`.

    Raises:
        ValueError: if a time is missing or too large, or the column holds something else.
    """
    if column.null_count:
        at = done + int(np.flatnonzero(np.asarray(column.is_null()))[0])
        raise ValueError(
            f"Column {name!r} orders the rows and is missing in {column.null_count} rows of a batch (first:"
            f" row {at}). Fill or remove those rows."
        )
    column = wall_clock(column)
    if not len(column):
        return np.empty(0, dtype=np.int64)  # of a file without rows nothing tells the type
    kind: Any = column.type
    if pa.types.is_date(kind):
        column, kind = column.cast(pa.timestamp("us")), pa.timestamp("us")
    if pa.types.is_timestamp(kind):
        column, unit = column.cast(pa.int64()), kind.unit
    if pa.types.is_integer(column.type):
        if pa.types.is_uint64(column.type):
            _check_size(column.to_numpy(), 1, name)
        raw = column.cast(pa.int64()).to_numpy()
        _check_unit(raw, unit, name)
        if unit == "ns":
            return raw // 1000
        factor = MICROSECONDS[unit or "us"]
        if factor > 1:
            _check_size(raw, factor, name)
        return raw * factor
    if pa.types.is_floating(kind):
        _check_unit(raw := column.to_numpy(), unit, name)
        scale = 1e-3 if unit == "ns" else float(MICROSECONDS[unit or "s"])
        _check_size(raw, scale, name)
        return np.rint(raw * scale).astype(np.int64)
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    remedy = (
        f"Give its format in the recipe: `types: {{{name}: '%d/%m/%Y %H:%M'}}`."
        if is_text
        else "Name another column as the time."
    )
    place, cell = _first_odd(name, column) if is_text else (None, None)
    found = kind if place is None else f"{kind}, such as {shorten(cell)} in row {done + place + 1}"
    raise ValueError(f"Column {name!r} orders the rows: expected timestamps, dates or numbers, found {found}. {remedy}")


def _first_odd(name: str, column: pa.ChunkedArray) -> tuple[int, str]:
    """Return place and text of the first cell that is no time, or no number, as most are; else of the first cell."""
    cells = pl.Series(name, column)
    kind = time_type(name, cells)
    odd = pl.lit(True) if kind is None else kind.values.is_null()
    place = int(cells.to_frame().select(odd).to_series().arg_max() or 0)
    return place, cells[place]


def _check_unit(raw: np.ndarray, unit: str | None, name: str) -> None:
    """Raise a ValueError if a time beyond the year 2100 would lie before it in another unit: ms among seconds."""
    if unit not in PER_SECOND:
        return
    beyond = raw[raw >= YEAR_2100 * PER_SECOND[unit]]
    for other, factor in PER_SECOND.items():
        odd = beyond[(beyond >= YEAR_1980 * factor) & (beyond < YEAR_2100 * factor)]
        if len(odd):
            raise ValueError(
                f"Column {name!r} orders the rows: expected times as numbers of one unit, {unit}, found {odd[0]}, "
                f"which would lie after the year 2100 and is one in {other}. Write all in one unit."
            )


def _check_size(raw: np.ndarray, factor: float, name: str) -> None:
    if not (np.abs(raw.astype(np.float64)) * factor < 2**63).all():
        raise ValueError(
            f"Column {name!r} orders the rows: expected times within 64 bits of microseconds, found "
            f"{raw[np.argmax(np.abs(raw.astype(np.float64)))]}. Correct the cell, or the plan's `time_unit`."
        )

"""Columns of a table as arrays: typed, vectorised, missing values marked. No state, and no threads (see below)."""

# A DataLoader's worker is a fork of its parent, in which the threads of polars do not run: whatever waits for them
# waits for ever. Encoding therefore reads and computes with pyarrow and NumPy only.

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from .refused_rows import mixed_cells, no_table, refuse_doubled, refuse_tables
from .text_numbers import empty_as_missing, is_text, parse_money

PROCESS = os.getpid()  # that loaded this module: another number means a fork
COLUMNS = (list, tuple, np.ndarray, pa.Array, pa.ChunkedArray, pl.Series)  # and a Series of pandas
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
FNV_OFFSET, FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)  # FNV-1a, 64 bits


def as_table(rows: Any) -> pa.Table:
    """Return a batch of rows as a pyarrow Table: Table, RecordBatch, polars (lazy too) or pandas frame, mapping of
    columns to lists, Dataset, list of rows that are mappings.
    """
    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    if isinstance(rows, pl.LazyFrame):
        if os.getpid() != PROCESS:
            raise ValueError(
                "Expected rows that are read already, found a LazyFrame in a forked worker, where polars has no "
                "threads. Call `LazyFrame.collect()` before, or take num_workers=0."
            )
        rows = rows.collect()
    if isinstance(rows, pl.DataFrame):
        # column by column: `DataFrame.to_arrow` may wait for polars' threads, which a forked process has not
        oldest = pl.CompatLevel.oldest()
        columns = {  # Python objects lie there as addresses
            one.name: one.to_list() if one.dtype == pl.Object else one.to_arrow(compat_level=oldest) for one in rows
        }
        return _table_of(pa.table, columns, columns)
    if isinstance(rows, Mapping):  # of `datasets.Dataset.map` too
        refuse_tables(rows)
        rows = dict(rows)
        single = [name for name, values in rows.items() if isinstance(values, str) or not hasattr(values, "__len__")]
        if single:
            raise TypeError(
                f"Expected a list of values for each column, found {type(rows[single[0]]).__name__} in {single[0]!r}, "
                "as of one row. Pass a history as a list of such rows, and several histories as a list of such lists."
            )
        return _table_of(pa.table, rows, rows)
    if is_list_of_rows(rows):
        names = dict.fromkeys(name for row in rows for name in row)
        return _table_of(pa.table, columns := {name: [row.get(name) for row in rows] for name in names}, columns)
    if hasattr(rows, "with_format") and hasattr(rows, "features"):  # a datasets.Dataset
        return rows.with_format("arrow")[:]
    if hasattr(rows, "iloc") and hasattr(rows, "columns"):  # pandas, not one of its columns
        refuse_doubled(rows.columns)
        return _table_of(partial(pa.Table.from_pandas, preserve_index=False), rows, rows)
    raise no_table(rows)


def _table_of(make: Callable[[Any], pa.Table], given: Any, columns: Mapping[Any, Any]) -> pa.Table:
    """Return `make(given)`; cells that pyarrow does not take are told with their column."""
    try:
        return make(given)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        raise mixed_cells(columns, error) from error


def is_list_of_rows(rows: Any) -> bool:
    """Return whether `rows` is a list of mappings from a column's name to a single value."""
    return (
        isinstance(rows, list)
        and bool(rows)
        and all(isinstance(row, Mapping) for row in rows)
        and not any(isinstance(value, COLUMNS) or hasattr(value, "iloc") for value in rows[0].values())
    )


def column(table: pa.Table, name: str) -> pa.Array:
    """Return one column as a single array.

    Raises:
        ValueError: if the table has no such column, or one of lists.
    """
    place = table.schema.get_field_index(name)
    if place < 0:
        raise ValueError(
            f"Expected a column {name!r}, found {table.column_names}. Rename the table's column or edit the plan."
        )
    chunked = table.column(place)
    if pa.types.is_nested(chunked.type):
        raise ValueError(
            f"Expected single values in column {name!r}, found {chunked.type}. Remove its field from the plan, or "
            "split the column into several."
        )
    if pa.types.is_binary(chunked.type) or pa.types.is_large_binary(chunked.type):
        try:
            chunked = chunked.cast(pa.large_string())
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"Expected text in UTF-8 in column {name!r}, found {chunked.type} that is none ({error}). Write it as "
                "text, or take its field out of the plan."
            ) from error
    array = chunked.chunk(0) if chunked.num_chunks == 1 else chunked.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # zero chunks
        array = pa.array([], type=chunked.type) if array.num_chunks == 0 else pa.concat_arrays(array.chunks)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_timestamp(array.type) and array.type.tz is not None:
        array = pc.local_timestamp(array)  # as it is written, see `hf_mmtab.data.reading.written_times`
    return array.cast(pa.large_string()) if pa.types.is_string_view(array.type) else array


def truths(values: pa.Array) -> pa.Array:
    """Return 1 and 0 of truth values, however a file spells them: true, TRUE, 1, 1.0; null for all else."""
    texts = pc.utf8_lower(values.cast(pa.string()))
    is_true, is_false = (pc.is_in(texts, pa.array(words)) for words in (["true", "1", "1.0"], ["false", "0", "0.0"]))
    return pc.if_else(is_true, pa.scalar(1, pa.int8()), pc.if_else(is_false, pa.scalar(0, pa.int8()), None))


def categories(array: pa.Array, fill: str | int | float | None = None) -> pa.Array:
    """Return values as int64, double or string with nulls; empty text and NaN are missing.

    Args:
        fill: what stands for a missing value.
    """
    kind = array.type
    if pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
        out = array.cast(pa.int64())
    elif pa.types.is_floating(kind):
        wide = _as_written(array) if pa.types.is_float32(kind) else array.cast(pa.float64())
        out = pc.add(wide, 0.0)  # -0.0 is 0.0, which Arrow's hashes tell apart
        out = pc.if_else(pc.is_nan(out), pa.scalar(None, pa.float64()), out)
    elif is_text(kind):
        out = array.cast(pa.string()) if array.nbytes < 2**31 else array
        out = empty_as_missing(out)
    elif pa.types.is_null(kind):
        out = array.cast(pa.string())
    else:
        out = array.cast(pa.string())
    if fill is not None and out.null_count:
        if isinstance(fill, str) and not is_text(out.type):
            raise ValueError(
                f"Expected a number to stand for missing values of a column of {out.type}, found fill={fill!r}."
            )
        out = pc.fill_null(out, pa.scalar(str(fill) if is_text(out.type) else fill, out.type))
    return out


def _as_written(array: pa.Array) -> pa.Array:
    """Return numbers of 32 bits as float64 that are written alike: 0.1 is 0.1, and not 0.10000000149011612."""
    coded = array.dictionary_encode()
    return coded.dictionary.cast(pa.string()).cast(pa.float64()).take(coded.indices)


def numbers(array: pa.Array, name: str) -> np.ndarray:
    """Return values as float64, shape `(rows,)`, NaN where missing; timestamps become microseconds since
    1970, durations seconds.

    Text is read as money or a plain number: `$-12.30`, `-$1,234.5`, `(7.00)`.

    Raises:
        ValueError: if some text is not a number (column, row and value are named).
    """
    kind = array.type
    if pa.types.is_duration(kind):
        spans = array.cast(pa.duration("us")).cast(pa.int64())
        return spans.to_numpy(zero_copy_only=False).astype(np.float64) / 1e6
    if pa.types.is_temporal(kind):
        moments = microseconds(array)
        return np.where(np.asarray(array.is_valid()), moments, np.nan)
    if is_text(kind):
        values, wrong = parse_money(array)
        if len(wrong):
            row = int(wrong[0])
            raise ValueError(
                f"Column {name!r}: expected numbers or amounts, found {array[row].as_py()!r} in row {row} of"
                f" the batch ({len(wrong)} such rows in it). Make the field categorical, or correct the"
                " table (decimal commas: read them as numbers first)."
            )
        return values
    if pa.types.is_boolean(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        array = array.cast(pa.float64()) if not pa.types.is_boolean(kind) else array.cast(pa.int8()).cast(pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise ValueError(f"Column {name!r}: expected numbers, found {kind}. Make the field categorical.")
    elif pa.types.is_float32(kind):
        array = _as_written(array)
    if not pa.types.is_floating(array.type):
        array = array.cast(pa.float64(), safe=False)
    return array.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)


def microseconds(array: pa.Array) -> np.ndarray:
    """Return timestamps or dates as int64 microseconds since 1970, numbers as they are; 0 where missing."""
    kind = array.type
    if pa.types.is_floating(kind):
        # a number that orders rows: seconds, for want of a better unit
        seconds = np.nan_to_num(pc.fill_null(array, 0.0).to_numpy(zero_copy_only=False).astype(np.float64))
        if (largest := np.abs(seconds).max(initial=0)) >= 2**63 / 1e6:
            raise ValueError(
                f"Expected times as seconds within 64 bits of microseconds, found {largest:g}. Correct the column, or "
                "`time_unit` in the plan."
            )
        return np.rint(seconds * 1e6).astype(np.int64)
    in_ns = pa.types.is_timestamp(kind) and kind.unit == "ns"
    if pa.types.is_date(kind) or (pa.types.is_timestamp(kind) and not in_ns):
        try:
            array = array.cast(pa.timestamp("us"))
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"Expected times within 64 bits of microseconds, found others ({error}). Correct the column."
            ) from error
    elif not (pa.types.is_integer(kind) or in_ns):
        raise ValueError(f"Expected timestamps, dates or numbers as time, found {kind}. Parse the column first.")
    raw = pc.fill_null(array.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    return raw // 1000 if in_ns else raw


def in_unit(array: pa.Array, unit: str | None) -> pa.Array:
    """Return times that are numbers of a unit (see `ColumnPlan.time_unit`) as timestamps, plain numbers as floats.

    Other arrays, and those whose unit is None, are returned as they are.

    Raises:
        ValueError: if a number is too large for the unit.
    """
    kind = array.type
    if unit is None or not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return array
    if unit == "number":
        return array.cast(pa.float64(), safe=False)
    try:
        if pa.types.is_integer(kind):
            moments = array.cast(pa.int64()).cast(pa.timestamp(unit))
            return moments.cast(pa.timestamp("us"), safe=unit != "ns")
        present = pc.if_else(pc.is_nan(array), None, array.cast(pa.float64()))
        return pc.round(pc.multiply(present, 1e6 / PER_SECOND[unit])).cast(pa.int64()).cast(pa.timestamp("us"))
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"Expected times in {unit} since 1970, found other numbers ({error}). Correct the column, or the plan's "
            "`time_unit`."
        ) from error


def check_time_part(array: pa.Array, part: str, name: str) -> None:
    """Raise a ValueError unless a column has that calendar part."""
    kind = array.type
    is_clock = pa.types.is_time(kind) and part in ("hour", "minute")
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind) or is_clock):
        raise ValueError(
            f"Column {name!r}: expected timestamps for its {part}, found {kind}. Give the column that type, or "
            "take the field out of the plan."
        )


def time_part(array: pa.Array, part: str, name: str) -> np.ndarray:
    """Return a calendar part as int64 from 0 (Monday 0, January 0, first day 0); -1 where missing.

    Raises:
        ValueError: if the column `name` has no such part.
    """
    check_time_part(array, part, name)
    if pa.types.is_date(array.type):
        array = array.cast(pa.timestamp("s"))
    read = {
        "month": lambda a: pc.subtract(pc.month(a), 1),
        "day": lambda a: pc.subtract(pc.day(a), 1),
        "weekday": pc.day_of_week,
        "hour": pc.hour,
        "minute": pc.minute,
    }[part]
    out = read(array)
    return (pc.fill_null(out, -1) if out.null_count else out).to_numpy(zero_copy_only=False)


def stable_hash(array: pa.Array) -> np.ndarray:
    """Return FNV-1a hashes of the values' text as uint64, the same on every machine; nulls too."""
    text = array.cast(pa.large_string())
    offsets = np.frombuffer(text.buffers()[1], dtype=np.int64)[text.offset : text.offset + len(text) + 1]
    data = np.frombuffer(text.buffers()[2] or b"", dtype=np.uint8)
    length = np.diff(offsets)
    hashes = np.full(len(text), FNV_OFFSET, dtype=np.uint64)
    order = np.argsort(length, kind="stable")
    begins, ends = offsets[:-1][order], length[order]
    with np.errstate(over="ignore"):
        for position in range(int(length.max(initial=0))):  # over characters, all rows at once
            longer = order[np.searchsorted(ends, position, side="right") :]
            byte = data[begins[len(order) - len(longer) :] + position].astype(np.uint64)
            hashes[longer] = (hashes[longer] ^ byte) * FNV_PRIME
        # FNV leaves short texts close together; the finaliser of MurmurHash3 spreads them over the buckets
        hashes ^= hashes >> np.uint64(33)
        hashes *= np.uint64(0xFF51AFD7ED558CCD)
        hashes ^= hashes >> np.uint64(33)
    return hashes

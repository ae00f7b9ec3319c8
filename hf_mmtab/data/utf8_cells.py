"""Texts of Parquet and Arrow files that are not UTF-8: nothing in these formats keeps writers from them."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .records import BadRecord, BadRecords, shorten
from .text_files import is_utf8

EXPECTED, REMEDY = "text in UTF-8", "Write the file anew from text that is read in its own encoding."


def without_broken_texts(table: pa.Table, file: str, first_row: int, bad: BadRecords) -> tuple[pa.Table, np.ndarray]:
    """Return the rows of a batch whose texts are UTF-8, and their numbers in the file, from 1.

    Args:
        table: a batch of the file.
        file: named in records.
        first_row: rows of the file before the batch.
        bad: told about the others.
    """
    found: dict[int, tuple[str, bytes]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        done = 0
        for chunk in column.chunks:
            for row, content in _broken(chunk).items():
                found.setdefault(done + row, (name, content))
            done += len(chunk)
    numbers = np.arange(first_row, first_row + table.num_rows) + 1
    if not found:
        return table, numbers
    for row, (name, content) in sorted(found.items()):
        bad.add(BadRecord(file, int(numbers[row]), name, EXPECTED, shorten(content), REMEDY))
    kept = np.ones(table.num_rows, dtype=bool)
    kept[list(found)] = False
    return table.filter(pa.array(kept)), numbers[kept]


def records_of(batch: pa.RecordBatch, file: str, first_row: int, bad: BadRecords) -> list[tuple[int, dict]]:
    """Return the records of a batch with their numbers in the file, from 1; those with a broken text go to `bad`.

    Args are those of `without_broken_texts`.
    """
    try:
        return [*enumerate(batch.to_pylist(), start=first_row + 1)]
    except UnicodeDecodeError:
        return [
            (number, record)
            for number in range(first_row + 1, first_row + 1 + batch.num_rows)
            if (record := _record(batch.slice(number - first_row - 1, 1), file, number, bad)) is not None
        ]


def _record(row: pa.RecordBatch, file: str, number: int, bad: BadRecords) -> dict[str, Any] | None:
    record = {}
    for name, column in zip(row.schema.names, row.columns, strict=True):
        try:
            record[name] = column[0].as_py()
        except UnicodeDecodeError as error:
            bad.add(BadRecord(file, number, name, EXPECTED, shorten(error.object), REMEDY))
            return None
    return record


def _broken(texts: Any) -> dict[int, bytes]:
    """Return row → content of the texts in an array that are not UTF-8; empty for an array of another type."""
    if pa.types.is_dictionary(texts.type):
        values = _broken(texts.dictionary)
        rows = np.flatnonzero(pc.is_in(texts.indices, pa.array([*values], texts.indices.type))) if values else ()
        return {int(row): values[texts.indices[int(row)].as_py()] for row in rows}
    kind = texts.type
    is_view = pa.types.is_string_view(kind)
    if not (is_view or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return {}
    try:
        texts.validate(full=True)
        return {}
    except pa.ArrowInvalid:
        raw = pa.binary_view() if is_view else pa.large_binary() if pa.types.is_large_string(kind) else pa.binary()
        contents = texts.view(raw).to_pylist()
        return {row: one for row, one in enumerate(contents) if one is not None and not is_utf8(one)}

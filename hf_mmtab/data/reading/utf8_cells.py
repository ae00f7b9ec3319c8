"""Texts of Parquet and Arrow files that are not UTF-8: nothing in these formats keeps writers from them."""

from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .places import Place
from .records import BadRecord, BadRecords, shorten
from .text_files import is_utf8

EXPECTED, REMEDY = (
    "text in UTF-8",
    "Write the file anew, from text that is read in its own encoding or without this column.",
)
_RAW_OF_TEXT: dict[Any, Any] = {
    pa.string(): pa.binary(),
    pa.large_string(): pa.large_binary(),
    pa.string_view(): pa.binary_view(),
}


def without_broken_texts(table: pa.Table, file: str, first_row: int, bad: BadRecords) -> tuple[pa.Table, np.ndarray]:
    """Return the rows of a batch whose texts are UTF-8, and their numbers in the file, from 1.

    Args:
        table: a batch of the file, see `with_plain_texts`.
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


def records_of(
    batch: pa.Table, file: str, first_row: int, bad: BadRecords, read: Collection[str] | None = None
) -> list[tuple[int, dict]]:
    """Return the records of a batch with their numbers in the file, from 1; those with a broken text go to `bad`.

    Args are those of `without_broken_texts`, and `read`: columns whose texts must be UTF-8 (None: all). A text of
    another column gets U+FFFD for what is none.
    """
    try:
        return [*enumerate(batch.to_pylist(), start=first_row + 1)]
    except UnicodeDecodeError:
        return [
            (number, record)
            for number in range(first_row + 1, first_row + 1 + batch.num_rows)
            if (record := _record(batch.slice(number - first_row - 1, 1), file, number, bad, read)) is not None
        ]


def _record(
    row: pa.Table, file: str, number: int, bad: BadRecords, read: Collection[str] | None
) -> dict[str, Any] | None:
    record = {}
    for name, column in zip(row.schema.names, row.columns, strict=True):
        try:
            record[name] = column[0].as_py()
        except UnicodeDecodeError as error:
            if read is not None and name not in read and column.type in _RAW_OF_TEXT:
                record[name] = error.object.decode("utf-8", errors="replace")
                continue
            bad.add(BadRecord(file, number, name, EXPECTED, shorten(error.object), REMEDY))
            return None
    return record


def _broken(texts: Any) -> dict[int, bytes]:
    """Return row → content of the texts in an array that are not UTF-8; empty for an array of another type."""
    if pa.types.is_dictionary(texts.type):
        values = _broken(texts.dictionary)
        rows = np.flatnonzero(pc.is_in(texts.indices, pa.array([*values], texts.indices.type))) if values else ()
        return {int(row): values[texts.indices[int(row)].as_py()] for row in rows}
    if not pa.types.is_string(texts.type):
        return {}
    try:
        texts.validate(full=True)
        return {}
    except pa.ArrowInvalid:
        contents = texts.view(pa.binary()).to_pylist()
        return {row: one for row, one in enumerate(contents) if one is not None and not is_utf8(one)}


def with_plain_texts(table: pa.Table, keeps_bytes: Callable[[str], bool] = lambda name: False) -> pa.Table:
    """Return a table whose columns of text or bytes, also in dictionaries, are of type `string`, not yet checked.

    Args:
        table: a batch of a file.
        keeps_bytes: whether a column of bytes, by its name, stays as it is.
    """
    for place, name in enumerate(table.column_names):
        kind: Any = table.schema.field(place).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if kind in _RAW_OF_TEXT or (_is_bytes(kind) and not keeps_bytes(name)):
            column = table.column(place)
            chunks = [_plain(chunk) for chunk in column.chunks] or [pa.array([], pa.string())]
            table = table.set_column(place, name, pa.chunked_array(chunks))
    return table


def _is_bytes(kind: Any) -> bool:
    return kind in _RAW_OF_TEXT.values() or pa.types.is_fixed_size_binary(kind)


def _plain(texts: Any) -> Any:
    if pa.types.is_dictionary(texts.type):
        return pa.DictionaryArray.from_arrays(texts.indices, _plain(texts.dictionary))
    raw = texts.view(_RAW_OF_TEXT[texts.type]) if texts.type in _RAW_OF_TEXT else texts
    return raw.cast(pa.binary()).view(pa.string())


def parquet_batches(file: pq.ParquetFile, path: Place, rows: int, **options: Any) -> Iterator[pa.RecordBatch]:
    """Yield the rows of an open Parquet file in batches.

    Args:
        file: that is read.
        path: its name.
        rows: of a batch, at most.
        options: of `ParquetFile.iter_batches`.

    Raises:
        ValueError: for a column of categories with a text that is not UTF-8, which Arrow refuses to read.
    """
    try:
        yield from file.iter_batches(batch_size=rows, **options)
    except pa.ArrowInvalid:
        _refuse_broken_categories(path)
        raise


def _refuse_broken_categories(path: Place) -> None:
    with path.open("rb") as file:
        content = bytearray(file.read())
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    content[footer:] = content[footer:].replace(
        b"ARROW:schema", b"-----:schema"
    )  # so that categories are read as texts
    number, bad = 0, BadRecords("skip")
    for batch in pq.ParquetFile(pa.BufferReader(bytes(content))).iter_batches(batch_size=65_536):
        without_broken_texts(with_plain_texts(pa.table(batch), lambda name: True), str(path), number, bad)
        if bad.records:
            raise ValueError(str(bad.records[0]))
        number += batch.num_rows

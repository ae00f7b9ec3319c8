"""Records of JSON lines, JSON, CSV, TSV and Parquet files, each with its line or row."""

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .arrow_types import with_known_types
from .csv_text import read_text_blocks
from .library_errors import plain_errors
from .records import BadRecord, BadRecords, shorten
from .text_files import is_utf8, open_bytes, separator_of
from .utf8_cells import parquet_batches, records_of

SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".json", ".csv", ".tsv", ".parquet")


def file_suffix(path: Path) -> str | None:
    """Return the one of `SUFFIXES` that the file name ends with, or None."""
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def iter_records(
    path: Path,
    bad: BadRecords,
    skip_columns: Sequence[str] = (),
    separator: str | None = None,
    missing: Sequence[str] = (),
    read: Collection[str] | None = None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line or row from 1, record) of a file; what is no record goes to `bad`.

    Args:
        path: ending in one of `SUFFIXES`.
        bad: told about truncated JSON, lines that are no object, CSV rows of the wrong length.
        skip_columns: of a Parquet file, not read (embedded pictures when only labels are wanted).
        separator: of the columns of a CSV file; None: by its name.
        missing: of a CSV file, what becomes null where nothing quotes it.
        read: columns whose texts must be UTF-8 in CSV, JSON lines and Parquet; others get U+FFFD for what is none.
            None: all.

    Raises:
        ValueError: for a file of another kind, or a file without any record.
    """
    suffix = file_suffix(path)
    if suffix is None:
        raise ValueError(
            f"Expected a file ending in one of {list(SUFFIXES)}, found {path.name!r}. Convert it, or rename it."
        )
    if suffix == ".parquet":
        yield from _iter_parquet(path, bad, skip_columns, read)
    elif suffix in (".csv", ".tsv"):
        for block in read_text_blocks(path, separator or separator_of(path), bad, missing=missing, read=read):
            yield from zip(block.lines.tolist(), block.table.to_pylist(), strict=True)
    elif suffix == ".json":
        yield from _iter_json(path, bad)
    else:
        yield from _iter_json_lines(path, bad, read)


def _iter_json_lines(path: Path, bad: BadRecords, read: Collection[str] | None) -> Iterator[tuple[int, dict[str, Any]]]:
    with open_bytes(path) as file:
        # A carriage return alone ends a line too: inside of JSON it stands for nothing but a space.
        lines = (piece for line in file for piece in line.rstrip(b"\r\n").split(b"\r"))
        for number, line in enumerate(lines, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            bad.rows_read += 1
            try:
                record = _mended(line.strip(), read) or _from_json(line.strip())
            except ValueError as error:
                text = line.strip()
                problem: str | None = f"{shorten(text.decode() if is_utf8(text) else text)}: {error}"
            else:
                problem = _problem(record)
            if problem is None:
                yield number, record
            else:
                remedy = "Repair or remove the line."
                bad.add(BadRecord(str(path), number, None, "one JSON object in each line", problem, remedy))


def _mended(text: bytes, read: Collection[str] | None) -> dict[str, Any] | None:
    """Return the object of a text that is not UTF-8, but is in the values of these keys (None: all); else None."""
    if read is None or is_utf8(text):
        return None
    try:
        found, told = (_from_json(text.decode("utf-8", errors).encode()) for errors in ("replace", "ignore"))
    except ValueError:  # which the text as it is says better
        return None
    is_object = isinstance(found, dict) and isinstance(told, dict)
    return found if is_object and all(found.get(name) == told.get(name) for name in read) else None


def _from_json(text: bytes) -> Any:
    """Return the value that a JSON text holds.

    Raises:
        ValueError: saying why it holds none.
    """
    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos + 1}") from error
    except RecursionError as error:
        raise ValueError("too many brackets in brackets") from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in record if names.count(name) > 1)!r} twice")
    return record


def _problem(record: Any) -> str | None:
    """Return what was found in place of an object whose texts can be written; None: nothing is wrong."""
    if not isinstance(record, dict):
        return shorten(record)
    try:
        json.dumps(record, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        return f"half of a surrogate pair, {error.object[error.start]!r}, in a text"
    except RecursionError:
        return "too many brackets in brackets"
    return None


def _iter_json(path: Path, bad: BadRecords) -> Iterator[tuple[int, dict[str, Any]]]:
    with open_bytes(path) as file:
        text = file.read().removeprefix(b"\xef\xbb\xbf")
    try:
        records = _from_json(text)
    except ValueError as error:
        raise ValueError(
            f"Expected a JSON list of objects, found {error} in {str(path)!r}. "
            "Repair the file; JSON lines belong in a file ending in .jsonl."
        ) from error
    if not isinstance(records, list):
        raise ValueError(
            f"Expected a JSON list of objects, found a {type(records).__name__} in {str(path)!r}. "
            "Put the objects in one list, or one in each line of a .jsonl file."
        )
    for number, record in enumerate(records, start=1):
        bad.rows_read += 1
        if (problem := _problem(record)) is None:
            yield number, record
        else:
            bad.add(BadRecord(str(path), number, None, "an object", problem, "Repair or remove it."))


def _iter_parquet(
    path: Path, bad: BadRecords, skip_columns: Sequence[str], read: Collection[str] | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    with plain_errors(path), pq.ParquetFile(path) as file:
        columns = [name for name in file.schema_arrow.names if name not in skip_columns]
        number = 0
        for batch in parquet_batches(file, path, 256, columns=columns):
            bad.rows_read += batch.num_rows
            batch = with_known_types(pa.table(batch), path).combine_chunks()
            yield from records_of(batch, str(path), number, bad, read)
            number += batch.num_rows

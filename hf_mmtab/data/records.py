"""Records of JSON lines, JSON, CSV, TSV and Parquet files, each with its place; and what is a bad one."""

import csv
import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

OnBadRecord = Literal["raise", "skip"]
SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".json", ".csv", ".tsv", ".parquet")
MAX_FIELD = 2**31 - 1  # characters of one CSV field; the default of 131,072 is less than a long text


@dataclass(frozen=True)
class BadRecord:
    """A record that cannot be used: where it is, what was expected, what was found and what to do."""

    file: str
    line: int | None  # line of a text file, row of a Parquet file, from 1
    column: str | None
    expected: str
    found: str
    remedy: str

    def __str__(self) -> str:
        place = repr(self.file)
        counted = "row" if self.file.endswith((".parquet", ".arrow")) else "line"
        place += f", {counted} {self.line}" if self.line is not None else ""
        place += f", column {self.column!r}" if self.column is not None else ""
        return f"Expected {self.expected}, found {self.found} ({place}). {self.remedy}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class BadRecordError(ValueError):
    """Raised for the first bad record under `on_bad_record="raise"`."""

    def __init__(self, record: BadRecord):
        super().__init__(f"{record} To leave such records out and list them, set on_bad_record to skip.")
        self.record = record


class BadRecords:
    """What to do with bad records: stop at the first one, or collect them."""

    def __init__(self, policy: OnBadRecord = "raise"):
        if policy not in ("raise", "skip"):
            raise ValueError(f'Expected on_bad_record to be "raise" or "skip", found {policy!r}.')
        self.policy = policy
        self.records: list[BadRecord] = []

    def add(self, record: BadRecord) -> None:
        """Note a record.

        Raises:
            BadRecordError: under the policy "raise".
        """
        if self.policy == "raise":
            raise BadRecordError(record)
        self.records.append(record)


def files_digest(files: list[Path]) -> str:
    """Return a hash of names, sizes and times of files."""
    facts = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def file_suffix(path: Path) -> str | None:
    """Return the one of `SUFFIXES` that the file name ends with, or None."""
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def shorten(value: Any, length: int = 60) -> str:
    """Return the repr of a value, cut in the middle, for a message."""
    text = repr(value)
    return text if len(text) <= length else f"{text[: length // 2]}...{text[-length // 2 :]}"


def iter_records(
    path: Path, bad: BadRecords, skip_columns: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line or row from 1, record) of a file; what is no record goes to `bad`.

    Args:
        path: ending in one of `SUFFIXES`.
        bad: told about truncated JSON, lines that are no object, CSV rows of the wrong length.
        skip_columns: of a Parquet file, not read (embedded pictures when only labels are wanted).

    Raises:
        ValueError: for a file of another kind, or a file without any record.
    """
    suffix = file_suffix(path)
    if suffix is None:
        raise ValueError(
            f"Expected a file ending in one of {list(SUFFIXES)}, found {path.name!r}. Convert it, or rename "
            "it."
        )
    readers = {".json": _iter_json, ".csv": _iter_csv, ".tsv": _iter_csv}
    if suffix == ".parquet":
        yield from _iter_parquet(path, skip_columns)
    else:
        yield from readers.get(suffix, _iter_json_lines)(path, bad)


def _iter_json_lines(path: Path, bad: BadRecords) -> Iterator[tuple[int, dict[str, Any]]]:
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            try:
                record = json.loads(line.decode("utf-8").strip())
            except json.JSONDecodeError as error:
                found = f"{shorten(error.doc)}: {error.msg} at character {error.pos + 1}"
                bad.add(_not_an_object(path, number, found))
                continue
            except UnicodeDecodeError as error:
                bad.add(_not_an_object(path, number, f"{shorten(line.strip())}: {error}"))
                continue
            if isinstance(record, dict):
                yield number, record
            else:
                bad.add(_not_an_object(path, number, shorten(record)))


def _not_an_object(path: Path, number: int, found: str) -> BadRecord:
    return BadRecord(
        str(path), number, None, "one JSON object in each line", found, "Repair or remove the line."
    )


def _iter_json(path: Path, bad: BadRecords) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        records = json.loads(path.read_text(encoding="utf-8-sig"))
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
        if isinstance(record, dict):
            yield number, record
        else:
            bad.add(BadRecord(str(path), number, None, "an object", shorten(record), "Repair or remove it."))


def _iter_csv(path: Path, bad: BadRecords) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(MAX_FIELD)
    delimiter = "\t" if path.name.lower().endswith(".tsv") else ","
    with open(path, encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header = next(reader, None)
        if not header:
            raise ValueError(f"Expected a first line with column names, found nothing in {str(path)!r}.")
        doubles = sorted({name for name in header if header.count(name) > 1})
        if doubles:
            raise ValueError(
                f"Expected different column names, found {doubles} twice in {str(path)!r}. Rename one of "
                "them."
            )
        while True:  # by hand, since the error of a broken row comes out of `next`
            start = reader.line_num + 1
            try:
                row = next(reader, None)
            except (csv.Error, UnicodeDecodeError) as error:
                remedy = "Look for a quote that is never closed, or save the file as UTF-8."
                bad.add(BadRecord(str(path), start, None, "a CSV row", str(error), remedy))
                return
            if row is None:
                return
            if len(row) == len(header):
                yield start, dict(zip(header, row, strict=True))
            elif row:
                found = f"{len(row)} fields: {shorten(row)}"
                remedy = "Quote fields that hold the separator."
                bad.add(BadRecord(str(path), start, None, f"{len(header)} fields", found, remedy))


def _iter_parquet(path: Path, skip_columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    with pq.ParquetFile(path) as file:
        columns = [name for name in file.schema_arrow.names if name not in skip_columns]
        number = 0
        for batch in file.iter_batches(batch_size=256, columns=columns):
            for record in batch.to_pylist():
                number += 1
                yield number, record

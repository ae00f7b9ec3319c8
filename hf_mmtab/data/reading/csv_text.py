"""CSV files of any size as blocks of text cells, parsed with pyarrow; every row is returned or reported."""

import csv
import io
import json
from codecs import BOM_UTF8
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv

from .csv_rows import LONGEST_ROW, MAX_FIELD, Rows, find_rows
from .places import Place
from .records import BadRecord, BadRecords, check_names, shorten
from .text_files import open_bytes

BLOCK_BYTES = 2**24


@dataclass(frozen=True)
class TextBlock:
    """Rows of a CSV file as text.

    Attributes:
        table: one column for each column of the file, text unless it was asked for as numbers.
        lines: line of the file on which each row begins, from 1, shape `(rows,)`.
    """

    table: pa.Table
    lines: np.ndarray


def read_header(path: Place, separator: str = ",") -> list[str]:
    """Return the column names of a CSV file.

    Raises:
        ValueError: if the file is empty, no CSV file in UTF-8, or names a column twice.
    """
    with open_bytes(path) as file:
        return _header(path, file.read(BLOCK_BYTES), separator)[0]


def read_text_blocks(
    path: Place,
    separator: str,
    bad: BadRecords,
    block_bytes: int = BLOCK_BYTES,
    missing: Sequence[str] = (),
    numbers: Mapping[str, pa.DataType] | None = None,
    read: Collection[str] | None = None,
) -> Iterator[TextBlock]:
    """Yield the rows of a CSV file below its header, about `block_bytes` at a time.

    Lines end in a line feed, a carriage return, or both; line ends within quotes belong to the cell. Blank lines are no
    rows, as in JSON lines.

    Args:
        bad: told about rows with too few or too many cells, quotes that do not close and bytes that are not UTF-8;
            counts the rows.
        missing: what becomes null where nothing quotes it, such as the empty text.
        numbers: column → type that its cells are parsed as, where all of a block have it; else they stay text.
        read: columns whose texts must be UTF-8; others get U+FFFD for what is none. None: all.

    Raises:
        ValueError: see `read_header`.
        BadRecordError: at the first bad row, unless `bad` collects them.
    """
    with open_bytes(path) as file:
        names, skipped, line = _header(path, file.read(BLOCK_BYTES), separator)
        file.seek(0)
        file.read(skipped)
        parse = _Parser(path, names, separator, bad, missing, numbers or {}, read)
        rest = b""
        while True:
            piece = file.read(block_bytes)
            # behind the last row of the file there may be no line end
            block = rest + piece if piece or rest[-1:] in (b"", b"\r", b"\n") else rest + b"\n"
            rows = find_rows(block, separator, final=not piece)
            if len(rows):
                yield parse(rows, line + 1)
                line += int(rows.lines[-1])
            elif len(block) > 2 * LONGEST_ROW:
                raise ValueError(
                    f"Expected rows of at most {LONGEST_ROW:,} bytes, found a longer one in {str(path)!r}. Is it CSV?"
                )
            rest = block[int(rows.starts[-1]) :]
            if not piece:
                return


def _header(path: Place, head: bytes, separator: str) -> tuple[list[str], int, int]:
    """Return the column names, and how many bytes and lines they take."""
    _check_separator(separator)
    csv.field_size_limit(MAX_FIELD)
    lines: list[str] = []
    text = io.TextIOWrapper(io.BytesIO(head), "latin-1", newline="")
    reader = csv.reader(_noted(text, lines), delimiter=separator, strict=True)
    try:
        names = [name.encode("latin-1").decode("utf-8-sig") for name in next(reader, [])]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(
            f"Expected a first line with column names in UTF-8, found {error} in {str(path)!r}. Correct the line, or "
            "save the file as CSV in UTF-8."
        ) from error
    if not any(map(str.strip, names)):
        raise ValueError(
            f"Expected a first line with column names, found nothing in {str(path)!r}. Write the names into it."
        )
    if any("\0" in name for name in names):
        raise ValueError(
            f"Expected text in UTF-8, found NUL bytes in the first line of {str(path)!r}. Save it as UTF-8."
        )
    if len(names) == 1 and (others := [one for one in ";\t|," if one in names[0] and one != separator]):
        shown = "a tab" if others[0] == "\t" else repr(others[0])
        raise ValueError(
            f"Expected columns parted by {separator!r}, found a single one, {names[0]!r}, in {str(path)!r}. If {shown} "
            f"parts them: `separator: {json.dumps(others[0])}`."
        )
    check_names(names, path)
    return names, sum(map(len, lines)), len(lines)


def _noted(lines: Iterable[str], notes: list[str]) -> Iterator[str]:
    for line in lines:
        notes.append(line)
        yield line


def _check_separator(separator: str) -> None:
    if len(separator) != 1 or not separator.isascii() or separator in '"\r\n\0':
        raise ValueError(f"Expected `separator` to be one character such as ',' ';' '|' or a tab, found {separator!r}.")


class _Parser:
    """Cells of the rows of a file's blocks."""

    def __init__(
        self,
        path: Place,
        names: list[str],
        separator: str,
        bad: BadRecords,
        missing: Sequence[str],
        numbers: Mapping[str, pa.DataType],
        read: Collection[str] | None,
    ) -> None:
        self.path, self.names, self.separator, self.bad = path, names, separator, bad
        self.read = set(names if read is None else read)
        text = dict.fromkeys(names, pa.string())
        self._converts = [
            pyarrow.csv.ConvertOptions(
                column_types=types,
                check_utf8=False,  # it is checked before
                null_values=list(missing),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            )
            for types in ([{**text, **numbers}] if numbers else []) + [text]
        ]

    def __call__(self, rows: Rows, line: int) -> TextBlock:
        """Return the good rows, and report the others.

        Args:
            line: of the file, on which the block begins.
        """
        self.bad.rows_read += len(rows)
        lines, empty = rows.lines[:-1] + line, rows.empty
        problems: dict[int, BadRecord] = {}
        for row, error in rows.broken.items():
            remedy = "Look for a quote that is never closed, or text behind a quoted cell."
            problems[row] = self._problem(lines[row], "a CSV row", error, remedy)
        mended: dict[int, bytes] = {}
        for row in rows.not_utf8:
            if (problem := self._wrong_bytes(rows[row], lines[row])) is not None:
                problems.setdefault(row, problem)
            elif row not in problems:
                mended[row] = rows[row].decode("utf-8", errors="replace").encode()
        left_out = [*problems, *np.flatnonzero(empty).tolist()]
        kept = np.delete(np.arange(len(rows)), left_out)
        changed = left_out or mended
        text = (
            b"".join(mended.get(row) or rows[row] for row in kept.tolist())
            if changed
            else rows.block[: rows.starts[-1]]
        )
        table, ragged = self._cells(text)
        blank = int(empty.sum())
        for row in kept[ragged].tolist():
            if rows[row].isspace() and self.separator.encode() not in rows[row]:
                blank += 1
            else:
                problems[row] = self._wrong_width(rows[row], lines[row])
        self.bad.rows_read -= blank
        for row in sorted(problems):
            self.bad.add(problems[row])
        return TextBlock(table, lines[np.delete(kept, ragged)])

    def _cells(self, block: bytes) -> tuple[pa.Table, list[int]]:
        """Return the rows of a block that have all their cells, and the numbers of the others, from 0."""
        if not block:
            return pa.table({name: pa.array([], pa.string()) for name in self.names}), []
        try:
            table, ragged = self._parsed(block, self._converts[0], use_threads=True)
        except pa.ArrowInvalid:  # a cell is no number: all are read as text, and this one is found later
            table, ragged = self._parsed(block, self._converts[-1], use_threads=False)
        return self._parsed(block, self._converts[-1], use_threads=False) if ragged else (table, [])

    def _parsed(
        self, block: bytes, convert: pyarrow.csv.ConvertOptions, use_threads: bool
    ) -> tuple[pa.Table, list[int]]:
        """Return the rows that have all their cells, and the others: their numbers with one thread, else only ones."""
        ragged: list[int] = []

        def note(row: pyarrow.csv.InvalidRow) -> str:
            ragged.append(row.number - 1 if row.number else -1)
            return "skip"

        if block.startswith(BOM_UTF8):  # of the first cell; Arrow takes one away
            block = BOM_UTF8 + block
        table = pyarrow.csv.read_csv(
            pa.BufferReader(block),
            # one block, so that a row of any length is whole
            read_options=pyarrow.csv.ReadOptions(
                column_names=self.names, block_size=len(block) + 1, use_threads=use_threads
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=self.separator, newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=note
            ),
            convert_options=convert,
        )
        return table, ragged

    def _wrong_width(self, row: bytes, line: int) -> BadRecord:
        cells = self._shown(row)
        remedy = "Complete the row, or quote cells that hold the separator."
        return self._problem(line, f"{len(self.names)} cells", f"{len(cells)}: {shorten(cells)}", remedy)

    def _wrong_bytes(self, row: bytes, line: int) -> BadRecord | None:
        cells = self._shown(row)
        whole = len(cells) == len(self.names)
        broken = [place for place, cell in enumerate(cells) if "\ufffd" in cell]
        place = next((one for one in broken if not whole or self.names[one] in self.read), None)
        if place is None:
            return None
        column = self.names[place] if whole else None
        return self._problem(line, "UTF-8 text", shorten(cells[place]), "Save the file as UTF-8.", column)

    def _shown(self, row: bytes) -> list[str]:
        text = row.decode("utf-8", errors="replace")
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=self.separator))

    def _problem(self, line: int, expected: str, found: str, remedy: str, column: str | None = None) -> BadRecord:
        return BadRecord(str(self.path), int(line), column, expected, found, remedy)

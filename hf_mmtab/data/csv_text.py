"""CSV files of any size as blocks of text cells, parsed with pyarrow; every row is returned or reported."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from .records import BadRecord, BadRecords, check_names, shorten
from .text_files import is_utf8, open_bytes

BLOCK_BYTES = 2**24
LONGEST_ROW = 2**25  # bytes; a quote that stays open for longer is one that is never closed
MAX_FIELD = 2**31 - 1  # characters of one cell; the csv module's default of 131,072 is less than a long text
NEWLINE, RETURN, QUOTE = b'\n\r"'


@dataclass(frozen=True)
class TextBlock:
    """Rows of a CSV file as text.

    Attributes:
        table: one column for each column of the file, text unless it was asked for as numbers.
        lines: line of the file on which each row begins, from 1, shape `(rows,)`.
    """

    table: pa.Table
    lines: np.ndarray


@dataclass(frozen=True)
class _Rows:
    """Rows of a block of bytes.

    Attributes:
        starts: offset of each row, and the offset behind the last one, shape `(rows + 1,)`.
        lines: line of the block on which each row begins, from 0, and the one behind the last, shape `(rows + 1,)`.
        broken: row → why it is no CSV row. It ends where its first line ends.
    """

    starts: np.ndarray
    lines: np.ndarray
    broken: dict[int, str]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, block: bytes, row: int) -> bytes:
        """Return the bytes of a row."""
        return block[self.starts[row] : self.starts[row + 1]]

    def first(self, count: int) -> "_Rows":
        """Return the first rows."""
        return _Rows(self.starts[: count + 1], self.lines[: count + 1], self.broken)


def read_header(path: Path, separator: str = ",") -> list[str]:
    """Return the column names of a CSV file.

    Raises:
        ValueError: if the file is empty, no CSV file in UTF-8, or names a column twice.
    """
    with open_bytes(path) as file:
        return _header(path, file.read(BLOCK_BYTES), separator)[0]


def read_text_blocks(
    path: Path,
    separator: str,
    bad: BadRecords,
    block_bytes: int = BLOCK_BYTES,
    missing: Sequence[str] = (),
    numbers: Mapping[str, pa.DataType] | None = None,
    skip_empty_lines: bool = False,
) -> Iterator[TextBlock]:
    """Yield the rows of a CSV file below its header, about `block_bytes` at a time.

    Lines end in a line feed, a carriage return, or both; line ends within quotes belong to the cell. Empty lines at the
    end of the file are no rows.

    Args:
        bad: told about rows with too few or too many cells, quotes that do not close, empty lines and bytes that are
            not UTF-8; counts the rows.
        missing: what becomes null where nothing quotes it, such as the empty text.
        numbers: column → type that its cells are parsed as, where all of a block have it; else they stay text.
        skip_empty_lines: whether empty lines between rows are no rows; else they are bad ones.

    Raises:
        ValueError: see `read_header`.
        BadRecordError: at the first bad row, unless `bad` collects them.
    """
    with open_bytes(path) as file:
        names, skipped, line = _header(path, file.read(BLOCK_BYTES), separator)
        file.seek(0)
        file.read(skipped)
        parse = _Parser(path, names, separator, bad, missing, numbers or {}, skip_empty_lines)
        rest = b""
        while True:
            piece = file.read(block_bytes)
            block = rest + piece if piece else _with_line_end(rest)
            rows = _split(block, separator, final=not piece)
            if piece:  # empty lines may be the end of the file
                full = np.flatnonzero(~_empty_rows(block, rows.starts))
                rows = rows.first(int(full[-1]) + 1 if len(full) else 0)
            if len(rows):
                yield parse(block, rows, line + 1)
                line += int(rows.lines[-1])
            rest = block[int(rows.starts[-1]) :]
            if not piece:
                return


def _with_line_end(block: bytes) -> bytes:
    """Return the end of a file without empty lines, its last row ended."""
    block = block.rstrip(b"\r\n")
    return block + b"\n" if block else b""


def _header(path: Path, head: bytes, separator: str) -> tuple[list[str], int, int]:
    """Return the column names, and how many bytes and lines they take."""
    _check_separator(separator)
    csv.field_size_limit(MAX_FIELD)
    lines: list[str] = []
    text = io.TextIOWrapper(io.BytesIO(head), "latin-1", newline="")
    reader = csv.reader((lines.append(line) or line for line in text), delimiter=separator, strict=True)
    try:
        names = [name.encode("latin-1").decode("utf-8-sig") for name in next(reader, [])]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(
            f"Expected a first line with column names in UTF-8, found {error} in {str(path)!r}. Correct the line, or "
            "save the file as CSV in UTF-8."
        ) from error
    if not any(names):
        raise ValueError(f"Expected a first line with column names, found nothing in {str(path)!r}.")
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


def _check_separator(separator: str) -> None:
    if len(separator) != 1 or not separator.isascii() or separator in '"\r\n\0':
        raise ValueError(
            f"Expected `separator` to be one character such as ',' ';' '|' or a tab, found {separator!r}."
        )


def _split(block: bytes, separator: str, final: bool) -> _Rows:
    """Find the whole rows of a block.

    Args:
        final: whether the file ends with the block; else the last row may go on behind it.
    """
    data = np.frombuffer(block, dtype=np.uint8)
    line_ends = _line_ends(block, data, final)
    quotes = _places(data, QUOTE) if b'"' in block else ()
    row_ends = np.arange(len(line_ends))
    if len(quotes):
        row_ends = np.flatnonzero(np.searchsorted(quotes, line_ends) % 2 == 0)
        last = int(line_ends[row_ends[-1]]) if len(row_ends) else 0
        stays_open = len(quotes) % 2 == 1 and (final or len(block) - last > LONGEST_ROW)
        if stays_open or not _quotes_are_regular(data, quotes, separator):
            return _walk(block, separator, final)
    elif not final and not len(line_ends) and len(block) > LONGEST_ROW:
        raise ValueError(
            f"Expected rows of at most {LONGEST_ROW:,} bytes, found a longer one. Is it a CSV file?"
        )
    return _Rows(np.append(0, line_ends[row_ends]), np.append(0, row_ends + 1), {})


def _line_ends(block: bytes, data: np.ndarray, final: bool) -> np.ndarray:
    """Return the offsets behind each line end: \\n, \\r\\n, or \\r alone."""
    ends = _places(data, NEWLINE) + 1
    if b"\r" not in block:
        return ends
    returns = _places(data, RETURN)
    if len(returns) and returns[-1] == len(data) - 1:
        returns = returns[: len(returns) if final else -1]  # else a line feed may follow
        alone = np.append(data[returns[:-1] + 1] != NEWLINE, True) if final else data[returns + 1] != NEWLINE
    else:
        alone = data[returns + 1] != NEWLINE
    return np.sort(np.append(ends, returns[alone] + 1))


def _places(data: np.ndarray, byte: int) -> np.ndarray:
    """Return the offsets of a byte; by pieces that stay in the processor's cache."""
    size = 2**16
    return np.concatenate(
        [np.flatnonzero(data[i : i + size] == byte) + i for i in range(0, len(data), size)] or [[]]
    )


def _empty_rows(block: bytes, starts: np.ndarray) -> np.ndarray:
    """Return which rows are nothing but a line end."""
    sizes = np.diff(starts)
    first = np.frombuffer(block, dtype=np.uint8)[starts[:-1]]
    return (sizes == 1) | ((sizes == 2) & (first == RETURN))


def _quotes_are_regular(data: np.ndarray, quotes: np.ndarray, separator: str) -> bool:
    """Whether quotes stand around whole cells only, so that every second one closes a cell.

    Within a quoted cell a doubled quote closes and opens again.
    """
    around = np.zeros(256, dtype=bool)
    around[[NEWLINE, RETURN, QUOTE, ord(separator)]] = True
    opening, closing = quotes[::2], quotes[1::2]
    before = opening[1:] - 1 if opening[0] == 0 else opening - 1
    behind = closing[:-1] + 1 if len(closing) and closing[-1] == len(data) - 1 else closing + 1
    return bool(around[data[before]].all() and around[data[behind]].all())


def _walk(block: bytes, separator: str, final: bool) -> _Rows:
    """Find the rows of a block one by one, where a quote stands within a cell or does not close."""
    lines = block.splitlines(keepends=True)  # of bytes: at \n, \r and \r\n only
    if not final and lines and not (lines[-1].endswith(b"\n")):
        lines.pop()  # it goes on behind the block
    texts = [line.decode("latin-1") for line in lines]
    csv.field_size_limit(MAX_FIELD)
    first, firsts, broken = 0, [0], {}
    while first < len(texts):
        done = first
        reader = csv.reader(map(texts.__getitem__, range(done, len(texts))), delimiter=separator, strict=True)
        try:
            for _ in reader:
                first = done + reader.line_num
                firsts.append(first)
        except csv.Error as error:
            to_the_end = done + reader.line_num == len(texts)
            if to_the_end and not final and sum(map(len, lines[first:])) <= LONGEST_ROW:
                break  # the row goes on behind the block
            broken[len(firsts) - 1] = str(error)
            first += 1  # a quote that is never closed must not swallow the rows after it
            firsts.append(first)
    offsets = np.cumsum([0, *map(len, lines)])
    return _Rows(offsets[firsts], np.array(firsts), broken)


class _Parser:
    """Cells of the rows of a file's blocks."""

    def __init__(
        self,
        path: Path,
        names: list[str],
        separator: str,
        bad: BadRecords,
        missing: Sequence[str],
        numbers: Mapping[str, pa.DataType],
        skip_empty_lines: bool,
    ) -> None:
        self.path, self.names, self.separator, self.bad = path, names, separator, bad
        self.skip_empty_lines = skip_empty_lines
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

    def __call__(self, block: bytes, rows: _Rows, line: int) -> TextBlock:
        """Return the good rows, and report the others.

        Args:
            line: of the file, on which the block begins.
        """
        self.bad.rows_read += len(rows)
        lines = rows.lines[:-1] + line
        problems: dict[int, BadRecord] = {}
        for row, error in rows.broken.items():
            remedy = "Look for a quote that is never closed, or text behind a quoted cell."
            problems[row] = self._problem(lines[row], "a CSV row", error, remedy)
        for row in _not_utf8(block, rows):
            if row not in problems:
                problems[row] = self._wrong_bytes(rows.of(block, row), lines[row])
        kept = np.delete(np.arange(len(rows)), list(problems))
        text = b"".join(rows.of(block, row) for row in kept) if problems else block[: rows.starts[-1]]
        table, ragged = self._cells(text)
        for row in kept[ragged].tolist():
            problems[row] = self._wrong_width(rows.of(block, row), lines[row])
        kept = np.delete(kept, ragged)
        empty = _empty_rows(block, rows.starts)[kept]  # pyarrow makes cells of them
        if self.skip_empty_lines:
            self.bad.rows_read -= int(empty.sum())
        elif len(self.names) > 1:
            for row in kept[empty].tolist():
                expected = f"{len(self.names)} cells"
                problems[row] = self._problem(lines[row], expected, "an empty line", "Remove the line.")
        else:
            empty[:] = False  # the one cell is empty
        if empty.any():
            table, kept = table.filter(pa.array(~empty)), kept[~empty]
        for row in sorted(problems):
            self.bad.add(problems[row])
        return TextBlock(table, lines[kept])

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

        table = pyarrow.csv.read_csv(
            pa.BufferReader(block),
            # one block, so that a row of any length is whole
            read_options=pyarrow.csv.ReadOptions(
                column_names=self.names, block_size=len(block) + 1, use_threads=use_threads
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=self.separator,
                newlines_in_values=True,
                ignore_empty_lines=False,
                invalid_row_handler=note,
            ),
            convert_options=convert,
        )
        return table, ragged

    def _wrong_width(self, row: bytes, line: int) -> BadRecord:
        cells = self._shown(row)
        remedy = "Complete the row, or quote cells that hold the separator."
        return self._problem(line, f"{len(self.names)} cells", f"{len(cells)}: {shorten(cells)}", remedy)

    def _wrong_bytes(self, row: bytes, line: int) -> BadRecord:
        cells = self._shown(row)
        place = next(place for place, cell in enumerate(cells) if "\ufffd" in cell)
        column = self.names[place] if len(cells) == len(self.names) else None
        return self._problem(line, "UTF-8 text", shorten(cells[place]), "Save the file as UTF-8.", column)

    def _shown(self, row: bytes) -> list[str]:
        text = row.decode("utf-8", errors="replace")
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=self.separator))

    def _problem(
        self, line: int, expected: str, found: str, remedy: str, column: str | None = None
    ) -> BadRecord:
        return BadRecord(str(self.path), int(line), column, expected, found, remedy)


def _not_utf8(block: bytes, rows: _Rows) -> list[int]:
    """Return the rows that are not UTF-8."""
    if is_utf8(block):
        return []
    return [row for row in range(len(rows)) if not is_utf8(rows.of(block, row))]

"""CSV files of any size, read block by block with polars; broken rows are found with their line."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from .csv_text import read_header
from .records import BadRecord, BadRecords, shorten
from .text_files import open_bytes

BLOCK_BYTES = 2**24
NOTHING_THERE = (
    "a value, since it says whose row this is or when it was",
    "none",
    "Fill the cell, or remove the row.",
)
DECIMAL_COMMA = "decimal_comma"  # the type of numbers such as 1.234,50
SMALLEST_PIECE = 32 * 2**10  # bytes that are looked at line by line once a larger piece cannot be parsed


@dataclass
class CsvFormat:
    """How a CSV file is written and what its rows become.

    Attributes:
        schema: column -> polars type of all columns, in the order of the file.
        convert: column -> expression over the columns of the file, strict: it fails on a wrong value.
            Empty: the columns as they are.
        separator: between cells.
        missing: texts that stand for a missing value, beside the empty cell.
        required: columns of the converted rows; a row without a value in one of them is broken.
        expected: converted column → what its cells must be, and what to do where one is not.
    """

    schema: dict[str, pl.DataType] = field(default_factory=dict)
    convert: dict[str, pl.Expr] = field(default_factory=dict)
    separator: str = ","
    missing: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    expected: dict[str, tuple[str, str]] = field(default_factory=dict)

    def converted(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the rows as the converting expressions make them."""
        return (
            frame.select(expr.alias(name) for name, expr in self.convert.items()) if self.convert else frame
        )


def infer_schema(path: Path, separator: str, missing: tuple[str, ...], rows: int) -> dict[str, pl.DataType]:
    """Return the type of each column as polars guesses it from the first rows that have all their cells."""
    names = read_header(path, separator)
    frame = pl.read_csv(
        _head(path, len(names), separator, rows),
        separator=separator,
        null_values=list(missing),
        infer_schema_length=rows,
        n_rows=rows,
        try_parse_dates=True,
        ignore_errors=True,
        truncate_ragged_lines=True,
        encoding="utf8-lossy",
    )
    # a column without any value so far may hold anything later: text
    return {
        name: pl.String() if frame[name].null_count() == len(frame) else frame.schema[name] for name in names
    }


def infer_time(path: Path, separator: str, missing: tuple[str, ...], rows: int, name: str) -> pl.DataType:
    """Return the type of a column of times as most of its cells have it: a moment or a number, else text.

    Cells are alike that differ in digits only; what the others are is found out, and reported, when they are read.
    """
    frame = pl.read_csv(
        _head(path, len(read_header(path, separator)), separator, rows),
        separator=separator,
        null_values=list(missing),
        infer_schema=False,
        n_rows=rows,
        encoding="utf8-lossy",
    )
    cells = frame[name].drop_nulls()
    alike = cells.str.replace_all(r"\d+", "9")
    shapes = alike.value_counts(sort=True)
    if not len(shapes) or shapes["count"][0] * 2 <= len(cells):
        return pl.String()
    column = pl.DataFrame({name: cells.filter(alike == shapes[name][0])})
    guess = pl.read_csv(column.write_csv().encode(), infer_schema_length=None, try_parse_dates=True)[
        name
    ].dtype
    return guess if guess.is_temporal() or guess.is_numeric() else pl.String()


def amount(name: str, strict: bool = True, decimal_comma: bool = False) -> pl.Expr:
    """Return how a number, or an amount such as `$-12.30` or `(1,234.50)`, becomes a float.

    Commas must part thousands: `9,66` is no number, unless numbers have a decimal comma.

    Args:
        name: of the column.
        strict: fail on text that is neither; else it becomes null.
        decimal_comma: numbers are written as `1.234,50`.
    """
    cell = pl.col(name).str.strip_chars()
    inside = cell.str.extract(r"^\((.*)\)$")  # accountants' brackets are a minus
    bare = pl.coalesce(inside, cell).str.replace_all(r"[$€£¥\s]", "")
    if decimal_comma:
        written = bare.str.contains(r"^[+-]?(\d{1,3}(\.\d{3})+|\d+)?(,\d*)?$")
        plain = bare.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
        bare = pl.when(written).then(plain).otherwise(bare + "?")  # what is written otherwise is no number
    else:
        grouped = bare.str.contains(r"^[+-]?\d{1,3}(,\d{3})+(\.\d*)?$")
        bare = pl.when(grouped).then(bare.str.replace_all(",", "", literal=True)).otherwise(bare)
    number = pl.when(bare != "").then(bare).cast(pl.Float64, strict=strict)
    return pl.when(inside.is_null()).then(number).otherwise(-number)


def amount_expected(name: str) -> tuple[str, str]:
    """Return what the cells of a column of amounts must be, and what to do where one is not."""
    return (
        "a number, or an amount such as $-12.30, (7.00) or 1,234.50",
        f"Correct the cell. If the column has decimal commas: `types: {{{name}: {DECIMAL_COMMA}}}`; if it holds no "
        "numbers, make its field categorical.",
    )


def _head(path: Path, width: int, separator: str, rows: int) -> bytes:
    with open_bytes(path) as file:
        head = file.read(max(2**20, rows * 200))
    return _whole_rows(head[: head.rfind(b"\n") + 1] or head, width, separator)


def _whole_rows(head: bytes, width: int, separator: str) -> bytes:
    """Return the first line and the rows of `width` cells: a row that is cut off says nothing of types."""
    lines = head.decode("utf-8", errors="replace").split("\n")
    lines = [f"{line}\n" for line in (lines if lines[-1] else lines[:-1])]
    kept = lines[:1]
    done = 1
    while done < len(lines):
        reader = csv.reader(lines[done:], delimiter=separator, strict=True)
        used = 0
        try:
            for cells in reader:
                if len(cells) == width:
                    kept += lines[done + used : done + reader.line_num]
                elif reader.line_num - used > 1:  # a quote that is never closed must not swallow good rows
                    used += 1
                    break
                used = reader.line_num
        except csv.Error:
            used += 1
        done += used
    return "".join(kept).encode()


def read_blocks(
    path: Path, form: CsvFormat, bad: BadRecords, block_bytes: int = BLOCK_BYTES
) -> Iterator[pl.DataFrame]:
    """Yield the rows of a CSV file in frames of about `block_bytes`.

    Args:
        bad: told about rows with too few or too many cells, cells of another type and bytes that are not
            UTF-8.

    Raises:
        ValueError: if the file's columns are not those of `form`.
        BadRecordError: at the first broken row, unless `bad` collects them.
    """
    names = read_header(path, form.separator)
    if names != list(form.schema):
        raise ValueError(f"Expected columns {list(form.schema)}, found {names} in {str(path)!r}.")
    with open_bytes(path) as file:
        lines = _Lines(path, len(file.readline()))
        rest = b""
        while True:
            piece = file.read(block_bytes)
            # empty lines at the very end are no rows
            block = rest + piece if piece else rest.rstrip(b"\r\n")
            cut = _last_row_end(block) if piece else len(block)
            if cut:
                yield from _parse(path, block[:cut], lines.offset, lines, form, bad)
                lines.offset += cut
            rest = block[cut:]
            if not piece:
                return


class _Lines:
    """Tells the line number at an offset, and reads the file for it only when it is asked."""

    def __init__(self, path: Path, offset: int) -> None:
        self.path, self.offset = path, offset
        self._known = (0, 1)

    def at(self, offset: int) -> int:
        """Return the number of the line that begins at `offset`, from 1."""
        known, line = self._known if self._known[0] <= offset else (0, 1)
        with open_bytes(self.path) as file:
            file.seek(known)
            while known < offset:
                piece = file.read(min(2**24, offset - known))
                line += piece.count(b"\n")
                known += len(piece)
        self._known = (known, line)
        return line


def _quotes(block: bytes, start: int, end: int) -> int:
    """Count quotes; by pieces that stay in the cache, five times as fast as `bytes.count`."""
    seen = np.frombuffer(block, dtype=np.uint8)[start:end]
    return sum(int(np.count_nonzero(seen[i : i + 65_536] == ord('"'))) for i in range(0, len(seen), 65_536))


def _last_row_end(block: bytes) -> int:
    """Return the end of the last whole row: after a line end outside of quotes; 0 if there is none."""
    cut = block.rfind(b"\n") + 1
    quotes = _quotes(block, 0, cut)
    while cut and quotes % 2:
        before = block.rfind(b"\n", 0, cut - 1) + 1
        quotes -= block.count(b'"', before, cut)
        cut = before
    # a stray quote makes every later line end look quoted: then cut at the last line all the same
    return cut or block.rfind(b"\n") + 1


def _parse(
    path: Path, block: bytes, offset: int, lines: _Lines, form: CsvFormat, bad: BadRecords
) -> Iterator[pl.DataFrame]:
    """Yield the good rows of a block; where polars cannot parse it, halve it until the broken rows stand alone.

    Args:
        offset: of the block in the file.
    """
    try:
        frame = pl.read_csv(
            block,
            has_header=False,
            schema=form.schema,
            separator=form.separator,
            null_values=list(form.missing) or None,
        )
        whole = None if _has_short_rows(block, frame, form) else form.converted(frame)
        if whole is not None and any(whole[name].null_count() for name in form.required):
            whole = None
    except (pl.exceptions.PolarsError, UnicodeDecodeError):
        whole = None  # the rows at fault are found below, and reported
    if whole is not None:
        yield whole
        return
    middle = block.find(b"\n", len(block) // 2) + 1
    if len(block) > SMALLEST_PIECE and 0 < middle < len(block):
        if block.count(b'"', 0, middle) % 2:
            middle = _last_row_end(block[:middle]) or middle
        yield from _parse(path, block[:middle], offset, lines, form, bad)
        yield from _parse(path, block[middle:], offset + middle, lines, form, bad)
    else:
        yield from _parse_lines(path, block, lines.at(offset), form, bad)


def _has_short_rows(block: bytes, frame: pl.DataFrame, form: CsvFormat) -> bool:
    """Whether a row has fewer cells than the header: polars fills such rows with nulls and says nothing."""
    short = frame[:, -1].is_null()
    if not short.any():
        return False
    lines = pl.Series(block.decode("utf-8").removesuffix("\n").split("\n")) if len(form.schema) > 1 else None
    if lines is None or len(lines) != len(frame):
        return len(form.schema) > 1  # line ends within quotes, or blank lines: look closer
    cells = (
        lines.filter(short).str.replace_all(r'"[^"]*"', "").str.count_matches(form.separator, literal=True)
    )
    return bool((cells != len(form.schema) - 1).any())


def _parse_lines(
    path: Path, block: bytes, line: int, form: CsvFormat, bad: BadRecords
) -> Iterator[pl.DataFrame]:
    """Yield the good rows of a small block, read with Python's csv module, and report the others."""
    kept: list[pl.DataFrame] = []
    # of bytes: text would also be cut at U+2028, \x85 and \x1c, which are parts of cells
    lines = [one.decode("utf-8", errors="replace") for one in block.split(b"\n")]
    lines = [f"{one}\n" for one in lines[:-1]] + lines[-1:] * bool(lines[-1])
    done = 0
    while done < len(lines):
        reader = csv.reader(lines[done:], delimiter=form.separator, strict=True)
        try:
            cells = next(reader)
            used = reader.line_num
        except csv.Error as error:
            cells, used, broken = [], 1, str(error)
        else:
            broken = ""
        if broken:
            remedy = "Close the quote, or remove the row."
            problem: BadRecord | None = BadRecord(str(path), line + done, None, "a CSV row", broken, remedy)
        else:
            row, problem = _row(path, line + done, cells, form)
            if problem is None and row is not None:
                kept.append(row)
        if problem is not None:
            bad.add(problem)
            used = 1  # a quote that is never closed must not swallow the rows after it
        done += used
    if kept:
        yield pl.concat(kept)


def _row(
    path: Path, line: int, cells: list[str], form: CsvFormat
) -> tuple[pl.DataFrame | None, BadRecord | None]:
    """Return one row, or what is wrong with it."""
    problem = _row_problem(path, line, cells, form)
    if problem is not None:
        return None, problem
    present = [None if cell == "" or cell in form.missing else cell for cell in cells]
    text = pl.DataFrame([present], schema=dict.fromkeys(form.schema, pl.String), orient="row")
    row = text.select(cast_cell(name, kind) for name, kind in form.schema.items())
    for name, expr in form.convert.items():
        try:
            row.select(expr)
        except pl.exceptions.PolarsError:
            found = {root: text[root][0] for root in expr.meta.root_names()}
            shown = shorten(next(iter(found.values()))) if len(found) == 1 else shorten(found)
            expected, remedy = form.expected.get(name, (f"a value that makes {name!r}", "Correct the row."))
            return None, BadRecord(str(path), line, name, expected, shown, remedy)
    row = form.converted(row)
    for name in form.required:
        if row[name][0] is None:
            return None, BadRecord(str(path), line, name, *NOTHING_THERE)
    return row, None


def _row_problem(path: Path, line: int, row: list[str], form: CsvFormat) -> BadRecord | None:
    width = len(form.schema)
    if not row:
        return BadRecord(str(path), line, None, f"{width} cells", "an empty line", "Remove the line.")
    if len(row) != width:
        remedy = "Complete the row, or quote cells that hold the separator."
        return BadRecord(str(path), line, None, f"{width} cells", f"{len(row)}: {shorten(row)}", remedy)
    for (name, kind), cell in zip(form.schema.items(), row, strict=True):
        if "\ufffd" in cell:
            return BadRecord(str(path), line, name, "UTF-8 text", shorten(cell), "Save the file as UTF-8.")
        if cell == "" or cell in form.missing or kind == pl.String:
            continue
        if pl.DataFrame({name: [cell]}).select(cast_cell(name, kind, strict=False)).item() is None:
            remedy = f"Correct the cell, or read the column as text: `types: {{{name}: string}}`."
            return BadRecord(str(path), line, name, f"a value of type {plain_name(kind)}", repr(cell), remedy)
    return None


def cast_cell(name: str, kind: pl.DataType, strict: bool = True) -> pl.Expr:
    """Return how the text of a cell becomes a type; not strict: null where it cannot."""
    cell = pl.col(name)
    if kind == pl.Boolean:
        return cell.replace_strict({"true": True, "false": False}, default=None, return_dtype=pl.Boolean)
    if kind.is_temporal():
        return cell.str.strptime(kind, strict=strict)  # type: ignore[arg-type]
    return cell.cast(kind, strict=strict)


def plain_name(kind: Any) -> str:
    """Return what a person calls a polars type."""
    return "timestamp" if kind == pl.Datetime else str(kind).lower()

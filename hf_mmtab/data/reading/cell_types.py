"""What the cells of a table's column can become: named types, formats of times, amounts; and guesses of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from .written_times import without_offset

DECIMAL_COMMA = "decimal_comma"  # the type of numbers such as 1.234,50
GUESSED_INT = "guessed int"  # whole numbers in the first rows; later cells must be written alike
MOSTLY, MOST_OF = 0.95, 20  # share of a column's cells that are times, of at least so many, for the rest to be odd
NUMBER_WORDS = r"(?i)^(true|false|nan|inf|infinity)$"  # letters that polars may read as another type than text
ZERO_PADDED = r"^(\+|[+-]?0\d)"
TYPES: dict[str, pl.DataType] = {
    "string": pl.String(),
    "int": pl.Int64(),
    "float": pl.Float64(),
    "bool": pl.Boolean(),
    "date": pl.Date(),
    "timestamp": pl.Datetime("us"),
    "utc": pl.Datetime("us", "UTC"),
}
_MISSING = "If it stands for a missing value: add it to `missing`."


@dataclass(frozen=True)
class CellType:
    """What the cells of a column become.

    Attributes:
        values: expression over the present cells that gives the new value, null where a cell has none.
        expected: names the type in an error.
        remedy: for a cell that has no such value.
    """

    values: pl.Expr
    expected: str
    remedy: str = "Correct the cell, or remove the row."


def named_type(column: str, kind: str) -> pl.DataType | str:
    """Return the polars type that a recipe names; a format of times and `decimal_comma` as they are.

    Raises:
        ValueError: for an unknown name.
    """
    if kind == DECIMAL_COMMA or (isinstance(kind, str) and "%" in kind):
        return kind
    if not isinstance(kind, str) or kind not in TYPES:
        raise ValueError(
            f"types[{column!r}] must be one of {', '.join(TYPES)}, {DECIMAL_COMMA} or a format such as "
            f"'%d/%m/%Y %H:%M', got {kind!r}."
        )
    return TYPES[kind]


def cell_type(name: str, kind: pl.DataType, wanted: pl.DataType | str, is_time: bool = False) -> CellType:
    """Return how cells of type `kind` become the type that is wanted (see `named_type`).

    Args:
        is_time: whether the column orders the rows.

    Raises:
        ValueError: if they never can.
    """
    as_text = f"Correct the cell, or read the column as text: `types: {{{name}: string}}`."
    as_number = (
        f"Correct the cell, or say what the column holds: `types: {{{name}: float}}` (numbers), `types: {{{name}: "
        "string}` (texts)."
    )
    if wanted == DECIMAL_COMMA:
        if kind != pl.String:
            raise ValueError(
                f"Expected text in column {name!r}, to read its decimal commas, found {kind}. Take it out of `types`."
            )
        values = amount(name, decimal_comma=True)
        return CellType(values, "a number with a decimal comma, such as 1.234,50", as_text)
    if wanted == GUESSED_INT:
        padded = pl.col(name).str.contains(ZERO_PADDED)
        values = pl.when(~padded).then(cast_text(name, pl.Int64()))
        return CellType(values, "a value of type int64 without leading zeros", as_number)
    if isinstance(wanted, str):
        values = pl.col(name).cast(pl.String).str.strptime(pl.Datetime("us"), wanted, strict=False)
        return CellType(values, f"a time as {wanted!r}", "Correct the cell, or the format in `types`.")
    if kind.is_nested():
        raise ValueError(
            f"Expected column {name!r} to hold single values that become {plain_name(wanted)}, found {kind}. Take it "
            "out of `types`."
        )
    if wanted.is_temporal():
        as_text = (
            f"Correct the cell, or say how times are written: `types: {{{name}: '%m/%d/%Y %H:%M'}}`; "
            f"`types: {{{name}: string}}` keeps the column as text. {_MISSING}"
        )
    elif is_time:
        as_text = f"Correct the cell, or remove the row. {_MISSING}"
    elif wanted.is_integer():
        as_text = as_number
    if kind == pl.String:
        values = cast_text(name, wanted)
    else:  # other files hold moments in UTC, see `TableCells`
        values = pl.col(name).cast(pl.Datetime("us") if wanted == TYPES["utc"] else wanted, strict=False)
    return CellType(values, f"a value of type {plain_name(wanted)}", as_text)


def cast_text(name: str, kind: pl.DataType) -> pl.Expr:
    """Return how the text of a cell becomes a type; null where it cannot."""
    cell = pl.col(name)
    if kind == pl.Boolean:
        words = {"true": True, "false": False}
        return cell.str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Boolean)
    if kind == TYPES["utc"]:
        return cell.str.strptime(TYPES["utc"], strict=False).dt.replace_time_zone(None)  # type: ignore[arg-type]
    if kind.is_temporal():
        return without_offset(cell).str.strptime(kind, strict=False)  # type: ignore[arg-type]
    return cell.cast(kind, strict=False)


def amount(name: str, decimal_comma: bool = False) -> pl.Expr:
    """Return how a number, or an amount such as `$-12.30` or `(1,234.50)`, becomes a float; null where it cannot.

    Commas must part thousands: `9,66` is no number, unless numbers have a decimal comma.

    Args:
        name: of the column.
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
    number = pl.when(bare != "").then(bare).cast(pl.Float64, strict=False)
    return pl.when(inside.is_null()).then(number).otherwise(-number)


def moment(year: str, month: str, day: str, minutes: pl.Expr) -> pl.Expr:
    """Return the time that columns of whole numbers make; null where there is no such day.

    Args:
        minutes: of the day.
    """
    start = pl.datetime(year, pl.col(month).clip(1, 12), 1) + pl.duration(days=pl.col(day).cast(pl.Int64) - 1)
    exists = (start.dt.month() == pl.col(month)) & (pl.col(day) >= 1)
    return pl.when(exists).then(start + minutes * pl.duration(minutes=1))


def amount_type(name: str) -> CellType:
    """Return what the cells of a column of amounts become."""
    return CellType(
        amount(name),
        "a number, or an amount such as $-12.30, (7.00) or 1,234.50",
        f"Correct the cell. If the column has decimal commas: `types: {{{name}: {DECIMAL_COMMA}}}`; if it holds no "
        "numbers, make its field categorical.",
    )


def time_type(name: str, cells: pl.Series) -> CellType | None:
    """Return what most cells of a text column are: a time, a date, a number; None where most are none of these."""
    present = cells.drop_nulls()
    for kind in (pl.Datetime("us"), pl.Date(), pl.Int64(), pl.Float64()):
        values = cast_text(name, kind)
        if len(present) and pl.DataFrame({name: present}).select(values)[name].count() * 2 > len(present):
            remedy = (
                f"Correct the cell, or say how times are written: `types: {{{name}: '%d/%m/%Y %H:%M'}}`. {_MISSING}"
            )
            return CellType(values, f"a value of type {plain_name(kind)}", remedy)
    return None


def guess_types(frame: pl.DataFrame) -> dict[str, pl.DataType]:
    """Return the type of each text column as polars guesses it for CSV files.

    A column stays text where a guess would change values: whole numbers with leading zeros (`007` and `7` may be two
    things), of more than 64 bits, or too long for a float among decimals; `True` beside `true`. Without a value, too.
    """
    texts: dict[str, pl.DataType] = {name: pl.String() for name in frame.columns}
    if not len(frame) or not frame.width:
        return texts
    frame = frame.cast(pl.String)  # a column without a value has no type yet
    worded = frame.select(pl.all().str.contains(r"^[A-Za-z]") & ~pl.all().str.contains(NUMBER_WORDS))
    if words := [one.name for one in worded if one.any()]:  # polars looks long for dates in them
        return texts | guess_types(frame.drop(words))
    text = frame.write_csv(include_header=False).encode()
    try:
        read = pl.read_csv(text, has_header=False, infer_schema_length=None, try_parse_dates=True)
    except pl.exceptions.PolarsError:  # of a column that is one thing at first and another later
        if frame.width == 1:
            return {frame.columns[0]: pl.String()}
        return {name: guess_types(frame.select(name))[name] for name in frame.columns}
    guesses = {}
    for name, cells in zip(frame.columns, read.get_columns(), strict=True):
        kind, written = cells.dtype, frame[name]
        as_text = (
            cells.null_count() == len(cells)
            or kind in WIDE
            or (kind.is_integer() and written.str.contains(ZERO_PADDED).any())
            or (kind.is_float() and written.str.contains(r"^-?\d{16,}$").any())
            or (kind == pl.Boolean and written.drop_nulls().n_unique() > 2)
        )
        guesses[name] = pl.String() if as_text else TYPES["timestamp"] if kind == pl.Datetime else kind
    return guesses


def guess_time(name: str, cells: pl.Series) -> pl.DataType:
    """Return the type of a column of times as most of its cells have it: a moment or a number, else text.

    Cells are alike that differ in digits only; the others are reported when they are read.
    """
    cells = cells.drop_nulls()
    alike = cells.str.replace_all(r"\d+", "9")
    shapes = alike.value_counts(sort=True)
    if not len(shapes) or shapes["count"][0] * 2 <= len(cells):
        return pl.String()
    guess = guess_types(pl.DataFrame({name: cells.filter(alike == shapes[name][0])}))[name]
    return guess if guess.is_temporal() or guess.is_numeric() else pl.String()


def guess_mostly_times(name: str, cells: pl.Series) -> pl.DataType:
    """Return the type of a text column whose cells, but for a few odd ones, are dates or times; else text."""
    cells = cells.drop_nulls()
    needed = MOSTLY * len(cells)
    if len(cells) < MOST_OF or cells.str.contains(r"^\s*\d").sum() < needed:
        return pl.String()
    for kind in (TYPES["timestamp"], pl.Date(), pl.Time()):
        good = cells.filter(_values_of(name, cells, kind).is_not_null())
        if len(good) < needed:
            continue
        guess = guess_types(pl.DataFrame({name: good}))[name]
        guess = guess_time(name, good) if guess == pl.String else guess
        if guess.is_temporal():  # days beside moments are moments
            return guess if not _values_of(name, good, guess).null_count() else kind
    return pl.String()


def _values_of(name: str, cells: pl.Series, kind: pl.DataType) -> pl.Series:
    return pl.DataFrame({name: cells}).select(cast_text(name, kind)).to_series()


def is_temporal(kind: pl.DataType | str) -> bool:
    """Tell whether cells become dates or times, see `named_type`."""
    return isinstance(kind, pl.DataType) and kind.is_temporal()


WIDE = (pl.Int128, pl.UInt64)  # whole numbers beyond 64 bits: `datasets` has no such type


def plain_name(kind: Any) -> str:
    """Return what a person calls a polars type."""
    if kind == TYPES["utc"]:
        return "utc, a time with its UTC offset"
    return "timestamp" if kind == pl.Datetime else str(kind).lower()


def without_missing(name: str, missing: Sequence[str], strip: bool = True) -> pl.Expr:
    """Return the cells of a text column, null where they stand for a missing value.

    Args:
        strip: remove spaces around the text first.
    """
    cells = pl.col(name).str.strip_chars() if strip else pl.col(name)
    return pl.when(cells.is_in(["", *missing])).then(None).otherwise(cells).alias(name)

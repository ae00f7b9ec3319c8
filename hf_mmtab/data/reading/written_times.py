"""How times are written in a column: dates whose day and month may be swapped, and local times with a UTC offset."""

import logging
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

logger = logging.getLogger(__name__)

# 03/04/2024, 3.4.24 9:05, 03-04-2024T09:05:30.5
_DATE = r"^(\d{1,2})([/.\-])(\d{1,2})[/.\-](\d{4}|\d{2})(?:([ T])\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?)?$"
# What follows a time of day: Z, +02:00, -0500
_OFFSET = r"(:\d{2}(?:\.\d+)?)\s*(Z|[+-](?:0\d|1[0-4]):?[0-5]\d)$"


class WrittenDates(NamedTuple):
    """How a column writes dates such as 03/04/2024.

    Attributes:
        format: for `strptime`; None: the cells prove both orders.
        month_first: whether the month comes before the day.
        day_proof, month_proof: a cell that only makes sense with the day, or the month, first.
        example: any cell.
    """

    format: str | None
    month_first: bool
    day_proof: str | None
    month_proof: str | None
    example: str


def like_dates(texts: pl.DataFrame) -> set[str]:
    """Return the columns most of whose cells are dates of day, month and year; all of them are text."""
    shares = texts.select(pl.all().str.strip_chars().str.contains(_DATE).mean())
    return {one.name for one in shares if (one[0] or 0) > 0.5}


def written_dates(cells: pl.Series, month_first: bool = False) -> WrittenDates | None:
    """Return how most cells of a text column write dates of day, month and year; None where they do not.

    Args:
        cells: without missing values.
        month_first: what holds where no cell decides.
    """
    names = ("first", "mark", "second", "year", "clock", "seconds", "fraction")
    groups = pl.col("cell").str.extract_groups(_DATE).struct.rename_fields(list(names)).alias("part")
    found = pl.DataFrame({"cell": cells.drop_nulls().str.strip_chars()}).with_columns(groups).unnest("part")
    dates = found.drop_nulls("first")
    if not len(dates) or len(dates) * 2 <= len(found):
        return None
    numbers = dates.with_columns(pl.col("first", "second").cast(pl.Int64))
    possible = numbers.filter(pl.min_horizontal("first", "second") <= 12)
    proofs = [next(iter(possible.filter(pl.col(one) > 12)["cell"].head(1)), None) for one in ("first", "second")]
    day_proof, month_proof = proofs
    if month_proof is not None or day_proof is not None:
        month_first = day_proof is None
    shape = dates.group_by(pl.col("mark"), pl.col("year").str.len_chars().alias("digits"), "clock").len()
    mark, digits, clock, _ = shape.sort("len", descending=True).row(0)
    order = ["%m", "%d"] if month_first else ["%d", "%m"]
    date = mark.join([*order, "%Y" if digits == 4 else "%y"])
    seconds = "%H:%M:%S%.f" if dates["fraction"].count() else "%H:%M:%S" if dates["seconds"].count() else "%H:%M"
    contradicts = day_proof is not None and month_proof is not None
    written = None if contradicts else date + (f"{clock}{seconds}" if clock else "")
    return WrittenDates(written, month_first, day_proof, month_proof, dates["cell"][0])


def format_of(name: str, cells: pl.Series, month_first: bool) -> str | None:
    """Return the format of a time column's dates where polars would read them otherwise; say what was chosen.

    Raises:
        ValueError: if some cells prove that the day comes first, and some that the month does.
    """
    dates = written_dates(cells, month_first)
    if dates is None:
        return None
    if dates.format is None:
        raise ValueError(
            f"Expected column {name!r} to write all dates in one order, found {dates.day_proof!r}, whose day comes "
            f"first, and {dates.month_proof!r}, whose month does. Correct the cells, or read the column as text: "
            f"`types: {{{name}: string}}`."
        )
    order, other = ("month", "day") if dates.month_first else ("day", "month")
    proof = dates.month_proof or dates.day_proof
    if proof is None:
        swapped = dates.format.replace("%d", "%D").replace("%m", "%d").replace("%D", "%m")
        why = "the processor's plan says so" if month_first else "no cell decides"
        tell = logger.info if dates.format.startswith("%d.") else logger.warning  # 03.04.2024 has one reading
        tell(
            f"Dates of column {name!r}, such as {dates.example!r}, are read with the {order} first: {why}. If the "
            f"{other} comes first: `types: {{{name}: '{swapped}'}}` in a recipe, or write days as 2024-12-31."
        )
    elif dates.month_first:
        logger.info(f"Dates of column {name!r} are read with the month first, as {proof!r} shows.")
    return dates.format if dates.month_first or "%y" in dates.format else None


def without_offset(cell: pl.Expr) -> pl.Expr:
    """Return the time of a text as it is written, 10:00 of `10:00:00-05:00`."""
    return cell.str.replace(_OFFSET, "${1}")


def wall_clock(times: pa.Array | pa.ChunkedArray) -> Any:
    """Return times as they are written where they are: local time, without the zone; other arrays as they are."""
    kind: Any = times.type
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return pc.local_timestamp(times)
    return pc.replace_substring_regex(times, _OFFSET, r"\1") if is_text(kind) else times


def is_text(kind: Any) -> bool:
    """Tell whether an Arrow type is one of text."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def zones_of(cells: pa.ChunkedArray) -> list[str]:
    """Return the UTC offsets of a text column's times, or the zone of a column of timestamps."""
    kind: Any = cells.type
    if pa.types.is_timestamp(kind):
        return [] if kind.tz is None else [kind.tz]
    if not pa.types.is_string(kind):
        return []
    return sorted(pl.Series(pl.from_arrow(cells)).str.extract(_OFFSET, 2).drop_nulls().unique())


def tell_zones(name: str, zones: list[str]) -> None:
    """Say that times with a zone or offsets are read as they are written."""
    if not zones:
        return
    told = (
        f"Times of column {name!r} ({', '.join(zones[:3])}{', …' if len(zones) > 3 else ''}) are read as they are "
        f"written, in local hours, from files of every kind. For moments in UTC: `types: {{{name}: utc}}`."
    )
    if len(zones) > 1:
        logger.warning(f"{told} Between two offsets, pauses and the order of rows are those of the clock.")
    else:
        logger.info(told)

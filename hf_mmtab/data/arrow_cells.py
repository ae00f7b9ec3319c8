"""Columns of Parquet and Arrow files as the types that are asked for; a cell that is none is found with its row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from .csv_blocks import DECIMAL_COMMA, amount, amount_expected, cast_cell, plain_name
from .records import BadRecord, BadRecords, shorten

TIME_ROWS = 10_000  # of a text column, from which the way its times are written is guessed


@dataclass(frozen=True)
class CellType:
    """What the cells of a column become.

    Attributes:
        values: expression that gives the new value, null where the cell is none.
        expected: names the type in an error.
        remedy: for a cell that is none.
    """

    values: pl.Expr
    expected: str
    remedy: str = "Correct the cell, or remove the row."


class ArrowCells:
    """How the columns of Arrow tables become other types.

    Args:
        sample: the first rows of the data; roles say nothing about columns that are no text in it.
        types: column → polars type, or a format of times with "%".
        roles: column → "time" or "amount", for columns of text that `types` does not name.
        missing: texts that stand for a missing value where text becomes another type.

    Raises:
        ValueError: if `types` names a column that is absent.
    """

    def __init__(
        self,
        sample: pa.Table,
        types: Mapping[str, pl.DataType | str],
        roles: Mapping[str, str],
        missing: Sequence[str],
    ) -> None:
        absent = [name for name in types if name not in sample.column_names]
        if absent:
            raise ValueError(f"Expected columns {absent} (named in `types`), found {sample.column_names}.")
        self.missing = ["", *missing]
        frame = pl.DataFrame(sample.slice(0, TIME_ROWS))
        self.columns: dict[str, CellType] = {}
        for name, kind in frame.schema.items():
            wanted = types.get(name)
            if wanted is not None and wanted != kind:
                self.columns[name] = _cell_type(name, kind, wanted)
            elif wanted is None and kind == pl.String and roles.get(name) == "amount":
                self.columns[name] = CellType(amount(name, strict=False), *amount_expected(name))
            elif wanted is None and kind == pl.String and roles.get(name) == "time":
                self.columns.update(_time_type(name, self._without_missing(frame, name)))

    def convert(
        self, table: pa.Table, file: str, first_row: int, bad: BadRecords
    ) -> tuple[pa.Table, np.ndarray]:
        """Return a table with the new columns, and which rows hold a cell that is no such value.

        Args:
            table: of the columns that the sample had.
            file: named in records.
            first_row: number of rows of the file before this table.
            bad: told about wrong cells.

        Returns:
            The table, all rows kept, and a mask of shape `(rows,)` that is true where a cell is wrong.
        """
        wrong = np.zeros(table.num_rows, dtype=bool)
        found: dict[int, BadRecord] = {}
        for name, cell_type in self.columns.items():
            frame = pl.DataFrame(table.select([name]))
            text = frame.schema[name] == pl.String
            present = self._without_missing(frame, name) if text else frame
            values = present.select(cell_type.values.alias(name))
            lost = (present[name].is_not_null() & values[name].is_null()).to_numpy() & ~wrong
            for row in np.flatnonzero(lost).tolist():
                cell = shorten(present[name][row])
                place = file, first_row + row + 1, name
                found[row] = BadRecord(*place, cell_type.expected, cell, cell_type.remedy)
            wrong |= lost
            new = values.to_arrow(compat_level=pl.CompatLevel.oldest())[name]
            if pa.types.is_large_string(new.type):  # which `datasets` does not want
                new = new.cast(pa.string())
            table = table.set_column(table.column_names.index(name), name, new)
        for row in sorted(found):
            bad.add(found[row])
        return table, wrong

    def _without_missing(self, frame: pl.DataFrame, name: str) -> pl.DataFrame:
        cell = pl.col(name).str.strip_chars()
        return frame.select(pl.when(cell.is_in(self.missing)).then(None).otherwise(cell).alias(name))


def _as_text(name: str) -> str:
    return f"Correct the cell, or read the column as text: `types: {{{name}: string}}`."


def _cell_type(name: str, kind: pl.DataType, wanted: pl.DataType | str) -> CellType:
    if wanted == DECIMAL_COMMA:
        if kind != pl.String:
            raise ValueError(
                f"Expected text in column {name!r}, to read its decimal commas, found {kind}. Take it out of `types`."
            )
        values = amount(name, strict=False, decimal_comma=True)
        return CellType(values, "a number with a decimal comma, such as 1.234,50", _as_text(name))
    if isinstance(wanted, str):
        as_text = pl.col(name).cast(pl.String)
        return CellType(
            as_text.str.strptime(pl.Datetime("us"), wanted, strict=False), f"a time as {wanted!r}"
        )
    expected = f"a value of type {plain_name(wanted)}"
    if kind == pl.String:
        return CellType(cast_cell(name, wanted, strict=False), expected, _as_text(name))
    if kind.is_nested():
        raise ValueError(
            f"Expected column {name!r} to hold single values that become {plain_name(wanted)}, found {kind}. Take it "
            "out of `types`."
        )
    return CellType(pl.col(name).cast(wanted, strict=False), expected, _as_text(name))


def _time_type(name: str, cells: pl.DataFrame) -> dict[str, CellType]:
    """Return what most cells of a text column are: a time, a date, a number; nothing where most are none of these."""
    seen = cells[name].drop_nulls()
    remedy = f"Correct the cell, or say how times are written: `types: {{{name}: '%d/%m/%Y %H:%M'}}`."
    for kind in (pl.Datetime("us"), pl.Date(), pl.Int64(), pl.Float64()):
        values = cast_cell(name, kind, strict=False)
        if len(seen) and pl.DataFrame({name: seen}).select(values)[name].count() * 2 > len(seen):
            return {name: CellType(values, f"a value of type {plain_name(kind)}", remedy)}
    return {}

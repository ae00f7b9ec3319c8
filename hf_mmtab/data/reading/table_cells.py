"""Cast the columns of a table to their types; report each failing cell with its row."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from .cell_types import TYPES, CellType, amount_type, cell_type, time_type, without_missing
from .column_names import near_names
from .csv_text import TextBlock
from .records import BadRecord, BadRecords, shorten
from .written_times import format_of, tell_zones, wall_clock, zones_of

TIME_ROWS = 10_000  # of a text column, from which the way its times are written is guessed
NO_VALUE = (
    "a value, since it says whose row this is or when it was",
    "none",
    "Fill the cell, or remove the row. If NA, null and the like are names here: `missing: []`.",
)


class TableCells:
    """How the columns of a file's blocks become the columns of the table.

    Args:
        sample: the first rows of the data; roles are ignored for columns that hold no text in it.
        types: column → polars type, or see `cell_types.named_type`.
        roles: column → "time", "amount" or "text", for columns of text that `types` does not name.
        missing: texts that stand for a missing value where text becomes another type.
        missing_text: whether they do so in columns that stay text, too.
        derived: column of the table → expression over the typed columns, null where it has no value. Empty: the
            columns as they are.
        required: columns in which every row must have a value.
        month_first: columns whose dates, where no cell decides, begin with the month.

    Attributes:
        month_first: columns whose dates do begin with the month.

    Raises:
        ValueError: if `types` names a column that is absent, or dates contradict each other.
    """

    def __init__(
        self,
        sample: pa.Table,
        types: Mapping[str, pl.DataType | str],
        roles: Mapping[str, str],
        missing: Sequence[str],
        missing_text: bool = False,
        derived: Mapping[str, pl.Expr] | None = None,
        required: Sequence[str] = (),
        month_first: Collection[str] = (),
    ) -> None:
        self.names = sample.column_names
        absent = [name for name in types if name not in self.names]
        if absent:
            near = near_names(absent, self.names)
            raise ValueError(f"Expected columns {absent} (named in `types`), found {self.names}.{near}")
        self.missing, self.derived, self.required = list(missing), dict(derived or {}), list(required)
        self._missing_texts = pa.array(missing, pa.string()) if missing_text and missing else None
        self._in_utc = [name for name, kind in types.items() if kind == TYPES["utc"]]
        sample = sample.slice(0, TIME_ROWS)
        frame = pl.DataFrame(self._without_zones(sample))
        self.month_first: list[str] = []
        self._texts = [name for name, kind in frame.schema.items() if kind == pl.String]
        self.columns: dict[str, CellType] = {}
        self.numbers: dict[str, pa.DataType] = {}  # columns that may be parsed as numbers right away
        for name, kind in frame.schema.items():
            wanted, role = types.get(name), roles.get(name) if kind == pl.String else None
            is_time = wanted in (TYPES["date"], TYPES["timestamp"]) if wanted is not None else role == "time"
            if kind == pl.String and is_time:
                texts = frame.select(without_missing(name, missing))[name]
                if (written := format_of(name, texts, name in month_first)) is not None:
                    wanted = written
                    self.month_first += [name] if written.startswith("%m") else []
            if (is_time or kind == pl.Datetime) and name not in self._in_utc:
                tell_zones(name, zones_of(sample[name]))
            if wanted is not None and wanted != kind:
                self.columns[name] = cell_type(name, kind, wanted, is_time=name in required)
                if kind == pl.String and not isinstance(wanted, str) and wanted.is_numeric():
                    self.numbers[name] = pl.Series(dtype=wanted).to_arrow().type
            elif wanted is None and role == "amount":
                self.columns[name] = amount_type(name)
            elif wanted is None and role == "time":
                found = time_type(name, frame.select(without_missing(name, missing))[name])
                self.columns |= {name: found} if found else {}

    def convert(self, block: TextBlock, file: str, bad: BadRecords) -> pa.Table:
        """Return the rows of a block whose cells are what they must be, as columns of the table.

        Args:
            file: named in records.
            bad: told about the first failing cell of each other row.
        """
        failures = _Failures(file, block.lines)
        table = self._without_zones(block.table)
        columns = dict(zip(table.column_names, table.columns, strict=True))
        if self._missing_texts is not None:
            texts = [name for name in columns if name not in self.columns and pa.types.is_string(columns[name].type)]
            columns |= {name: self._without_missing(columns[name]) for name in texts}
        typed = [name for name in self._texts if name in self.columns and pa.types.is_temporal(columns[name].type)]
        columns |= {name: columns[name].cast(pa.string()) for name in typed}  # of a later file than the first
        read = list(columns) if self.derived else list(self.columns)
        frame = pl.DataFrame(pa.table({name: columns[name] for name in read}))
        frame = frame.with_columns(self._values(frame, failures))
        if self.derived:
            frame = self._derive(frame, failures)
            columns = {}
        columns |= {name: _to_arrow(frame[name]) for name in frame.columns}
        for name in self.required:
            if name not in columns:
                continue
            if pa.types.is_floating(columns[name].type):
                columns[name] = pc.if_else(pc.is_nan(columns[name]), None, columns[name])
            if columns[name].null_count:
                failures.add_missing(name, np.asarray(columns[name].is_null()))
        return failures.remove_from(pa.table(columns), bad)

    def _without_zones(self, table: pa.Table) -> pa.Table:
        """Return timestamps with a zone as local times, or as moments in UTC where `types` says so."""
        for place, one in enumerate(table.schema):
            if pa.types.is_timestamp(one.type) and one.type.tz is not None:
                times = table[place]
                in_utc = one.name in self._in_utc
                plain = times.cast(pa.timestamp(one.type.unit)) if in_utc else wall_clock(times)
                table = table.set_column(place, one.name, plain)
        return table

    def _values(self, frame: pl.DataFrame, failures: "_Failures") -> list[pl.Series]:
        """Return what the cells of the columns become."""
        values = frame.select(kind.values.alias(name) for name, kind in self.columns.items()).get_columns()
        for place, (name, kind) in enumerate(self.columns.items()):
            cells, new = frame[name], values[place]
            lost = new.null_count() > cells.null_count() or (new.dtype.is_float() and new.is_nan().any())
            if lost and cells.dtype == pl.String:  # a missing value, spaces around, or a failing cell
                present = frame.select(without_missing(name, self.missing))
                cells, values[place] = present[name], present.select(kind.values.alias(name)).to_series()
            if lost:
                failures.add(name, kind, values[place].is_null() & cells.is_not_null(), cells)
        return values

    def _without_missing(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        missing = pc.is_in(column, value_set=self._missing_texts)
        return pc.if_else(missing, pa.scalar(None, pa.string()), column) if pc.any(missing).as_py() else column

    def _derive(self, frame: pl.DataFrame, failures: "_Failures") -> pl.DataFrame:
        derived = frame.select(expression.alias(name) for name, expression in self.derived.items())
        for name, expression in self.derived.items():
            roots = list(dict.fromkeys(expression.meta.root_names()))
            if not derived[name].null_count():
                continue
            present = frame.select(pl.all_horizontal(pl.col(roots).is_not_null())).to_series()
            cells = frame[roots[0]] if len(roots) == 1 else frame.select(roots).to_struct()
            kind = CellType(expression, f"a value that makes {name!r}", "Correct the row.")
            failures.add(name, kind, derived[name].is_null() & present, cells)
        return derived


class _Failures:
    """Rows of a block that cannot be used, and why: the first failing cell of each."""

    def __init__(self, file: str, lines: np.ndarray) -> None:
        self.file, self.lines = file, lines
        self.rows = np.zeros(len(lines), dtype=bool)
        self.records: dict[int, BadRecord] = {}

    def add(self, column: str, kind: CellType, failed: pl.Series, cells: pl.Series) -> None:
        for row in np.flatnonzero(failed.to_numpy() & ~self.rows).tolist():
            self._note(row, column, kind.expected, shorten(cells[row]), kind.remedy)

    def add_missing(self, column: str, missing: np.ndarray) -> None:
        for row in np.flatnonzero(missing & ~self.rows).tolist():
            self._note(row, column, *NO_VALUE)

    def _note(self, row: int, column: str, expected: str, found: str, remedy: str) -> None:
        self.records[row] = BadRecord(self.file, int(self.lines[row]), column, expected, found, remedy)
        self.rows[row] = True

    def remove_from(self, table: pa.Table, bad: BadRecords) -> pa.Table:
        """Report the rows, and return the others."""
        for row in sorted(self.records):
            bad.add(self.records[row])
        return table.filter(pa.array(~self.rows)) if self.records else table


def _to_arrow(values: pl.Series) -> pa.ChunkedArray:
    arrow = values.to_frame().to_arrow(compat_level=pl.CompatLevel.oldest()).column(0)
    return arrow.cast(pa.string()) if pa.types.is_large_string(arrow.type) else arrow

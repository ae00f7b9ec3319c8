"""A file of predictions that grows piece by piece: Parquet, JSON lines or CSV."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from transformers.utils import logging

from ...data.pictures.types import as_types
from ...files import json_text

logger = logging.get_logger(__name__)

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
SUFFIXES = (".parquet", ".jsonl", ".csv")


def check_suffix(out: Path) -> None:
    """Raise a ValueError unless a file can be written under this name."""
    if out.suffix not in SUFFIXES:
        raise ValueError(f"Expected the output to end in one of {', '.join(SUFFIXES)}, found {out.name!r}.")


@contextmanager
def table_writer(
    path: Path, suffix: str, spreadsheet_safe: bool = False, mixed: Mapping[int, pa.DataType] | None = None
) -> Iterator[Callable[[pa.Table], Any]]:
    """Open a file to which tables of one schema are appended: Parquet, JSON lines or CSV (lists as JSON).

    Numbers that are NaN or infinite are null in JSON.

    Args:
        path: of the file.
        suffix: one of `SUFFIXES`.
        spreadsheet_safe: CSV: put an apostrophe before each text that a spreadsheet would run as a formula. Without
            it such texts are written as they are, and counted in a warning.
        mixed: place of a column with values of several kinds, as JSON → its type in Parquet; elsewhere they are
            written as they were.
    """
    mixed = mixed or {}
    if suffix == ".parquet":
        parquet: list[pq.ParquetWriter] = []

        def write_parquet(table: pa.Table) -> None:
            for place, kind in mixed.items():
                values = _fit([*_unpacked(table.column(place).to_pylist())], kind)
                table = table.set_column(place, table.column_names[place], pa.array(values, kind))
            if not parquet:
                parquet.append(pq.ParquetWriter(path, table.schema))
            parquet[0].write_table(table)

        try:
            yield write_parquet
        finally:
            for writer in parquet:
                writer.close()
        return
    with open(path, "w", encoding="utf-8", newline="") as file:
        if suffix == ".jsonl":

            def write_lines(table: pa.Table) -> None:
                for row in _rows(table, mixed):
                    file.write(json_text(row, ensure_ascii=False, default=str) + "\n")

            yield write_lines
        else:
            cells = _CsvCells(spreadsheet_safe)
            lines = csv.writer(file)

            def write_csv(table: pa.Table) -> None:
                if file.tell() == 0:
                    lines.writerow(map(cells.cell, table.column_names))
                lines.writerows(map(cells.cell, row.values()) for row in _rows(table, mixed))

            yield write_csv
            cells.tell()


def _unpacked(texts: Sequence[str | None]) -> Iterator[Any]:
    return (None if text is None else json.loads(text) for text in texts)


def _rows(table: pa.Table, mixed: Mapping[int, pa.DataType]) -> list[dict[str, Any]]:
    rows = table.to_pylist()
    for place in mixed:
        name = table.column_names[place]
        for row, value in zip(rows, _unpacked(table.column(place).to_pylist()), strict=True):
            row[name] = value
    return rows


def _fit(values: Sequence[Any], kind: pa.DataType) -> list[Any]:
    """Return values of several kinds as lists of texts, or as texts: what is none as JSON."""
    if pa.types.is_list(kind):
        return [[value] if isinstance(value, str) else value for value in values]
    return as_types([*values], kind)


class _CsvCells:
    """Values as cells of a CSV file; counts the texts that a spreadsheet would run."""

    def __init__(self, spreadsheet_safe: bool) -> None:
        self.spreadsheet_safe, self.formulas = spreadsheet_safe, 0

    def cell(self, value: Any) -> Any:
        if isinstance(value, list | dict):
            return json_text(value, ensure_ascii=False, default=str)
        if not isinstance(value, str) or not _runs_in_spreadsheet(value):
            return value
        self.formulas += 1
        return f"'{value}" if self.spreadsheet_safe else value

    def tell(self) -> None:
        """Warn of texts that were left as they are."""
        if self.formulas and not self.spreadsheet_safe:
            logger.warning(
                f"{self.formulas:,} texts in the CSV file begin with one of = + - @, and a spreadsheet runs them as "
                "formulas. Before opening the file in one, write it with --spreadsheet_safe (an apostrophe goes before "
                "each), or as .parquet."
            )


def _runs_in_spreadsheet(text: str) -> bool:
    """Tell whether a spreadsheet takes a text for a formula; a number such as -5 is none."""
    if not text.lstrip(" ").startswith(FORMULA_STARTS):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return False

"""A file of predictions that grows piece by piece: Parquet, JSON lines or CSV."""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SUFFIXES = (".parquet", ".jsonl", ".csv")


def check_suffix(out: Path) -> None:
    """Raise a ValueError unless a file can be written under this name."""
    if out.suffix not in SUFFIXES:
        raise ValueError(f"Expected the output to end in one of {', '.join(SUFFIXES)}, found {out.name!r}.")


@contextmanager
def table_writer(path: Path, suffix: str) -> Iterator[Callable[[pa.Table], Any]]:
    """Open a file to which tables of one schema are appended: Parquet, JSON lines or CSV (lists as JSON)."""
    if suffix == ".parquet":
        parquet: list[pq.ParquetWriter] = []

        def write_parquet(table: pa.Table) -> None:
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
                for row in table.to_pylist():
                    file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")

            yield write_lines
        else:
            lines = csv.writer(file)

            def write_csv(table: pa.Table) -> None:
                if file.tell() == 0:
                    lines.writerow(table.column_names)
                for row in table.to_pylist():
                    lines.writerow(
                        json.dumps(v, ensure_ascii=False) if isinstance(v, list | dict) else v
                        for v in row.values()
                    )

            yield write_csv

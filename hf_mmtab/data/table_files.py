"""Table files: which there are under a path, and their rows in blocks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers.utils import logging

from .csv_text import TextBlock, read_header, read_text_blocks
from .folder_files import files_below, files_in, refuse_twice
from .records import BadRecords, check_names
from .text_files import separator_of
from .utf8_cells import parquet_batches, with_plain_texts, without_broken_texts

logger = logging.get_logger(__name__)

CSV_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz")
SUFFIXES = (*CSV_SUFFIXES, ".parquet", ".arrow")
KINDS = {"text": CSV_SUFFIXES, "Parquet": (".parquet",), "Arrow": (".arrow",)}
PROSE = ("readme", "license", "licence", "copying", "notice", "notes", "changelog", "citation")  # .txt, no tables
BATCH_ROWS = 262_144


def table_files(root: Path) -> list[Path]:
    """Return the table files under a path, by name. Hidden and backup files are none, nor is README.txt and the like.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: for a file of another kind, or files that hold the same rows.
    """
    if root.is_file():
        if not root.name.lower().endswith(SUFFIXES):
            raise ValueError(f"Expected a file ending in one of {', '.join(SUFFIXES)}, found {str(root)!r}.")
        return [root]
    files = files_in(root, SUFFIXES) if root.is_dir() else []
    prose = [path for path in files if ".txt" in path.suffixes and path.name.lower().startswith(PROSE)]
    if prose:
        logger.warning_once(f"Not read as tables: {', '.join(path.name for path in prose)} in {str(root)!r}.")
    files = [path for path in files if path not in prose]
    if not files:
        below = files_below(root, SUFFIXES) if root.is_dir() else []
        hint = f" Its subfolders hold some: name {str(below[0].parent)!r}." if below else ""
        raise FileNotFoundError(
            f"Expected a table, or a folder of files ending in {', '.join(SUFFIXES)}, found none at"
            f" {str(root)!r}.{hint}"
        )
    kinds = {next(kind for kind in KINDS if path.name.lower().endswith(KINDS[kind])): path.name for path in files}
    if len(kinds) > 1:
        raise ValueError(
            f"Expected table files of one kind in {str(root)!r}, found "
            f"{' and '.join(f'{kind} ({name})' for kind, name in kinds.items())}. Keep one kind in the folder, or "
            "name a single file."
        )
    refuse_twice(files)
    return files


def is_csv(path: Path) -> bool:
    """Whether a file is CSV, by its name."""
    return path.name.lower().endswith(CSV_SUFFIXES)


def read_blocks(
    path: Path,
    bad: BadRecords,
    separator: str | None = None,
    keeps_bytes: Callable[[str], bool] = lambda name: False,
    **csv_options: Any,
) -> Iterator[TextBlock]:
    """Yield the rows of a table file; those of CSV files as text, see `read_text_blocks`.

    A file without rows gives one block without rows.

    Args:
        bad: told about rows that are broken; counts the rows.
        separator: of CSV files; None: by the file's name.
        keeps_bytes: whether a column of bytes in a Parquet or Arrow file is read as bytes, and not as text in UTF-8.
        csv_options: see `read_text_blocks`.
    """
    empty = True
    if is_csv(path):
        separator = separator or separator_of(path)
        for block in read_text_blocks(path, separator, bad, **csv_options):
            empty = False
            yield block
        if empty:
            columns = {name: pa.array([], pa.string()) for name in read_header(path, separator)}
            yield TextBlock(pa.table(columns), np.arange(0))
        return
    done = 0
    for table in _arrow_tables(path):
        check_names(table.column_names, path)
        bad.rows_read += table.num_rows
        texts = with_plain_texts(table, keeps_bytes)
        kept, numbers = without_broken_texts(texts, str(path), done, bad)
        done += table.num_rows
        yield TextBlock(_without_categories(kept), numbers)


def _arrow_tables(path: Path) -> Iterator[pa.Table]:
    """Yield batches of a Parquet or Arrow file; an empty one for a file without rows.

    Raises:
        ValueError: naming a file that cannot be read.
    """
    parquet = path.name.lower().endswith(".parquet")
    try:
        yield from _parquet_tables(path) if parquet else _ipc_tables(path)
    except (pa.ArrowException, OSError) as error:
        expected = "a Parquet file" if parquet else "an Arrow file or stream"
        raise ValueError(
            f"Expected {expected}, found {str(path)!r}, which cannot be read ({error}). Write it anew."
        ) from error


def _parquet_tables(path: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        if file.metadata.num_rows == 0:
            yield file.schema_arrow.empty_table()
    for batch in parquet_batches(path, BATCH_ROWS):
        yield pa.Table.from_batches([batch])


def _ipc_tables(path: Path) -> Iterator[pa.Table]:
    with pa.memory_map(str(path)) as source:
        try:
            reader: Any = pa.ipc.open_stream(source)
            batches: Any = reader
        except pa.ArrowInvalid:
            reader = pa.ipc.open_file(source)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        empty = True
        for batch in batches:
            empty = False
            yield pa.Table.from_batches([batch])
        if empty:
            yield reader.schema.empty_table()


def _without_categories(table: pa.Table) -> pa.Table:
    """Return a table without dictionaries, as `datasets` wants it."""
    fields = [
        pa.field(one.name, one.type.value_type if pa.types.is_dictionary(one.type) else one.type)
        for one in table.schema
    ]
    return table.cast(pa.schema(fields))

"""Table files: which there are under a path, and their rows in blocks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers.utils import logging

from .arrow_types import with_known_types
from .csv_text import TextBlock, read_header, read_text_blocks
from .folder_files import files_below, files_in, refuse_twice
from .places import Place, RemotePath, StoreError
from .records import BadRecords, check_names, shorten
from .text_files import separator_of
from .utf8_cells import parquet_batches, with_plain_texts, without_broken_texts

logger = logging.get_logger(__name__)

CSV_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz")
SUFFIXES = (*CSV_SUFFIXES, ".parquet", ".arrow")
KINDS = {"text": CSV_SUFFIXES, "Parquet": (".parquet",), "Arrow": (".arrow",)}
PROSE = ("readme", "license", "licence", "copying", "notice", "notes", "changelog", "citation")  # .txt, no tables
OTHER_TABLES = (".jsonl", ".ndjson", ".json", ".xlsx", ".xls", ".ods", ".feather", ".orc", ".avro", ".csv.zip")
BATCH_ROWS = 262_144


class Piece(NamedTuple):
    """Rows of a table file that are read at once by one process.

    Args:
        file: that holds them.
        groups: the row groups of a Parquet file, `[first, behind the last)`; None: the whole file.
    """

    file: Place
    groups: tuple[int, int] | None = None


def pieces_of(files: list[Place], rows: int) -> list[Piece]:
    """Cut files into pieces, in the order of their rows: Parquet files by row groups, about `rows` rows each."""
    pieces: list[Piece] = []
    for file in files:
        if not _is_parquet(file):
            pieces.append(Piece(file))
            continue
        with _readable(file), _opened(file) as opened:
            facts = pq.ParquetFile(opened).metadata
            counts = [facts.row_group(group).num_rows for group in range(facts.num_row_groups)]
        first, held = 0, 0
        for group, count in enumerate(counts):
            if held and held + count > rows:
                pieces.append(Piece(file, (first, group)))
                first, held = group, 0
            held += count
        pieces.append(Piece(file, (first, len(counts))))
    return pieces


def table_files(root: Place) -> list[Place]:
    """Return the table files under a path, by name. Hidden and backup files are none, nor is README.txt and the like.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: for a file of another kind, or files that hold the same rows.
    """
    if isinstance(root, RemotePath):
        root.forget()
    if root.is_file():
        if not root.name.lower().endswith(SUFFIXES):
            raise ValueError(f"Expected a file ending in one of {', '.join(SUFFIXES)}, found {str(root)!r}.")
        return [root]
    if isinstance(root, RemotePath):
        files: list[Place] = [file for file in root.files() if _is_table(file.name)]
    else:
        files = [*(files_in(root, SUFFIXES) if root.is_dir() else [])]
    prose = [path for path in files if ".txt" in path.name.lower() and path.name.lower().startswith(PROSE)]
    if prose:
        logger.warning_once(f"Not read as tables: {', '.join(path.name for path in prose)} in {str(root)!r}.")
    files = [path for path in files if path not in prose]
    if files and isinstance(root, Path) and (others := [path.name for path in files_in(root, OTHER_TABLES)]):
        logger.warning_once(
            f"Not read: {shorten(others, 200)} in {str(root)!r}. Tables are files ending in {', '.join(SUFFIXES)}."
        )
    if not files:
        below = files_below(root, SUFFIXES) if isinstance(root, Path) and root.is_dir() else []
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
    refuse_twice([file for file in files if isinstance(file, Path)])
    return files


def _is_table(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith((".", "~", "#", "_"))


def _is_parquet(path: Place) -> bool:
    return path.name.lower().endswith(".parquet")


def is_csv(path: Place) -> bool:
    """Whether a file is CSV, by its name."""
    return path.name.lower().endswith(CSV_SUFFIXES)


def read_blocks(
    path: Place,
    bad: BadRecords,
    separator: str | None = None,
    groups: tuple[int, int] | None = None,
    keeps_bytes: Callable[[str], bool] = lambda name: False,
    **csv_options: Any,
) -> Iterator[TextBlock]:
    """Yield the rows of a table file; those of CSV files as text, see `read_text_blocks`.

    A file without rows gives one block without rows.

    Args:
        bad: told about rows that are broken; counts the rows.
        separator: of CSV files; None: by the file's name.
        groups: see `Piece`.
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
    for done, table in _arrow_tables(path, groups):
        bad.rows_read += table.num_rows
        kept, numbers = without_broken_texts(_known(table, path, keeps_bytes), str(path), done, bad)
        yield TextBlock(_plain(kept), numbers)


def schema_of(path: Place, keeps_bytes: Callable[[str], bool] = lambda name: False) -> pa.Schema:
    """Return the columns of a Parquet or Arrow file with the types that `read_blocks` gives them.

    Raises:
        ValueError: naming a file that cannot be read.
    """
    with _readable(path), _opened(path) as source:
        schema = pq.read_schema(source) if _is_parquet(path) else _ipc_reader(source).schema
    return _plain(_known(schema.empty_table(), path, keeps_bytes)).schema


def _known(table: pa.Table, path: Place, keeps_bytes: Callable[[str], bool]) -> pa.Table:
    check_names(table.column_names, path)
    return with_plain_texts(with_known_types(table, path), keeps_bytes)


def _arrow_tables(path: Place, groups: tuple[int, int] | None) -> Iterator[tuple[int, pa.Table]]:
    """Yield batches of a Parquet or Arrow file with the number of their first row, from 0; an empty one without rows.

    Raises:
        ValueError: naming a file that cannot be read.
    """
    with _readable(path):
        done, tables = _parquet_tables(path, groups) if _is_parquet(path) else (0, _ipc_tables(path))
        for table in tables:
            yield done, table
            done += table.num_rows


@contextmanager
def _readable(path: Place) -> Iterator[None]:
    try:
        yield
    except StoreError:
        raise
    except (pa.ArrowException, OSError) as error:
        expected = "a Parquet file" if _is_parquet(path) else "an Arrow file or stream"
        raise ValueError(
            f"Expected {expected}, found {str(path)!r}, which cannot be read ({error}). Write it anew."
        ) from error


def _opened(path: Place) -> Any:
    """Return an open file; one on this machine is mapped to memory."""
    return pa.memory_map(str(path)) if isinstance(path, Path) else path.open()


def _parquet_tables(path: Place, groups: tuple[int, int] | None) -> tuple[int, Iterator[pa.Table]]:
    """Return the number of the first row, and the batches."""
    file = pq.ParquetFile(_opened(path))
    facts = file.metadata
    first, end = groups if groups is not None else (0, facts.num_row_groups)
    before = sum(facts.row_group(group).num_rows for group in range(first))

    def tables() -> Iterator[pa.Table]:
        with file:
            if facts.num_rows == 0:
                yield file.schema_arrow.empty_table()
            for batch in parquet_batches(file, path, BATCH_ROWS, row_groups=list(range(first, end))):
                yield pa.Table.from_batches([batch])

    return before, tables()


def _ipc_tables(path: Place) -> Iterator[pa.Table]:
    with _opened(path) as source:
        reader = _ipc_reader(source)
        is_file = hasattr(reader, "num_record_batches")
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else reader
        empty = True
        for batch in batches:
            empty = False
            yield pa.Table.from_batches([batch])
        if empty:
            yield reader.schema.empty_table()


def _ipc_reader(source: Any) -> Any:
    """Return a reader of an Arrow stream, or of an Arrow file."""
    try:
        return pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_file(source)


def _plain(table: pa.Table) -> pa.Table:
    """Return a table without dictionaries, as `datasets` wants it, and numbers of 32 bits as those of 64 that are
    written alike, which another file or a state may have.
    """
    for place, one in enumerate(table.schema):
        kind = one.type.value_type if pa.types.is_dictionary(one.type) else one.type
        column = table.column(place).cast(kind)
        if pa.types.is_float32(kind):
            column = column.cast(pa.string()).cast(pa.float64())
        table = table.set_column(place, one.name, column)
    return table

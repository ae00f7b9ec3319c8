"""Anybody's table of events: CSV (also .gz), TSV, Parquet or Arrow files -> one typed Arrow table."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import datasets
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from transformers.utils import logging

from .arrow_cells import ArrowCells
from .csv_blocks import (
    DECIMAL_COMMA,
    NOTHING_THERE,
    CsvFormat,
    amount,
    amount_expected,
    infer_schema,
    infer_time,
    read_blocks,
    read_header,
)
from .records import BadRecord, BadRecords, OnBadRecord, files_digest

logger = logging.get_logger(__name__)

CSV_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz")
SUFFIXES = (*CSV_SUFFIXES, ".parquet", ".arrow")
KINDS = {"text": CSV_SUFFIXES, "Parquet": (".parquet",), "Arrow": (".arrow",)}
TYPES: dict[str, pl.DataType] = {
    "string": pl.String(),
    "int": pl.Int64(),
    "float": pl.Float64(),
    "bool": pl.Boolean(),
    "date": pl.Date(),
    "timestamp": pl.Datetime("us"),
}
SKIPPED_FILE = "skipped_rows.json"


@dataclass
class TableConfig(datasets.BuilderConfig):
    """How to read a table.

    Attributes:
        data_root: a file, or a folder whose table files are read in the order of their names.
        types: column -> string, int, float, decimal_comma (numbers such as 1.234,50), bool, date, timestamp, or a
            format such as "%d/%m/%Y %H:%M".
            Other columns of CSV files are guessed from the first `infer_rows` rows of the first file; those of
            Parquet and Arrow files keep their types.
        separator: of CSV files; None: a tab in .tsv files, else a comma.
        missing: texts that stand for a missing value, beside the empty cell: of CSV files, and of text columns of
            other files where they become another type.
        infer_rows: rows that types are guessed from.
        on_bad_record: "raise" at the first broken row, or "skip" and list them (`builder.skipped`).
        max_rows: read only the first rows.
        roles: column -> "time" or "amount", for columns that `types` does not name and whose cells are text: what
            most cells look like, or a number, is what all of them must be.
        required: columns in which every row must have a value.
    """

    data_root: str = ""
    types: dict[str, str] | None = None
    separator: str | None = None
    missing: tuple[str, ...] = ("NA", "N/A", "NaN", "nan", "null", "NULL")
    infer_rows: int = 10_000
    on_bad_record: OnBadRecord = "raise"
    max_rows: int | None = None
    roles: dict[str, str] | None = None
    required: tuple[str, ...] = ()


class Table(datasets.ArrowBasedBuilder):
    """A table of events over time; one split, `train`, with the rows in the order of the files.

    Rows, columns, classes, missing values and licence: those of the input. `hf_mmtab.data.splits` cuts it.

    Example:
        >>> builder = Table("payments.csv", types={"when": "%d.%m.%Y %H:%M", "account": "string"})
        >>> builder.download_and_prepare()
        >>> rows = builder.as_dataset(split="train")
        >>> builder.skipped  # under on_bad_record="skip": the broken rows, with file and line
    """

    BUILDER_CONFIG_CLASS = TableConfig
    VERSION = datasets.Version("1.0.0")
    DEFAULT_WRITER_BATCH_SIZE = 262_144  # rows of a record batch: whole batches are encoded at once

    def __init__(self, data_root: str | os.PathLike, cache_dir: str | None = None, **kwargs: Any):
        root = Path(data_root).expanduser().resolve()
        self._files = table_files(root)
        self._bad = BadRecords(kwargs.get("on_bad_record", "raise"))
        # The cache of `datasets` follows the arguments, not the data: the hash makes it follow the files.
        kwargs.setdefault("hash", files_digest(self._files))
        kwargs.setdefault("writer_batch_size", self.DEFAULT_WRITER_BATCH_SIZE)
        super().__init__(cache_dir=cache_dir, data_root=str(root), **kwargs)

    def download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        """Read the files into the cache, unless they are there.

        Raises:
            BadRecordError: at the first broken row, unless `on_bad_record="skip"`.
            ValueError: if a file has other columns than the first.
        """
        try:
            super().download_and_prepare(*args, **kwargs)
        except datasets.exceptions.DatasetGenerationError as error:
            if isinstance(error.__cause__, ValueError):  # what is wrong, without the builder's wrapping
                raise error.__cause__ from None
            raise

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description=self.__doc__ or "", features=self._features())

    def _features(self) -> datasets.Features:
        first = self._files[0]
        if _is_csv(first):
            form = self._format(first)
            nothing = pl.DataFrame(schema=form.schema)
            return datasets.Features.from_arrow_schema(
                _plain_types(form.converted(nothing).to_arrow()).schema
            )
        nothing = _plain_types(next(_arrow_batches(first)).slice(0, 0))
        return datasets.Features.from_arrow_schema(
            self._arrow_cells().convert(nothing, str(first), 0, self._bad)[0].schema
        )

    def _arrow_cells(self) -> ArrowCells:
        """Return what the columns of Parquet and Arrow files become, from the first rows of the first file."""
        config = cast(TableConfig, self.config)
        types = {
            name: kind if "%" in kind or kind == DECIMAL_COMMA else named_type(name, kind)
            for name, kind in (config.types or {}).items()
        }
        sample = _plain_types(next(_arrow_batches(self._files[0])))
        return ArrowCells(sample, types, config.roles or {}, config.missing)

    def _format(self, path: Path) -> CsvFormat:
        """Return how this file is written; subclasses with a known schema override it.

        Raises:
            ValueError: if `types` names a column that is absent, or an unknown type.
        """
        config = cast(TableConfig, self.config)
        separator = config.separator or ("\t" if ".tsv" in path.suffixes else ",")
        names = read_header(path, separator)
        types = config.types or {}
        absent = [name for name in types if name not in names]
        if absent:
            raise ValueError(f"Expected columns {absent} (named in `types`), found {names} in {str(path)!r}.")
        schema: dict[str, pl.DataType] = {}
        convert: dict[str, pl.Expr] = {name: pl.col(name) for name in names}
        expected: dict[str, tuple[str, str]] = {}
        guessed = infer_schema(self._files[0], separator, config.missing, config.infer_rows)
        for name in names:
            kind = types.get(name)
            if kind is None:
                schema[name] = guessed.get(name, pl.String())
                role = (config.roles or {}).get(name) if schema[name] == pl.String() else None
                if role == "time":
                    schema[name] = infer_time(
                        self._files[0], separator, config.missing, config.infer_rows, name
                    )
                elif role == "amount":
                    convert[name], expected[name] = amount(name), amount_expected(name)
            elif "%" in kind:
                schema[name] = pl.String()
                convert[name] = pl.col(name).str.strptime(pl.Datetime("us"), kind, strict=True)
                expected[name] = f"a time as {kind!r}", "Correct the cell, or the format in `types`."
            elif kind == DECIMAL_COMMA:
                schema[name], convert[name] = pl.String(), amount(name, decimal_comma=True)
                expected[name] = "a number with a decimal comma, such as 1.234,50", "Correct the cell."
            else:
                schema[name] = named_type(name, kind)
        return CsvFormat(schema, convert, separator, tuple(config.missing), expected=expected)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator(datasets.Split.TRAIN, gen_kwargs={"files": self._files})]

    def _generate_tables(self, files: list[Path]) -> Iterator[tuple[Any, pa.Table]]:
        bad = BadRecords(self._bad.policy)
        left = cast(TableConfig, self.config).max_rows
        features = self.info.features
        assert features is not None
        for file_number, path in enumerate(files):
            frames = (
                (frame.to_arrow(compat_level=pl.CompatLevel.oldest()) for frame in self._read(path, bad))
                if _is_csv(path)
                else self._complete(path, bad)
            )
            for number, table in enumerate(frames):
                if left is not None:
                    table = table.slice(0, left)
                    left -= table.num_rows
                _same_columns(path, table, list(features))
                yield f"{file_number}-{number}", table.select(list(features)).cast(features.arrow_schema)
                if left == 0:
                    break
            if left == 0:
                break
        folder = Path(self._output_dir)  # a draft of the cache folder while it is filled
        if folder.is_dir():
            with open(folder / SKIPPED_FILE, "w", encoding="utf-8") as file:
                json.dump([record.to_dict() for record in bad.records], file)

    def _read(self, path: Path, bad: BadRecords) -> Iterator[pl.DataFrame]:
        form = self._format(path)
        form.required = tuple(
            name for name in cast(TableConfig, self.config).required if name in (form.convert or form.schema)
        )
        return read_blocks(path, form, bad)

    def _complete(self, path: Path, bad: BadRecords) -> Iterator[pa.Table]:
        """Yield the rows of a Parquet or Arrow file whose cells are what they must be."""
        done, cells = 0, self._arrow_cells()
        for batch in _arrow_batches(path):
            _same_columns(path, batch, list(cells.columns))
            table, lacking = cells.convert(_plain_types(batch), str(path), done, bad)
            for name in cast(TableConfig, self.config).required:
                if name in table.column_names and table[name].null_count:
                    nothing = np.asarray(table[name].is_null()) & ~lacking
                    lacking |= nothing
                    for row in np.flatnonzero(nothing):
                        bad.add(BadRecord(str(path), done + int(row) + 1, name, *NOTHING_THERE))
            done += table.num_rows
            yield table.filter(pa.array(~lacking)) if lacking.any() else table

    @property
    def skipped(self) -> list[BadRecord]:
        """The broken rows that were left out, under `on_bad_record="skip"`."""
        report = Path(self.cache_dir) / SKIPPED_FILE
        if not report.exists():
            return []
        return [BadRecord(**record) for record in json.loads(report.read_text(encoding="utf-8"))]


def table_files(root: Path) -> list[Path]:
    """Return the table files under a path, by name.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: for a file of another kind.
    """
    if root.is_file():
        if not root.name.endswith(SUFFIXES):
            raise ValueError(f"Expected a file ending in one of {', '.join(SUFFIXES)}, found {str(root)!r}.")
        return [root]
    found = sorted(p for p in root.glob("*") if p.is_file() and p.name.endswith(SUFFIXES))
    if not found:
        raise FileNotFoundError(
            f"Expected a table, or a folder of files ending in {', '.join(SUFFIXES)}, found none at"
            f" {str(root)!r}."
        )
    kinds = {next(kind for kind in KINDS if path.name.endswith(KINDS[kind])): path.name for path in found}
    if len(kinds) > 1:
        raise ValueError(
            f"Expected table files of one kind in {str(root)!r}, found "
            f"{' and '.join(f'{kind} ({name})' for kind, name in kinds.items())}. Keep one kind in the folder, or "
            "name a single file."
        )
    return found


def named_type(column: str, kind: str) -> pl.DataType:
    """Return the polars type that a recipe names.

    Raises:
        ValueError: for an unknown name.
    """
    if kind not in TYPES:
        raise ValueError(
            f"types[{column!r}] must be one of {', '.join(TYPES)}, {DECIMAL_COMMA} or a format such as "
            f"'%d/%m/%Y %H:%M', got {kind!r}."
        )
    return TYPES[kind]


def _is_csv(path: Path) -> bool:
    return path.name.endswith(CSV_SUFFIXES)


def _arrow_batches(path: Path, rows: int = 262_144) -> Iterator[pa.Table]:
    if path.name.endswith(".parquet"):
        try:
            file = pq.ParquetFile(path)
        except pa.ArrowInvalid as error:
            raise unreadable(path, "a Parquet file", error) from error
        with file:
            empty = file.schema_arrow.empty_table()
            for batch in file.iter_batches(batch_size=rows):
                yield pa.Table.from_batches([batch])
            if file.metadata.num_rows == 0:
                yield empty
        return
    with pa.memory_map(str(path)) as source:
        try:
            reader: Any = pa.ipc.open_stream(source)
            batches: Any = reader
        except pa.ArrowInvalid:
            try:
                reader = pa.ipc.open_file(source)
            except pa.ArrowInvalid as error:
                raise unreadable(path, "an Arrow file or stream", error) from error
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        for batch in batches:
            yield pa.Table.from_batches([batch])


def unreadable(path: Path, expected: str, error: Exception) -> ValueError:
    """Return an error that says which file is not of the kind that its name says."""
    return ValueError(
        f"Expected {expected}, found {str(path)!r}, which cannot be read ({error}). Write it anew."
    )


def _plain_types(table: pa.Table) -> pa.Table:
    """Return a table without large strings, string views and dictionaries, as `datasets` wants it."""
    wanted = []
    for place, name in enumerate(table.column_names):
        kind: Any = table.schema.field(name).type
        if pa.types.is_dictionary(kind) and pa.types.is_string_view(
            kind.value_type
        ):  # which Arrow cannot decode
            chunks = [
                pa.DictionaryArray.from_arrays(chunk.indices, chunk.dictionary.cast(pa.string()))
                for chunk in table[name].chunks
            ]
            plain = pa.dictionary(kind.index_type, pa.string())
            table = table.set_column(place, name, pa.chunked_array(chunks, plain))
    for column in table.schema:
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        is_text = pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
        wanted.append(pa.field(column.name, pa.string() if is_text else kind))
    return table.cast(pa.schema(wanted))


def _same_columns(path: Path, table: pa.Table, expected: list[str]) -> None:
    absent = [name for name in expected if name not in table.column_names]
    if absent:
        raise ValueError(
            f"Expected columns {expected} as in the first file, found {table.column_names} in {str(path)!r}."
        )

"""Anybody's table of events: CSV (also .gz), TSV, Parquet or Arrow files -> one typed Arrow table."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from transformers.utils import logging

from .reading.cell_types import (
    GUESSED_INT,
    guess_mostly_times,
    guess_time,
    guess_types,
    is_temporal,
    named_type,
    without_missing,
)
from .reading.column_names import near_names, tell_alike
from .reading.csv_text import BLOCK_BYTES, TextBlock
from .reading.joint_types import joint_types, with_types
from .reading.library_errors import CheckedBuilder, plain_errors
from .reading.places import Place, place_of
from .reading.records import BadRecords, OnBadRecord, files_digest, shorten
from .reading.table_cells import TableCells
from .reading.table_files import Piece, is_csv, pieces_of, read_blocks, table_files
from .reading.written_times import is_text, like_dates, written_dates

logger = logging.get_logger(__name__)

INDEX_COLUMNS = ("Unnamed: 0", "__index_level_0__")  # pandas' row numbers, like a column without a name


@dataclass
class TableConfig(datasets.BuilderConfig):
    """How to read a table.

    Attributes:
        data_root: a file, or a folder whose table files are read in the order of their names.
        types: column -> string, int, float, decimal_comma (numbers such as 1.234,50), bool, date, timestamp (as
            it is written: local hours, whatever its UTC offset or zone), utc (the moment in UTC), or a format such as
            "%d/%m/%Y %H:%M".
            Other columns of CSV files are guessed from the first `infer_rows` rows of the first file; those of
            Parquet and Arrow files keep their types, except that text which would be dates or times in a CSV file
            is so here. A column is of times where 95 % of at least 20 cells are; the others are broken.
        separator: of CSV files; None: a tab in .tsv files, else a comma.
        missing: texts that stand for a missing value, beside the empty cell: of CSV files, and of text columns of
            other files where they become another type.
        infer_rows: rows that types are guessed from.
        on_bad_record: "raise" at the first broken row, or "skip" and list them (`builder.skipped`).
        max_rows: read only the first rows.
        roles: column -> "time", "amount" or "text", for columns that `types` does not name and whose cells are text.
            time: what most cells look like is what all of them must be. amount: a number. text: as it is written
            (yes/no columns become bool).
        required: columns in which every row must have a value.
        used: columns that are kept even if they look like pandas' row numbers.
        month_first: columns whose dates begin with the month where no cell decides (03/04/2024); others with the day.
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
    used: tuple[str, ...] = ()
    month_first: tuple[str, ...] = ()


class Table(CheckedBuilder):
    """A table of events over time; one split, `train`, with the rows in the order of the files.

    Rows, columns, classes, missing values and licence: those of the input. `hf_mmtab.data.windows.splits` cuts it.

    Example:
        >>> builder = Table("payments.csv", types={"booked_at": "%Y-%m-%d %H:%M", "account": "string"})
        >>> builder.download_and_prepare()
        >>> rows = builder.as_dataset(split="train")
        >>> left_out = builder.skipped  # under on_bad_record="skip": the broken rows, with file and line
    """

    BUILDER_CONFIG_CLASS = TableConfig
    VERSION = datasets.Version("1.0.0")
    REPORT = "skipped_rows.json"
    config: TableConfig
    BLOCK_BYTES = BLOCK_BYTES  # of a CSV file, read at once
    DEFAULT_WRITER_BATCH_SIZE = 262_144  # rows of a record batch: whole batches are encoded at once

    def __init__(self, data_root: str | os.PathLike, cache_dir: str | None = None, **kwargs: Any):
        root = place_of(data_root)
        self._files = table_files(root)
        self._bad = BadRecords(kwargs.get("on_bad_record", "raise"))
        # The cache of `datasets` follows the arguments, not the data: the hash makes it follow the files, and the rules
        # by which this version reads them: rules 7 bring the Parquet or Arrow files of a folder to one type.
        rules = 7 if len(self._files) > 1 and not is_csv(self._files[0]) else 6
        kwargs.setdefault("hash", f"{files_digest(self._files)}-{rules}")
        kwargs.setdefault("writer_batch_size", self.DEFAULT_WRITER_BATCH_SIZE)
        with plain_errors(str(root)):
            super().__init__(cache_dir=cache_dir, data_root=str(root), **kwargs)

    @property
    def _missing(self) -> tuple[str, ...]:
        """Texts that stand for a missing value; subclasses with a known schema override it."""
        return self.config.missing

    def _info(self) -> datasets.DatasetInfo:
        first = self._files[0]
        self._types: dict[str, pa.DataType] = {}
        if len(self._files) > 1 and not is_csv(first):
            told = self.config.types or {}
            self._types = joint_types(
                self._files, lambda name: self._is_read(name) and name not in told, self._keeps_bytes
            )
        sample_bytes = max(2**20, self.config.infer_rows * 200)
        with_bad_rows = BadRecords("skip")  # a row that is left out decides no type
        for first in self._files:
            sample = next(self._blocks(first, with_bad_rows, block_bytes=sample_bytes)).table
            if sample.num_rows:
                break
        sample = sample.slice(0, self.config.infer_rows)
        tell_alike(sample.column_names, [name for name in sample.column_names if self._is_read(name)], str(first))
        self._cells = self._cells_of(first, sample)
        nothing = self._cells.convert(TextBlock(sample.slice(0, 0), np.arange(0)), str(first), self._bad)
        features = self._features(datasets.Features.from_arrow_schema(nothing.schema))
        return datasets.DatasetInfo(description=self.__doc__ or "", features=features)

    def _features(self, features: datasets.Features) -> datasets.Features:
        """Return the types of the table's columns; subclasses change those that they know better."""
        return features

    def _require(self, path: Place, given: Sequence[str], needed: Iterable[str], what: str) -> None:
        """Raise a ValueError unless a file has the columns of a known table."""
        if absent := [name for name in needed if name not in given]:
            raise ValueError(
                f"Expected the columns of {what}, found no {absent} among {given} in {str(path)!r}."
                f"{near_names(absent, given)} Rename the columns, or use the `table` builder for another table."
            )

    def _cells_of(self, path: Place, sample: pa.Table) -> TableCells:
        """Return what the columns of the files become; subclasses with a known schema override it.

        Args:
            path: of the first file.
            sample: its first rows.

        Raises:
            ValueError: if `types` names a column that is absent, or an unknown type.
        """
        config = self.config
        types = {name: named_type(name, kind) for name, kind in (config.types or {}).items()}
        roles = dict(config.roles or {})
        if is_csv(path):
            types |= self._guesses(sample, types, roles)
            roles = {name: role for name, role in roles.items() if role != "time"}
        else:
            texts = [one.name for one in sample.schema if is_text(one.type) and self._is_read(one.name)]
            texts = [name for name in texts if roles.get(name) in (None, "time")]
            guesses = self._guesses(sample.select(texts), types, roles)
            types |= {name: kind for name, kind in guesses.items() if is_temporal(kind)}
        return TableCells(
            sample,
            types,
            roles,
            self._missing,
            missing_text=is_csv(path),
            required=config.required,
            month_first=config.month_first,
        )

    def _guesses(
        self, sample: pa.Table, types: Mapping[str, Any], roles: Mapping[str, str]
    ) -> dict[str, pl.DataType | str]:
        """Return the types of columns of text that are neither named nor text, see `cell_type`."""
        names = [name for name in sample.column_names if name not in types]
        cells = [without_missing(name, self._missing, strip=False) for name in names]
        frame = pl.DataFrame(sample.select(names)).select(cells)
        guesses: dict[str, pl.DataType | str] = {}
        found = guess_types(frame)
        dated = like_dates(frame.select(name for name, guess in found.items() if guess == pl.String))
        for name, guess in found.items():
            role = roles.get(name)
            if role == "time" and guess == pl.String:
                guess = guess_time(name, frame[name])
            if role in (None, "time") and guess == pl.String and self._is_read(name):
                guess = guess_mostly_times(name, frame[name])
            if name in dated and guess == pl.String and (dates := written_dates(frame[name])) is not None:
                # dates that contradict each other are an error where they order the rows, and text elsewhere
                guess = pl.Datetime("us") if dates.format is not None or role == "time" else guess
            if guess != pl.String and (role != "text" or guess == pl.Boolean):
                guesses[name] = GUESSED_INT if guess == pl.Int64 and role is None else guess
        return guesses

    def _is_read(self, name: str) -> bool:
        """Whether a column may become a field, as far as the plan says what is read."""
        return not self.config.used or name in self.config.used

    def _blocks(self, path: Place, bad: BadRecords, **csv_options: Any) -> Iterator[TextBlock]:
        """Yield the rows of a file, without the row numbers that pandas writes."""
        csv_options["missing"] = ["", *self._missing]
        for block in read_blocks(path, bad, self.config.separator, keeps_bytes=self._keeps_bytes, **csv_options):
            names = block.table.column_names
            dropped = [name for name in names if not name or (name in INDEX_COLUMNS and name not in self._named)]
            if dropped:
                _tell_unnamed(block.table, dropped, path)
            if dropped or self._types:
                block = TextBlock(with_types(block.table.drop_columns(dropped), self._types, path), block.lines)
            yield block

    @property
    def _named(self) -> set[str]:
        config = self.config
        return {*(config.types or {}), *(config.roles or {}), *config.required, *config.used}

    def _keeps_bytes(self, name: str) -> bool:
        """Whether a column stays bytes: a plan says what is read, and it is none of it."""
        return bool(self.config.used) and name not in self._named

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator(datasets.Split.TRAIN, gen_kwargs={"files": self._files})]

    def _generate_tables(self, files: list[Place]) -> Iterator[tuple[Any, pa.Table]]:
        bad = BadRecords(self._bad.policy)
        left = self.config.max_rows
        for file_number, path in enumerate(files):
            for number, table in enumerate(self.read(Piece(path), bad)):
                if left is not None:
                    table = table.slice(0, left)
                    left -= table.num_rows
                yield f"{file_number}-{number}", table
                if left == 0:
                    break
            if left == 0:
                break
        self._write_skipped(bad.records)

    def pieces(self, rows: int | None = None) -> list[Piece]:
        """Return what may be read apart, in the order of the rows: files, or row groups of about `rows` rows."""
        return [Piece(file) for file in self._files] if rows is None else pieces_of(self._files, rows)

    def read(self, piece: Piece, bad: BadRecords) -> Iterator[pa.Table]:
        """Yield the typed rows of a piece of the table; any process may, the builder can be pickled.

        Args:
            piece: one of `pieces`.
            bad: told about the broken rows.

        Raises:
            BadRecordError: at the first broken row, unless `bad` collects them.
            ValueError: if the file has other columns than the first, or cannot be read.
        """
        path, before, used = piece.file, bad.rows_read - len(bad.records), 0
        with plain_errors(str(path)):
            options = {"block_bytes": self.BLOCK_BYTES, "numbers": self._cells.numbers, "groups": piece.groups}
            for block in self._blocks(path, bad, **options):
                self._check_columns(path, block.table)
                table = self._cells.convert(block, str(path), bad)
                used += table.num_rows
                bad.check_count(before + used)
                yield self._as_features(path, table)

    def _check_columns(self, path: Place, table: pa.Table) -> None:
        names = set(table.column_names)
        if absent := [name for name in self._cells.names if name not in names]:
            raise ValueError(
                f"Expected the columns of the first file, {self._files[0].name!r}, found none called "
                f"{shorten(absent, 200)} in {str(path)!r}, but {shorten(table.column_names, 200)}."
                f"{near_names(absent, table.column_names)} Rename them, or take the file out of the folder."
            )

    def _as_features(self, path: Place, table: pa.Table) -> pa.Table:
        features = self.info.features
        assert features is not None
        try:
            return table.select(list(features)).cast(features.arrow_schema)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ValueError(
                f"Expected columns of the types of the first file, {self._files[0].name!r}, found other ones "
                f"({error}) in {str(path)!r}. Name what they are in `types`."
            ) from error

    @property
    def number_columns(self) -> list[str]:
        """Columns that `types` calls numbers with a fraction."""
        return [name for name, kind in (self.config.types or {}).items() if kind in ("float", "decimal_comma")]

    @property
    def month_first(self) -> list[str]:
        """Columns whose dates begin with the month: as a cell shows, or as `month_first` said."""
        return self._cells.month_first


def _tell_unnamed(table: pa.Table, names: list[str], path: Place) -> None:
    """Say that columns without a name are left out: row numbers, or values that need a name."""
    for name in names:
        cells = table[name].drop_null().slice(0, 1000)
        is_text = pa.types.is_string(cells.type)
        counts = pc.all(pc.match_substring_regex(cells, r"^\d+$")).as_py() if is_text else True
        if counts is False:
            logger.warning_once(
                f"Not read: a column of {str(path)!r} without a name ({name!r}), with values such as "
                f"{shorten(cells[0].as_py())}. To read it, give it a name."
            )
        else:
            logger.warning_once(f"Not read: {name!r}, the row numbers of a data frame.")

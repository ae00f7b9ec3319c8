"""A table's rows in shards: each history in one, its rows together and in order; fitted and encoded shard by shard.

Every step is a function of a piece of the table or of a shard, and leaves its result in a folder that all processes
see, so that an engine may run the steps anywhere, and again where a process was lost.
"""

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from transformers.utils import logging

from ...files import write_whole
from ..reading.library_errors import no_rows
from ..reading.records import BadRecord, BadRecords
from ..reading.table_files import Piece, is_csv
from ..table import Table
from ..windows.histories import BATCH_ROWS, CODE, EntityIndex, check_entity, late_places, times_of
from ..windows.label_columns import LabelColumns
from ..windows.repeated_rows import FACTOR, rows_alike
from ..windows.shard_files import LABEL, SPLIT, START, ShardWriter
from ..windows.time_split import TimeCounts, split_at
from .spilled_rows import append_rows, read_rows

logger = logging.get_logger(__name__)

SHARD_BYTES = 2**27  # of the table
COMPRESSION = 4  # of Parquet and gzip files, about
SHARD, ROW, TIME, REST = "#shard", "#row", "#time", "#rest"
OWN_NAMES = (SHARD, ROW, TIME, REST, SPLIT, LABEL, START, CODE)  # of columns in shards
PIECE_BITS = 40  # of a row's number until all pieces are counted: the piece, then the row in it


@dataclass
class PieceFacts:
    """What reading a piece of the table gave: rows read and used, broken ones left out, entities wanted."""

    used: int = 0
    read: int = 0
    skipped: list[BadRecord] = field(default_factory=list)
    entities: set[str] = field(default_factory=set)


@dataclass
class ShardFacts:
    """What is known of a shard once its rows are in order.

    Attributes:
        rows: of the shard.
        starts: first row of each history in it, int64.
        names: of the histories.
        first: number of the row with which each history first appears in the table.
        backward: rows that came after a later row of their history.
        times: how often each time occurs; None: the table has none.
        labels: what the labels of its rows are; None: it has none.
    """

    rows: int
    starts: np.ndarray
    names: pl.DataFrame
    first: np.ndarray
    backward: int
    times: TimeCounts | None
    labels: LabelColumns | None


@dataclass(frozen=True)
class Division:
    """How rows are divided into train, validation and test, and numbered.

    Args:
        kind: of the split.
        cuts: first times of validation and test, under "time".
        offsets: rows of the table before each piece, int64.
    """

    kind: str
    cuts: tuple[int, ...]
    offsets: np.ndarray

    def numbers(self, provisional: np.ndarray) -> np.ndarray:
        """Return the numbers of rows in the table."""
        return self.offsets[provisional >> PIECE_BITS] + (provisional & ((1 << PIECE_BITS) - 1))


@dataclass(frozen=True)
class TableShards:
    """The table, how it is divided into shards, and the folder of everything in between.

    Args:
        folder: that all processes see.
        table: reads the rows; it is not prepared.
        plan: of the columns.
        label: columns of the labels that the table has.
        count: of shards.
        entities: keep only rows whose first entity column is one of these; empty: all.
        with_values: keep the values of fields beside their ids. Rows then lie together by the first entity column
            alone, since statistics look at all histories of it (all cards of a user).
    """

    folder: Path
    table: Table
    plan: Any
    label: tuple[str, ...]
    count: int
    entities: tuple[str, ...] = ()
    with_values: bool = False

    def scatter(self, number: int, piece: Piece, policy: Any, most: int | None = None) -> Iterator[pa.Table]:
        """Yield the typed rows of a piece, with the shard that each belongs to as `#shard`.

        Args:
            number: of the piece.
            piece: of the table.
            policy: what is done about broken rows.
            most: rows to read at most; None: all.

        Raises:
            BadRecordError: at a broken row, unless the policy is to skip.
        """
        bad, facts = BadRecords(policy), PieceFacts()
        for rows in self.table.read(piece, bad):
            rows = rows.slice(0, None if most is None else most - facts.read)
            kept = self._wanted(rows, facts)
            numbers = np.arange(facts.used, facts.used + kept.num_rows) + (number << PIECE_BITS)
            yield self._columns(kept, facts.read).append_column(ROW, pa.array(numbers))
            facts.used += kept.num_rows
            facts.read += rows.num_rows
            if facts.read == most:
                break
        facts.skipped = bad.records
        self._write(f"piece-{number:06}", facts)

    def _wanted(self, rows: pa.Table, facts: PieceFacts) -> pa.Table:
        if not self.entities:
            return rows
        names = pl.Series(pl.from_arrow(rows[self.plan.entity[0]].cast(pa.string())))
        mask = names.is_in(self.entities)
        facts.entities |= set(names.filter(mask).unique())
        return rows.filter(mask.to_arrow())

    def _columns(self, rows: pa.Table, read: int) -> pa.Table:
        plan, names = self.plan, dict.fromkeys([*self.plan.columns, *self.label])
        if ours := [name for name in names if name in OWN_NAMES]:
            raise ValueError(
                f"Expected other columns than shards have themselves ({', '.join(OWN_NAMES)}), "
                f"found {', '.join(ours)}. Rename the column, or take its field out of the plan."
            )
        kept = rows.select(list(names))
        if plan.time is not None:
            times = times_of(rows[plan.time], plan.time, read, plan.time_unit)
            kept = kept.append_column(TIME, pa.array(times))
            rest = [one.name for one in rows.schema if one.name not in names and not pa.types.is_nested(one.type)]
            if rest:  # tells rows that are the same in all other columns from repeated ones
                hashes = pl.DataFrame(pl.from_arrow(rows.select(rest))).hash_rows()
                kept = kept.append_column(REST, hashes.to_arrow())
        keys = [pl.Series(name, pl.from_arrow(rows[name])) for name in plan.entity]
        for key in keys:
            check_entity(key, read)
        keys = keys[:1] if self.with_values else keys
        return kept.append_column(SHARD, pa.array(shard_of(keys, rows.num_rows, self.count)))

    def settle(self, number: int, rows: pa.Table, kept: bool = False) -> ShardFacts:
        """Put the rows of a shard in order, and write them.

        Args:
            number: of the shard.
            rows: all of them, in any order.
            kept: whether the shard's file holds them already.
        """
        given = rows[ROW].to_numpy()
        if (given[1:] < given[:-1]).any():
            rows, kept = rows.take(pa.array(np.argsort(given))), False
        index = EntityIndex(list(self.plan.entity))
        codes = index.codes(rows, 0)
        numbers = rows[ROW].to_numpy()
        has_time = self.plan.time is not None
        times = rows[TIME].to_numpy() if has_time else numbers
        order = np.argsort(codes, kind="stable") if (codes[1:] < codes[:-1]).any() else None
        backward = 0
        if self.plan.order == "time" and has_time:
            together = slice(None) if order is None else order
            backward = len(late_places(codes[together], times[together]))
            order = np.lexsort((times, codes)) if backward else order
        starts = np.flatnonzero(np.diff(codes if order is None else codes[order], prepend=-1))
        firsts = np.full(len(starts), np.iinfo(np.int64).max)
        np.minimum.at(firsts, codes, numbers)
        if order is not None:
            rows, kept = rows.take(pa.array(order)), False
        if not kept:
            append_rows(self.rows_file(number), rows, anew=True)
        labels = counts = None
        if self.label:
            labels = self.new_labels()
            labels.see(rows)
        if has_time:
            counts = TimeCounts()
            counts.add(times)
        names = index.names.drop(CODE, strict=False)
        facts = ShardFacts(rows.num_rows, starts, names, firsts, backward, counts, labels)
        self._write(f"shard-{number:06}", facts)
        return facts

    def new_labels(self) -> LabelColumns:
        """Return the label columns before any row was seen."""
        features = self.table.info.features
        assert features is not None
        return LabelColumns(features, self.label, self.table.number_columns)

    def recount(self, number: int, spans: Sequence[tuple[int, int]]) -> list[TimeCounts]:
        """Count the times of a shard within spans, see `fit_time_split`."""
        counted = [TimeCounts(low, high) for low, high in spans]
        times = self._rows(number, [TIME])[TIME].to_numpy()
        for counts in counted:
            counts.add(times)
        return counted

    def fit(self, numbers: Sequence[int], processor: Any, division: Division) -> Any:
        """Return what the training rows of some shards, one after another, taught."""
        whole: Any = None
        for number in numbers:
            training = self._divided(number, division)[2] == 0
            rows = self._rows(number, self.plan.columns)
            part = processor.fit_part(_batches(rows if training.all() else rows.filter(pa.array(training)))).close()
            whole = part if whole is None else whole.merge(part)
        return whole

    def encode(
        self,
        item: tuple[int, int],
        processor: Any,
        division: Division,
        labels: LabelColumns | None,
        writer: ShardWriter,
    ) -> dict[str, Any]:
        """Encode a shard and write it; return what `ShardWriter.finish` wants to know, and its `repeated` rows.

        Args:
            item: place of the shard among those that hold rows, which is its number in what is written, and its number.
            processor: fitted, or what its `bare` gives.
            division: of the rows.
            labels: what the labels of all rows are; None: they have none.
            writer: of the folder.
        """
        place, number = item
        rows = self._rows(number)
        times, numbers, split = self._divided(number, division)
        facts = self.facts(number)
        ids = pa.concat_tables(processor.encode_batches(_batches(rows.select(self.plan.columns)))).combine_chunks()
        codes = labels.codes(rows) if labels is not None else None
        values = rows.select(self.plan.value_columns).combine_chunks() if self.with_values else None
        told = writer.write(place, ids, times, split, facts.starts, facts.names, codes, numbers, values)
        told["repeated"] = self._repeated(rows, times, facts.starts, ids) if self.plan.time is not None else 0
        self._write(f"encoded-{place:06}", told)
        return told

    def _repeated(self, rows: pa.Table, times: np.ndarray, starts: np.ndarray, ids: pa.Table) -> int:
        gaps = [one.name for one in self.plan.fields if one.kind == "time_gap"]
        places = rows_alike(times, starts, [ids[name].to_numpy() for name in ids.column_names if name not in gaps])
        plain = [
            one.name for one in rows.schema if one.name not in (SHARD, ROW, TIME) and not pa.types.is_nested(one.type)
        ]
        frame = pl.DataFrame(pl.from_arrow(rows.select(plain).take(pa.array(places))))
        return len(frame) - len(frame.unique()) if len(frame) else 0

    def _divided(self, number: int, division: Division) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return time, number and split of each row of a shard."""
        has_time = self.plan.time is not None
        rows = self._rows(number, [ROW, TIME] if has_time else [ROW])
        numbers = division.numbers(rows[ROW].to_numpy())
        times = rows[TIME].to_numpy() if has_time else numbers
        if division.kind == "time":
            return times, numbers, split_at(times, division.cuts)
        if division.kind == "entity":
            starts = np.append(self.facts(number).starts, len(times))
            return times, numbers, np.repeat(np.load(self.splits_file(number)), np.diff(starts))
        return times, numbers, np.zeros(len(times), dtype=np.uint8)

    def typed_rows(self, number: int, offsets: np.ndarray) -> tuple[pa.Table, np.ndarray]:
        """Return the rows of a shard, with the columns of the plan, and their numbers in the table.

        Args:
            number: of the shard.
            offsets: rows of the table before each piece.
        """
        rows = self._rows(number, [*self.plan.columns, ROW])
        return rows.drop_columns([ROW]), Division("", (), offsets).numbers(rows[ROW].to_numpy())

    def _rows(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        return read_rows(self.rows_file(number), columns)

    def rows_file(self, number: int) -> Path:
        """Return where the typed rows of a shard lie."""
        return self.folder / f"rows-{number:06}.arrow"

    def splits_file(self, number: int) -> Path:
        """Return where the split of each history of a shard lies, under "entity"."""
        return self.folder / f"splits-{number:06}.npy"

    def facts(self, number: int) -> ShardFacts:
        """Return what `settle` found."""
        return self._read(f"shard-{number:06}")

    def pieces_read(self, count: int) -> list[PieceFacts]:
        """Return what `scatter` found in each of so many pieces, as far as they were read."""
        names = [f"piece-{number:06}" for number in range(count)]
        return [self._read(name) for name in names if (self.folder / name).is_file()]

    def rows_before(self, count: int, data: str) -> tuple[np.ndarray, list[BadRecord]]:
        """Return how many rows come before each of so many pieces, and in all, `(count + 1,)`, and the bad records.

        Args:
            count: of the pieces.
            data: what the table is called.

        Raises:
            ValueError: if there is no row.
        """
        read = self.pieces_read(count)
        offsets = np.cumsum([0, *(facts.used for facts in read)])
        skipped = [record for facts in read for record in facts.skipped]
        if not offsets[-1]:
            raise no_rows(data, skipped)
        return offsets, skipped

    def look_over(self, numbers: Sequence[int], rows: int) -> LabelColumns | None:
        """Return what the labels of all rows are; say how many rows came out of order.

        Args:
            numbers: of the shards that hold rows.
            rows: that were read.
        """
        found, backward = 0, 0
        labels = self.new_labels() if self.label else None
        for facts in map(self.facts, numbers):
            found, backward = found + facts.rows, backward + facts.backward
            if labels is not None and facts.labels is not None:
                labels.merge(facts.labels)
        if found != rows:
            raise RuntimeError(
                f"Expected the {rows:,} rows that were read in the shards, found {found:,}. This is a fault of "
                "hf_mmtab: please report it."
            )
        if backward:
            logger.warning(
                f"{backward} of {rows} rows come after a later row of the same history; the table is put in order by "
                "entity and time."
            )
        return labels

    def encoded(self, place: int) -> dict[str, Any] | None:
        """Return what `encode` returned in this or an earlier start; None: the shard is not encoded yet."""
        return self._read(f"encoded-{place:06}") if (self.folder / f"encoded-{place:06}").is_file() else None

    def _write(self, name: str, value: Any) -> None:
        write_whole(self.folder / name, pickle.dumps(value))

    def _read(self, name: str) -> Any:
        return pickle.loads((self.folder / name).read_bytes())


def count_shards(table: Table, plan: Any, workers: int, wanted: int | None = None) -> int:
    """Return how many shards a table is cut into: a few for each worker at least, one without entity columns."""
    sizes = [(file.stat().st_size, file) for file in (piece.file for piece in table.pieces())]
    size = sum(size * (1 if is_csv(file) and not file.name.endswith(".gz") else COMPRESSION) for size, file in sizes)
    count = wanted or max(workers, -(-size // SHARD_BYTES))
    return min(count, 65_535) if plan.entity else 1


def shard_of(keys: Sequence[pl.Series], rows: int, count: int) -> np.ndarray:
    """Return the shard of each row, `(rows,)` uint16: the same for a history on every machine and in every block.

    Args:
        keys: the entity columns, without missing values; none: the table is one history.
        rows: of the block.
        count: of shards.
    """
    mixed = np.zeros(rows, dtype=np.uint64)
    for key in keys:
        key = key.to_physical() if key.dtype == pl.Duration else key
        whole = key.dtype.is_integer() and key.dtype != pl.UInt64
        values = key.cast(pl.Int64).to_numpy() if whole else key.cast(pl.String).to_numpy().astype(object)
        # hashes of polars are not promised to be the same on another machine; these are
        mixed = mixed * FACTOR + pd.util.hash_array(values)
    return (mixed % np.uint64(count)).astype(np.uint16)


def _batches(rows: pa.Table) -> Iterator[pa.Table]:
    for first in range(0, max(1, rows.num_rows), BATCH_ROWS):
        yield rows.slice(first, BATCH_ROWS)

"""Statistics of all histories, of rows in shards: block of time after block of time, in memory that does not grow.

1. Rows go from their shard to a block of time, values as hashes. 2. For each field, what the rows before a block add to
the sums of each value. 3. Each block: the definitions of `features`, on its rows, those of the day before, and these
sums. 4. The results go back to the shards, in the order of their rows. Sums are exact (`FixedPoint`), so that they do
not depend on blocks or shards.
"""

import logging
import shutil
import tempfile
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ..data.shards.local_engine import LocalEngine
from ..data.shards.spilled_rows import append_rows, read_rows
from ..data.windows.shard_files import write_batch
from ..data.windows.sharded_rows import ShardedRows, read_arrays
from ..models.tabbert.processing.field_ids import FieldIds
from .columns import MISSING, TableColumns
from .earlier import FixedPoint
from .features import EVERYBODY, LABELS, LATELY, OF_ALL, STATE_SECONDS, USUAL, comparable_numbers, valued
from .old_labels import OldLabels
from .reading import read_columns, shard_columns
from .row_statistics import MOST_STATE_VALUES, RowStatistics

logger = logging.getLogger(__name__)

BLOCK_ROWS = 2**20
SAMPLED = 200_000  # times, from which blocks are cut
ROW, TIME, CODE = "#row", "#time", "#code"
VALUE, NUMBER, LABEL = "value ", "number ", "label "  # what columns begin with
ALWAYS = 2**64  # microseconds: before and after all times
LONGEST = int(max(STATE_SECONDS.values()) * 1e6)


@dataclass(frozen=True)
class OfAllHistories:
    """The steps, each a function of a shard, a field or a block, which leaves its result in a folder for the next.

    A worker holds a block with the day before it, a shard, or the sums of all values of one category.

    Args:
        starts: `(shards + 1,)` rows before each shard, and in all.
        times: gives the times of the rows of a shard, by its number.
        columns: gives the columns of a shard.
        folder: that all processes see; replaced.
        groups: those of `OF_ALL` that are wanted.
        labels: what is a label, for the group of labels.
        crowded: categories with too many values to speak of the state of each; None: those of the rows.
        cuts: first time of each block but the first; this and what follows comes from the steps before.
        categories: of which rows with one value are compared.
        digits: number or label → those of the largest one.
    """

    starts: np.ndarray
    times: Callable[[int], np.ndarray]
    columns: Callable[[int], TableColumns]
    folder: Path
    groups: tuple[str, ...]
    labels: OldLabels | None = None
    crowded: frozenset[str] | None = None
    cuts: tuple[int, ...] = ()
    categories: tuple[str, ...] = ()
    digits: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, rows: ShardedRows, fields: FieldIds, folder: Path, groups: tuple[str, ...], **more: Any
    ) -> "OfAllHistories":
        """Return the steps for rows that kept their values; `more`: `labels` and `crowded`."""
        columns = partial(shard_columns, rows, fields=fields, old_labels=more.get("labels"))
        return cls(rows.starts, partial(_times, rows), columns, folder, groups, **more)

    def run(self, engine: Any, files: Sequence[Path]) -> "OfAllHistories":
        """Go through the steps on an engine; write the statistics of each shard into its file."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        shards = range(len(self.starts) - 1)
        times = np.sort(np.concatenate(list(engine.map(self.sample, shards))))
        blocks = -(-int(self.starts[-1]) // BLOCK_ROWS)
        cuts = np.unique(times[len(times) * np.arange(1, blocks) // blocks])
        job = replace(self, cuts=tuple(cuts[cuts > times[0]].tolist()))
        met = list(engine.map(job.scatter, shards))
        values = {name: set().union(*(few[name] for _, few in met)) for name in met[0][1]}
        crowded = frozenset(name for name, some in values.items() if len(some) > MOST_STATE_VALUES)
        job = replace(
            job,
            crowded=crowded if self.crowded is None else self.crowded,
            categories=tuple(values),
            digits={name: max(digits[name] for digits, _ in met) for name in met[0][0]},
        )
        steps: list[tuple[Callable[[Any], None], Sequence[Any]]] = [
            (job.sum_up, job.sums),
            (job.make, range(len(job.cuts) + 1)),
            (job.gather, list(enumerate(files))),
        ]
        for step, items in steps:
            deque(engine.map(step, items), maxlen=0)
        shutil.rmtree(self.folder)
        return job

    def sample(self, shard: int) -> np.ndarray:
        """Return times at equal distances in a shard."""
        return np.array(self.times(shard)[:: -(-int(self.starts[-1]) // SAMPLED)])

    def scatter(self, shard: int) -> tuple[dict[str, int], dict[str, set[int]]]:
        """Bring the rows of a shard into blocks; return the digits of numbers, and some of the values of categories."""
        columns = self.columns(shard)
        numbers = {NUMBER + name: values for name, values in comparable_numbers(columns).items()}
        numbers |= {LABEL + name: values for name, values in columns.labels.items()}
        codes = {name: _hashed(columns.values[name], own) for name, own in valued(columns).items()}
        few = {name: set(np.unique(own)[: MOST_STATE_VALUES + 2].tolist()) - {MISSING} for name, own in codes.items()}
        rows = np.arange(*self.starts[shard : shard + 2])
        table = pa.table(
            {ROW: rows, TIME: columns.time, **{VALUE + name: own for name, own in codes.items()}, **numbers}
        )
        block = np.searchsorted(np.array(self.cuts, dtype=np.int64), columns.time, side="right")
        self._append(table, block, "block", shard)
        return {name: FixedPoint.of(values).digits for name, values in numbers.items()}, few

    # -- what rows before a block add

    @property
    def sums(self) -> list[tuple[str, str]]:
        """Groups and categories whose sums go beyond a block."""
        of_values = [(group, name) for group in self.groups if group != LATELY for name in self.categories]
        return of_values + [(LABELS, EVERYBODY)] * (LABELS in self.groups)

    def sum_up(self, item: tuple[str, str]) -> None:
        """Write for each block what all rows before it add to the sums of each of its values.

        Args:
            item: one of `sums`.
        """
        group, category = item
        summed, lag = self._summed(group), self._lag(group)
        met, sums = np.empty(0, dtype=np.int64), np.zeros((sum(map(self._width, summed)), 0), dtype=np.int64)
        for block in range(len(self.cuts) + 1):
            first, end = self._bounds(block)
            rows = self._between(first, end, category, *summed)
            wanted = np.unique(_codes(rows, category))
            before = {f"{i}": row for i, row in enumerate(_looked_up(wanted, met, sums))}
            append_rows(self._before_file(group, category, block), pa.table({CODE: wanted, **before}), anew=True)
            rows = self._between(first - lag, end - lag, category, *summed) if lag else rows
            codes = _codes(rows, category)
            order = np.argsort(codes, kind="stable")
            found, starts = np.unique(codes[order], return_index=True)
            fresh = found[~np.isin(found, met)]
            at = np.searchsorted(met, fresh)
            met, sums = np.insert(met, at, fresh), np.insert(sums, at, 0, axis=1)
            if len(found):
                words = [word[order] for name in summed for word in self._words(name, rows[name])]
                sums[:, np.searchsorted(met, found)] += np.stack([np.add.reduceat(word, starts) for word in words])

    def _words(self, name: str, values: np.ndarray) -> list[np.ndarray]:
        return [np.isfinite(values).astype(np.int64), *FixedPoint(self.digits[name]).words(values)]

    def _width(self, name: str) -> int:
        return 1 + self.digits[name]

    def _lag(self, group: str) -> int:
        return int(self.labels.lag * 1e6) if group == LABELS and self.labels is not None else 0

    def _summed(self, group: str) -> list[str]:
        return [name for name in self.digits if name.startswith(LABEL if group == LABELS else NUMBER)]

    def _before_file(self, group: str, category: str, block: int) -> Path:
        folder = self.folder / f"{group}-{[*self.categories, EVERYBODY].index(category)}"
        folder.mkdir(exist_ok=True)
        return folder / f"{block:06}.arrow"

    # -- the statistics of a block

    def make(self, block: int) -> None:
        """Make the statistics of the rows of a block, and bring them to their shards."""
        first, end = self._bounds(block)
        made = {ROW: _in_time(self._between(first, end))[ROW]}
        for group in self.groups:
            view = self._view(group, block)
            kept = (view.time >= first) & (view.time < end)
            for name, values in OF_ALL[group](view, view.numbers):
                exact = group == USUAL or name in view.labels  # statistics of each history are made of it
                made[f"{group}|{name}"] = values[kept].astype(np.float64 if exact else np.float32)
        shard = np.searchsorted(self.starts, made[ROW], side="right") - 1
        self._append(pa.table(made), shard, "shard", block)

    def _view(self, group: str, block: int) -> TableColumns:
        """Return the columns that a group reads, of the rows of a block and of those that it needs beside them."""
        (first, end), summed = self._bounds(block), self._summed(group)
        back = LONGEST if group == LATELY else self._lag(group)
        columns = [*self.categories, *summed]
        rows = self._between(first - back, end - back if group == LABELS else end, *columns)
        if group == LABELS:  # labels that come to be known in the time of the block
            own = self._between(max(first, end - back), end, *columns)
            rows = {name: np.concatenate([values, own[name]]) for name, values in rows.items()}
        rows = _in_time(rows)
        view = TableColumns({}, set(), {name: rows[name] for name in self.categories}, {}, {}, rows[TIME])
        view.crowded = self.crowded or frozenset()
        values = {name.split(" ", 1)[1]: rows[name] for name in summed}
        if group == LABELS:
            view.labels, view.label_lag = values, None if self.labels is None else self.labels.lag
        else:
            view.numbers = values
        for category in (category for one, category in self.sums if one == group):
            before = read_rows(self._before_file(group, category, block))
            sums = np.stack([column.to_numpy() for column in before.columns[1:]])
            sums = _looked_up(_codes(rows, category), before[CODE].to_numpy(), sums)
            parts = np.split(sums, np.cumsum([self._width(name) for name in summed])[:-1])
            view.before |= {(category, name): part for name, part in zip(values, parts, strict=True)}
        return view

    def _bounds(self, block: int) -> tuple[int, int]:
        bounds = [-ALWAYS, *self.cuts, ALWAYS]
        return bounds[block], bounds[block + 1]

    def _between(self, first: int, end: int, *columns: str) -> dict[str, np.ndarray]:
        """Return the rows of some time, with their categories, numbers and labels."""
        named = {name: VALUE + name if name in self.categories else name for name in columns if name != EVERYBODY}
        named = {ROW: ROW, TIME: TIME, **named}
        blocks = range(bisect_right(self.cuts, first), bisect_left(self.cuts, end) + 1)
        files = [file for block in blocks for file in self._files("block", block)]
        rows = pa.concat_tables([read_rows(file, list(named.values())) for file in files])
        time = rows[TIME].to_numpy()
        chosen = (time >= first) & (time < end)
        return {name: rows[column].to_numpy()[chosen] for name, column in named.items()}

    # -- from shards to blocks and back

    def _append(self, table: pa.Table, parts: np.ndarray, kind: str, source: int) -> None:
        """Write the rows of each part into a file of the part, one for each source."""
        order = np.argsort(parts, kind="stable")
        table, parts = table.take(pa.array(order)), parts[order]
        for first, end in pairwise([*np.flatnonzero(np.diff(parts, prepend=-1)), len(parts)]):
            folder = self.folder / f"{kind}-{parts[first]:06}"
            folder.mkdir(exist_ok=True)
            append_rows(folder / f"{source:06}.arrow", table.slice(first, end - first), anew=True)

    def _files(self, kind: str, part: int) -> list[Path]:
        return sorted((self.folder / f"{kind}-{part:06}").glob("??????.arrow"))

    def gather(self, item: tuple[int, Path]) -> None:
        """Put the statistics of the rows of a shard into their order.

        Args:
            item: number of the shard, and file to write.
        """
        shard, target = item
        files = self._files("shard", shard)
        some = files or [next(self.folder.glob("shard-*/??????.arrow"))]  # a shard may have no rows
        found = pa.concat_tables([read_rows(file) for file in some]).slice(0, None if files else 0)
        rows = found[ROW].to_numpy()
        order = np.argsort(rows)
        assert np.array_equal(rows[order], np.arange(*self.starts[shard : shard + 2]))
        arrays = [pa.array(column.to_numpy()[order]) for column in found.columns[1:]]
        write_batch(target, pa.RecordBatch.from_arrays(arrays, names=found.column_names[1:]))


def read_parts(
    table: Any, old_labels: OldLabels | None = None, fitted: RowStatistics | None = None
) -> Iterator[tuple[slice, TableColumns]]:
    """Yield the columns of a table piece by piece, and the rows that they are of: all at once, or shard by shard.

    Args:
        table: with `rows`, `processor`, and either shards that kept their values, or `dataset`.
        old_labels: see `read_columns`.
        fitted: what statistics are made of the columns; those of all histories are made here, where rows are in shards
            and `prepare` has not made them. None: the columns alone are wanted.
    """
    rows, fields = table.rows, table.processor.bare()
    if not isinstance(rows, ShardedRows):
        yield slice(0, len(rows)), read_columns(table.dataset, rows, fields, old_labels)
        return
    with tempfile.TemporaryDirectory(prefix="hf_mmtab-") as folder:
        groups = [group for group in OF_ALL if fitted is not None and group in fitted.groups and rows.num_shards > 1]
        left = [group for group in groups if fitted is not None and not _is_stored(rows, group, fitted)]
        if left and fitted is not None:
            logger.info(f"Statistics of all histories ({', '.join(left)}) of {len(rows):,} rows in shards")
            files = [Path(folder, f"{number:05}.arrow") for number in range(rows.num_shards)]
            more = {"labels": old_labels, "crowded": frozenset(fitted.crowded)}
            OfAllHistories.of(rows, fields, Path(folder, "steps"), tuple(left), **more).run(LocalEngine(), files)
        for number, (first, end) in enumerate(pairwise(rows.starts.tolist())):
            found = shard_columns(rows, number, fields, old_labels)
            if set(groups) - set(left):
                found.of_all |= rows.shard(number).of_all_histories
            if left:
                found.of_all |= read_arrays(files[number])
            yield slice(first, end), found


def _times(rows: ShardedRows, shard: int) -> np.ndarray:
    return rows.shard(shard).time


def _is_stored(rows: ShardedRows, group: str, fitted: RowStatistics) -> bool:
    """Whether statistics of a group lie beside the rows, for the same categories."""
    stored = rows.facts.get("of_all_histories") or {"groups": [], "crowded": []}
    return group in stored["groups"] and (group != LATELY or stored["crowded"] == sorted(fitted.crowded))


def _hashed(values: list[Any], codes: np.ndarray) -> np.ndarray:
    """Return hashes in place of codes, the same in all shards, `(rows,)` int64; missing ones stay so."""
    kind = object if values and isinstance(values[0], str) else None
    hashes = pd.util.hash_array(np.array(values, dtype=kind)).view(np.int64)
    return np.append(hashes, MISSING)[codes]  # the code of what is missing, -1, is the last place


def _codes(rows: dict[str, np.ndarray], category: str) -> np.ndarray:
    return np.zeros(len(rows[TIME]), dtype=np.int64) if category == EVERYBODY else rows[category]


def _looked_up(codes: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the values of codes, `(k, codes)`, 0 of unknown ones.

    Args:
        codes: any.
        known: `(n,)`, in their order.
        values: `(k, n)` of them.
    """
    place = np.searchsorted(known, codes)
    is_known = np.isin(codes, known)
    found = np.zeros((len(values), len(codes)), dtype=np.int64)
    found[:, is_known] = values[:, place[is_known]]
    return found


def _in_time(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    order = np.argsort(rows[TIME], kind="stable")
    return {name: values[order] for name, values in rows.items()}

"""What statistics of the past remember of the training rows, and the statistics of any table by that."""

import fnmatch
import math
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..models.tabbert.processing.text_numbers import spelled_numbers
from .columns import EXACT_FLOAT32, MISSING, TableColumns
from .features import GROUPS, OF_ORDERINGS, Feature, history_features, row_features
from .old_labels import OldLabels
from .saved_statistics import check_saved

MOST_NATIVE_VALUES = 255  # a category with more values enters as the frequency of its values
MOST_STATE_VALUES = 1000  # categories with more values have too few rows at a time to speak of a state
ROWS_AT_ONCE = 65_536

Choice = str | list[str]  # "auto", or names, patterns and groups


@dataclass
class RowStatistics:
    """Statistics of rows and of their past, the same for the table they were fitted on and for any later one.

    Exact over the whole history, unbinned, and from nothing later: a row's statistics change neither with later rows
    nor with rows of the same moment in other histories, nor with labels, except those that are `old_labels.lag` old.

    Args:
        rows: of training, in which values were counted.
        counts: category → `(value, count)` of each value of training, in their order.
        missing: category → rows of training without a value.
        numbered: categories that also enter as numbers.
        crowded: categories with too many values to speak of the state of each.
        names: of the chosen statistics, in the order of their columns.
        groups: that the chosen ones lie in.
        categorical: how many of the names, the first ones, are codes of categories.
        old_labels: labels that are statistics too; None: none are.
        orderings: orderings whose surprise is → rows of a window of their encoders.
        has_time: see `TableColumns`. Statistics of version 0.1 counted a row as a microsecond where there was no time.
    """

    rows: int
    counts: dict[str, list[tuple[Any, int]]]
    missing: dict[str, int]
    numbered: list[str]
    crowded: list[str]
    names: list[str]
    groups: list[str]
    categorical: int
    old_labels: OldLabels | None = None
    orderings: dict[str, int] = field(default_factory=dict)
    has_time: bool = True

    @classmethod
    def fit(
        cls, columns: TableColumns, training: np.ndarray, chosen: Choice = "auto", old_labels: OldLabels | None = None
    ) -> "RowStatistics":
        """Count the values of the training rows, and choose the statistics.

        Args:
            columns: of all rows.
            training: `(rows,)` mask of the training rows.
            chosen: "auto": all; or names, patterns of names (`user: *surprise*`) and groups (`GROUPS`).
            old_labels: that `columns` were read with.

        Raises:
            ValueError: if a pattern fits no statistic, or there is none.
        """
        return cls.fit_parts([(columns, training)], chosen, old_labels)

    @classmethod
    def fit_parts(
        cls,
        parts: Iterable[tuple[TableColumns, np.ndarray]],
        chosen: Choice = "auto",
        old_labels: OldLabels | None = None,
    ) -> "RowStatistics":
        """Count the values of the training rows part after part, and choose the statistics; see `fit`.

        Args:
            parts: at least one; columns of some rows, and the mask of the training rows.
        """
        found = cls(0, {}, {}, [], [], [], list(GROUPS), 0, old_labels)
        counts: dict[str, Counter] = defaultdict(Counter)
        numbered: dict[str, bool] = {}
        few = None
        for columns, training in parts:
            found.rows += int(training.sum())
            for name, own in columns.categories.items():
                met = np.bincount(own[training] + 1, minlength=int(own.max(initial=0)) + 2)
                values = columns.values.get(name) or range(len(met) - 1)
                found.missing[name] = found.missing.get(name, 0) + int(met[0])
                pairs = zip(values, met[1:].tolist(), strict=False)
                counts[name].update({value: count for value, count in pairs if count})
                if (present := training & (own != MISSING)).any():
                    numbers = columns.numbered.get(name)
                    are_numbers = numbers is not None and _are_exact(numbers[present])
                    numbered[name] = are_numbers and numbered.get(name, True)
            few = columns.take(np.arange(min(2, len(columns)))) if few is None else few
        assert few is not None
        found.has_time = few.has_time
        found.counts = {name: sorted(met.items()) for name, met in counts.items()}
        found.crowded = [
            name for name, met in counts.items() if name not in few.periods and len(met) > MOST_STATE_VALUES
        ]
        found.numbered = [name for name in found.missing if numbered.get(name)]
        known = list(found._probe(few))
        kept = known if chosen == "auto" else _matching(known, [chosen] if isinstance(chosen, str) else chosen)
        if not kept and not isinstance(chosen, str) and not chosen:
            raise ValueError(
                "Expected names, patterns or groups of statistics, or auto, found an empty list. Take `statistics` out."
            )
        if not kept and not few.has_time and chosen != "auto":
            raise ValueError(
                f"Expected statistics that a table without a time column has, found {chosen}. Name `time_column`, or "
                "other statistics."
            )
        if not kept:
            raise ValueError(
                "Expected fields to make statistics of, found no number, category or calendar part in the column plan. "
                "Add one."
            )
        found.groups = [group for group in GROUPS if group in {group for group, _ in kept}]
        found.names = [name for _, name in kept]
        found.categorical = sum(group == "category" for group, _ in kept)
        return found

    def _probe(self, columns: TableColumns) -> Iterator[tuple[str, str]]:
        """Yield group and name of every statistic: those of a table follow from its columns, not from its rows."""
        few = self.complete(columns)
        group_of = {name: group for group in GROUPS for name, _ in replace(self, groups=[group])._all(few)}
        for name, _ in self._all(few):
            yield group_of[name], name

    def complete(self, columns: TableColumns) -> TableColumns:
        """Return the columns with what training tells of their values: how frequent they were, and their codes."""
        shares, native = {}, {}
        for name, codes in columns.categories.items():
            values = columns.values.get(name) or range(int(codes.max(initial=0)) + 1)
            place = _places(values, [value for value, _ in self.counts[name]])
            met = np.array([count for _, count in self.counts[name]] + [0])[place]
            met = np.concatenate([[self.missing[name]], met])  # a value not met in training counts half a row
            shares[name] = np.maximum(met, 0.5)[codes + 1] / max(1, self.rows)
            if name not in columns.periods and 1 < len(self.counts[name]) <= MOST_NATIVE_VALUES:
                code = np.where(place < 0, np.nan, place)
                native[name] = np.concatenate([[np.nan], code])[codes + 1]
        none = np.full(len(columns), np.nan)
        numbered = {name: columns.numbered.get(name, none) for name in self.numbered if name in columns.categories}
        own: dict[str, Any] = {"crowded": frozenset(self.crowded), "label_lag": self.old_labels and self.old_labels.lag}
        own |= {"has_time": self.has_time, "numbered": numbered}
        return replace(columns, shares=shares, native=native, **own)

    def _all(self, columns: TableColumns) -> Iterator[Feature]:
        """Yield every statistic of the groups; the columns are complete."""
        if "category" in self.groups:
            yield from columns.native.items()
        past = history_features(columns, self.groups)
        ordered = columns.ordered.items() if OF_ORDERINGS in self.groups else ()
        yield from chain(row_features(columns) if "row" in self.groups else (), ordered, past)

    def features(self, columns: TableColumns) -> Iterator[Feature]:
        """Yield name and `(rows,)` values of each chosen statistic; a row without it has NaN."""
        wanted = set(self.names)
        yield from (made for made in self._all(self.complete(columns)) if made[0] in wanted)

    def table(self, columns: TableColumns, rows: np.ndarray | None = None) -> np.ndarray:
        """Return the chosen statistics, `(rows, statistics)` float32, in a file that goes with the process.

        Args:
            columns: of all rows of a table.
            rows: the places of those that are wanted; None: all.

        Raises:
            ValueError: if the table lacks a column that the statistics were fitted on.
        """
        made = ((name, values if rows is None else values[rows]) for name, values in self.features(columns))
        names, array = _in_file(made, len(columns) if rows is None else len(rows))
        if names != self.names:
            absent = sorted(set(self.names) - set(names))
            raise ValueError(
                f"Expected the {len(self.names)} statistics of training, found {len(names)}: without "
                f"{', '.join(absent[:3])}. Give a table with the columns and the types of the training table."
            )
        return array

    def table_of_parts(self, parts: Iterable[tuple[TableColumns, np.ndarray | None]]) -> np.ndarray:
        """Return what `table` gives for the columns and rows of each part, one part behind the other."""
        made = (self.table(columns, rows) for columns, rows in parts)
        first = next(made)
        if (second := next(made, None)) is None:
            return first
        rows = 0
        with tempfile.TemporaryFile() as file:
            for values in chain([first, second], made):
                file.write(np.ascontiguousarray(values).data)  # `tofile` keeps silent about a full disk
                rows += len(values)
            file.flush()
            return np.memmap(file, np.float32, mode="r", shape=(rows, len(self.names)))

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` reads, as JSON has it, which knows no infinite numbers: they are texts."""
        infinite = {math.inf: "inf", -math.inf: "-inf"}
        counts = {name: [[infinite.get(value, value), n] for value, n in pairs] for name, pairs in self.counts.items()}
        return {**vars(self), "counts": counts, "old_labels": self.old_labels and vars(self.old_labels)}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "RowStatistics":
        """Build statistics from what `to_dict` gave.

        Raises:
            ValueError: if a value is of another kind, as in a file that a person changed.
        """
        check_saved(saved)
        counts = {name: _as_counted(pairs) for name, pairs in saved["counts"].items()}
        old = saved.get("old_labels")
        return cls(**{**saved, "counts": counts, "old_labels": old and OldLabels(**old)})


def _matching(known: list[tuple[str, str]], patterns: Collection[str]) -> list[tuple[str, str]]:
    """Return the statistics that patterns or groups name, in their order.

    Raises:
        ValueError: if one of them fits none.
    """
    kept: set[tuple[str, str]] = set()
    for pattern in patterns:
        fits = {(group, name) for group, name in known if group == pattern or fnmatch.fnmatchcase(name, pattern)}
        if not fits and pattern not in GROUPS:
            raise ValueError(
                f"Expected statistics by group ({', '.join(GROUPS)}), name or pattern such as '*: surprise', found "
                f"{pattern!r}, which fits none. The first of {len(known)} are {', '.join(n for _, n in known[:5])}."
            )
        kept |= fits
    return [one for one in known if one in kept]


def _places(values: Iterable[Any], known: list[Any]) -> np.ndarray:
    """Return where each value stands among the known ones, -1 where it does not; 5, 5.0, "5" and "5.0" are one value.

    Texts are compared as numbers where all known ones spell numbers, as `CategoricalField` compares them.
    """
    as_text = any(isinstance(value, str) for value in known)
    place = {value: number for number, value in enumerate(known)}
    given = [_alike(value, as_text) for value in values]
    found = np.array([place.get(value, MISSING) for value in given], dtype=np.int64)
    if as_text and (new := np.flatnonzero(found == MISSING)).size:
        numbers = spelled_numbers(pa.array(map(str, known), pa.string()))
        if not numbers.null_count:
            spelled = spelled_numbers(pa.array([given[i] for i in new], pa.string()))
            found[new] = pc.fill_null(pc.index_in(spelled, value_set=numbers, skip_nulls=True), MISSING).to_numpy()
    return found


def _as_counted(pairs: list[list[Any]]) -> list[tuple[Any, int]]:
    """Return values and counts as they were before `RowStatistics.to_dict`: among numbers "inf" is one."""
    are_numbers = any(isinstance(value, float) for value, _ in pairs)
    return [(float(value) if are_numbers and value in ("inf", "-inf") else value, count) for value, count in pairs]


def _alike(value: Any, as_text: bool) -> Any:
    if as_text or not isinstance(value, str):
        return str(value) if as_text else value
    if re.fullmatch(r"-?(0|[1-9][0-9]*)", value):  # 007 is no 7, and 2**53 + 1 is no float
        return int(value)
    number = spelled_numbers(pa.array([value]))[0].as_py()
    return value if number is None else number


def _are_exact(numbers: np.ndarray) -> bool:
    """Whether all are numbers that 32 bits tell apart; infinite ones are."""
    return not np.isnan(numbers).any() and np.abs(numbers[np.isfinite(numbers)]).max(initial=0) < EXACT_FLOAT32


def _in_file(features: Iterable[Feature], rows: int) -> tuple[list[str], np.ndarray]:
    """Write features into a file without a name, and return their names and `(rows, features)` float32, mapped.

    They are made one after the other and read row by row: 24 million rows have some 14 GB of them, so they are turned
    in blocks.
    """
    names = []
    with tempfile.TemporaryFile() as made, tempfile.TemporaryFile() as turned:
        for name, column in features:
            names.append(name)
            with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
                made.write(np.ascontiguousarray(column, dtype=np.float32).data)
        made.flush()
        if not (rows and names):
            return names, np.empty((rows, len(names)), dtype=np.float32)
        by_feature = np.memmap(made, np.float32, mode="r", shape=(len(names), rows))
        for first in range(0, rows, ROWS_AT_ONCE):
            turned.write(np.ascontiguousarray(by_feature[:, first : first + ROWS_AT_ONCE].T).data)
        turned.flush()
        return names, np.memmap(turned, np.float32, mode="r", shape=(rows, len(names)))

"""Whose history a row belongs to, and how long ago that history's previous row was."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .column_plan import ColumnPlan
from .text_numbers import is_text
from .values import column, microseconds


def check_history(table: pa.Table, plan: ColumnPlan, number: int | None = None) -> None:
    """Raise a ValueError unless a table holds the rows of one entity, in the order of time.

    What the table has no column for is not checked.

    Args:
        table: one history.
        plan: names entity and time.
        number: of the table among several, for the message; None: there is but one.
    """
    where = "the table" if number is None else f"table {number}"
    present = [name for name in plan.entity if name in table.column_names]
    if present and table.num_rows and (entities := len(entity_codes(table, present)[1])) > 1:
        raise ValueError(
            f"Expected the rows of one entity ({', '.join(present)}), found {entities} in {where}. Give a "
            f"list of tables, one per entity: `processor(polars.DataFrame(rows).partition_by({present}))`."
        )
    if plan.order == "time" and plan.time is not None and plan.time in table.column_names:
        moments = column(table, plan.time)
        if moments.null_count or not (pa.types.is_temporal(moments.type) or pa.types.is_primitive(moments.type)):
            return  # whatever needs the time says so
        times = microseconds(moments)
        if len(back := np.flatnonzero(times[1:] < times[:-1])):
            raise ValueError(
                f"Expected rows in the order of {plan.time!r}, found row {int(back[0]) + 1} of {where}"
                f"{_owner(table, present)} before the row above it. Sort the table by that column."
            )


def _owner(table: pa.Table, entity: list[str]) -> str:
    """Return whose rows a table holds, in brackets; nothing without entity columns."""
    told = ", ".join(f"{name} {column(table, name)[0].as_py()!r}" for name in entity)
    return f" ({told})" if told else ""


def entity_codes(table: pa.Table, entity: list[str]) -> tuple[np.ndarray, list[tuple]]:
    """Number the entities of a table.

    Returns:
        The number of each row's entity, int64 `(rows,)`, and the values of the entity columns of each number.
    """
    values = [_of_simple_type(column(table, name)) for name in entity]
    begins = np.ones(table.num_rows, dtype=bool)  # rows of another entity than the row before: often few
    changes = [pc.fill_null(pc.not_equal(one[1:], one[:-1]), True) for one in values]
    begins[1:] = np.any([np.asarray(one) for one in changes], axis=0)
    starts = np.flatnonzero(begins)
    codes, keys = np.zeros(len(starts), dtype=np.int64), [()]
    for one in values:
        coded = one.take(pa.array(starts)).dictionary_encode("encode")
        names = coded.dictionary.to_pylist()
        pairs = codes * len(names) + coded.indices.to_numpy()
        unique, codes = np.unique(pairs, return_inverse=True)
        keys = [(*keys[pair // len(names)], names[pair % len(names)]) for pair in unique.tolist()]
    return np.repeat(codes, np.diff(np.append(starts, table.num_rows))), keys


def _of_simple_type(values: pa.Array) -> pa.Array:
    """Return whole numbers and booleans as they are, other values as text."""
    simple = pa.types.is_integer(values.type) or pa.types.is_boolean(values.type) or is_text(values.type)
    return values if simple else values.cast(pa.string())


class EntityHistory:
    """Follows entities through batches of rows and gives the time since each row's predecessor.

    Within a batch rows may come in any order. From batch to batch every entity's time must not go back.
    """

    def __init__(self, entity: tuple[str, ...], time: str) -> None:
        self.entity, self.time = list(entity), time
        self.numbers: dict[tuple, int] = {}  # of the entities, by the values of the entity columns
        self.first = np.empty(0, dtype=np.int64)  # microseconds, by number
        self.last = np.empty(0, dtype=np.int64)

    def gaps(self, table: pa.Table) -> np.ndarray:
        """Return seconds since the entity's previous row, shape `(rows,)`, NaN for an entity's first row.

        Raises:
            ValueError: if an entity or a time is missing, or an entity goes back in time between batches.
        """
        rows = table.num_rows
        if rows == 0:
            return np.empty(0)
        moments = column(table, self.time)
        if moments.null_count:
            at = int(np.flatnonzero(np.asarray(moments.is_null()))[0])
            raise ValueError(
                f"Column {self.time!r} orders the rows and is missing in {moments.null_count} rows of a batch"
                f" (first: row {at}). Fill or remove those rows."
            )
        times = microseconds(moments)
        codes = self._codes(table)
        same = codes[1:] == codes[:-1]
        runs = codes[np.flatnonzero(np.concatenate([[True], ~same]))]
        order = None
        if len(runs) != len(np.unique(runs)) or ((times[1:] < times[:-1]) & same).any():
            order = np.lexsort((times, codes))  # stable: equal times keep the file's order
            codes, times = codes[order], times[order]
            same = codes[1:] == codes[:-1]
        gaps = np.empty(rows)
        gaps[1:] = np.diff(times) / 1e6
        starts = np.flatnonzero(np.concatenate([[True], ~same]))
        ends = np.append(starts[1:], rows) - 1
        gaps[starts] = self._since_last_batch(codes[starts], times[starts], times[ends])
        if order is None:
            return gaps
        out = np.empty(rows)
        out[order] = gaps
        return out

    def _since_last_batch(self, codes: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        size = int(codes.max()) + 1
        if size > len(self.last):
            unset = np.full(size - len(self.last), np.iinfo(np.int64).min)
            self.first, self.last = np.append(self.first, unset), np.append(self.last, unset)
        known = self.last[codes] != np.iinfo(np.int64).min
        gap = np.where(known, (first - np.where(known, self.last[codes], 0)) / 1e6, np.nan)
        if (gap < 0).any():
            at = int(np.flatnonzero(gap < 0)[0])
            raise ValueError(
                f"The rows of {self._name(int(codes[at]))} go back in time between two batches (column"
                f" {self.time!r}). Sort the table by {', '.join([*self.entity, self.time])} first."
            )
        self.first[codes[~known]] = first[~known]
        self.last[codes] = last
        return gap

    def _codes(self, table: pa.Table) -> np.ndarray:
        for name in self.entity:
            missing = column(table, name).is_null(nan_is_null=True)
            if missing.true_count:
                raise ValueError(
                    f"Column {name!r} names the entity and is missing in {missing.true_count} rows of a"
                    f" batch (first: row {missing.index(True)}). Fill or remove those rows."
                )
        codes, keys = entity_codes(table, self.entity)
        return self._numbers(keys)[codes]

    def _numbers(self, keys: list[tuple]) -> np.ndarray:
        """Return the number of each entity; new ones get the next numbers."""
        known = next(iter(self.numbers), keys[0])
        for name, old, new in zip(self.entity, known, keys[0], strict=True):
            if type(old) is not type(new):
                raise ValueError(
                    f"Column {name!r} names the entity and changed from {type(old).__name__} ({old!r}) to "
                    f"{type(new).__name__} ({new!r}) between batches. Give the column one type when reading the table."
                )
        return np.array([self.numbers.setdefault(key, len(self.numbers)) for key in keys], dtype=np.int64)

    def _name(self, number: int) -> str:
        key = next(key for key, one in self.numbers.items() if one == number)
        return ", ".join(f"{name} {value!r}" for name, value in zip(self.entity, key, strict=True)) or "the table"

    def follow(self, later: "EntityHistory") -> np.ndarray:
        """Take in a part that comes after this one; return the gaps in seconds where an entity spans both.

        Raises:
            ValueError: if an entity's rows of `later` begin before its rows here end.
        """
        if not len(later.last):
            return np.empty(0)
        codes = self._numbers(list(later.numbers))
        gaps = self._since_last_batch(codes, later.first, later.last)
        return gaps[~np.isnan(gaps)]

    def state(self) -> dict[str, object]:
        """Return plain values from which `load_state` restores the same history."""
        columns = [list(values) for values in zip(*self.numbers, strict=True)]
        keys = dict(zip(self.entity, columns, strict=True)) if columns else None
        return {"keys": keys, "first": self.first.tolist(), "last": self.last.tolist()}

    def load_state(self, state: dict) -> None:
        """Restore what `state` described."""
        self.first, self.last = (np.array(state[k], dtype=np.int64) for k in ("first", "last"))
        keys = zip(*(state["keys"] or {}).values(), strict=True) if self.entity else [()] * min(1, len(self.last))
        self.numbers = {key: number for number, key in enumerate(keys)}

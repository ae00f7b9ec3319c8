"""Whose history a row belongs to, and how long ago that history's previous row was."""

import numpy as np
import polars as pl
import pyarrow as pa

from .columns_tabbert import ColumnPlan
from .values_tabbert import column, microseconds


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
    if present and table.num_rows:
        keys = pl.DataFrame({name: pl.Series(pl.from_arrow(column(table, name))) for name in present})
        if (found := keys.n_unique()) > 1:
            raise ValueError(
                f"Expected the rows of one entity ({', '.join(present)}), found {found} in {where}. Give a "
                f"list of tables, one per entity: `processor(polars.DataFrame(rows).partition_by({present}))`."
            )
    if plan.order == "time" and plan.time is not None and plan.time in table.column_names:
        moments = column(table, plan.time)
        if moments.null_count or not (
            pa.types.is_temporal(moments.type) or pa.types.is_primitive(moments.type)
        ):
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


class EntityHistory:
    """Follows entities through batches of rows and gives the time since each row's predecessor.

    Within a batch rows may come in any order. From batch to batch every entity's time must not go back.
    """

    def __init__(self, entity: tuple[str, ...], time: str) -> None:
        self.entity, self.time = list(entity), time
        self.keys: pl.DataFrame | None = None  # entity columns, code
        self.first = np.empty(0, dtype=np.int64)  # microseconds, by code
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
                f" {self.time!r}). Order the table by entity and time first:"
                " `hf_mmtab.data.table.in_order(...)`."
            )
        self.first[codes[~known]] = first[~known]
        self.last[codes] = last
        return gap

    def _codes(self, table: pa.Table) -> np.ndarray:
        if not self.entity:
            return np.zeros(table.num_rows, dtype=np.int64)
        keys = pl.DataFrame({name: pl.Series(pl.from_arrow(column(table, name))) for name in self.entity})
        for name in self.entity:
            if keys[name].null_count():
                at = int(keys[name].is_null().arg_true()[0])
                raise ValueError(
                    f"Column {name!r} names the entity and is missing in {keys[name].null_count()} rows of a"
                    f" batch (first: row {at}). Fill or remove those rows."
                )
        changes = np.zeros(len(keys), dtype=bool)
        changes[0] = True
        for name in self.entity:
            values = keys[name]
            changes[1:] |= (values.slice(1) != values.slice(0, len(values) - 1)).to_numpy()
        starts = np.flatnonzero(changes)
        runs = keys[starts]
        codes = self._lookup(runs)
        return np.repeat(codes, np.diff(np.append(starts, len(keys))))

    def _lookup(self, runs: pl.DataFrame) -> np.ndarray:
        if self.keys is None:
            self.keys = runs.clear().with_columns(pl.lit(0, dtype=pl.Int64).alias("#code"))
        found = runs.join(self.keys, on=self.entity, how="left", maintain_order="left")
        if found["#code"].null_count():
            fresh = found.filter(pl.col("#code").is_null()).select(self.entity).unique(maintain_order=True)
            numbered = fresh.with_columns(
                pl.int_range(pl.len(), dtype=pl.Int64).alias("#code") + len(self.keys)
            )
            self.keys = pl.concat([self.keys, numbered])
            found = runs.join(self.keys, on=self.entity, how="left", maintain_order="left")
        return found["#code"].to_numpy()

    def _name(self, code: int) -> str:
        if self.keys is None:
            return "the table"
        row = self.keys.row(code, named=True)
        return ", ".join(f"{name} {row[name]!r}" for name in self.entity)

    def follow(self, later: "EntityHistory") -> np.ndarray:
        """Take in a part that comes after this one; return the gaps in seconds where an entity spans both.

        Raises:
            ValueError: if an entity's rows of `later` begin before its rows here end.
        """
        if not len(later.last):
            return np.empty(0)
        if self.entity:
            assert later.keys is not None
            codes = self._lookup(later.keys.sort("#code").select(self.entity))
        else:
            codes = np.zeros(1, dtype=np.int64)
        gaps = self._since_last_batch(codes, later.first, later.last)
        return gaps[~np.isnan(gaps)]

    def state(self) -> dict[str, object]:
        """Return plain values from which `load_state` restores the same history."""
        keys = (
            self.keys.sort("#code").select(self.entity).to_dict(as_series=False)
            if self.keys is not None
            else None
        )
        types = [str(t) for t in self.keys.select(self.entity).dtypes] if self.keys is not None else None
        return {"keys": keys, "types": types, "first": self.first.tolist(), "last": self.last.tolist()}

    def load_state(self, state: dict) -> None:
        """Restore what `state` described."""
        self.first, self.last = (np.array(state[k], dtype=np.int64) for k in ("first", "last"))
        if state["keys"] is not None:
            types = {k: getattr(pl, t) for k, t in zip(state["keys"], state["types"], strict=True)}
            self.keys = pl.DataFrame(state["keys"], schema=types).with_columns(
                pl.int_range(pl.len(), dtype=pl.Int64).alias("#code")
            )

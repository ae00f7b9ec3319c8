"""Statistics of training rows: learned part by part, merged, saved, and finished into a processor."""

import json
import logging
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from .column_plan import ColumnPlan
from .entity_history import EntityHistory
from .field import Batch, Field
from .field_kinds import TimePartField, make_fields
from .refused_rows import absent_columns, refuse_doubled
from .text_numbers import is_text
from .values import as_table, column, in_unit

logger = logging.getLogger(__name__)

THREADS = min(8, os.cpu_count() or 1)
FEW_ROWS = 1_000  # that are encoded before threads have started


class TabBertStatistics:
    """What fitting learned from some of the rows; parts merge into what one pass over all rows would give.

    Counts of categories are exact. Quantiles are exact while a column has at most 262,144 different numbers, and
    within `QuantileSketch.error` beyond. Only `time_gap` fields depend on the order of parts: merge parts in the order
    of the rows; an entity's rows of a later part must not lie before those of an earlier one.
    """

    def __init__(self, plan: ColumnPlan) -> None:
        self.plan = plan
        self.rows = 0
        self.fields = make_fields(plan)
        self.history = new_history(plan)

    def add(self, rows: Any) -> None:
        """Learn from a batch of rows.

        Raises:
            ValueError: if a column is absent or holds what its field cannot read.
        """
        batch = read_batch(self.plan, rows, self.history)
        self.rows += batch.table.num_rows
        for_each_field(lambda field: field.learn(batch), self.fields, batch)

    def merge(self, later: "TabBertStatistics") -> "TabBertStatistics":
        """Add the part that follows this one; returns self.

        Raises:
            TypeError: if `later` is no such part.
            ValueError: if the plans differ, `later` is this part itself, or an entity's rows in it begin before they
                end here.
        """
        require_statistics(later, "merge(later)")
        if later is self:
            raise ValueError("Expected another part to merge, found this one: rows would count twice. Merge others.")
        if later.plan != self.plan:
            raise ValueError("Expected parts fitted with the same column plan, found two different plans.")
        self.rows += later.rows
        between = np.empty(0)
        if self.history is not None and later.history is not None:
            between = self.history.follow(later.history)
        for mine, theirs in zip(self.fields, later.fields, strict=True):
            mine.merge(theirs, between)
        return self

    def close(self) -> "TabBertStatistics":
        """Forget where entities ended, which no other part goes on with; returns self.

        Parts of whole histories merge then without a memory of all entities.
        """
        self.history = None
        return self

    def save(self, folder: str | Path) -> None:
        """Write `statistics.json` and `statistics.safetensors`, so that parts can be fitted on several machines."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        learned = [field.statistics() for field in self.fields]
        plain = {
            "plan": self.plan.to_dict(),
            "rows": self.rows,
            "fields": [one[0] for one in learned],
            "history": self.history.state() if self.history is not None else None,
        }
        arrays = join_arrays([one[1] for one in learned])
        save_file(arrays, Path(folder) / "statistics.safetensors")
        with open(Path(folder) / "statistics.json", "w", encoding="utf-8") as file:
            json.dump(plain, file, ensure_ascii=False, default=str)

    @classmethod
    def load(cls, folder: str | Path) -> "TabBertStatistics":
        """Read what `save` wrote."""
        with open(Path(folder) / "statistics.json", encoding="utf-8") as file:
            plain = json.load(file)
        arrays = load_file(Path(folder) / "statistics.safetensors")
        part = cls(ColumnPlan.from_dict(plain["plan"]))
        part.rows = plain["rows"]
        for number, (field, learned) in enumerate(zip(part.fields, plain["fields"], strict=True)):
            field.load_statistics(learned, arrays_of(number, arrays))
        if part.history is not None:
            part.history.load_state(plain["history"])
        return part


def require_statistics(given: Any, method: str) -> None:
    """Raise a TypeError unless something is what `fit_part` gives."""
    if not isinstance(given, TabBertStatistics):
        raise TypeError(
            f"Expected what `fit_part(rows)` gives (TabBertStatistics) in {method}, found {type(given).__name__}. Fit "
            "each part with `part = processor.fit_part(rows)`, merge them with `part.merge(later_part)`, and give the "
            "result to `processor.finish(part)`."
        )


def without_uncovered(plan: ColumnPlan, fields: list[Field]) -> tuple[ColumnPlan, list[Field]]:
    """Leave out the calendar fields that the plan keeps only if training goes through their whole cycle.

    Later rows would have values that no row of training had: all of them [UNK].
    """
    left_out = {}
    for field in fields:
        if field.plan.keep == "covered" and isinstance(field, TimePartField) and (absent := field.uncovered()):
            left_out[field.plan.name] = absent
    if not left_out or len(left_out) == len(fields):
        return plan, fields
    for name, absent in left_out.items():
        logger.warning(
            f"Field {name!r} is left out: the training rows have no {absent}, so it would be [UNK] in later rows. To "
            f"keep it: plan_edits (`--plan_edits '{{{name}: {{keep: always}}}}'`), or `keep: always` in the plan."
        )
    kept = plan.edit(fields=dict.fromkeys(left_out))
    return kept, [field for field in fields if field.plan.name not in left_out]


def new_history(plan: ColumnPlan) -> EntityHistory | None:
    """Return an empty memory of entities; None if no field of the plan reads the time between rows."""
    return EntityHistory(plan.entity, str(plan.time)) if plan.reads_gaps else None


def read_batch(plan: ColumnPlan, rows: Any, history: EntityHistory | None) -> Batch:
    """Return rows as a table that has the columns of the plan's fields, with the time between rows.

    Raises:
        TypeError: if `rows` is no table, or `history` none that `new_history` gave.
        ValueError: if a column is absent, or there twice.
    """
    if history is not None and not isinstance(history, EntityHistory):
        raise TypeError(
            f"Expected what `new_history()` gives as history, found {type(history).__name__}. Pass that, or None."
        )
    table = as_table(rows)
    needed = plan.columns if plan.reads_gaps else [str(plan.source(field)) for field in plan.fields]
    names = frozenset(table.column_names)
    absent = [name for name in needed if name not in names]
    if absent:
        raise ValueError(
            f"{absent_columns(absent, table.column_names)} Rename the table's columns, read it "
            "with the builder of training (as `CardTransactions`), or edit the plan."
        )
    refuse_doubled(name for name in table.column_names if name in needed)
    if plan.reads_gaps and is_text(table.schema.field(str(plan.time)).type):
        raise ValueError(
            f"Expected timestamps, dates or numbers in the time column {plan.time!r}, found text, such as "
            f"{column(table, str(plan.time))[0]}. Parse it first: `pandas.to_datetime(...)`, or in polars "
            "`str.to_datetime()`."
        )
    if plan.time_unit is not None and plan.time in needed:
        moments = in_unit(column(table, plan.time), plan.time_unit)
        table = table.set_column(table.column_names.index(plan.time), plan.time, moments)
    return Batch(table, history.gaps(table) if history is not None else None)


def for_each_field(work: Any, fields: Iterable[Field], batch: Batch) -> list:
    """Return `work(field)` of each field, of many rows on several threads."""
    if batch.table.num_rows < FEW_ROWS:
        return [work(field) for field in fields]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, fields))


def join_arrays(arrays: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the arrays of all fields under `number of the field.name`."""
    return {
        f"{number}.{name}": np.ascontiguousarray(values)
        for number, of_field in enumerate(arrays)
        for name, values in of_field.items()
    }


def arrays_of(number: int, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays of one field out of those of all; undoes `join_arrays`."""
    prefix = f"{number}."
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}

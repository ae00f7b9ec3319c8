"""The columns of a table as arrays, in the order of encoded rows: what statistics are made from."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from dataclasses import field as attribute
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..models.tabbert.processing.categorical_field import CategoricalField
from ..models.tabbert.processing.column_plan import TIME_PARTS, ColumnPlan
from ..models.tabbert.processing.field_ids import FieldIds
from ..models.tabbert.processing.text_numbers import is_text, parse_numbers
from ..models.tabbert.processing.values import categories, column, in_unit, microseconds, numbers, time_part
from .earlier import Moments
from .old_labels import OldLabels

MISSING = -1
EXACT_FLOAT32 = 2**24  # larger whole numbers are names, and float32 does not tell them apart


@dataclass
class TableColumns:
    """Values of all rows; row i is row i of `EncodedRows`.

    Args:
        numbers: field → `(rows,)` float64, NaN where missing; amounts as money reads them.
        logarithmic: those of `numbers` that are amounts, or that the plan takes the logarithm of.
        categories: field → `(rows,)` int64 codes, -1 where missing; every value of the table has its own, also those
            that the processor does not know. Spellings that the processor takes for one value have one.
        periods: those of `categories` that are calendar parts → how many there are (hours: 24); codes from 0.
        histories: `(rows,)` int64 codes of whose rows they are, one array for each leading part of the entity columns,
            the whole entity first: with entity (User, Card) those of the card and those of the user.
        time: `(rows,)` int64 microseconds (or numbers, where the table's time is one; without a time, row numbers).
        has_time: whether `time` are moments, and hours and days can be counted.
        money: those of `numbers` that are amounts.
        numbered: those of `categories` with numbers among their cells → `(rows,)` float64, NaN for all other cells.
        values: those of `categories` that are no calendar parts → the value of each code; absent: the code itself.
        shares: category → `(rows,)`, how frequent the row's value was in training; this and what follows comes from
            `RowStatistics.complete`.
        native: those of `categories` that enter as codes → `(rows,)` float64, NaN where training never met the value.
        crowded: those of `categories` that have too many values to speak of the state of each.
        labels: name of the target → `(rows,)` float64, 1 and 0 for a class, NaN where unknown; see `OldLabels`.
        ordered: how unexpected rows are in other orders, `(rows,)` each; see `commands.tables.orderings`.
        label_lag: seconds after which a label is known; None: labels are no statistic.
        of_all: "GROUP|NAME" → `(rows,)`, what was made of the rows of all histories, where these are some of them, see
            `of_all_histories`; this and what follows is for rows in shards.
        before: (category, number or target) → `(1 + words, rows)`, what rows that are not at hand add, see
            `Earlier.mean`.
    """

    numbers: dict[str, np.ndarray]
    logarithmic: set[str]
    categories: dict[str, np.ndarray]
    periods: dict[str, int]
    histories: dict[str, np.ndarray]
    time: np.ndarray
    has_time: bool = True
    money: list[str] = attribute(default_factory=list)
    numbered: dict[str, np.ndarray] = attribute(default_factory=dict)
    values: dict[str, list[Any]] = attribute(default_factory=dict)
    shares: dict[str, np.ndarray] = attribute(default_factory=dict)
    native: dict[str, np.ndarray] = attribute(default_factory=dict)
    crowded: frozenset[str] = frozenset()
    labels: dict[str, np.ndarray] = attribute(default_factory=dict)
    ordered: dict[str, np.ndarray] = attribute(default_factory=dict)
    label_lag: float | None = None
    of_all: dict[str, np.ndarray] = attribute(default_factory=dict)
    before: dict[tuple[str, str], np.ndarray] = attribute(default_factory=dict)

    def __len__(self) -> int:
        return len(self.time)

    @cached_property
    def moments(self) -> Moments:
        """The different times."""
        return Moments(self.time)

    def take(self, rows: np.ndarray) -> "TableColumns":
        """Return some of the rows."""
        by_row = ("numbers", "categories", "histories", "numbered", "shares", "native", "labels", "ordered", "of_all")
        taken: dict[str, Any] = {
            name: {key: values[rows] for key, values in getattr(self, name).items()} for name in by_row
        }
        return replace(self, time=self.time[rows], **taken)


def columns_of_history(table: pa.Table, fields: FieldIds, old_labels: OldLabels | None = None) -> TableColumns:
    """Read the rows of one history, the oldest first, as `read_columns` reads those of a table."""
    plan, one = fields.plan, np.zeros(table.num_rows, dtype=np.int64)
    names = ["/".join(plan.entity[:count]) for count in range(len(plan.entity), 0, -1)] or [""]
    time = moments(table, plan)
    found = columns_of(lambda name: column(table, name), fields, dict.fromkeys(names, one), time, None)
    if old_labels is not None:
        found.labels = old_labels.read(lambda name: column(table, name), table.column_names, table.num_rows)
    return found


def moments(table: pa.Table, plan: ColumnPlan) -> np.ndarray:
    """Return when the rows of a table happened, `(rows,)` microseconds; the row's number where the plan has no time."""
    if plan.time is None:
        return np.arange(table.num_rows)
    return microseconds(in_unit(column(table, plan.time), plan.time_unit))


def columns_of(
    read: Callable[[str], pa.Array],
    fields: FieldIds,
    histories: dict[str, np.ndarray],
    time: np.ndarray,
    order: np.ndarray | None,
) -> TableColumns:
    """Return the columns that a plan makes fields of.

    Args:
        read: gives a column of the table by its name.
        fields: the fitted processor, or its fields.
        histories, time: see `TableColumns`.
        order: the row of the table behind each row; None: the same.
    """
    plan = fields.plan
    found = TableColumns({}, set(), {}, {}, histories, time, plan.time is not None)
    taken: set[tuple[str, str]] = set()
    for one, field in zip(plan.fields, fields.fitted_fields, strict=True):
        source = str(plan.source(one))
        kind = "number" if one.kind in ("numeric", "money", "sign") else one.kind
        if kind == "time_gap" or (kind == "number" and (source, kind) in taken):
            continue
        taken.add((source, kind))
        array = read(source)
        array = in_unit(array, plan.time_unit) if source == plan.time else array
        if kind == "number":
            values = numbers(array, source)
            if one.kind == "money":
                found.money.append(one.name)
            if one.kind == "money" or one.transform.startswith("log"):
                found.logarithmic.add(one.name)
            found.numbers[one.name] = values if order is None else values[order]
            continue
        if kind == "time_part":
            codes = time_part(array, str(one.part), source).astype(np.int64)
            found.periods[one.name] = TIME_PARTS[str(one.part)]
        else:
            assert isinstance(field, CategoricalField)
            codes, found.values[one.name] = _category_codes(field, categories(array, one.fill))
            numbered = _numbers_in(array)
            if numbered is not None:
                found.numbered[one.name] = numbered if order is None else numbered[order]
        found.categories[one.name] = codes if order is None else codes[order]
    return found


def _numbers_in(array: pa.Array) -> np.ndarray | None:
    """Return the numbers that cells are, text too, `(rows,)` float64, NaN where they are none; None: all are none."""
    if is_text(array.type):
        coded = array.dictionary_encode()
        found = parse_numbers(coded.dictionary)
        return None if found.null_count == len(found) else _as_floats(found.take(coded.indices))
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
    return _as_floats(array) if any(of_kind(array.type) for of_kind in kinds) else None


def _as_floats(array: pa.Array) -> np.ndarray:
    return array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _category_codes(field: CategoricalField, values: pa.Array) -> tuple[np.ndarray, list[Any]]:
    """Number the different values of a category; see `value_codes`."""
    codes, written = value_codes(values)
    of_written, different = value_codes(field.one_spelling(pa.array(written, values.type)))
    return np.append(of_written, MISSING)[codes], different  # the code of what is missing, -1, is the last place


def value_codes(values: pa.Array) -> tuple[np.ndarray, list[Any]]:
    """Number the different values, `(rows,)` int64 in their order, -1 where missing; also return the value of each.

    Without threads, as all that a pipeline's workers run (see `models.tabbert.values`).
    """
    if pa.types.is_floating(values.type):
        values = pc.add(values, 0.0)  # -0.0 and 0.0 are one value
    coded = values.dictionary_encode()
    order = pc.sort_indices(coded.dictionary).to_numpy()
    rank = np.empty(len(order) + 1, dtype=np.int64)
    rank[order], rank[-1] = np.arange(len(order)), MISSING
    places = pc.fill_null(coded.indices, len(order)).to_numpy(zero_copy_only=False)
    return rank[places], coded.dictionary.take(pa.array(order)).to_pylist()

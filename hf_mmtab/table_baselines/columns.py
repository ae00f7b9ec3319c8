"""The columns of a table as arrays, in the order of encoded rows: what baselines make their features from."""

from dataclasses import dataclass, field

import datasets
import numpy as np
import polars as pl
import pyarrow as pa

from ..data.encoded_rows import EncodedRows
from ..data.histories import iter_tables
from ..models.tabbert.column_plan import TIME_PARTS, ColumnPlan
from ..models.tabbert.text_numbers import is_text
from ..models.tabbert.values import categories, column, in_unit, numbers, time_part
from .earlier import together

MISSING = -1
EXACT_FLOAT32 = 2**24  # larger whole numbers are names, and float32 does not tell them apart


@dataclass
class TableColumns:
    """Values of all rows; row i is row i of `EncodedRows`.

    Args:
        numbers: field → `(rows,)` float64, NaN where missing; amounts as money reads them.
        logarithmic: those of `numbers` that are amounts, or that the plan takes the logarithm of.
        categories: field → `(rows,)` int64 codes, -1 where missing; every value of the table has its own, also those
            that the processor does not know.
        periods: those of `categories` that are calendar parts → how many there are (hours: 24); codes from 0.
        histories: `(rows,)` int64 codes of whose rows they are, one array for each leading part of the entity columns,
            the whole entity first: with entity (User, Card) those of the card and those of the user.
        time: `(rows,)` int64 microseconds (or numbers, where the table's time is one).
        money: those of `numbers` that are amounts.
        numbered: those of `categories` that the table has as numbers → `(rows,)` float64, NaN where missing.
    """

    numbers: dict[str, np.ndarray]
    logarithmic: set[str]
    categories: dict[str, np.ndarray]
    periods: dict[str, int]
    histories: dict[str, np.ndarray]
    time: np.ndarray
    money: list[str] = field(default_factory=list)
    numbered: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.time)


def read_columns(dataset: datasets.Dataset, rows: EncodedRows, plan: ColumnPlan) -> TableColumns:
    """Read the columns that a plan makes fields of, as values and not as bins.

    Args:
        dataset: the typed rows that `rows` were encoded from.
        rows: for the order, the times and whose rows they are.
        plan: of the processor.

    Raises:
        ValueError: if `dataset` has another number of rows, or lacks a column.
    """
    if len(dataset) != len(rows):
        raise ValueError(
            f"Expected the {len(rows)} rows that were encoded, found a table of {len(dataset)}. Give the table that "
            "the processor encoded, with the same entities and max_rows."
        )
    order = None if rows.row_numbers is None else np.array(rows.row_numbers)
    found = TableColumns({}, set(), {}, {}, _histories(rows, plan), np.array(rows.time))
    sources = {one.name: plan.source(one) for one in plan.fields}
    taken: set[tuple[str, str]] = set()
    for one in plan.fields:
        source = str(sources[one.name])
        kind = "number" if one.kind in ("numeric", "money", "sign") else one.kind
        if kind == "time_gap" or (kind == "number" and (source, kind) in taken):
            continue
        taken.add((source, kind))
        parts = [column(table, source) for table in iter_tables(dataset, [source])]
        array = pa.concat_arrays(parts) if parts else pa.array([], type=pa.float64())
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
            codes = value_codes(categories(array, one.fill))
            numbered = _all_numbers(array)
            if (
                numbered is not None
                and np.abs(numbered[np.isfinite(numbered)]).max(initial=0) < EXACT_FLOAT32
            ):
                found.numbered[one.name] = numbered if order is None else numbered[order]
        found.categories[one.name] = codes if order is None else codes[order]
    return found


def _all_numbers(array: pa.Array) -> np.ndarray | None:
    """Return the numbers that all cells are, text too, `(rows,)` float64, NaN where missing; None: some are none."""
    if is_text(array.type):
        coded = array.dictionary_encode()
        try:
            array = coded.dictionary.cast(pa.float64()).take(coded.indices)
        except pa.ArrowInvalid:
            return None
    is_number = pa.types.is_integer(array.type) or pa.types.is_floating(array.type)
    return array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) if is_number else None


def value_codes(values: pa.Array) -> np.ndarray:
    """Number the different values, `(rows,)` int64 in their order; -1 where missing."""
    series = pl.Series(pl.from_arrow(values))
    codes = series.rank("dense").cast(pl.Int64) - 1 if len(series) else series.cast(pl.Int64)
    return codes.fill_null(MISSING).to_numpy().astype(np.int64)


def _histories(rows: EncodedRows, plan: ColumnPlan) -> dict[str, np.ndarray]:
    """Codes of the entity and of its leading parts; a table that is one history has one code."""
    number = np.zeros(len(rows), dtype=np.int64)
    number[rows.entity_starts[1:]] = 1
    number = np.cumsum(number)
    found = {"/".join(plan.entity): number}
    for count in range(len(plan.entity) - 1, 0, -1):
        leading = list(plan.entity[:count])
        codes = [value_codes(rows.entity_names[name].to_arrow()) for name in leading]
        found["/".join(leading)] = together(*codes)[number]
    return found

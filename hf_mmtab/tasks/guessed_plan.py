"""What a person must know of a column plan that was guessed: which column became what, and what looks wrong."""

import re
from typing import Any

import polars as pl
from transformers.utils import logging

from ..data.reading.cell_types import time_type
from ..data.reading.records import shorten
from ..models.tabbert.processing.column_plan import ColumnPlan
from ..models.tabbert.processing.plan_guess import checked_time_unit, time_unit

logger = logging.get_logger(__name__)

LABEL_NAMES = re.compile(
    r"(is[ _-]?)?(label|labels|target|class|y|outcome|fraud|fraudulent|anomaly|default|defaulted|churn|churned)[?]?",
    re.IGNORECASE,
)
TIME_COLUMNS = ("year", "month", "day", "hour", "minute", "second")
ENTITY_NAMES = re.compile(
    r"(.*[ _-])?(account|user|customer|client|card|person|member|device|entity|iban)s?([ _-]?(id|no|nr|number))?",
    re.IGNORECASE,
)
UNIT_NAMES = {
    "s": "numbers: seconds since 1970",
    "ms": "numbers: milliseconds since 1970",
    "us": "numbers: microseconds since 1970",
    "ns": "numbers: nanoseconds since 1970",
    "number": "plain numbers, in whose unit max_gap counts",
}


def describe_guess(plan: ColumnPlan) -> str:
    """Return which columns are entity, time, label and fields, a line for each role."""
    fields = ", ".join(f"{field.name} ({field.kind})" for field in plan.fields)
    unit = f" ({UNIT_NAMES[plan.time_unit]})" if plan.time_unit else ""
    return (
        f"  entity: {', '.join(plan.entity) or 'none'}\n  time: {plan.time or 'none'}{unit}\n"
        f"  label: {', '.join(plan.label) or 'none'}\n  fields: {fields}"
    )


def with_time_unit(plan: ColumnPlan, sample: Any) -> ColumnPlan:
    """Return a plan that says in which unit its time column of numbers is; guessed from the rows if it does not."""
    if plan.time is None or plan.time_unit is not None or plan.time not in sample.column_names:
        return plan
    unit = checked_time_unit(pl.Series(plan.time, pl.from_arrow(sample[plan.time])))
    if unit is not None:
        logger.info(f"Times of column {plan.time!r} are {UNIT_NAMES[unit]}. If not: `time_unit` in the plan.")
    return plan.edit(time_unit=unit)


def doubts(plan: ColumnPlan, sample: pl.DataFrame) -> list[str]:
    """Return what a guess may have got wrong, as sentences.

    Args:
        plan: that was guessed.
        sample: the rows that it was guessed from.
    """
    found = []
    schema = sample.schema  # polars builds it anew at each look
    columns = list(dict.fromkeys(field.column or field.name for field in plan.fields))
    written = _like_numbers(sample, [name for name in columns if schema[name] == pl.String])
    if not plan.entity:
        like = [
            f"{name} ({sample[name].n_unique():,} values)"
            for name in columns
            if ENTITY_NAMES.fullmatch(name) and 1 < sample[name].n_unique() < len(sample)
        ]
        looks = f" By its name it may be {' or '.join(like)}." if like else ""
        found.append(
            "No entity column: all rows are one history; name it with entity_columns (`--entity_columns COLUMN`), or "
            f"as `entity` in the plan.{looks}"
        )
    commas = [name for name in written if _has_decimal_commas(sample[name])]
    if commas:
        types = ", ".join(f"{name}: decimal_comma" for name in commas)
        found.append(
            f"Column {' and '.join(map(repr, commas))} looks like numbers with a decimal comma, and became text: if "
            f"so, read it with types (`--types '{{{types}}}'`)."
        )
    found += filter(None, (odd_cells(name, sample[name]) for name in written if name not in commas))
    parts = [name for name in columns if name.lower() in TIME_COLUMNS]
    if {"month", "day"} <= {name.lower() for name in parts}:
        found.append(
            f"Columns {', '.join(parts)} look like the parts of one time, and became fields of their own, whose later "
            "values (a new year) training never has. Join them into one column of timestamps, and name it with "
            "time_column; hour, weekday and gap are then made from it."
        )
    if plan.time is None:
        dated = [
            name
            for name, kind in schema.items()
            if kind in (pl.Datetime, pl.Date) or (kind.is_integer() and time_unit(sample[name]) not in (None, "number"))
        ]
        may_be = f" It may be {' or '.join(dated)}." if dated else ""
        found.append(
            "No time column: rows count in the order of the file; name it with time_column (`--time_column COLUMN`)."
            f"{may_be}"
        )
    if inputs := [name for name in columns if LABEL_NAMES.fullmatch(name)]:
        found.append(
            f"Column {' and '.join(map(repr, inputs))} looks like a label and is an input: a model that predicts it "
            f"would have read it. Name it with label_columns (`--label_columns {' '.join(inputs)}`), or as `label` in "
            "the plan."
        )
    elif not plan.label:
        found.append("No label column: if the table has one, name it with label_columns, or it becomes an input.")
    return found


def _like_numbers(sample: pl.DataFrame, names: list[str]) -> list[str]:
    """Return the text columns most of whose cells begin as numbers and times do."""
    shares = sample.select(pl.col(names).str.contains(r"^\s*[+-]?[.,]?\d").mean()) if names else None
    return [] if shares is None else [name for name in names if (shares[name][0] or 0) > 0.5]


def odd_cells(name: str, cells: pl.Series) -> str | None:
    """Return a sentence on a text column most of whose cells are numbers or times; None: they are not, or all are."""
    kind = time_type(name, cells)
    if kind is None:
        return None
    odd = cells.to_frame().with_row_index("row").filter(kind.values.is_null() & pl.col(name).is_not_null())
    if not len(odd) or len(odd) * 10 > len(cells):
        return None
    return (
        f"Column {name!r} became text: {len(odd):,} of {len(cells):,} cells are not {kind.expected}, such as "
        f"{shorten(odd[name][0])} in row {odd['row'][0] + 1}. Correct them, or name the type with types and leave them "
        "out with `--on_bad_record skip`."
    )


def _has_decimal_commas(values: pl.Series) -> bool:
    """Tell whether most texts are numbers such as 9,66 or 1.234,50."""
    present = values.drop_nulls()
    alike = present.str.contains(r"^\s*[+-]?(\d{1,3}(\.\d{3})+|\d+),\d{1,2}\s*$")
    return len(present) > 0 and 2 * int(alike.sum()) > len(present)

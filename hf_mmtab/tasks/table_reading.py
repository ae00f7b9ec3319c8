"""What a column plan says of a table before it is read: which columns are times and amounts, which have no gaps."""

from typing import Any, cast

import polars as pl

from ..arguments import TableDataArguments
from ..data.table import Table
from ..models.tabbert import TabBertProcessor
from ..models.tabbert.processing.column_plan import ColumnPlan
from ..models.tabbert.processing.plan_guess import only_time
from ..models.tabbert.processing.plan_presets import resolve_plan


def plan_options(arguments: TableDataArguments, preset: str | None, pretrained: str | None = None) -> dict[str, Any]:
    """Return `roles`, `required` and `month_first` for the builder, from the plan; of one to be guessed, what is named.

    Columns that name things (entities, categories) are text.

    Args:
        arguments: which table, and the plan if it is named.
        preset: of the task.
        pretrained: checkpoint whose processor has the plan.
    """
    processor = None if pretrained is None else TabBertProcessor.from_pretrained(pretrained)
    plan = _planned(arguments, preset) if processor is None else processor.plan
    if plan is None:
        entity, time = arguments.entity_columns, arguments.time_column
        named_time = [time] if time else []
        return {
            "required": tuple(dict.fromkeys([*entity, *named_time])),
            "roles": dict.fromkeys(entity, "text") | dict.fromkeys(named_time, "time"),
        }
    guessed = {*arguments.label_columns, *plan.label, *(processor.typed_columns() if processor else ())}
    roles = {name: role for name, role in plan.roles.items() if name not in guessed}
    return {"required": tuple(plan.required), "roles": roles, "month_first": plan.month_first}


def guessed_time(arguments: TableDataArguments, preset: str | None, pretrained: str | None, table: Table) -> str | None:
    """Return the column that a plan yet to be guessed will be ordered by; None: the plan or the recipe says it.

    Args:
        arguments: see `plan_options`.
        preset: of the task.
        pretrained: checkpoint whose processor has the plan.
        table: whose columns have their types by now.
    """
    if pretrained is not None or arguments.time_column is not None or _planned(arguments, preset) is not None:
        return None
    assert table.info.features is not None
    kinds = cast(pl.DataFrame, pl.from_arrow(table.info.features.arrow_schema.empty_table())).schema
    return only_time(kinds, arguments.label_columns)


def used_columns(arguments: TableDataArguments, preset: str | None, pretrained: str | None) -> tuple[str, ...]:
    """Return the columns that the plan reads, see `plan_options`; none of a plan yet to be guessed."""
    if pretrained is not None:
        return tuple(TabBertProcessor.from_pretrained(pretrained).plan.columns)
    plan = _planned(arguments, preset)
    return () if plan is None else tuple(plan.columns)


def named_plan(arguments: TableDataArguments, preset: str | None) -> ColumnPlan | None:
    """Return the plan that the recipe or the task names, without `plan_edits`; None: it is yet to be guessed."""
    given = arguments.plan if arguments.plan is not None else preset
    if given is None:
        return None
    named = {
        "entity": tuple(arguments.entity_columns),
        "time": arguments.time_column,
        "label": tuple(arguments.label_columns),
    }
    return resolve_plan(given).edit(**{role: value for role, value in named.items() if value})


def _planned(arguments: TableDataArguments, preset: str | None) -> ColumnPlan | None:
    """Return the plan that the recipe or the task names; None: it is yet to be guessed."""
    plan, edits = named_plan(arguments, preset), cast(dict[str, Any], arguments.plan_edits or {})
    if plan is None:
        return None
    names = {field.name for field in plan.fields}  # removing an absent one is refused where the plan is made
    return plan.edit(fields={name: edit for name, edit in edits.items() if edit is not None or name in names})

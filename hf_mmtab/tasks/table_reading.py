"""What a column plan says of a table before it is read: which columns are times and amounts, which have no gaps."""

from typing import Any, cast

from ..arguments import TableDataArguments
from ..models.tabbert import TabBertProcessor
from ..models.tabbert.column_plan import ColumnPlan
from ..models.tabbert.plan_presets import resolve_plan


def plan_options(
    arguments: TableDataArguments, preset: str | None, pretrained: str | None = None
) -> dict[str, Any]:
    """Return `roles` and `required` for the builder, from the plan; of a plan yet to be guessed, what is named.

    Args:
        arguments: which table, and the plan if it is named.
        preset: of the task.
        pretrained: checkpoint whose processor has the plan.
    """
    entity, time, label = arguments.entity_columns, arguments.time_column, arguments.label_columns
    given = arguments.plan if arguments.plan is not None else preset
    if pretrained is not None:
        plan = TabBertProcessor.from_pretrained(pretrained).plan
    elif given is not None:
        named = {"entity": tuple(entity), "time": time, "label": tuple(label)}
        plan = resolve_plan(given).edit(**{role: value for role, value in named.items() if value})
        plan = _edited(plan, cast(dict[str, Any], arguments.plan_edits or {}))
    else:
        named_time = [time] if time else []
        return {
            "required": tuple(dict.fromkeys([*entity, *named_time])),
            "roles": dict.fromkeys(named_time, "time"),
        }
    labels = {*label, *plan.label}
    roles = {name: role for name, role in plan.roles.items() if name not in labels}
    return {"required": tuple(plan.required), "roles": roles}


def _edited(plan: ColumnPlan, edits: dict[str, Any]) -> ColumnPlan:
    names = {field.name for field in plan.fields}  # removing an absent one is refused where the plan is made
    return plan.edit(fields={name: edit for name, edit in edits.items() if edit is not None or name in names})

"""Column plans with a name: those of the card and PRSA tables, ours and the paper's, each a YAML file in `plans`."""

import os
from pathlib import Path
from typing import Any

from .column_plan import ColumnPlan

# NOTE[DIFF] The default plan for card payments has no user id, but month, weekday, hour, the time since the payment
# before, and the sign of the amount. The original has the user's id and one timestamp of 10 global bins, which
# holds neither hour nor weekday nor the time between two payments; a refund is a payment of one dollar there.

# NOTE[DIFF] A missing measurement of PRSA is the field's [MISSING]; quantile bins come from the values that are
# there.
PLANS = Path(__file__).parent / "plans"


def resolve_plan(plan: "str | Path | dict[str, Any] | ColumnPlan") -> ColumnPlan:
    """Return the plan behind a preset's name (`card`, `paper_card`, `prsa`, `paper_prsa`), a YAML path or a
    dict.

    Raises:
        ValueError: if it is neither.
    """
    if isinstance(plan, ColumnPlan):
        return plan
    if isinstance(plan, dict):
        return ColumnPlan.from_dict(plan)
    if not isinstance(plan, str | os.PathLike):
        raise TypeError(f"Expected a column plan: a name, a YAML file, a dict or a ColumnPlan, found {plan!r:.80}.")
    known = {file.stem: file for file in sorted(PLANS.glob("*.yaml"))}
    file = known.get(str(plan), Path(plan))
    if file.is_file():
        return ColumnPlan.from_yaml(file)
    raise ValueError(
        f"Expected a column plan: one of {', '.join(known)}, a YAML file, or a dict; found {str(plan)!r}, "
        "which is neither a preset nor a file."
    )

"""What a head reads of each row, chosen on validation: states, surprise, statistics, or some of them."""

import glob
from typing import Any

from transformers import AutoConfig, set_seed
from transformers.utils import logging

from ...models.tabbert.processing.column_plan import ColumnPlan
from ...tasks.table_heads import AUTO, WITHOUT_ENCODER
from ...training.checkpoints import last_complete_checkpoint
from .choices import by_validation, keep_choice, kept_choice
from .folder import selected_by
from .trial import trained_trial

logger = logging.get_logger(__name__)

# Name → `row_inputs`; those that need statistics come last.
CANDIDATES = {
    "states": ["states"],
    "surprise": ["surprise"],
    "both": ["both"],
    "surprise and statistics": ["surprise", "statistics"],
    "states and numbers": ["states", "statistics"],
    "numbers": ["statistics"],
}
OF_SURPRISE = ("surprise", "both", "surprise and statistics")  # need an encoder pretrained with next_row
# Tried for regression: a state does not tell numbers of one bin apart.
OF_NUMBERS = ("states and numbers", "numbers")
OF_STATISTICS = tuple(name for name, inputs in CANDIDATES.items() if "statistics" in inputs)  # need the table's values
NUMBERS = ("numeric", "money", "sign")
MOST_ROWS = 5_000_000  # of a table whose statistics are tried unasked: they take 1 KB a row on disk


def choose_inputs(run: Any) -> dict[str, Any] | None:
    """Set `row_inputs` of a run's recipe where it is `auto`; return what the candidates came to on validation.

    Each candidate is a head trained as the recipe says, on the frozen encoder. Runs that share a folder share the
    choice of the first of them, and a resumed run keeps its own.

    Args:
        run: a `HeadRun` whose table is read.
    """
    recipe = run.recipe
    model, folder = recipe.model, recipe.folder
    if model.row_inputs != [AUTO]:
        return None
    if model.architecture in WITHOUT_ENCODER or model.pretrained is None:
        model.row_inputs = ["states"]
        return None
    choices = kept_choice(run, "row_inputs")
    checkpoint = last_complete_checkpoint(folder)
    given = model.statistics
    if (choice := choices.get(model.architecture)) is not None:
        _take(run, choice["chosen"], given)
        return choice
    if checkpoint is not None:
        before = AutoConfig.from_pretrained(checkpoint).row_inputs
        model.row_inputs = [before] if isinstance(before, str) else before
        return None
    config = AutoConfig.from_pretrained(model.pretrained)
    left_out: tuple[str, ...] = () if config.next_row else OF_SURPRISE
    has_none = not numbers_of(run.processor.plan)
    left_out += OF_NUMBERS if has_none or run.table.rows.label_names or config.flatten else ()
    left_out += () if run.table.has_values else OF_STATISTICS
    tried = [name for name in CANDIDATES if name not in left_out]
    if tried == ["states"]:
        model.row_inputs = ["states"]
        return None
    found: dict[str, float] = {}
    readable = any(field.kind != "time_gap" for field in run.processor.plan.fields)
    for name in sorted(tried, key="both".__ne__):  # the others find theirs in what is stored for both
        inputs = CANDIDATES[name]
        if "statistics" in inputs and (len(run.table.rows) > MOST_ROWS or not readable):
            logger.info(f"{name} is not tried: name it with row_inputs for a table of {len(run.table.rows):,} rows.")
            continue
        _take(run, name, given)
        run.read_beside()
        metric, more_is_better, found[name] = best_on_validation(run, inputs)
    found = {name: found[name] for name in tried if name in found}
    best = (max if more_is_better else min)(found, key=lambda name: found[name])
    _take(run, best, given)
    set_seed(recipe.training.seed)  # as if the choice had been written into the recipe
    choice = {"chosen": best, "metric": metric, "validation": found}
    keep_choice(run, "row_inputs", {**choices, model.architecture: choice})
    return choice


def _take(run: Any, name: str, statistics: list[str]) -> None:
    """Let a run read what a candidate reads; `statistics` are those of the recipe."""
    model = run.recipe.model
    model.row_inputs = CANDIDATES[name]
    own = numbers_of(run.processor.plan) if name in OF_NUMBERS and statistics == [AUTO] else None
    if model.architecture == "fusion":  # its trees read all statistics
        model.statistics, model.network_statistics = statistics, own or run.recipe.values.get("network_statistics")
    else:
        model.statistics = own or statistics
    run.processor.statistics = None  # what the previous candidate fitted


def numbers_of(plan: ColumnPlan) -> list[str]:
    """Return patterns of the statistics that are a row's own numbers, one for each column of numbers."""
    own = {plan.source(field): field.name for field in reversed(plan.fields) if field.kind in NUMBERS}
    return [glob.escape(name) for name in reversed(own.values())]


def best_on_validation(run: Any, inputs: list[str]) -> tuple[str, bool, float]:
    """Train the head on one kind of inputs; return the metric, whether more is better, and the best epoch's value."""
    model = run.recipe.model
    own = {"row_inputs": inputs, "statistics": model.statistics, "freeze": {"encoder": "forever"}}
    own |= {"auxiliary_next_row": 0.0, "network_statistics": model.network_statistics}
    with trained_trial(run, eval_strategy="epoch", **own) as (trial, trainer):
        metric, better = selected_by(trial.recipe.training, trial.selection)
        values = [log[f"eval_{metric}"] for log in trainer.state.log_history if f"eval_{metric}" in log]
    return metric, better, float((max if better else min)(values))


def inputs_note(choice: dict[str, Any] | None) -> list[str]:
    """Say which inputs were chosen and what each candidate came to on validation."""
    if choice is None:
        return []
    what = f"The head reads {choice['chosen']} of each row"
    return [f"{by_validation(what, choice)} To decide otherwise: row_inputs."]

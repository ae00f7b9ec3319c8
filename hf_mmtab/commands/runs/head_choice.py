"""Which head `architecture: auto` becomes: by the label and what is installed, and by validation."""

from typing import Any

from transformers.utils import logging

from ...metrics import scores_for
from ...models.tabbert.tree_files import import_lightgbm
from ...tasks.table_heads import AUTO
from .choices import by_validation, keep_choice, kept_choice
from .fusion import can_be_joined
from .head_inputs import MOST_ROWS, best_on_validation

logger = logging.get_logger(__name__)


def choose_architecture(run: Any) -> bool:
    """Set `architecture` of a run's recipe where it is `auto`.

    Without an encoder that is boosted, for two classes and for numbers fusion, which joins both, and for more classes
    or too few positive rows lstm.

    Args:
        run: a `HeadRun` whose table is read.

    Returns:
        Whether boosted trees may still be better, see `take_boosted_if_better`.
    """
    model = run.recipe.model
    if model.architecture != AUTO:
        return False
    if model.pretrained is None:
        model.architecture = "boosted"
    elif why := _against_trees(run):
        logger.warning(f"architecture: auto is lstm here; gradient boosting is not tried. {why}")
        model.architecture = "lstm"
    elif len(run.table.rows.label_names) in (0, 2) and can_be_joined(run):
        model.architecture = "fusion"
    else:
        model.architecture = "lstm"
        return True
    return False


def _against_trees(run: Any) -> str | None:
    """Return why boosted trees cannot be tried."""
    try:
        import_lightgbm()
    except ImportError as error:
        return str(error)
    if run.recipe.run.window_label == "any":
        return "A window with the label of any of its rows is judged as a whole."
    if run.recipe.training.world_size > 1:
        return "Trees are fitted by one process."
    if not run.table.has_values:
        return "The rows hold ids alone, and no statistics can be made of them: prepare them with `--keep_values true`."
    if (rows := len(run.table.rows)) > MOST_ROWS:
        return (
            f"Statistics of {rows:,} rows take some {rows >> 20} GB on disk; `architecture: fusion` or `boosted` "
            "computes them all the same."
        )
    return None


def take_boosted_if_better(run: Any, statistics: list[str]) -> list[str]:
    """Set `architecture` to boosted where trees are better than the LSTM on validation; return a note about it.

    Runs that share a folder, and a resumed run, take the choice of the first.

    Args:
        run: a `HeadRun` whose table is read and whose inputs are chosen.
        statistics: of the recipe; the LSTM may have chosen fewer.
    """
    model = run.recipe.model
    if not (choice := kept_choice(run, "architecture")):
        choice = _compared(run)
        keep_choice(run, "architecture", choice)
    model.architecture = choice["chosen"]
    if model.architecture == "boosted":
        run.inputs, model.statistics, run.processor.statistics = None, statistics, None  # the others are the LSTM's
    what = f"The head is {model.architecture}"
    return [f"{by_validation(what, choice)} To decide otherwise: architecture."]


def _compared(run: Any) -> dict[str, Any]:
    """Return which of the two heads is better on validation, and what both came to."""
    run.read_beside()
    metric, more_is_better, of_lstm = best_on_validation(run, run.recipe.model.row_inputs)
    found = run.boosted_on_validation()
    names = dict(enumerate(run.table.rows.label_names))
    kind = "single_label_classification"
    of_trees = scores_for(kind, found.labels, found.probabilities, names)[metric]
    chosen = "boosted" if (of_trees > of_lstm) == more_is_better else "lstm"
    return {"chosen": chosen, "metric": metric, "validation": {"lstm": of_lstm, "boosted": of_trees}}

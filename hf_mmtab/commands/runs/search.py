"""`search:` of a recipe: optuna tries values of keys, validation alone judges them, and the best train the run."""

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from transformers import set_seed
from transformers.utils import logging

from ...arguments import DataArguments, FinetuningArguments, ImageTextColumns
from ...extras import import_extra
from ...files import json_text, read_json, write_whole
from ...locking import draft_folder
from ...recipes import check_keys, field_types
from .folder import refuse_folder, select_by, selected_by
from .recipe import Recipe

logger = logging.get_logger(__name__)

AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)

SUFFIX = ".search.json"  # of a file beside output_dir: what was tried, and what it gave
WIDE = 10.0  # a range whose ends differ by more than this factor is searched on a logarithmic scale
# Keys by whose values trials would read other rows, be judged otherwise, or write elsewhere.
NOT_SEARCHED = {
    *field_types(DataArguments), *field_types(ImageTextColumns), *field_types(FinetuningArguments),
    "types", "separator", "missing", "rows", "simulate", "entities", "split", "split_fractions", "entity_columns",
    "time_column", "label_columns", "label_share", "window_label", "eval_stride", "problem_type", "recipe_rows",
    "ensemble_members", "ablation", "resample_by", "output_dir", "seed", "data_seed", "metric_for_best_model",
    "greater_is_better", "load_best_model_at_end", "resume_from_checkpoint", "push_to_hub", "report_to", "audit_plot",
} - {"soup"}  # fmt: skip
WITHOUT_GRADIENTS = ("boosted", "fusion", "auto", "ensemble")


def searched(recipe: AnyRecipe, run_type: Any) -> AnyRecipe:
    """Return the recipe with the best values that were found for the keys in `search`.

    The metric is the one that the run keeps its best checkpoint by, on validation; test rows are not looked at. What
    was tried stands beside `output_dir`; an interrupted search goes on after its last finished trial.

    Raises:
        BlockingIOError: if another process searches for this run.
        ModuleNotFoundError: without optuna.
        ValueError: if a key cannot be searched, or what was tried is of another search.
    """
    space = recipe.run.search
    if not space:
        return recipe
    optuna = import_extra("optuna", "`search`", "search")
    _check(recipe, space)
    run_type.check_metric(recipe)
    if recipe.training.process_index == 0:
        refuse_folder(recipe)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = recipe.folder.with_name(recipe.folder.name + SUFFIX).resolve()
    known, speaks = _earlier(path, space), recipe.training.process_index == 0
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=recipe.training.seed))  # minimises
    tried: list[dict[str, Any]] = []
    rank = recipe.training.process_index
    with draft_folder(path.with_name(f"{path.name}-{rank}") if rank else path) as shared:  # what trials have in common
        for number in range(recipe.run.search_trials):
            trial = study.ask()
            values = {key: _suggest(trial, key, wanted) for key, wanted in space.items()}
            found = known[number] if number < len(known) else None
            if found is None or found["values"] != values:
                metric, value, greater = _judge(recipe, run_type, values, shared)
                found = {"values": values, "metric": metric, "value": value, "greater_is_better": greater}
            study.tell(trial, -found["value"] if found["greater_is_better"] else found["value"])
            tried.append(found)
            if speaks:
                write_whole(path, json_text({"space": space, "trials": tried}, indent=1))
                logger.info(f"Trial {number + 1} of {recipe.run.search_trials}: {_told(found)}")
    sign = -1 if tried[0]["greater_is_better"] else 1
    best = min(tried, key=lambda one: sign * one["value"])
    logger.info(f"The best of {len(tried)} trials trains the run: {_told(best)}")
    return recipe.variant(recipe.shared, **best["values"])


def _check(recipe: Recipe, space: Mapping[str, Any]) -> None:
    """Raise a ValueError unless these keys can be searched; every end of a range and every choice must be a value."""
    if recipe.model.architecture in WITHOUT_GRADIENTS:
        raise ValueError(
            f"Expected an architecture that trains by gradients beside `search`, found {recipe.model.architecture!r}."
        )
    check_keys(space, {name for kind in recipe.types for name in field_types(kind)}, "search")
    for key, wanted in space.items():
        if key in NOT_SEARCHED:
            raise ValueError(
                f"Expected keys of the model and its training in `search`, found {key}: with other values of it trials "
                "would not be comparable. Take it out."
            )
        if not isinstance(wanted, list) or len(wanted) < 2:
            raise ValueError(f"Expected search.{key} to be [lowest, highest] or a list of choices, found {wanted!r}.")
        for value in wanted:
            try:
                recipe.variant(recipe.shared, **{key: value})
            except (ValueError, TypeError) as error:
                raise ValueError(f"Expected values of {key} in search.{key}, found {value!r}. {error}") from error


def _earlier(path: Path, space: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the trials of an interrupted or finished search.

    Raises:
        ValueError: if they are of another search.
    """
    found = read_json(path, "Delete it: the search then begins anew.")
    if path.exists() and not ("space" in found and isinstance(found.get("trials"), list)):
        raise ValueError(f"Expected the trials of a search in {str(path)!r}, found something else. Move it elsewhere.")
    if found and found["space"] != json.loads(json.dumps(space)):
        raise ValueError(
            f"Expected the trials of this search in {str(path)!r}, found those of another one ({found['space']}). "
            "Choose another output_dir, or delete the file."
        )
    return found.get("trials", [])


def _suggest(trial: Any, key: str, wanted: list[Any]) -> Any:
    """Return the value that a trial takes: two numbers are a range, anything else is a choice."""
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in wanted)
    if not numbers or len(wanted) != 2 or wanted[0] >= wanted[1]:
        return wanted[trial.suggest_int(key, 0, len(wanted) - 1)]
    low, high = wanted
    log = low > 0 and high / low > WIDE
    if all(isinstance(one, int) for one in wanted):
        return trial.suggest_int(key, low, high, log=log)
    return float(f"{trial.suggest_float(key, low, high, log=log):.4g}")


def _judge(recipe: Recipe, run_type: Any, values: Mapping[str, Any], shared: Path) -> tuple[str, float, bool]:
    """Train once with some values; return the metric, its best value on validation, and whether more is better."""
    with tempfile.TemporaryDirectory(dir=shared) as scratch:
        own = {"output_dir": scratch, "push_to_hub": False, "report_to": "none", "audit_plot": False}
        run = run_type(recipe.variant(shared, **values, **own))
        training = run.recipe.training
        set_seed(training.seed)
        model = run.prepare()
        metric, more = run.selection
        select_by(training, metric, more, known=run.known_metrics)
        trainer = run.new_trainer(model)
        run.adjust(trainer)
        trainer.train()
        named, greater = selected_by(training, run.selection)
        value = trainer.state.best_metric
        if value is None:
            value = trainer.evaluate()[f"eval_{named}"]
    worst = -math.inf if greater else math.inf
    return named, float(value) if math.isfinite(value) else worst, greater


def _told(found: Mapping[str, Any]) -> str:
    values = ", ".join(f"{key} {value}" for key, value in found["values"].items())
    return f"{found['metric']} {found['value']:.4f} on validation with {values}"

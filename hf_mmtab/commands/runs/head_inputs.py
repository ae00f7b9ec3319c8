"""What a head reads of each row, chosen on validation: the encoder's states, the surprise, or both."""

import json
import tempfile
from typing import Any

from transformers import AutoConfig, set_seed
from transformers.utils import logging

from ...files import write_whole
from ...training.checkpoints import last_complete_checkpoint
from .own_files import CACHE_FOLDER, TABLE_FOLDER

logger = logging.get_logger(__name__)

AUTO, CANDIDATES = "auto", ("states", "surprise", "both")
CHOICE_FILE = "row_inputs.json"


def choose_inputs(run: Any) -> dict[str, Any] | None:
    """Set `row_inputs` of a run's recipe where it is `auto`; return what the candidates came to on validation.

    Each candidate is a head trained as the recipe says, on the frozen encoder. Runs that share a folder share the
    choice of the first of them, and a resumed run keeps its own.

    Args:
        run: a `HeadRun` whose table is read.
    """
    recipe = run.recipe
    model, folder = recipe.model, recipe.folder
    if model.row_inputs != AUTO:
        return None
    if model.architecture == "raw_lstm" or model.pretrained is None:
        model.row_inputs = "states"
        return None
    file = recipe.shared_folder / TABLE_FOLDER / CHOICE_FILE
    choices = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    checkpoint = last_complete_checkpoint(folder)
    if (choice := choices.get(model.architecture)) is not None:
        model.row_inputs = choice["chosen"]
        return choice
    if checkpoint is not None:
        model.row_inputs = AutoConfig.from_pretrained(checkpoint).row_inputs
        return None
    if not AutoConfig.from_pretrained(model.pretrained).next_row:
        model.row_inputs = "states"
        return None
    found: dict[str, float] = {}
    for name in sorted(CANDIDATES, key="both".__ne__):  # the others find theirs in what is stored for both
        metric, more_is_better, found[name] = _best_on_validation(run, name)
    found = {name: found[name] for name in CANDIDATES}
    model.row_inputs = (max if more_is_better else min)(found, key=lambda name: found[name])
    set_seed(recipe.training.seed)  # as if the choice had been written into the recipe
    choice = {"chosen": model.row_inputs, "metric": metric, "validation": found}
    if recipe.training.process_index == 0:
        choices[model.architecture] = choice
        write_whole(file, json.dumps(choices, indent=1) + "\n")
    return choice


def _best_on_validation(run: Any, name: str) -> tuple[str, bool, float]:
    """Train the head on one kind of inputs; return the metric, whether more is better, and the best epoch's value."""
    recipe = run.recipe
    cache = recipe.training.feature_cache_dir or str((recipe.shared or recipe.folder) / CACHE_FOLDER)
    with tempfile.TemporaryDirectory(prefix="row-inputs-") as scratch:
        own: dict[str, Any] = {"row_inputs": name, "output_dir": scratch, "freeze": {"encoder": "forever"}}
        own |= {"eval_strategy": "epoch", "save_strategy": "no", "load_best_model_at_end": False}
        own |= {"early_stopping_patience": None, "audit": False, "push_to_hub": False, "report_to": "none"}
        trial = type(run)(recipe.variant(recipe.shared, **own), run.is_reference)
        trial.recipe.data.stride, trial.recipe.data.eval_stride = recipe.data.stride, recipe.data.eval_stride
        trial.recipe.training.feature_cache_dir = cache  # the run that follows reads the same features
        trial.table, trial.windows, trial.processor = run.table, run.windows, run.processor
        set_seed(recipe.training.seed)
        model = trial.start()
        training = trial.recipe.training
        trainer = trial.trainer_type(model=model, args=training, **trial.trainer_arguments(model))
        trial.adjust(trainer)
        trainer.train()
        metric = (training.metric_for_best_model or trial.selection[0]).removeprefix("eval_")
        values = [log[f"eval_{metric}"] for log in trainer.state.log_history if f"eval_{metric}" in log]
    better = bool(training.greater_is_better if training.metric_for_best_model else trial.selection[1])
    return metric, better, float((max if better else min)(values))


def inputs_note(choice: dict[str, Any] | None) -> list[str]:
    """Say which inputs were chosen and what each candidate came to on validation."""
    if choice is None:
        return []
    told = ", ".join(f"{name} {value:.3f}" for name, value in choice["validation"].items())
    return [
        f"The head reads {choice['chosen']} of each row, by {choice['metric']} on validation ({told}). To decide "
        "otherwise: row_inputs."
    ]

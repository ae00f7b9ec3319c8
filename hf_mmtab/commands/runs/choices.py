"""What validation chose for a key of the recipe: kept in the run's folder, and told in a sentence."""

import json
from pathlib import Path
from typing import Any

from ...files import json_text, write_whole
from .own_names import CHOSEN, TABLE_FOLDER


def _file_of(run: Any, key: str) -> Path:
    assert key in CHOSEN, key
    return run.recipe.shared_folder / TABLE_FOLDER / f"{key}.json"


def kept_choice(run: Any, key: str) -> dict[str, Any]:
    """Return what an earlier start, or a run that shares the folder, chose for a key; empty: nothing yet."""
    file = _file_of(run, key)
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def keep_choice(run: Any, key: str, choice: dict[str, Any]) -> None:
    """Write what was chosen for a key, for `kept_choice`."""
    if run.recipe.training.process_index == 0:
        write_whole(_file_of(run, key), json_text(choice, indent=1) + "\n")


def by_validation(what: str, choice: dict[str, Any]) -> str:
    """Say that something was chosen on validation, and the metric of each candidate there."""
    told = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in choice["validation"].items())
    return f"{what}, by {choice['metric']} on validation ({told})."

"""The freeze schedule as saved with a run, and which checkpoint of a killed run can be trusted."""

import json
import os
from pathlib import Path
from typing import Any

from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .freezing import FreezePlan, FreezeSchedule

SCHEDULE_NAME = "freeze_schedule.json"
TRAINER_STATE_NAME = "trainer_state.json"


def write_schedule(
    folder: str | os.PathLike, schedule: FreezeSchedule, parts: dict[str, tuple[str, ...]], plan: FreezePlan
) -> None:
    """Save the schedule with the module paths of all parts, for a person and for the checkpoint comparer."""
    content = {
        **schedule.to_dict(),
        "parts": {part: list(paths) for part, paths in parts.items()},
        "steps_per_epoch": plan.steps_per_epoch,
        "total_steps": plan.total_steps,
        "timeline": plan.timeline().splitlines() if plan.units else [],
    }
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str)
    (Path(folder) / SCHEDULE_NAME).write_text(text + "\n", encoding="utf-8")


def read_schedule(folder: str | os.PathLike | None) -> dict[str, Any]:
    """Return the schedule saved in a folder, without run facts; empty if there is none."""
    path = Path(folder or "") / SCHEDULE_NAME
    if folder is None or not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    return {key: content[key] for key in ("freeze", "gradual_unfreezing", "frozen_mode")}


def last_complete_checkpoint(output_dir: str | os.PathLike) -> str | None:
    """Return the newest checkpoint that was written to its end, None if there is none.

    A run that is killed while it saves leaves a folder without a readable `trainer_state.json`, which Trainer
    writes last.
    """
    folders = []
    for path in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        number = path.name.rpartition("-")[2]
        if number.isdigit() and _is_complete(path, int(number)):
            folders.append((int(number), str(path)))
    return max(folders)[1] if folders else None


def _is_complete(folder: Path, step: int) -> bool:
    """Return whether a checkpoint's last file is there and readable."""
    state = folder / TRAINER_STATE_NAME
    if not state.is_file():
        return False
    try:
        return TrainerState.load_from_json(str(state)).global_step == step
    except (json.JSONDecodeError, TypeError):
        return False

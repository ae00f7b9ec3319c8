"""The freeze schedule as saved with a run, and which checkpoint of a killed run can be trusted."""

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from ..files import read_json, write_whole
from .freezing import FreezePlan, FreezeSchedule

SCHEDULE_NAME = "freeze_schedule.json"
TRAINER_STATE_NAME = "trainer_state.json"
MANIFEST_NAME = "files.json"

logger = logging.get_logger(__name__)


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
    write_whole(Path(folder) / SCHEDULE_NAME, text + "\n")


def read_schedule(folder: str | os.PathLike | None) -> dict[str, Any]:
    """Return the schedule saved in a folder, without run facts; empty if there is none."""
    path = Path(folder or "") / SCHEDULE_NAME
    if folder is None or not path.is_file():
        return {}
    content = read_json(path, "Delete that file, or resume from another checkpoint.")
    return {key: content[key] for key in ("freeze", "gradual_unfreezing", "frozen_mode")}


def write_manifest(folder: str | os.PathLike) -> None:
    """Write `files.json` beside the files of a checkpoint: name → size and hash. It comes last."""
    folder = Path(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST_NAME)
    content = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "blake2b": file_digest(path)}
        for path in files
    }
    write_whole(folder / MANIFEST_NAME, json.dumps(content, indent=1))


def record_files(folder: str | os.PathLike) -> None:
    """Write the list of a checkpoint's files that a kill, or an earlier version, left out."""
    if not (Path(folder) / MANIFEST_NAME).is_file():
        write_manifest(folder)


def damaged_files(folder: str | os.PathLike) -> list[str]:
    """Return what is wrong with a checkpoint, as phrases that name the file; empty: it is whole.

    Checkpoints without `files.json`, of earlier versions or of a run that was killed while it saved, are whole if
    `trainer_state.json`, which Trainer writes last, is readable and belongs to them, and no other file is cut off.
    """
    folder = Path(folder)
    manifest = folder / MANIFEST_NAME
    if not manifest.is_file():
        return _cut_files(folder) if _has_state(folder) else [f"no readable {TRAINER_STATE_NAME}"]
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        wanted = {str(name): (facts["size"], facts["blake2b"]) for name, facts in content.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return [f"no readable {MANIFEST_NAME}"]
    problems = []
    for name, (size, digest) in wanted.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"no {name}")
        elif path.stat().st_size != size:
            problems.append(f"{path.stat().st_size:,} bytes of {name} in place of {size:,}")
        elif file_digest(path) != digest:
            problems.append(f"{name} changed since it was written")
    return problems


def refuse_files_in_place(output_dir: str | os.PathLike) -> None:
    """Raise a ValueError for a file where training will make the folder of a checkpoint."""
    for path in sorted(Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")):
        if path.name.rpartition("-")[2].isdigit() and not path.is_dir():
            raise ValueError(
                f"Expected {str(path)!r} to be the folder of a checkpoint, or not to be there, found a file. Move it "
                "elsewhere, or choose another output_dir."
            )


def last_complete_checkpoint(output_dir: str | os.PathLike) -> str | None:
    """Return the newest checkpoint that is whole, None if there is none; warns of newer ones that are damaged."""
    numbered = [
        (int(path.name.rpartition("-")[2]), path)
        for path in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        if path.name.rpartition("-")[2].isdigit() and path.is_dir()
    ]
    for _, path in sorted(numbered, reverse=True):
        problems = damaged_files(path) or _damaged_best(path)
        if not problems:
            return str(path)
        logger.warning(f"{path} is passed over: it is damaged ({'; '.join(problems[:3])}).")
    return None


def _damaged_best(folder: Path) -> list[str]:
    """Return what is wrong with the best checkpoint so far, whose weights the end of training loads."""
    best = TrainerState.load_from_json(str(folder / TRAINER_STATE_NAME)).best_model_checkpoint
    place = folder.parent / Path(best or folder).name
    if place == folder or not place.is_dir():
        return []
    return [f"{problem} in {place.name}, its best model" for problem in damaged_files(place)]


def _cut_files(folder: Path) -> list[str]:
    """Return which files are absent or cut off, as far as files tell whose sizes were not recorded."""
    has_optimizer = any(folder.glob("optimizer*")) or any(folder.glob("global_step*"))
    problems = [] if has_optimizer or not (folder / "scheduler.pt").is_file() else ["no optimizer.pt"]
    for file in sorted(folder.iterdir()):
        try:
            if file.suffix == ".safetensors":
                with safe_open(str(file), framework="pt"):
                    continue
        except (SafetensorError, OSError) as error:
            problems.append(f"{file.name} cannot be read ({error})")
        if file.suffix in (".pt", ".pth") and not zipfile.is_zipfile(file):
            problems.append(f"{file.name} is cut off")
    return problems


def file_digest(path: Path) -> str:
    """Return the hash of a file as lists of files have it."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _has_state(folder: Path) -> bool:
    state = folder / TRAINER_STATE_NAME
    if not state.is_file():
        return False
    try:
        return TrainerState.load_from_json(str(state)).global_step == int(folder.name.rpartition("-")[2])
    except (ValueError, TypeError):
        return False

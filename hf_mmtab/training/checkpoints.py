"""The freeze schedule as saved with a run, and which checkpoint of a killed run can be trusted."""

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from ..files import file_digest, json_text, read_json, write_whole
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
    text = json_text(content, indent=2, ensure_ascii=False, default=str)
    write_whole(Path(folder) / SCHEDULE_NAME, text + "\n")


def read_schedule(folder: str | os.PathLike | None) -> dict[str, Any]:
    """Return the schedule saved in a folder, without run facts; empty if there is none."""
    path = Path(folder or "") / SCHEDULE_NAME
    if folder is None or not path.is_file():
        return {}
    content = read_json(path, "Delete that file, or resume from another checkpoint.")
    return {key: content[key] for key in ("freeze", "gradual_unfreezing", "frozen_mode")}


def states_of(folder: str | os.PathLike) -> dict[Path, int]:
    """Return the files of a folder, but for the list of them, with the times of their last changes."""
    paths = (path for path in sorted(Path(folder).rglob("*")) if path.is_file() and not path.is_symlink())
    return {path: path.stat().st_mtime_ns for path in paths if path.name != MANIFEST_NAME}


def write_manifest(folder: str | os.PathLike, before: Mapping[Path, int] | None = None) -> None:
    """Write `files.json` beside the files of a checkpoint: name → size, hash and time. It comes last.

    Args:
        folder: of the checkpoint.
        before: what lay there, see `states_of`, before the checkpoint was written: files of others.
    """
    folder = Path(folder)
    files = {path: time for path, time in states_of(folder).items() if (before or {}).get(path) != time}
    content = {
        path.relative_to(folder).as_posix(): {
            "size": path.stat().st_size,
            "blake2b": file_digest(path),
            "mtime_ns": time,
        }
        for path, time in files.items()
    }
    write_whole(folder / MANIFEST_NAME, json_text(content, indent=1))


def numbered_checkpoints(output_dir: str | os.PathLike) -> list[Path]:
    """Return what is called like the folder of a checkpoint, by steps."""
    paths = Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    return sorted((path for path in paths if path.name.rpartition("-")[2].isdigit()), key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return the step after which a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])


def rotate_checkpoints(output_dir: str | os.PathLike, limit: int | None, best: str | None) -> None:
    """Remove the oldest checkpoints beyond a limit, but neither the last nor the best; files of others stay there.

    Trainer's own removes folders with all that lies in them. A checkpoint without a list of its files stays.
    """
    folders = [path for path in numbered_checkpoints(output_dir) if (path / MANIFEST_NAME).is_file()]
    kept = {path.name for path in (*folders[-1:], *([Path(best)] if best else []))}
    surplus = len(folders) - limit if limit and limit > 0 else 0
    for folder in [path for path in folders if path.name not in kept][: max(0, surplus)]:
        _remove_listed(folder)


def _remove_listed(folder: Path) -> None:
    """Remove the files that a checkpoint lists and nobody changed since, its list, and folders that are empty then."""
    manifest = folder / MANIFEST_NAME
    written = manifest.stat().st_mtime_ns
    content = read_json(manifest, "Delete that checkpoint's folder.")
    for path, time in states_of(folder).items():
        facts = content.get(path.relative_to(folder).as_posix())
        if facts is None:
            continue
        # a change under a clock that was set back has an earlier time; version 0.1 wrote none
        unchanged = time == facts["mtime_ns"] if "mtime_ns" in facts else time <= written
        if unchanged or file_digest(path) == facts["blake2b"]:
            path.unlink()
    manifest.unlink()
    for path in sorted((one for one in (folder, *folder.rglob("*")) if one.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()


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


def refuse_file(output_dir: str | os.PathLike | None) -> None:
    """Raise a ValueError for a file where training will make its folder, or a folder above it."""
    if output_dir is None:  # not known before the training
        return
    for path in (Path(output_dir), *Path(output_dir).parents):
        if path.exists() and not path.is_dir():
            raise ValueError(f"Expected a folder as output_dir, found a file at {str(path)!r}. Choose another one.")


def refuse_files_in_place(output_dir: str | os.PathLike) -> None:
    """Raise a ValueError for a file where training will make its folder or that of a checkpoint."""
    refuse_file(output_dir)
    for path in numbered_checkpoints(output_dir):
        if not path.is_dir():
            raise ValueError(
                f"Expected {str(path)!r} to be the folder of a checkpoint, or not to be there, found a file. Move it "
                "elsewhere, or choose another output_dir."
            )


def last_complete_checkpoint(output_dir: str | os.PathLike) -> str | None:
    """Return the newest checkpoint that is whole, None if there is none; warns of newer ones that are damaged."""
    for path in filter(Path.is_dir, reversed(numbered_checkpoints(output_dir))):
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
    if not any(folder.glob("*model*")) and not any(folder.glob("global_step*")):  # whole, of an adapter, or sharded
        problems.append("no weights")
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


def _has_state(folder: Path) -> bool:
    state = folder / TRAINER_STATE_NAME
    if not state.is_file():
        return False
    try:
        return TrainerState.load_from_json(str(state)).global_step == step_of(folder)
    except (ValueError, TypeError):
        return False

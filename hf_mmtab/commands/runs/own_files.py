"""Whether a folder holds a run, and its removal for a new start. Nothing that no run wrote is ever deleted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ...evaluation.run_results import RESULT_FILE
from ...files import read_json
from ...locking import LOCK_FILE
from ...recipes import read_recipe
from ...tasks.checkpoints import RECIPE_FILE
from .inventory import (
    INVENTORY_FILE,
    begin_inventory,
    foreign_names,
    foreign_sentence,
    has_inventory,
    has_results,
    own_names,
)
from .own_names import (
    CACHE_FOLDER,
    RECORDS,
    ROWS_DRAFT,
    RUN_OF_SEVERAL,
    TABLE_FOLDER,
    is_draft,
    is_own_name,
    places_of_runs,
)
from .reads import refuse_needed

logger = logging.get_logger(__name__)


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run of ours, finished or not, or several of one recipe.

    A recipe alone makes no run: there must be something that only a run writes.
    """
    if has_inventory(folder):
        return True
    record = folder / RECIPE_FILE
    if record.is_file():
        try:
            values = read_recipe(record)
        except ValueError:  # a damaged record beside what a run made is a run's
            values = {}
        return _is_earlier_run(folder) and (not values or "task" in values)
    inside = [path for path in folder.iterdir() if path.is_dir() and RUN_OF_SEVERAL.fullmatch(path.name)]
    return any(map(is_run, inside))


def _is_earlier_run(folder: Path) -> bool:
    """Whether there is what a version without inventories wrote: results, states of training, rows or features."""
    states = [folder / "trainer_state.json", *folder.glob("checkpoint-*/trainer_state.json")]
    kept = {folder / "freeze_schedule.json": "freeze", **dict.fromkeys(states, "global_step")}
    made = [folder / TABLE_FOLDER, *(folder / CACHE_FOLDER).glob("*-" + "[0-9a-f]" * 24)]
    rows = [*made[0].glob("rows/rows.json"), *made[0].glob("processor*/preprocessor_config.json")]
    return bool(rows or made[1:] or has_results(folder) or any(key in _content(f) for f, key in kept.items()))


def _content(file: Path) -> dict[str, Any]:
    try:
        return read_json(file, "")
    except ValueError:
        return {}


def remove_run(folder: Path, reads: Mapping[str, Path]) -> None:
    """Remove the files that a run made; its record, `recipe.yaml`, stays until the new run replaces it.

    Files of others stay where they are, and are named in the log. The results go first, so that a removal that is
    interrupted does not leave a run that looks finished.

    Args:
        folder: of the run.
        reads: key of the recipe → what the new run reads; none of it may lie in the folder.

    Raises:
        ValueError: if the folder is not a run's, holds what the run reads, or is or holds the working folder or home.
    """
    refuse_removal(folder, reads)
    own = own_names(folder)
    (folder / RESULT_FILE).unlink(missing_ok=True)
    begin_inventory(folder, (), removing=True)
    kept = _remove(folder, own)
    begin_inventory(folder)
    if kept:
        shown = ", ".join(kept[:5]) + (f" and {len(kept) - 5} more" if len(kept) > 5 else "")
        logger.warning(f"Files in {folder} that no run made are left there: {shown}")


def _remove(folder: Path, own: list[str]) -> list[str]:
    """Remove files, and folders that are empty then; return what is left, records and locks aside."""
    chosen, kept = set(own), []
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder comes before the folder
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            _remove_empty(path)
        elif path.name.startswith(LOCK_FILE) and not is_draft(name):
            continue  # held by this very process
        elif name in chosen:
            path.unlink()
        elif path.name not in (*RECORDS, INVENTORY_FILE):
            kept.append(name)
    return sorted(kept)


def remove_folder(folder: Path, name: str) -> None:
    """Remove the files that runs wrote into a folder of an output folder, and that folder if nothing else is in it.

    Args:
        folder: the output folder.
        name: of the folder in it, which may be absent.
    """
    if (folder / name).is_symlink():
        return
    for path in sorted((folder / name).rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            _remove_empty(path)
        elif is_own_name(path.relative_to(folder).as_posix()):
            path.unlink()
    _remove_empty(folder / name)


def remove_drafts(folder: Path) -> None:
    """Remove what a killed start left half-written; the folder is a run's, and locked meanwhile."""
    for path in sorted(folder.rglob("*"), reverse=True):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            if ROWS_DRAFT.fullmatch(name) or is_draft(name):
                _remove_empty(path)
        elif is_draft(name) or (ROWS_DRAFT.fullmatch(name.rpartition("/")[0]) and is_own_name(name)):
            path.unlink()


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def refuse_removal(folder: Path, reads: Mapping[str, Path]) -> None:
    """Raise a ValueError unless a folder may be emptied of a run; see `remove_run`."""
    for what, place in (("the working folder", Path.cwd()), ("your home folder", Path.home())):
        if any(folder.samefile(one) for one in (place.resolve(), *place.resolve().parents) if one.exists()):
            raise ValueError(
                f"Expected an output_dir in which --overwrite may replace a run, found {str(folder)!r}, which is or "
                f"holds {what}. Choose a folder for this run alone."
            )
    refuse_needed(folder, reads)
    if not is_run(folder):
        raise ValueError(
            f"Expected output_dir {str(folder)!r} to hold a run of this package, found other files. --overwrite "
            "replaces runs and nothing else: choose another output_dir, or remove the folder yourself."
        )
    if links := [path for path in places_of_runs(folder) if path.is_symlink() and path.is_dir()]:
        raise ValueError(
            f"Expected an output_dir in which --overwrite may replace a run, found that {str(links[0])!r} is a link to "
            "another folder, into which the run would write. Remove the link, or choose another output_dir."
        )
    refuse_foreign(folder)


def refuse_foreign(folder: Path, of_runs_inside: bool = True) -> None:
    """Raise a ValueError if files that a run would replace or remove are not as a run wrote them."""
    if foreign := foreign_names(folder, of_runs_inside):
        raise ValueError(foreign_sentence(folder, foreign))

"""Which files of an output folder a run made, and their removal for a new start. Nothing else is ever deleted."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ...data.image_text_files import SPLIT_ORDER
from ...evaluation.run_results import RESULT_FILE
from ...files import PARTIAL_SUFFIX
from ...locking import LOCK_FILE
from ...publishing.run_files import FIGURE_NAMES
from ...recipes import read_recipe
from ...tasks.checkpoints import RECIPE_FILE

logger = logging.get_logger(__name__)

# Trainer pushes no folder with such a name to the Hub
TABLE_FOLDER, CACHE_FOLDER = "_table", "_feature_cache"
COMPARISON_FILE = "comparison.md"

_MODEL = (
    r"config\.json|hf_mmtab_\w+\.py|model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json|processor_config\.json|"
    r"preprocessor_config\.json|tabbert_(arrays\.safetensors|(values|statistics)\.json)|tokenizer(_config)?\.json|"
    r"special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)|merges\.txt|spiece\.model|tokenizer\.model|"
    r"(statistics|fused)_trees_\d+\.txt|sentencepiece\.bpe\.model|training_args\.bin|trainer_state\.json|freeze_schedule\.json"
)
_RUN = (
    r"results\.json|README\.md|update_audit\.(jsonl|txt|png)|update_audit[\w.]*\.(part|tmp)|comparison\.md|"
    r"\.lock(\.owner)?|precision\.json|"
    rf"report/report(_public)?\.html|report/figures/({'|'.join(FIGURE_NAMES)})\.png|"
    rf"predictions/({'|'.join(SPLIT_ORDER)})\.parquet|runs/[^/]+/events\.out\.tfevents[^/]*"
)
_CHECKPOINT = (
    r"adapter_(config\.json|model\.safetensors)|optimizer\.(pt|bin)|scheduler\.pt|scaler\.pt|rng_state(_\d+)?\.pth|update_audit_\d+\.safetensors|"
    r"files\.json|precision\.json"
)
_TABLE = (
    r"row_inputs\.json|cards\.(csv|part)|rows(\.\d+\.part)?/(field\d+\.bin|(time|split|entity_starts|labels|row_numbers)\.bin|"
    rf"entities\.arrow|rows\.json)|processor(\.part)?/({_MODEL})"
)
_CACHE = (
    r"[^/]+-[0-9a-f]{24}(\.[0-9a-f]{32}\.tmp)?/"
    r"(data-\d+\.bin|share-\d+\.(npy|json)|index\.npy|(meta|keys|pieces)\.json)"
)
_SCRATCH = r"rows-[a-z0-9_]{8}"  # of `tempfile`, while rows are brought into order
_OWN = re.compile(
    rf"(?:{_MODEL}|{_RUN}|checkpoint-\d+/(?:{_MODEL}|{_CHECKPOINT}|README\.md)|"
    rf"checkpoint-\d+/(?:optimizer_\d+|pytorch_model_fsdp_\d+)/(?:__\d+_\d+\.distcp|\.metadata)|"
    rf"{TABLE_FOLDER}/(?:{_TABLE}|{_SCRATCH}/.*)|{CACHE_FOLDER}/(?:{_CACHE}))"
)
_ROWS_DRAFT = re.compile(rf"{TABLE_FOLDER}/(rows\.\d+\.part|{_SCRATCH}(/.*)?)")
_DRAFT = re.compile(rf"((?:.*/)?)\.([^/]+){re.escape(PARTIAL_SUFFIX)}")
_RUN_OF_SEVERAL = re.compile(r"\w+-seed\d+")
_MARKS = (
    RESULT_FILE,
    "freeze_schedule.json",
    "trainer_state.json",
    TABLE_FOLDER,
    CACHE_FOLDER,
    COMPARISON_FILE,
)


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run of ours, finished or not, or several of one recipe."""
    record = folder / RECIPE_FILE
    if record.is_file():
        try:
            values = read_recipe(record)
        except ValueError:
            values = {}
        if any((folder / name).exists() for name in _MARKS) or any(folder.glob("checkpoint-*")):
            return not values or "task" in values  # a damaged record beside what a run made is a run's
        return "task" in values and Path(str(values.get("output_dir"))).name == folder.resolve().name
    inside = [path for path in folder.iterdir() if path.is_dir() and _RUN_OF_SEVERAL.fullmatch(path.name)]
    return any(map(is_run, inside))


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
    (folder / RESULT_FILE).unlink(missing_ok=True)
    kept = []
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder comes before the folder
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            _remove_empty(path)
        elif Path(name).name.startswith(LOCK_FILE):
            continue  # held by this very process
        elif _is_own(name):
            path.unlink()
        elif Path(name).name not in (RECIPE_FILE, "column_plan.yaml"):
            kept.append(name)
    if kept:
        shown = ", ".join(sorted(kept)[:5]) + (f" and {len(kept) - 5} more" if len(kept) > 5 else "")
        logger.warning(f"Files in {folder} that no run made are left there: {shown}")


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
        elif _is_own(path.relative_to(folder).as_posix()):
            path.unlink()
    _remove_empty(folder / name)


def remove_drafts(folder: Path) -> None:
    """Remove what a killed start left half-written; the folder is locked meanwhile."""
    for path in sorted(folder.rglob("*"), reverse=True):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            if _ROWS_DRAFT.fullmatch(name):
                _remove_empty(path)
        elif (_DRAFT.fullmatch(name) or _ROWS_DRAFT.fullmatch(name.rpartition("/")[0])) and _is_own(name):
            path.unlink()


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _is_own(name: str) -> bool:
    if draft := _DRAFT.fullmatch(name):
        return draft[2] == RECIPE_FILE or _is_own(draft[1] + draft[2])
    first, _, rest = name.partition("/")
    if rest and _RUN_OF_SEVERAL.fullmatch(first):
        return _OWN.fullmatch(rest) is not None
    return _OWN.fullmatch(name) is not None


def refuse_removal(folder: Path, reads: Mapping[str, Path]) -> None:
    """Raise a ValueError unless a folder may be emptied of a run; see `remove_run`."""
    for what, place in (("the working folder", Path.cwd()), ("your home folder", Path.home())):
        if any(folder.samefile(one) for one in (place.resolve(), *place.resolve().parents) if one.exists()):
            raise ValueError(
                f"Expected an output_dir that --overwrite may empty, found {str(folder)!r}, which is or holds {what}. "
                "Choose a folder for this run alone."
            )
    refuse_needed(folder, reads)
    if links := [path for path in folder.rglob("*") if path.is_symlink() and path.is_dir()]:
        raise ValueError(
            f"Expected an output_dir that --overwrite may empty, found that {str(links[0])!r} is a link to another "
            "folder, into which the run would write. Remove the link, or choose another output_dir."
        )
    if not is_run(folder):
        raise ValueError(
            f"Expected output_dir {str(folder)!r} to hold a run of this package, found other files. --overwrite "
            "replaces runs and nothing else: choose another output_dir, or remove the folder yourself."
        )


def refuse_needed(folder: Path, reads: Mapping[str, Path]) -> None:
    """Raise a ValueError if a folder that is to be emptied is or holds something that the run reads."""
    for key, path in reads.items():
        real = path.resolve()
        if folder.exists() and any(one.exists() and folder.samefile(one) for one in (real, *real.parents)):
            raise ValueError(
                f"Expected an output_dir that may be emptied, found {str(folder)!r}, which holds what this run reads "
                f"({key}: {str(path)!r}). Choose another output_dir."
            )


def paths_read(values: Mapping[str, Any], skip: Iterable[str]) -> dict[str, Path]:
    """Return the entries of a recipe that name existing files or folders.

    Args:
        values: of the recipe.
        skip: keys of what the run writes.
    """
    texts = {
        key: value for key, value in values.items() if key not in skip and isinstance(value, str) and value
    }
    paths = {key: Path(value).expanduser() for key, value in texts.items()}
    return {key: path for key, path in paths.items() if _exists(path)}


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a text that is too long to be a name
        return False

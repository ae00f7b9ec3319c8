"""Which file of a run or a saved model is damaged, and what to do about it."""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import yaml
from safetensors import safe_open

from ..evaluation.run_results import RESULT_FILE
from ..publishing.run_files import REPORT_FOLDER
from ..tasks.checkpoints import RECIPE_FILE
from .runs.inventory import has_inventory, may_be_own
from .runs.own_names import CACHE_FOLDER, COMPARISON_FILE, RECORDS, TABLE_FOLDER, is_own_name, places_of_runs

_OF_CHECKPOINT = re.compile(r"(.*/)?checkpoint-\d+/.*")
# Made from other files: without them a run is whole.
_DERIVED = re.compile(
    rf"(.*/)?({TABLE_FOLDER}/.*|{CACHE_FOLDER}/.*|trainer_state\.json|freeze_schedule\.json|update_audit\.jsonl|"
    rf"README\.md|{REPORT_FOLDER}/.*|{COMPARISON_FILE})"
)


def _read_mapping(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if not isinstance(yaml.safe_load(text), dict):
        raise ValueError("no YAML mapping")
    if not text.endswith("\n"):  # half of a mapping is a mapping too
        raise ValueError("its last line is cut off")


# Weights and tables are opened, and not read: a file that is cut off shows it at once.
_READERS: dict[str, Callable[[Path], Any]] = {
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".jsonl": lambda path: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()],
    ".yaml": _read_mapping,
    ".safetensors": lambda path: safe_open(str(path), framework="numpy"),
    ".parquet": pq.read_metadata,
    ".arrow": pl.read_ipc_schema,
    ".npy": lambda path: np.load(path, mmap_mode="r"),
    ".md": lambda path: path.read_text(encoding="utf-8"),
    ".html": lambda path: path.read_text(encoding="utf-8"),
}


def damaged_file(folder: Path, needed: bool = False) -> str | None:
    """Return a sentence about the first damaged file of a run or a saved model; None: all of them can be read.

    Checkpoints inside a run are left out: a damaged one is passed over. So are files that no run writes.

    Args:
        folder: of the run, or of one of its checkpoints.
        needed: look only at what nothing else in the folder can replace.
    """
    for path in places_of_runs(folder):
        name = path.relative_to(folder).as_posix()
        if _OF_CHECKPOINT.fullmatch(name) or (needed and _DERIVED.fullmatch(name)):
            continue
        is_own = path.name in RECORDS or may_be_own(folder, name)
        if path.suffix in _READERS and is_own and path.is_file() and (reason := _damage(path)):
            return f"Expected whole files in {str(folder)!r}, found {name} damaged ({reason}). {_remedy(folder, name)}"
    return None


def _damage(path: Path) -> str:
    """Return what is wrong with a file; empty: nothing."""
    if not path.stat().st_size:
        return "an empty file"
    try:
        _READERS[path.suffix](path)
    except (MemoryError, PermissionError):  # of the machine, not of the file: the first error stands
        return ""
    except Exception as error:  # each library has types of its own
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ""


def _remedy(folder: Path, name: str) -> str:
    path = folder / name
    again = "the same command writes it anew."
    for inside in (TABLE_FOLDER, CACHE_FOLDER):
        before, found, after = f"/{name}".partition(f"/{inside}/")
        if found:
            place = folder / before.strip("/") / inside / after.partition("/")[0]
            return f"Delete {str(place)!r}: {again}"
    if path.suffix in (".md", ".html"):
        return f"Delete {str(path)!r}: the run's own command writes it again."
    if _DERIVED.fullmatch(name):
        return f"Delete {str(path)!r}: only the report reads it."
    run = next((one for one in (path.parent, path.parent.parent) if (one / RECIPE_FILE).is_file()), None)
    if run is None:
        return "Copy it from where the model came from, or save the model again."
    if name.endswith(RECIPE_FILE):
        return "Write it again from your own recipe file."
    results = run / RESULT_FILE
    if path == results:
        return f"Delete it: the run's own command goes on from the last checkpoint and {again}"
    return (
        f"Delete it and {str(results)!r}: the run's own command then goes on from the last checkpoint, and writes "
        "both anew."
    )


@contextmanager
def damage_named(*folders: str | os.PathLike | None) -> Iterator[None]:
    """Where reading fails, look for a damaged file, and name it with its remedy.

    Args:
        folders: runs or saved models that are read; names on the Hub, and None, are passed over.

    Raises:
        ValueError: naming the file.
    """
    try:
        yield
    except Exception as error:
        ours = str(error).startswith("Expected")  # it says what to do, unless it came of a damaged file
        places = [place for place in (Path(folder) for folder in folders if folder is not None) if place.is_dir()]
        for place in places:
            if sentence := damaged_file(place, needed=ours):
                raise ValueError(sentence) from error
        if not ours and isinstance(error, ValueError | TypeError | AttributeError | LookupError):
            for place in places:
                if sentence := _unreadable_setting(place):
                    raise ValueError(sentence) from error
        raise


def _unreadable_setting(folder: Path) -> str | None:
    """Return a sentence about a JSON file, whoever wrote it, that transformers would read, and that is no mapping."""
    for path in sorted(folder.glob("*.json")):
        if not (is_own_name(path.name) or path.name == "chat_template.json"):
            continue
        reason = _damage(path) or ("" if isinstance(_READERS[".json"](path), dict) else "no mapping")
        if reason:
            stranger = has_inventory(folder) and not may_be_own(folder, path.name)
            remedy = "The run did not write it: move it elsewhere." if stranger else _remedy(folder, path.name)
            return f"Expected JSON mappings in {str(folder)!r}, found {path.name} damaged ({reason}). {remedy}"
    return None

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

from ..data.reading.library_errors import OF_MACHINE
from ..evaluation.run_results import RESULT_FILE
from ..models.checked_loading import ADAPTER_FILE, ADAPTERS_ALONE
from ..models.tabbert.boosted_trees import trees_file
from ..models.tabbert.modeling_tabbert_boosted import STATISTICS
from ..publishing.run_files import REPORT_FOLDER
from ..serving.export_files import SETTINGS_NAME
from ..tasks.checkpoints import RECIPE_FILE
from ..training.checkpoint_weights import weight_files
from .runs.inventory import has_inventory, may_be_own, read_inventory
from .runs.own_names import CACHE_FOLDER, COMPARISON_FILE, RECORDS, TABLE_FOLDER, is_draft, is_own_name, places_of_runs

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


# JSON files, and keys of which each has one: without them the file is of something else.
_KEYS = {
    "config.json": ("model_type",),
    "preprocessor_config.json": ("feature_extractor_type", "image_processor_type", "processor_class"),
    "processor_config.json": ("processor_class",),
    "tabbert_statistics.json": ("counts",),
    "tokenizer.json": ("model",),
    "tokenizer_config.json": ("backend", "do_lower_case", "model_max_length", "tokenizer_class"),
    RESULT_FILE: ("architecture",),
}
# Files of a saved model that a run's list names, and that nothing else can replace.
_OF_MODEL = re.compile(
    r"(tokenizer_|preprocessor_|processor_)?config\.json|tokenizer\.json|tabbert_(values|statistics)\.json|"
    r"(tabbert_arrays|model(-\d+-of-\d+)?)\.safetensors|(statistics|fused)_trees_\d+\.txt"
)


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
        if is_draft(name) or _OF_CHECKPOINT.fullmatch(name) or (needed and _DERIVED.fullmatch(name)):
            continue
        is_own = path.name in RECORDS or may_be_own(folder, name)
        if path.suffix not in _READERS or not is_own or not path.is_file():
            continue
        if not os.access(path, os.R_OK):  # it may be whole: nobody is told to delete it
            return (
                f"Expected files that may be read in {str(folder)!r}, found no right to read {name}. Give yourself the "
                "right (`chmod -R u+rX`), or name a copy."
            )
        if reason := _damage(path):
            return f"Expected whole files in {str(folder)!r}, found {name} damaged ({reason}). {_remedy(folder, name)}"
    return None


def _damage(path: Path) -> str:
    """Return what is wrong with a file; empty: nothing."""
    if not path.stat().st_size:
        return "an empty file"
    try:
        content = _READERS[path.suffix](path)
        keys = _KEYS.get(path.name)
        if keys and not (isinstance(content, dict) and any(key in content for key in keys)):
            return f"JSON of something else, without {' or '.join(keys)}"
    except (MemoryError, PermissionError):  # of the machine, not of the file: the first error stands
        return ""
    except Exception as error:  # each library has types of its own
        if getattr(error, "errno", None) in OF_MACHINE or "too many open files" in str(error).lower():
            return ""
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


def absent_file(folder: Path, settings: bool = False) -> str | None:
    """Return a sentence about the first file that a saved model in a folder lacks; None: all are there, or no model is.

    What a run of this version wrote is known from its list; of another folder configuration, weights and trees.

    Args:
        folder: of the model.
        settings: look only for JSON files.
    """
    if (folder / ADAPTER_FILE).is_file() and not (folder / "config.json").is_file():
        return f"Expected a saved model in {str(folder)!r}, found {ADAPTERS_ALONE}"
    if (folder / SETTINGS_NAME).is_file() and not (folder / "config.json").is_file():
        return (
            f"Expected a saved model in {str(folder)!r}, found an export of one, which `hf-mmtab serve` and "
            "`hf_mmtab.serving.Predictor` take. Name the folder that it was exported from."
        )
    names = [name for name in read_inventory(folder) or () if _OF_MODEL.fullmatch(name)]
    if not has_inventory(folder) and any(_OF_MODEL.fullmatch(path.name) for path in folder.iterdir()):
        config = folder / "config.json"
        content = {} if not config.is_file() or _damage(config) else _READERS[".json"](config)
        has_trees = any("Boosted" in kind or "Fusion" in kind for kind in content.get("architectures") or ())
        names = ["config.json", *[trees_file(STATISTICS, 0)] * has_trees]
        if content.get("model_type") == "mmbt":
            names += ["processor_config.json", *["tokenizer_config.json"] * (content.get("text_config") is not None)]
        names += [] if not content or any(map(Path.is_file, weight_files(folder))) else ["model.safetensors"]
    absent = [name for name in sorted(names) if not (folder / name).is_file()]
    name = next((name for name in absent if not settings or name.endswith(".json")), None)
    if name is None:
        return None
    results, found = folder / RESULT_FILE, f"a folder {name}" if (folder / name).is_dir() else f"no {name}"
    remedy = "Copy it from where the model came from."
    if results.is_file():
        remedy = (
            f"Put it back, or delete {str(results)!r}: the run's own command then goes on from the last checkpoint, "
            "and writes it anew."
        )
    return f"Expected the files of a saved model in {str(folder)!r}, found {found}. {remedy}"


@contextmanager
def damage_named(*folders: str | os.PathLike | None) -> Iterator[None]:
    """Where reading fails, look for a damaged file, and name it with its remedy.

    Args:
        folders: runs or saved models that are read; names on the Hub, and None, are passed over.

    Raises:
        ValueError: naming the file.
        FileNotFoundError: naming a file that a saved model lacks.
    """
    try:
        yield
    except Exception as error:
        ours = str(error).startswith("Expected")  # it says what to do, unless it came of a damaged file
        places = [place for place in (Path(folder) for folder in folders if folder is not None) if place.is_dir()]
        for place in places:
            if sentence := damaged_file(place, needed=ours):
                raise ValueError(sentence) from error
            if sentence := absent_file(place, settings=ours):
                raise FileNotFoundError(sentence) from error
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

"""`.hf_mmtab.json`: the mark of a run in its folder, and once it is finished the list of the files that it wrote."""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from ...data.simulated_cards import is_replaceable
from ...evaluation.run_results import RESULT_FILE, RunResults
from ...files import PARTIAL_SUFFIX, write_whole
from ...locking import LOCK_FILE
from ...training.checkpoints import MANIFEST_NAME, file_digest
from .own_names import CACHE_FOLDER, COMPARISON_FILE, RUN_OF_SEVERAL, TABLE_FOLDER, is_own_name

INVENTORY_FILE = ".hf_mmtab.json"
# Large or still growing: known by name and place alone.
_NOT_HASHED = re.compile(rf"(?:[^/]+/)?(?:{TABLE_FOLDER}|{CACHE_FOLDER})/.*|(?:.*/)?runs/[^/]+/events\.out\.tfevents.*")
# What a checkpoint has at least one of, and what only a tokenizer writes.
_SAVED = ("*.safetensors", "optimizer*", "trainer_state.json", "hf_mmtab_*.py")
_OF_TOKENIZER = re.compile(
    r"vocab\.(json|txt)|merges\.txt|spiece\.model|tokenizer\.(model|json)|sentencepiece\.bpe\.model|"
    r"special_tokens_map\.json|added_tokens\.json"
)

Files = dict[str, dict[str, Any]]  # name → size, time of the last change, hash


def has_inventory(folder: Path) -> bool:
    """Whether a run of this version began in a folder."""
    return (folder / INVENTORY_FILE).is_file()


def read_inventory(folder: Path) -> Files | None:
    """Return what a finished run wrote; None: the run is not finished, or of a version that listed nothing."""
    try:
        content = json.loads((folder / INVENTORY_FILE).read_text(encoding="utf-8"))
        return content["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def begin_inventory(folder: Path, removing: bool = False) -> None:
    """Mark a folder as that of a run which is going on, or whose files are being removed."""
    _write(folder, None, removing)


def is_half_removed(folder: Path) -> bool:
    """Whether a process was killed while it removed the run in a folder."""
    try:
        return bool(json.loads((folder / INVENTORY_FILE).read_text(encoding="utf-8")).get("removing"))
    except (OSError, ValueError, AttributeError):
        return False


def write_inventory(folder: Path, foreign: Iterable[str] = ()) -> None:
    """List the files that runs write, with sizes and hashes.

    Args:
        folder: of a run that is finished, but for its results.
        foreign: names that are others', see `foreign_names`.
    """
    foreign = set(foreign)
    names = [name for name in _own_looking(folder) if name not in foreign and _run_of(folder, name)[0] == folder]
    _write(folder, {name: _facts(folder, name) for name in names if not _always_own(folder, name)})


@contextmanager
def inventory_kept(folder: Path) -> Iterator[None]:
    """List anew what a finished run consists of, after a block that writes some of it.

    A process that is killed within the block leaves no list, so that what it wrote is nobody else's.
    """
    if read_inventory(folder) is None:
        yield
        return
    foreign = foreign_names(folder)
    begin_inventory(folder)
    try:
        yield
    finally:
        write_inventory(folder, foreign)


def own_names(folder: Path) -> list[str]:
    """Return the files that runs wrote: those listed and unchanged; where nothing is listed, those of their names."""
    foreign = set(foreign_names(folder))
    return [name for name in _own_looking(folder) if name not in foreign]


def foreign_names(folder: Path, of_runs_inside: bool = True) -> list[str]:
    """Return the files that are called as a run's, and that the run did not write or somebody changed since.

    Args:
        folder: of a run, or of several.
        of_runs_inside: whether the files of each of several runs count, too.
    """
    read, found = cache(read_inventory), []
    for name in _own_looking(folder):
        place, rest = _run_of(folder, name)
        if place != folder and not of_runs_inside:
            continue
        if not _always_own(place, rest) and not _is_unchanged(place, rest, read(place)):
            found.append(name)
    return found


def may_be_own(folder: Path, name: str) -> bool:
    """Whether a file, maybe a damaged one, is one that a run wrote."""
    place, rest = _run_of(folder, name)
    files = read_inventory(place)
    listed = _has_place(place, rest) if files is None else rest in files
    return is_own_name(name) and (listed or _always_own(place, rest))


def _own_looking(folder: Path) -> list[str]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]
    names = [path.relative_to(folder).as_posix() for path in paths]
    return [name for name in names if is_own_name(name)]


def _run_of(folder: Path, name: str) -> tuple[Path, str]:
    """Return the folder whose inventory a file stands in, and its name there: one of several runs has its own."""
    first, _, rest = name.partition("/")
    own = rest and RUN_OF_SEVERAL.fullmatch(first) and has_inventory(folder / first)
    return (folder / first, rest) if own else (folder, name)


def _always_own(folder: Path, name: str) -> bool:
    """Whether a file is known without a list: by a name that is ours alone, or as results of a run."""
    if name == RESULT_FILE:
        try:
            return RunResults.read(folder) is not None
        except ValueError:
            return False
    last = name.rpartition("/")[2]
    return last.endswith(PARTIAL_SUFFIX) or last.startswith(LOCK_FILE) or last == INVENTORY_FILE


def _has_place(folder: Path, name: str) -> bool:
    """Whether a run that lists nothing, as it is going on or of an earlier version, may write to this place.

    Beside several runs lie predictions of baselines; one run alone writes into no folder called like one of several. A
    run of an earlier version is over, so that what belongs together lies together.
    """
    first, _, rest = name.partition("/")
    if RUN_OF_SEVERAL.fullmatch(first):
        return rest.startswith("predictions/") or (folder / first / "recipe.yaml").is_file()
    if has_inventory(folder):
        return True
    if name == COMPARISON_FILE:
        return any(RUN_OF_SEVERAL.fullmatch(path.parent.name) for path in folder.glob("*/recipe.yaml"))
    if name == f"{TABLE_FOLDER}/cards.csv":
        return is_replaceable(folder / name)
    if first.startswith("checkpoint-"):
        return any(any((folder / first).glob(kind)) for kind in _SAVED)
    of_tokenizer = _OF_TOKENIZER.fullmatch(Path(name).name)
    return of_tokenizer is None or (folder / name).with_name("tokenizer_config.json").is_file()


def _is_unchanged(folder: Path, name: str, files: Files | None) -> bool:
    if files is None:
        return _has_place(folder, name)
    path = folder / name
    if name not in files or path.is_symlink():
        return False
    facts, state = files[name], path.stat()
    if _NOT_HASHED.fullmatch(name):
        return True
    same_size = state.st_size == facts["size"]
    return same_size and (state.st_mtime_ns == facts["mtime_ns"] or file_digest(path) == facts["blake2b"])


def _facts(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    state = path.stat()
    facts = {"size": state.st_size, "mtime_ns": state.st_mtime_ns}
    if _NOT_HASHED.fullmatch(name):
        return facts
    return facts | {"blake2b": _digest_of_checkpoint(path) or file_digest(path)}


def _digest_of_checkpoint(path: Path) -> str | None:
    """Return the hash that a checkpoint's own list has for a file of this size; None: it has none."""
    try:
        facts = json.loads((path.parent / MANIFEST_NAME).read_text(encoding="utf-8"))[path.name]
        return facts["blake2b"] if facts["size"] == path.stat().st_size else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(folder: Path, files: Files | None, removing: bool = False) -> None:
    about = "Written by hf_mmtab: this folder holds a run, or several; files: what it wrote, once it is finished"
    content = {"about": about, "files": files, "removing": removing}
    write_whole(folder / INVENTORY_FILE, json.dumps(content, indent=1) + "\n")

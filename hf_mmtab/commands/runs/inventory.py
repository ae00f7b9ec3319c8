"""`.hf_mmtab.json`: the mark of a run, or an evaluation, in its folder, with the list of the files that it wrote.

Most files are listed just before they get their names (`files_listed`). Checkpoints, encoded rows and the like are not:
the run announces the place before it writes there (`announce`), and what lies there is the run's until it is listed.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from ...data.simulated_cards import is_replaceable
from ...evaluation.run_results import RESULT_FILE, RunResults
from ...files import PARTIAL_SUFFIX, file_digest, give_name, json_text, looked_at, write_whole
from ...locking import LOCK_FILE
from ...training.checkpoints import MANIFEST_NAME
from .own_names import (
    CACHE_FOLDER,
    COMPARISON_FILE,
    RECORDS,
    RUN_OF_SEVERAL,
    TABLE_FOLDER,
    is_draft,
    is_own_name,
    places_of_runs,
)

INVENTORY_FILE = ".hf_mmtab.json"
# Large or still growing: known by name and place alone.
_NOT_HASHED = re.compile(rf"(?:[^/]+/)?(?:{TABLE_FOLDER}|{CACHE_FOLDER})/.*|(?:.*/)?runs/[^/]+/events\.out\.tfevents.*")
# What a checkpoint has at least one of, and what only a tokenizer writes.
_SAVED = ("*.safetensors", "optimizer*", "trainer_state.json", "hf_mmtab_*.py")
_OF_TOKENIZER = re.compile(
    r"vocab\.(json|txt)|merges\.txt|spiece\.model|tokenizer\.(model|json)|sentencepiece\.bpe\.model|"
    r"special_tokens_map\.json|added_tokens\.json"
)

TRAINING = (TABLE_FOLDER, CACHE_FOLDER, "update_audit*")
TENSORBOARD = "runs"  # transformers' own place for it
EVALUATION = (RESULT_FILE, "predictions", "report")

Files = dict[str, dict[str, Any]]  # name → size, time of the last change, hash


def has_inventory(folder: Path) -> bool:
    """Whether a run of this version began in a folder."""
    return (folder / INVENTORY_FILE).is_file() and not has_evaluation(folder)


def has_evaluation(folder: Path) -> bool:
    """Whether an evaluation of this version began in a folder."""
    return _read(folder).get("writes") == list(EVALUATION)


def read_inventory(folder: Path) -> Files | None:
    """Return what a finished run wrote; None: the run is not finished, or of a version that listed nothing."""
    content = _read(folder)
    return None if content.get("writing") or content.get("removing") else content.get("files")


def facts_of(folder: Path) -> dict[str, Any]:
    """Return what a run notes beside the list of its files; empty: there is none."""
    return _read(folder)


def begin_inventory(folder: Path, writing: Iterable[str] = TRAINING, **facts: Any) -> None:
    """Mark a folder as that of a run which is going on; what is a run's there already is listed.

    Args:
        folder: of the run.
        writing: patterns of the names, in the folder, of what it writes from now on.
        facts: kept with the list.
    """
    files = _listed(folder, own_names(folder), _read(folder).get("files") or {})
    _write(folder, files, writing=list(writing), **facts)


def announce(folder: Path, place: str) -> None:
    """Note that a run will write to a further place in its folder; the checkpoint before it is listed.

    Raises:
        ValueError: if files of others lie there.
    """
    content, foreign = _read(folder), set(foreign_names(folder, of_runs_inside=False))
    if names := [name for name in sorted(foreign) if _is_at(name, [place])]:
        raise ValueError(foreign_sentence(folder, names))
    files, writing = content.get("files") or {}, content.get("writing") or TRAINING
    whole = [one for one in writing if one.startswith("checkpoint-")]
    names = [name for name in _own_looking(folder) if _is_at(name, whole) and name not in foreign]
    content["files"] = files | _listed(folder, names, files)
    _write(folder, **{**content, "writing": [one for one in writing if one not in (*whole, place)] + [place]})


def is_half_removed(folder: Path) -> bool:
    """Whether a process was killed while it removed the run in a folder."""
    return bool(_read(folder).get("removing"))


def write_inventory(folder: Path) -> None:
    """List the files of a run that is finished, but for its results, with sizes and hashes."""
    content = _read(folder)
    files = _listed(folder, own_names(folder), content.get("files") or {})
    _write(folder, **{**content, "files": files, "writing": []})


@contextmanager
def files_listed(folder: Path, is_main_process: bool = True, refuse: bool = True) -> Iterator[None]:
    """List each file that a block writes into the folder of a run, or of several; it replaces none that no run wrote.

    Args:
        folder: of this version's run; what is written into another one is not listed.
        is_main_process: the other processes of a run list nothing.
        refuse: raise a ValueError before the block replaces such a file; otherwise it is replaced and stays unlisted.
    """

    def look(path: Path, source: Path | None) -> bool:
        name = _name_in(folder, path)
        if name is None:
            return True
        place, name = _run_of(folder, name)
        content = _read(place)
        if _always_own(name) or name in RECORDS or (content and _is_open(name, content)):
            return True
        files = content.get("files") or {}
        if os.path.lexists(path):
            if not _is_unchanged(place, name, content):
                if refuse and source is not None:
                    raise ValueError(foreign_sentence(place, [name]))
                return source is not None
            if source is not None:
                path.unlink()  # killed here: it is written again, and is nobody else's
        files.pop(name, None)
        if content:
            _write(place, **{**content, "files": files | ({name: _facts(name, source)} if source else {})})
        return True

    with looked_at(look) if is_main_process else nullcontext():
        yield


def _name_in(folder: Path, path: Path) -> str | None:
    """Return what a file is called below a folder, however both are written; None: it lies elsewhere."""
    for real in (os.path.realpath, os.path.abspath):  # the second: in a link in the folder that leads out of it
        parent = Path(real(path.parent))
        if parent.is_relative_to(real(folder)):
            return (parent / path.name).relative_to(real(folder)).as_posix()
    return None


@contextmanager
def moved_in(folder: Path, moves: bool = True) -> Iterator[Path]:
    """Yield a folder to write to, whose files are moved into `folder` in the end, see `files_listed`.

    Args:
        folder: of a run.
        moves: whether this process does so; of several that write there one does.
    """
    draft = folder / f".files{PARTIAL_SUFFIX}"
    if moves:
        shutil.rmtree(draft, ignore_errors=True)
    yield draft
    if moves:
        for path in sorted(draft.rglob("*")):
            target = folder / path.relative_to(draft)
            if path.is_dir():
                target.mkdir(exist_ok=True)
            else:
                give_name(path, target)
        shutil.rmtree(draft)


def foreign_sentence(folder: Path, names: list[str], key: str = "output_dir") -> str:
    """Return what is wrong with a folder that holds files of others where a run writes."""
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return (
        f"Expected {key} {str(folder)!r} to hold what a run wrote there, found files of others, or changed since, that "
        f"the run would replace: {shown}. Move them elsewhere, or choose another {key}."
    )


def own_names(folder: Path) -> list[str]:
    """Return the files that runs wrote: the listed and unchanged and, of a run that goes on, all where it writes."""
    foreign = set(foreign_names(folder))
    return [name for name in _own_looking(folder) if name not in foreign]


def foreign_names(folder: Path, of_runs_inside: bool = True) -> list[str]:
    """Return the files that are called as a run's, and that the run did not write or somebody changed since.

    Args:
        folder: of a run, or of several.
        of_runs_inside: whether the files of each of several runs count, too.
    """
    read, found = cache(_read), []
    for name in _own_looking(folder):
        place, rest = _run_of(folder, name)
        if place != folder and not of_runs_inside:
            continue
        if not _always_own(rest) and not _is_unchanged(place, rest, read(place)):
            found.append(name)
    return found


def may_be_own(folder: Path, name: str) -> bool:
    """Whether a file, maybe a damaged one, is one that a run wrote."""
    place, rest = _run_of(folder, name)
    content = _read(place)
    listed = rest in (content.get("files") or ()) or (_is_open(rest, content) and _has_place(place, rest))
    return is_own_name(name) and (listed or _always_own(rest))


def _own_looking(folder: Path) -> list[str]:
    paths = [path for path in places_of_runs(folder) if path.is_symlink() or not path.is_dir()]
    names = [path.relative_to(folder).as_posix() for path in paths]
    return [name for name in names if is_own_name(name)]


def _run_of(folder: Path, name: str) -> tuple[Path, str]:
    """Return the folder whose inventory a file stands in, and its name there: one of several runs has its own."""
    first, _, rest = name.partition("/")
    own = rest and RUN_OF_SEVERAL.fullmatch(first) and has_inventory(folder / first)
    return (folder / first, rest) if own else (folder, name)


def has_results(folder: Path) -> bool:
    """Whether a folder has results of a run, or an evaluation, that can be read."""
    try:
        return RunResults.read(folder) is not None
    except ValueError:
        return False


def _always_own(name: str) -> bool:
    """Whether a file is known without a list: by a name that is ours alone."""
    last = name.rpartition("/")[2]
    return is_draft(name) or last.startswith(LOCK_FILE) or last == INVENTORY_FILE


def _has_place(folder: Path, name: str) -> bool:
    """Whether a file on no list may be a run's: the run goes on, or an earlier version without lists made it.

    A folder `NAME-seedN` holds one of several runs if it has a recipe, and otherwise only predictions of baselines. A
    run of an earlier version has ended, so its files lie beside others that it wrote: a comparison beside runs, files
    of a checkpoint beside weights or a state, a vocabulary beside the settings of its tokenizer.
    """
    first, _, rest = name.partition("/")
    if RUN_OF_SEVERAL.fullmatch(first):
        return rest.startswith("predictions/") or (folder / first / "recipe.yaml").is_file()
    if name == f"{TABLE_FOLDER}/cards.csv":
        return is_replaceable(folder / name)
    if has_inventory(folder):
        listed = _manifest(folder / first) if first.startswith("checkpoint-") else {}
        return not listed or rest in (*listed, MANIFEST_NAME)  # a checkpoint that is whole holds what it lists
    if name == COMPARISON_FILE:
        return any(RUN_OF_SEVERAL.fullmatch(path.parent.name) for path in folder.glob("*/recipe.yaml"))
    if first.startswith("checkpoint-"):
        return any(any((folder / first).glob(kind)) for kind in _SAVED)
    of_tokenizer = _OF_TOKENIZER.fullmatch(Path(name).name)
    return of_tokenizer is None or (folder / name).with_name("tokenizer_config.json").is_file()


def _is_unchanged(folder: Path, name: str, content: dict[str, Any]) -> bool:
    if _is_open(name, content):
        return _has_place(folder, name)
    path, facts = folder / name, (content.get("files") or {}).get(name)
    if path.is_symlink():
        return False
    if facts is None:  # of an earlier version, whose list was written before the results
        return name == RESULT_FILE and has_results(folder)
    state = path.stat()
    if _NOT_HASHED.fullmatch(name):
        return True
    same_size = state.st_size == facts["size"]
    return same_size and (state.st_mtime_ns == facts["mtime_ns"] or file_digest(path) == facts["blake2b"])


def _is_open(name: str, content: dict[str, Any]) -> bool:
    """Whether a run may have written to a place since its files were listed; without a list, to any place."""
    if content.get("files") is None and not content.get("writing"):
        return True
    return _is_at(name, content.get("writing") or ())


def _is_at(name: str, places: Iterable[str]) -> bool:
    first = name.partition("/")[0]
    return any(fnmatchcase(first, place) for place in places)


def _listed(folder: Path, names: list[str], known: Files) -> Files:
    mine = [name for name in names if _run_of(folder, name)[0] == folder and not _always_own(name)]
    return {name: _facts(name, folder / name, known.get(name)) for name in mine}


def _facts(name: str, path: Path, known: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what a list says of a file that is called `name` in the folder of its run, or will be."""
    state = path.stat()
    facts = {"size": state.st_size, "mtime_ns": state.st_mtime_ns}
    if _NOT_HASHED.fullmatch(name):
        return facts
    if known is not None and facts.items() <= known.items():
        return known
    return facts | {"blake2b": _digest_of_checkpoint(path) or file_digest(path)}


def _digest_of_checkpoint(path: Path) -> str | None:
    """Return the hash that a checkpoint's own list has for a file of this size; None: it has none."""
    facts = _manifest(path.parent).get(path.name, {})
    return facts["blake2b"] if facts.get("size") == path.stat().st_size else None


def _manifest(checkpoint: Path) -> dict[str, Any]:
    """Return what a checkpoint lists of its files; empty: it is not whole, or of a version without lists."""
    try:
        content = json.loads((checkpoint / MANIFEST_NAME).read_text(encoding="utf-8"))
        return {name: {"size": facts["size"], "blake2b": facts["blake2b"]} for name, facts in content.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _read(folder: Path) -> dict[str, Any]:
    """Return what an inventory says; empty: there is none, or it cannot be read."""
    try:
        content = json.loads((folder / INVENTORY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(folder: Path, files: Files | None, **facts: Any) -> None:
    about = "Written by hf_mmtab: this folder holds a run, or several; files: what it wrote, writing: where it writes"
    content = {**facts, "about": about, "files": files}
    write_whole(folder / INVENTORY_FILE, json_text(content) + "\n")

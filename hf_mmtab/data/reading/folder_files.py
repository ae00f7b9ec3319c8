"""Which files of a folder are data: each once, and a word on those that are left out."""

import hashlib
import itertools
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from transformers.utils import logging

from ...files import file_digest
from .text_files import WholeGzip

logger = logging.get_logger(__name__)

END_BYTES = 1 << 16  # by whose hash files of one size are told apart before they are read as a whole
MAX_ENTRIES = 20_000  # of subfolders, that are looked through
_PASSED_OVER = re.compile(r"\..*|.+-[0-9a-f]{24}(\.[0-9a-f]{32}\.tmp)?")  # the latter hold features, and lists as JSON
BACKUPS = ("~", "#", ".bak", ".old", ".orig", ".tmp", ".part", ".swp")


def files_in(folder: Path, suffixes: Sequence[str], beside: Iterable[str] = ()) -> list[Path]:
    """Return the data files of a folder, by name; say which hidden, lock and backup files and subfolders are left out.

    Args:
        folder: that exists.
        suffixes: of data files, in small letters.
        beside: names of subfolders that are read on their own.
    """
    files: list[Path] = []
    left_out: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and (name := _without_backup(path.name)).endswith(tuple(suffixes)):
            hidden = name != path.name.lower() or path.name.startswith((".", "~", "#"))
            (left_out if hidden else files).append(path)
    if left_out:
        logger.warning_once(f"Not read: {_names(left_out)} in {str(folder)!r}, hidden, lock or backup files.")
    if inside := files_below(folder, suffixes, beside):
        logger.warning_once(
            f"Not read: {_names(inside, folder)} in subfolders of {str(folder)!r}. Only the folder itself is read; "
            "move them there if they belong to the data."
        )
    return files


def files_below(folder: Path, suffixes: Sequence[str], beside: Iterable[str] = ()) -> list[Path]:
    """Return the data files in the subfolders of a folder, among the first `MAX_ENTRIES` files there."""
    skipped, found, seen = set(beside), [], 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(one for one in folders if one not in skipped and not _PASSED_OVER.fullmatch(one))
        skipped = set()
        if Path(place) != folder:
            data = [name for name in names if name.lower().endswith(tuple(suffixes)) and name[0] not in ".~#"]
            found += [Path(place) / name for name in sorted(data)]
        if (seen := seen + len(names)) > MAX_ENTRIES:
            break
    return found


def refuse_twice(files: Sequence[Path]) -> None:
    """Refuse data files that hold the same: copies, links to one file, a file beside its own .gz.

    Raises:
        ValueError: names two of them.
    """
    by_stem: dict[Path, list[Path]] = defaultdict(list)
    by_content: dict[tuple, list[Path]] = defaultdict(list)
    for path in files:
        by_stem[path.with_name(path.name.lower().removesuffix(".gz"))].append(path)
        by_content[path.stat().st_size, _ends(path)].append(path)
    pairs = [(twins, "one is the other, compressed") for twins in by_stem.values() if len(twins) > 1]
    for alike in by_content.values():
        whole: dict[str, list[Path]] = defaultdict(list)
        for path in alike if len(alike) > 1 else ():
            whole[file_digest(path)].append(path)
        pairs += [(twins, "the same content") for twins in whole.values() if len(twins) > 1]
    for twins, why in pairs:
        if _has_rows(twins[0]):
            shown = [path.name if len({one.name for one in twins}) > 1 else str(path) for path in twins]
            raise ValueError(
                f"Expected each row of the data once, found {' and '.join(map(repr, shown[:4]))} in "
                f"{str(twins[0].parent)!r}: {why}. Remove all but one, or name a single file."
            )


def _without_backup(name: str) -> str:
    """Return a file's name in small letters, without what editors add to those of backups."""
    name = name.lower()
    ending = next((one for one in BACKUPS if name.endswith(one)), "")
    return name.removesuffix(ending)


def _names(paths: Sequence[Path], root: Path | None = None) -> str:
    shown = [path.name if root is None else path.relative_to(root).as_posix() for path in paths[:5]]
    return ", ".join(shown) + (f" and {len(paths) - 5:,} more" if len(paths) > 5 else "")


def _ends(path: Path) -> bytes:
    with path.open("rb") as file:
        start = file.read(END_BYTES)
        file.seek(max(0, path.stat().st_size - END_BYTES))
        return hashlib.blake2b(start + file.read()).digest()


def _has_rows(path: Path) -> bool:
    """Whether a file holds rows, as far as its first lines or its schema tell; empty parts may be alike."""
    if path.name.lower().endswith(".parquet"):
        try:
            return pq.read_metadata(path).num_rows > 0
        except (pa.ArrowException, OSError):
            return True  # whoever reads it says what is wrong
    if path.name.lower().endswith(".arrow"):
        return True
    opened = WholeGzip(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")
    with opened as file:
        return len(list(itertools.islice(file, 2))) > 1

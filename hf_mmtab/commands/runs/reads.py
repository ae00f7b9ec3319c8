"""What a run reads, down to the files that links name: none of it may be removed."""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...recipes import READ_KEYS

_OTHER_KINDS = {stat.S_ISCHR: "a device", stat.S_ISBLK: "a device", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket"}
OF_THE_SYSTEM = ("/proc", "/sys")


def paths_read(values: Mapping[str, Any]) -> dict[str, Path]:
    """Return the entries of a recipe that name existing files or folders which its run reads.

    Args:
        values: of the recipe; texts in lists and mappings count too.

    Raises:
        ValueError, PermissionError: for what is no data, see `is_there`.
    """
    named = {key: [text for text in _texts(values.get(key)) if text] for key in READ_KEYS}
    texts = {f"{key} {n}" if n else key: text for key, found in named.items() for n, text in enumerate(found)}
    paths = {key: Path(os.path.expanduser(text)) for key, text in texts.items()}
    return {key: path for key, path in paths.items() if is_there(path)}


def refuse_needed(folder: Path, reads: Mapping[str, Path]) -> None:
    """Raise a ValueError if a folder that is to be emptied is or holds something that the run reads."""
    if not folder.exists():
        return
    for key, path in reads.items():
        if place := next((one for one in real_places(path) if _lies_in(one, folder)), None):
            through = "" if place == path.resolve() else f", by a link to {str(place)!r}"
            raise ValueError(
                f"Expected an output_dir that may be emptied, found {str(folder)!r}, which holds what this run reads "
                f"({key}: {str(path)!r}{through}). Choose another output_dir."
            )


def real_places(path: Path) -> Iterator[Path]:
    """Yield where a file or folder lies, and where all lies that links in the folder name."""
    top = path.resolve()
    yield top
    folders, seen = [top], {top}
    while folders:
        folder = folders.pop()
        for place, is_link in _folders_and_links(folder):
            if is_link:
                yield place
            if place not in seen:
                seen.add(place)
                folders.append(place)


def _folders_and_links(folder: Path) -> list[tuple[Path, bool]]:
    """Return the folders in a folder and where its links lead, and which are links; none where it cannot be read."""
    found = []
    gone = suppress(FileNotFoundError, ProcessLookupError, PermissionError, NotADirectoryError)  # of those of a process
    with gone, os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                with gone:
                    found.append((Path(os.path.realpath(entry.path)), True))  # `resolve` fails on links in a circle
            elif entry.is_dir():
                found.append((Path(entry.path), False))
    return found


def first_inside(paths: Iterable[Path], folder: Path) -> Path | None:
    """Return the first of many paths that lies in a folder, links followed; None: none does."""
    inside = f"{folder.resolve()}{os.sep}"
    return next((path for path in paths if os.path.realpath(path).startswith(inside)), None)


def _lies_in(place: Path, folder: Path) -> bool:
    return any(one.exists() and folder.samefile(one) for one in (place, *place.parents))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(one)


def is_there(source: Path) -> bool:
    """Tell whether an input exists; refuse what is no data to be read, before anything waits for it.

    Raises:
        ValueError: for the root of the file system, what lies in /proc or /sys, a device, a pipe or a socket.
        PermissionError: for what may not be read.
    """
    try:
        mode = source.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError as error:
        raise _no_permission(source) from error
    except OSError:  # a name, no path
        return False
    kind = next((kind for is_kind, kind in _OTHER_KINDS.items() if is_kind(mode)), None)
    real = source.resolve()
    if kind is None and real == Path(real.anchor):
        kind = "the root of the file system"
    if kind is None and any(real.is_relative_to(folder) for folder in OF_THE_SYSTEM):
        kind = "what the system tells of itself"
    if kind is not None:
        raise ValueError(
            f"Expected a file or folder to read, found {kind} at {str(source)!r}. Name the file or folder that holds "
            "the data; what a pipe gives is written to a file first."
        )
    if not os.access(source, os.R_OK | (os.X_OK if stat.S_ISDIR(mode) else 0)):
        raise _no_permission(source)
    return True


def _no_permission(source: Path) -> PermissionError:
    return PermissionError(
        f"Expected a file or folder that may be read, found none of its rights at {str(source)!r}. Give yourself the "
        "right to read it (`chmod -R u+rX`), or name a copy."
    )

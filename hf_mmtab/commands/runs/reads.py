"""What a run reads, down to the files that links name: none of it may be removed."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...recipes import READ_KEYS


def paths_read(values: Mapping[str, Any]) -> dict[str, Path]:
    """Return the entries of a recipe that name existing files or folders which its run reads.

    Args:
        values: of the recipe; texts in lists and mappings count too.
    """
    named = {key: [text for text in _texts(values.get(key)) if text] for key in READ_KEYS}
    texts = {f"{key} {n}" if n else key: text for key, found in named.items() for n, text in enumerate(found)}
    paths = {key: Path(os.path.expanduser(text)) for key, text in texts.items()}
    return {key: path for key, path in paths.items() if _exists(path)}


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


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a text that is too long to be a name
        return False

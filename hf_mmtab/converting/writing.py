"""The folder that a conversion writes: new, and there only when it is whole."""

import os
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from ..locking import draft_folder


def require_empty(folder: Path) -> None:
    """Raise an OSError, before any work, if the folder holds something or cannot be made."""
    place, elsewhere = f"DST {str(folder)!r}", "Choose another folder as DST."
    if folder.is_symlink():
        raise FileExistsError(
            f"Expected {place} not to exist, found a link to {os.readlink(folder)!r}. Pass the place itself, or choose "
            "another folder."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        content = "files" if folder.is_dir() else "a file"
        raise FileExistsError(f"Expected {place} not to exist, found {content}. {elsewhere}")
    above = next(one for one in folder.absolute().parents if one.exists())
    if not above.is_dir():
        raise NotADirectoryError(f"Expected a folder for {place}, found the file {str(above)!r}. {elsewhere}")
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(f"Expected the right to make {place} in {str(above)!r}, found none. {elsewhere}")


def write_whole(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside `folder`, then give it its name; nothing is left behind on failure, and what
    a killed conversion left goes at the next one.

    Raises:
        OSError: if it cannot be written, such as on a full disk.
    """
    folder = folder.absolute()
    try:
        with draft_folder(folder) as draft:
            partial = draft / folder.name
            partial.mkdir()
            write(partial)
            os.replace(partial, folder)
    except (OSError, SafetensorError) as error:  # what safetensors raises on a full disk
        raise OSError(
            f"Expected to write DST {str(folder)!r}, found: {error}. Nothing was left there. Make room or rights on "
            "that disk, or choose another folder as DST."
        ) from error

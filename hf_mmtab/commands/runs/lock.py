"""One run at a time in an output folder."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .own_files import LOCK_FILE


def refuse_file(folder: Path, key: str = "output_dir") -> None:
    """Raise a ValueError if there is a file where a folder is wanted; `key` named it."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"Expected a folder as {key}, found a file at {str(folder)!r}. Choose another one.")


@contextmanager
def lock_folder(folder: Path, is_main_process: bool, key: str = "output_dir") -> Iterator[None]:
    """Hold a folder for this process; the system releases it when the process ends, however it ends.

    Args:
        folder: made if needed.
        is_main_process: the other processes of a run do not lock.
        key: what names the folder in the recipe or on the command line.

    Raises:
        BlockingIOError: if another process holds the folder; names it.
    """
    if not is_main_process:
        yield
        return
    refuse_file(folder, key)
    folder.mkdir(parents=True, exist_ok=True)
    file, owner = folder / LOCK_FILE, folder / f"{LOCK_FILE}.owner"
    try:
        with FileLock(file, timeout=0):
            owner.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
            try:
                yield
            finally:
                owner.unlink(missing_ok=True)
    except Timeout as error:
        name = owner.read_text(encoding="utf-8") if owner.exists() else "another process"
        raise BlockingIOError(
            f"Expected {str(folder)!r} for this run alone, found that {name} is running there. Wait for it, or choose "
            f"another {key}."
        ) from error

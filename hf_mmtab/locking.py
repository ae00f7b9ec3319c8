"""One process at a time in a folder, and drafts of outputs that only one process writes."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .data.reading.places import refuse_address
from .files import make_folder, write_whole

LOCK_FILE = ".hf_mmtab.lock"  # beside it lies `.hf_mmtab.lock.owner` while a run goes on; nobody else's are called so
DRAFT_SUFFIX = ".hf_mmtab-draft"


def refuse_file(folder: Path, key: str = "output_dir") -> None:
    """Raise a ValueError if there is a file, or an address on a store, where a folder is wanted; `key` named it."""
    refuse_address(folder)
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
        ValueError: if a link lies where the lock would.
        OSError: if the system makes no folder there.
    """
    if not is_main_process:
        yield
        return
    refuse_file(folder, key)
    make_folder(folder)
    file, owner = folder / LOCK_FILE, folder / f"{LOCK_FILE}.owner"
    if file.is_symlink() or (file.exists() and file.stat().st_size):
        raise ValueError(f"Expected an empty file or none at {str(file)!r}, to lock, found a link or a file. Move it.")
    try:
        with FileLock(file, timeout=0):
            write_whole(owner, f"process {os.getpid()} on {socket.gethostname()}")
            try:
                yield
            except ValueError:  # says itself what is wrong
                raise
            except Exception as error:
                error.add_note(f"in {str(folder)!r}")  # raised again: libraries that meet a full disk name no file
                raise
            finally:
                owner.unlink(missing_ok=True)
    except Timeout as error:
        name = owner.read_text(encoding="utf-8") if owner.exists() else "another process"
        raise BlockingIOError(
            f"Expected {str(folder)!r} for this run alone, found that {name} is running there. Wait for it, or choose "
            f"another {key}."
        ) from error


@contextmanager
def draft_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside an output, for this process alone: `.NAME.hf_mmtab-draft/work`.

    It goes with all that was written there when the block ends; what a killed process left goes at the next start.

    Raises:
        BlockingIOError: if another process is writing this output.
        ValueError: if something else lies there.
    """
    folder = out.with_name(f".{out.name}{DRAFT_SUFFIX}")
    work = folder / "work"
    if folder.is_symlink() or (work.exists() and not (folder / LOCK_FILE).is_file()):
        raise ValueError(
            f"Expected no more at {str(folder)!r} than what this command wrote there, found a link or files of "
            "something else. Move them elsewhere."
        )
    locked = False
    try:
        with lock_folder(folder, True, "output"):
            locked = True
            try:
                _start_anew(work)
                work.mkdir()
                yield work
            finally:
                _start_anew(work)
    finally:
        if locked:
            _remove_lock(folder)


@contextmanager
def scratch_folder(folder: Path, state_file: str, key: str) -> Iterator[Callable[[], None]]:
    """Hold a folder from which an interrupted start goes on; it goes when the block ends without an error.

    A ValueError, of the input, leaves nothing to go on from: all that this start wrote goes. Other errors leave it. The
    folder goes, too, if there is nothing in it but the lock.

    Args:
        folder: made if needed.
        state_file: lies there once a start may be gone on from.
        key: what names the folder, see `lock_folder`.

    Yields:
        To be called when what an earlier start left there is gone on from or replaced, and is this start's own.
    """
    locked = is_own = False

    def take_over() -> None:
        nonlocal is_own
        is_own = True

    try:
        with lock_folder(folder, True, key):
            locked, is_own = True, not (folder / state_file).exists()
            yield take_over
    except ValueError:
        if is_own:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        if locked and all(path.name == LOCK_FILE for path in folder.glob("*")):
            _remove_lock(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _remove_lock(folder: Path) -> None:
    """Remove the lock that this process held, and its folder if there is nothing else in it."""
    with suppress(OSError):  # files of others stay, or the next process is there already
        (folder / LOCK_FILE).unlink(missing_ok=True)
        folder.rmdir()


def _start_anew(work: Path) -> None:
    if work.is_symlink():
        raise ValueError(f"Expected a folder at {str(work)!r}, found a link. Remove it.")
    if work.exists():
        shutil.rmtree(work)

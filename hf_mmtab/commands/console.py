"""What a command says to the person who started it, apart from the log."""

import errno
import logging
import os
import platform
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import FrameType

import datasets.utils
import huggingface_hub.constants
import huggingface_hub.utils
import polars as pl
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers.utils.logging import disable_progress_bar

from ..data.image_text_loading import LISTED
from ..hardware import fit_threads
from ..progress import make_bars_plain

# Of input or files, and so for a person: a configuration with an impossible value; a weights file that is damaged, or a
# full disk (the last two of libraries that raise types of their own).
FOR_A_PERSON = (ValueError, OSError, ImportError, StrictDataclassError, SafetensorError)
# What tells of a full disk or of too little memory: torch's and polars' own types, beside those above.
OF_MACHINE = (MemoryError, RuntimeError, pl.exceptions.PolarsError)
# A full disk, as numpy, torch, safetensors and polars tell it, whose errors carry no number of the system.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_PLACE = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS)
_SAYS_NO_ROOM = re.compile(
    r"no space left|disk quota exceeded|file too large|\d+ requested and \d+ written|unexpected pos \d+ vs",
    re.IGNORECASE,
)
_SAYS_NO_MEMORY = re.compile(
    r"can't allocate memory|out of memory|Unable to allocate|bad_alloc|can't start new thread", re.IGNORECASE
)
_SAYS_TOO_MANY_FILES = re.compile(r"too many open files", re.IGNORECASE)
_NO_SCRATCH = "No usable temporary directory found in"  # as `tempfile` says it
# Command → what the same one does after it was ended; the others start anew.
GOES_ON = {
    "pretrain": "goes on, training from its last checkpoint",
    "finetune": "goes on, training from its last checkpoint",
    "prepare": "goes on where it stopped",
    "push_to_hub": "sends what the Hub does not have yet",
}
REPORTED = ("hf-mmtab", "torch", "transformers", "datasets", "accelerate")


def say(text: str, speaks: bool = True) -> None:
    """Write a line to standard output, on the process that speaks."""
    if speaks:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def rank() -> int:
    """Return the number of this process among those that one launcher started."""
    return int(os.environ.get("RANK", "0"))


def counted(number: int, one: str, several: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {one if number == 1 else several}"


def left_out(skipped: int, used: int | None = None) -> str:
    """Return how many bad records were left out, as the end of a line; empty: none. The log lists the first of them.

    Args:
        skipped: how many.
        used: how many others there were; None: not known.
    """
    share = "" if used is None else f", {skipped / max(skipped + used, 1):.0%} of all"
    listed = "listed above" if skipped <= LISTED else f"the first {LISTED} are listed above"
    return f", {counted(skipped, 'bad record', 'bad records')} left out{share} ({listed})" if skipped else ""


def parameters(number: int) -> str:
    """Return a number of weights: in millions, small ones as they are."""
    return f"{number / 1e6:.2f} M" if number >= 1e6 else f"{number:,}"


def start_logging() -> None:
    """Show what this package logs from INFO on, transformers and the rest warnings; fit the threads to the cores.

    The bars of transformers for reading and writing weights are left out: training has its own. Those of datasets and
    of the Hub are plain lines where the output is no terminal.
    """
    disable_progress_bar()
    for library in (datasets.utils, huggingface_hub.utils):
        make_bars_plain(library.tqdm)
    logger = logging.getLogger("hf_mmtab")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
        logger.propagate = False
    fit_threads()


class Terminated(KeyboardInterrupt):
    """The system, a job scheduler or a launcher asks this process to end (SIGTERM)."""


@contextmanager
def _told_to_end() -> Iterator[None]:
    """Raise `Terminated` at SIGTERM within a block, so that it ends like one at Ctrl-C; processes forked there end."""
    owner = os.getpid()

    def end(number: int, _: FrameType | None) -> None:
        if os.getpid() == owner:
            raise Terminated
        os._exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run(command: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> None:
    """Run a command for a person: of an error in input or files the message alone, and exit status 1 (130: Ctrl-C, 143:
    SIGTERM).

    With the environment variable `HF_MMTAB_TRACEBACK=1` the whole traceback is shown.
    """
    speaks = rank() == 0  # of several processes one is enough
    try:
        with _told_to_end():
            command(arguments)
    except (*FOR_A_PERSON, *OF_MACHINE) as error:
        of_machine = _of_machine(error)
        if os.environ.get("HF_MMTAB_TRACEBACK") or not (of_machine or isinstance(error, FOR_A_PERSON)):
            raise
        cause = error.__cause__ if isinstance(error, StrictDataclassError) and error.__cause__ else error
        if speaks:
            shown = "(HF_MMTAB_TRACEBACK=1 shows where in the code.)"
            sys.stderr.write(f"\n{of_machine or f'{type(cause).__name__}: {cause}'}\n{shown}\n")
        raise SystemExit(1) from error
    except KeyboardInterrupt as error:
        ended, status = ("Terminated", 143) if isinstance(error, Terminated) else ("Interrupted", 130)
        if speaks:
            then = GOES_ON.get(command.__module__.rpartition(".")[2], "starts anew")
            sys.stderr.write(f"\n{ended}. The same command {then}.\n")
        raise SystemExit(status) from error


def _of_machine(error: BaseException) -> str | None:
    """Return what to say of a full disk or too little memory, also behind another error, of a place that refuses, or of
    a name that is too long; None: it is none of them.
    """
    number = getattr(error, "errno", None)
    if number in _NO_PLACE and isinstance(error, OSError) and (variable := _cache_at(error)) is not None:
        return (
            f"{type(error).__name__}: Expected a folder for caches that can be made and written, found "
            f"{str(error.filename)!r}, which takes none ({error.strerror}). Name another one in {variable}, and run "
            "the same command again."
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS) and isinstance(error, OSError):
        return (
            f"PermissionError: Expected a place that this user may read and write, found {str(error.filename)!r}, "
            "which refuses it. Choose another one, or change its rights (HF_HOME says where caches are)."
        )
    if number == errno.ENOENT and isinstance(error, FileNotFoundError) and error.filename:
        return (
            f"FileNotFoundError: Expected a file or folder at {str(error.filename)!r}, found none (any more). Put it "
            "back, and run the same command again."
        )
    if number == errno.ENOENT and isinstance(error, FileNotFoundError) and _NO_SCRATCH in str(error):
        return (
            "FileNotFoundError: Expected a folder for temporary files that can be written and has room, found none "
            f"({str(error).partition(_NO_SCRATCH)[2].strip()}). Name one in TMPDIR, and run the same command again."
        )
    if number == errno.ENOTDIR and isinstance(error, NotADirectoryError):
        return (
            f"NotADirectoryError: Expected a folder above {str(error.filename)!r}, found a file there. Choose another "
            "place, or move the file (HF_HOME says where caches are)."
        )
    if number == errno.ENAMETOOLONG:
        return f"OSError: Expected names of files of at most 255 bytes, found a longer one ({error}). Shorten it."
    notes: list[str] = getattr(error, "__notes__", [])[-1:]  # the outermost folder that the command holds
    seen: list[BaseException] = []
    behind: BaseException | None = error
    while behind is not None and behind not in seen:
        # An error of ours about bad input may quote any words.
        said = "" if isinstance(behind, ValueError) else str(behind)
        if getattr(behind, "errno", None) in _NO_ROOM or _SAYS_NO_ROOM.search(said):
            return (
                "OSError: Expected room for what this command writes, found that the disk is full, or a limit on it is "
                f"reached ({', '.join([_first_line(behind), *notes])}). What was finished is kept: make room and run "
                "the same command again."
            )
        if getattr(behind, "errno", None) in (errno.EMFILE, errno.ENFILE) or _SAYS_TOO_MANY_FILES.search(said):
            return (
                "OSError: Expected to open the files that this command needs, found a limit on how many may be open "
                f"({', '.join([_first_line(behind), *notes])}). Raise it (`ulimit -n 4096`), and run the same command "
                "again."
            )
        if isinstance(behind, MemoryError) or _SAYS_NO_MEMORY.search(said):
            return (
                f"MemoryError: Expected memory for model and batch, found too little ({_first_line(behind)}). Lower "
                "per_device_train_batch_size, per_device_eval_batch_size or the sizes of the model, or raise a limit "
                "on this process (`ulimit -a` shows them)."
            )
        seen.append(behind)
        behind = behind.__cause__ or (None if behind.__suppress_context__ else behind.__context__)
    return None


def _cache_at(error: OSError) -> str | None:
    """Return the variable that says where a folder of caches is that cannot be used; None: it is none.

    The system names the folder, a file inside, or a folder above that cannot be made.
    """
    places = {
        "HF_DATASETS_CACHE": datasets.config.HF_DATASETS_CACHE,
        "HF_HUB_CACHE": huggingface_hub.constants.HF_HUB_CACHE,
        "HF_MODULES_CACHE": datasets.config.HF_MODULES_CACHE,
        "HF_HOME": huggingface_hub.constants.HF_HOME,
    }
    asked = Path(os.path.abspath(str(error.filename)))
    for name, place in places.items():
        cache = Path(os.path.abspath(place))
        if error.errno == errno.ENOENT and cache.exists():  # a file in it is gone, which is another matter
            continue
        if asked.is_relative_to(cache) or (cache.is_relative_to(asked) and not cache.exists()):
            return name if name in os.environ else "HF_HOME"
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300]


@cache
def versions() -> dict[str, str]:
    """Return the versions that a run depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in REPORTED}}

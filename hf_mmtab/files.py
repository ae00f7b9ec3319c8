"""Files that are there whole or not at all."""

import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np

PARTIAL_SUFFIX = ".hf_mmtab-partial"  # nobody else's files are called so

# Called before a file gets a name, with the path and this file: an error refuses it. Called before a file is removed,
# with the path and None: False keeps it.
Look = Callable[[Path, Path | None], bool]
_LOOK: ContextVar[Look | None] = ContextVar("look", default=None)


@contextmanager
def looked_at(look: Look) -> Iterator[None]:
    """Call a function, within a block, before a whole file gets its name and before one is removed."""
    token = _LOOK.set(look)
    try:
        yield
    finally:
        _LOOK.reset(token)


def give_name(source: Path, target: Path) -> None:
    """Flush a file to disk and rename it; one of this name is replaced."""
    with open(source, "rb+") as file:
        os.fsync(file.fileno())
    os.chmod(source, _mode())
    if look := _LOOK.get():
        look(target, source)
    os.replace(source, target)


def _mode() -> int:
    """Return the rights of a new file as this process wants them now; safetensors gives them to the owner alone."""
    umask = os.umask(0o077)
    os.umask(umask)
    return 0o666 & ~umask


def remove_file(path: Path) -> None:
    """Remove a file, if it is there and no block in which this happens wants it to stay."""
    look = _LOOK.get()
    if os.path.lexists(path) and (look is None or look(path, None)):
        path.unlink()


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a path beside `path` to write to; what was written replaces `path` when the block ends without error.

    The content is flushed to disk before it gets its name, so that a killed process or a power cut leaves the old file
    or the new one. Folders above are made. The name of the file beside is always the same, so that a later start
    replaces what a killed one left.

    Raises:
        OSError: if the system makes no file there.
    """
    target = Path(path)
    make_folder(target.parent)
    partial = target.with_name(f".{target.name}{PARTIAL_SUFFIX}")
    partial.unlink(missing_ok=True)  # a link would be followed
    try:
        yield partial
        give_name(partial, target)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(partial):
            raise _no_place(target, error) from error
        raise


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where there are none.

    Raises:
        OSError: if the system makes none there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_place(folder, error) from error


def _no_place(path: Path, error: OSError) -> OSError:
    place = next(one for one in (path, *path.parents) if os.path.lexists(one))
    reason = error.strerror if place.exists() else "a link that leads nowhere"
    return OSError(
        f"Expected a place where files can be made, found that {str(place)!r} takes none ({reason}). "
        "Choose another one."
    )


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """Write a text (UTF-8) or bytes as a whole file."""
    with whole_file(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def write_array(path: str | os.PathLike, array: np.ndarray, header: bool = False) -> None:
    """Write the numbers of an array, with `header` as numpy's .npy.

    `ndarray.tofile`, which `np.save` calls, says nothing of a disk that is full before the last of its buffers.

    Raises:
        OSError: if there is no room.
    """
    content = io.BytesIO()
    if header:
        np.save(content, array)
    Path(path).write_bytes(content.getbuffer() if header else np.ascontiguousarray(array).data)


def json_text(value: Any, **options: Any) -> str:
    """Return a value as JSON, which knows no NaN and no infinite numbers: null in their place.

    Args:
        value: of mappings, lists and plain values.
        options: of `json.dumps`.
    """
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, **options)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [*map(_finite, value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: str | os.PathLike, remedy: str) -> dict[str, Any]:
    """Read a JSON mapping; empty if there is no such file.

    Args:
        path: of the file.
        remedy: what to do about a damaged file, as a sentence.

    Raises:
        ValueError: if the file is damaged: empty, cut off, not JSON, or no mapping.
    """
    path = Path(path)
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__} instead of a mapping")
    except (ValueError, RecursionError, IsADirectoryError) as error:
        reason = str(error) if path.is_dir() or path.stat().st_size else "an empty file"
        raise ValueError(f"Expected a JSON mapping in {str(path)!r}, found {reason}. {remedy}") from error
    return content


def require_size(path: Path, size: int, remedy: str) -> None:
    """Raise a ValueError unless a file is there and has as many bytes as were written.

    Args:
        path: of the file.
        size: in bytes.
        remedy: what to do about it, as a sentence.
    """
    if not path.is_file():
        what = "a folder of this name" if path.is_dir() else "no such file: it is missing"
        raise ValueError(f"Expected a file of {size:,} bytes at {str(path)!r}, found {what}. {remedy}")
    if (found := path.stat().st_size) != size:
        raise ValueError(f"Expected {size:,} bytes in {str(path)!r}, found {found:,}: the file is damaged. {remedy}")


def file_digest(path: Path) -> str:
    """Return the hash of a file as lists of files have it."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL_SUFFIX = ".partial"


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a path beside `path` to write to; what was written replaces `path` when the block ends without error.

    The content is flushed to disk before it gets its name, so that a killed process or a power cut leaves the old file
    or the new one. Folders above are made. The name of the file beside is always the same, so that a later start
    replaces what a killed one left.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}{PARTIAL_SUFFIX}")
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """Write a text (UTF-8) or bytes as a whole file."""
    with whole_file(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)

"""Where a table's files lie: on this machine, or on a store that fsspec reaches (`s3://`, `gs://`, `hf://` …)."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import fsspec

_PROTOCOL = re.compile(r"^([a-z][a-z0-9+.-]+)://")


class FileStatus(NamedTuple):
    """What tells one version of a file from another: its size, and a number made of its time or its hash."""

    st_size: int
    st_mtime_ns: int


@dataclass(frozen=True, order=True)
class RemotePath:
    """A file or folder on a store: what the readers of tables ask of a `Path`.

    Args:
        url: with its protocol.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """Behind the last slash."""
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> "RemotePath":
        """The folder that holds it."""
        return RemotePath(self.url.rstrip("/").rpartition("/")[0])

    def _store(self) -> tuple[Any, str]:
        try:
            return fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise ValueError(f"Expected a store that fsspec can reach, found {self.url!r}: {error}") from error

    def open(self, mode: str = "rb") -> BinaryIO:
        """Open the file for reading bytes."""
        store, path = self._store()
        return store.open(path, mode)

    def exists(self) -> bool:
        """Whether there is a file or folder of that name."""
        store, path = self._store()
        return store.exists(path)

    def is_file(self) -> bool:
        """Whether it is a file."""
        store, path = self._store()
        return store.isfile(path)

    def files(self) -> list["RemotePath"]:
        """Return the files of this folder, by name."""
        store, path = self._store()
        found = store.ls(path, detail=True) if store.isdir(path) else []
        names = sorted(one["name"].rstrip("/").rpartition("/")[2] for one in found if one["type"] == "file")
        return [RemotePath(f"{self.url.rstrip('/')}/{name}") for name in names]

    def stat(self) -> FileStatus:
        """Return size and version of the file."""
        store, path = self._store()
        facts = store.info(path)
        version = [facts.get(key) for key in ("ETag", "etag", "md5Hash", "LastModified", "mtime", "updated", "blob_id")]
        digest = hashlib.sha256(repr(version).encode()).digest()
        return FileStatus(int(facts.get("size") or 0), int.from_bytes(digest[:7], "big"))


Place: TypeAlias = Path | RemotePath


def place_of(data: Any) -> Place:
    """Return where a table lies: a URL with a protocol of fsspec stays one, `file://` and anything else is a path."""
    text = str(data)
    if text.startswith("file://"):
        return real_path(text.removeprefix("file://"))
    if _PROTOCOL.match(text):
        return RemotePath(text)
    return real_path(data)


def real_path(path: str | os.PathLike) -> Path:
    """Return where a path leads, from the root on, with `~` and links followed.

    Raises:
        ValueError: if it is a link that leads back to itself, or begins with the home of an unknown user.
    """
    try:
        return Path(path).expanduser().resolve()
    except RuntimeError as error:
        raise ValueError(
            f"Expected a file or folder at {str(path)!r}, found that it cannot be followed ({error}). Correct it."
        ) from error

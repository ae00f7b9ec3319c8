"""Where a table's files lie: on this machine, or on a store that fsspec reaches (`s3://`, `gs://`, `hf://` …)."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
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

    @contextmanager
    def _store(self) -> Iterator[tuple[Any, str]]:
        """Yield the store and the path on it; the errors of its library, which are of many types, name the remedy."""
        try:
            store = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise ValueError(f"Expected a store that fsspec can reach, found {self.url!r}: {error}") from error
        try:
            yield store
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise
        except Exception as error:
            found = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"
            raise OSError(
                f"Expected a store that answers at {self.url!r}, found {found}. Check address, network and "
                "credentials, and run the same command again."
            ) from error

    def open(self, mode: str = "rb") -> BinaryIO:
        """Open the file for reading bytes."""
        with self._store() as (store, path):
            return store.open(path, mode)

    def exists(self) -> bool:
        """Whether there is a file or folder of that name."""
        with self._store() as (store, path):
            return store.exists(path)

    def is_file(self) -> bool:
        """Whether it is a file."""
        with self._store() as (store, path):
            return store.isfile(path)

    def files(self) -> list["RemotePath"]:
        """Return the files of this folder, by name."""
        with self._store() as (store, path):
            found = store.ls(path, detail=True) if store.isdir(path) else []
        names = sorted(one["name"].rstrip("/").rpartition("/")[2] for one in found if one["type"] == "file")
        return [RemotePath(f"{self.url.rstrip('/')}/{name}") for name in names]

    def stat(self) -> FileStatus:
        """Return size and version of the file."""
        with self._store() as (store, path):
            facts = store.info(path)
        version = [facts.get(key) for key in ("ETag", "etag", "md5Hash", "LastModified", "mtime", "updated", "blob_id")]
        digest = hashlib.sha256(repr(version).encode()).digest()
        return FileStatus(int(facts.get("size") or 0), int.from_bytes(digest[:7], "big"))


def refuse_address(out: str | os.PathLike) -> None:
    """Raise a ValueError if an output is an address on a store: outputs are written to this machine."""
    if _PROTOCOL.match(re.sub(":/+", "://", str(out), count=1)):
        raise ValueError(f"Expected an output on this machine, found the address {str(out)!r}. Give a path.")


Place: TypeAlias = Path | RemotePath


def place_of(data: Any) -> Place:
    """Return where a table lies: a URL with a protocol of fsspec stays one, `file://` and anything else is a path."""
    if not isinstance(data, str | os.PathLike):
        raise TypeError(
            f"Expected the path of a file or folder, found {type(data).__name__}. Write a table to a file first "
            "(`frame.write_parquet(path)`); a TabBertProcessor takes it as it is."
        )
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

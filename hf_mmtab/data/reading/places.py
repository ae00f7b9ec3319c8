"""Where a table's files lie: on this machine, or on a store that fsspec reaches (`s3://`, `gs://`, `hf://` …)."""

import hashlib
import io
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import fsspec
from huggingface_hub.errors import HfHubHTTPError

_PROTOCOL = re.compile(r"^([a-z][a-z0-9+.-]+)://")
_BUFFER = 1 << 20  # bytes that are asked for at least, of what fsspec holds
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}  # of the extra `stores`
logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # its errors are tracebacks, and raised as well


class StoreError(OSError):
    """Raised where a store does not answer, or refuses; what lies there may be in order."""


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
    def answers(self) -> Iterator[None]:
        """Let errors of the store's library, which are of many types, name the remedy.

        Raises:
            StoreError: in place of them, other than for a file that is not there.
        """
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, StoreError):
            raise
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()][:2]
            raise StoreError(
                f"Expected a store that answers at {self.url!r}, found {type(error).__name__}: "
                f"{' '.join(lines)[:300].rstrip('.')}. Check address, network and credentials, and run the same "
                "command again."
            ) from error

    @contextmanager
    def _store(self) -> Iterator[tuple[Any, str]]:
        """Yield the store and the path on it, see `answers`."""
        protocol = self.url.partition("://")[0]
        try:
            fsspec.get_filesystem_class(protocol)
        except ImportError as error:
            package = PACKAGES.get(protocol)
            remedy = f'Install it: `pip install "hf-mmtab[stores]"`, or {package} alone.' if package else f"{error}."
            raise ModuleNotFoundError(
                f"Expected the package {package or 'of fsspec'} that reads {self.url!r}, found none. {remedy}"
            ) from error
        except ValueError as error:
            raise ValueError(f"Expected a store that fsspec can reach, found {self.url!r}: {error}") from error
        with self.answers():
            yield fsspec.core.url_to_fs(self.url)

    def open(self, mode: str = "rb") -> BinaryIO:
        """Open the file for reading bytes."""
        with self._store() as (store, path):
            return io.BufferedReader(_StoreFile(store.open(path, mode), self), _BUFFER)

    def forget(self) -> None:
        """Let the store be asked anew: its library keeps what it was told of folders before."""
        with self._store() as (store, path):
            store.invalidate_cache(path)

    def _facts(self) -> dict[str, Any]:
        """Return what the store says of the file or folder; nothing: there is none.

        `isfile` and `isdir` of fsspec say no where the store refuses to tell.
        """
        with self._store() as (store, path):
            try:
                return store.info(path)
            except FileNotFoundError as error:
                if isinstance(error.__cause__, HfHubHTTPError):  # no such repository, or none for this token
                    raise error.__cause__ from None
                return {}

    def exists(self) -> bool:
        """Whether there is a file or folder of that name."""
        return bool(self._facts())

    def is_file(self) -> bool:
        """Whether it is a file."""
        return self._facts().get("type") == "file"

    def files(self) -> list["RemotePath"]:
        """Return the files of this folder, by name."""
        with self._store() as (store, path):
            found = store.ls(path, detail=True) if self._facts().get("type") == "directory" else []
        names = sorted(one["name"].rstrip("/").rpartition("/")[2] for one in found if one["type"] == "file")
        return [RemotePath(f"{self.url.rstrip('/')}/{name}") for name in names]

    def stat(self) -> FileStatus:
        """Return size and version of the file."""
        with self._store() as (store, path):
            facts = store.info(path)
        version = [facts.get(key) for key in ("ETag", "etag", "md5Hash", "LastModified", "mtime", "updated", "blob_id")]
        digest = hashlib.sha256(repr(version).encode()).digest()
        return FileStatus(int(facts.get("size") or 0), int.from_bytes(digest[:7], "big"))


class _StoreFile(io.RawIOBase):
    """An open file on a store, whose errors while it is read are told as those of its opening are."""

    def __init__(self, file: Any, place: RemotePath) -> None:
        self._file, self._place = file, place

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._place.answers():
            found = self._file.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


def refuse_address(place: str | os.PathLike, what: str = "an output") -> None:
    """Raise a ValueError if a place has no name, or is an address on a store: outputs lie on this machine."""
    if not str(place).strip():
        raise ValueError(f"Expected {what}, found an empty name. Give a path.")
    if _PROTOCOL.match(re.sub(":/+", "://", str(place), count=1)):
        raise ValueError(f"Expected {what} on this machine, found the address {str(place)!r}. Give a path.")


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

"""Errors of the libraries that read data, turned into errors that name the data and the remedy."""

import csv
import errno
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import datasets
import polars as pl
import pyarrow as pa

from .records import BadRecord, BadRecords

LIBRARY_ERRORS = (
    pa.ArrowException,
    pl.exceptions.PolarsError,
    csv.Error,
    zlib.error,
    EOFError,
    RecursionError,
    UnicodeError,
)

# What the system says of itself, whatever is read: a full disk, one that is read-only, too many open files.
OF_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


@contextmanager
def plain_errors(path: str | Path) -> Iterator[None]:
    """Raise what went wrong while data was read as an error of one line.

    Args:
        path: of the data.

    Raises:
        ValueError: in place of a library's error. Errors of our own come through as they are.
    """
    try:
        yield
    except datasets.exceptions.DatasetGenerationError as error:
        cause = error.__cause__ or error
        if _is_ours(cause):
            raise cause from None  # what is wrong, without the builder's wrapping
        raise _unreadable(path, cause) from error
    except Exception as error:
        if _is_ours(error):
            raise
        raise _unreadable(path, error) from error


def no_rows(data: str, skipped: Sequence[BadRecord] = (), split: str | None = None) -> ValueError:
    """Return the error of data without rows, or with none but broken ones.

    Args:
        data: the files, as the user named them.
        skipped: the records that were left out.
        split: that has no rows; None: there is only one.
    """
    of_split = "" if split is None else f" of split {split!r}"
    if not skipped:
        return ValueError(f"Expected rows{of_split} in {data!r}, found none. Give a table with rows.")
    return ValueError(
        f"Expected rows{of_split} in {data!r}, found none that can be read: {len(skipped):,} left out. The first: "
        f"{skipped[0]}"
    )


class CheckedBuilder(datasets.ArrowBasedBuilder):
    """A builder whose errors name the data, and that lists the records which it left out.

    Attributes:
        REPORT: name of the file in the cache folder that lists what was left out of a split.
    """

    REPORT: ClassVar[str]
    config: Any
    _bad: BadRecords  # how bad records are treated, and those that were met before the tables were built

    def download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        """Read the data into the cache, unless it is there; see `datasets.DatasetBuilder.download_and_prepare`.

        Raises:
            BadRecordError: at the first bad record, unless `on_bad_record="skip"`.
            ValueError: if a file has other columns than the first, or cannot be read.
        """
        with plain_errors(self.config.data_root):
            super().download_and_prepare(*args, **kwargs)

    def as_dataset(self, split: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the rows of a split, or of all of them, see `datasets.DatasetBuilder.as_dataset`.

        Raises:
            ValueError: if there are none.
        """
        built = self.info.splits or {}
        for name in list(built) if split is None else [str(split).partition("[")[0]]:  # train[:9] is of train
            if name in built and not built[name].num_examples:
                raise no_rows(self.config.data_root, self.skipped, None if len(built) == 1 else name)
        return super().as_dataset(split, *args, **kwargs)

    @property
    def skipped(self) -> list[BadRecord]:
        """The records left out under `on_bad_record="skip"`; each is a bad line, value or picture."""
        reports = [Path(self.cache_dir) / self.REPORT.format(split=split) for split in self.info.splits or ()]
        read = [json.loads(report.read_text(encoding="utf-8")) for report in reports if report.exists()]
        return [*self._bad.records, *(BadRecord(**record) for records in read for record in records)]

    def _write_skipped(self, records: Sequence[BadRecord], split: str = "train") -> None:
        folder = Path(self._output_dir)  # a draft of the cache folder while it is filled
        if records and folder.is_dir():
            text = json.dumps([record.to_dict() for record in records])
            (folder / self.REPORT.format(split=split)).write_text(text, encoding="utf-8")


def _is_ours(error: BaseException) -> bool:
    """Whether an error says already what is wrong with which file, or comes of the machine and not of the data; Arrow
    raises bare `OSError`s.
    """
    if isinstance(error, LIBRARY_ERRORS) or (type(error) is OSError and error.errno not in OF_MACHINE):
        return False
    return isinstance(error, ValueError | OSError | RuntimeError)


def _unreadable(path: str | Path, error: BaseException) -> ValueError:
    if isinstance(error, UnicodeEncodeError) and not _is_utf8(shown := str(path)):
        return ValueError(
            f"Expected names of files and folders in UTF-8, found {shown!r}. Rename the file or folder and try again."
        )
    first_line = str(error).strip().split("\n")[0][:300]
    return ValueError(
        f"Expected data that can be read, found {type(error).__name__} in {str(path)!r}: {first_line} "
        "Check the file, or write it anew."
    )


def _is_utf8(name: str) -> bool:
    """Whether a name that the system gave can be written; bytes that are no UTF-8 became surrogates."""
    return name.encode(errors="replace").decode() == name

"""Errors of the libraries that read data, turned into errors that name the data and the remedy."""

import csv
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import datasets
import polars as pl
import pyarrow as pa

from .records import BadRecord

LIBRARY_ERRORS = (
    pa.ArrowException,
    pl.exceptions.PolarsError,
    csv.Error,
    zlib.error,
    EOFError,
    RecursionError,
    UnicodeError,
)


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


def check_rows(builder: datasets.ArrowBasedBuilder, data: str, split: object, skipped: Sequence[BadRecord]) -> None:
    """Raise a ValueError if a split that is asked for was built without rows; `split` None: any."""
    built = builder.info.splits or {}
    for name in list(built) if split is None else [str(split).partition("[")[0]]:  # train[:9] is of train
        if name in built and not built[name].num_examples:
            raise no_rows(data, skipped, None if len(built) == 1 else name)


def _is_ours(error: BaseException) -> bool:
    """Whether an error says already what is wrong with which file; Arrow raises bare `OSError`s."""
    if isinstance(error, LIBRARY_ERRORS) or type(error) is OSError:
        return False
    return isinstance(error, ValueError | OSError | RuntimeError)


def _unreadable(path: str | Path, error: BaseException) -> ValueError:
    first_line = str(error).strip().split("\n")[0][:300]
    return ValueError(
        f"Expected data that can be read, found {type(error).__name__} in {str(path)!r}: {first_line} "
        "Check the file, or write it anew."
    )

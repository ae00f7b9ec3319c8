"""Errors of the libraries that read data, turned into errors that name the data and the remedy."""

import csv
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import polars as pl
import pyarrow as pa

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

"""Rows from Python that are no table: what was found in them, and what to do."""

import math
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

MOST_KINDS = 3  # of one column, in a message
MISSING = ("NoneType", "NAType", "NaTType")  # the last two are of pandas


def no_table(rows: Any) -> TypeError:
    """Return the error for an object that is no batch of rows."""
    if isinstance(rows, str | os.PathLike):
        remedy = "Read the file first, as with `polars.read_csv(...)` or `hf_mmtab.Table(...)`."
    elif isinstance(rows, np.ndarray):
        remedy = "Name its columns first: `polars.DataFrame(array, schema=[...])`."
    elif isinstance(rows, Iterable) and not isinstance(rows, bytes) and not hasattr(rows, "iloc"):
        remedy = (
            "Batches of one table go through `encode_batches(batches)` one by one; histories, each a table of its own, "
            "through `processor([table, table, ...])`."
        )
    else:
        remedy = "Pass one of these."
    return TypeError(
        "Expected rows as a pyarrow Table or RecordBatch, a polars or pandas DataFrame, a datasets.Dataset"
        f", a list of rows that are dicts or a mapping of columns to lists, found {type(rows).__name__}. {remedy}"
    )


def absent_columns(absent: Sequence[str], given: Sequence[str]) -> str:
    """Return what a message says of columns that a table lacks: which, what it has, and which of these look alike."""

    def plain(name: str) -> str:
        return unicodedata.normalize("NFC", str(name)).casefold().strip()

    near = [f"{name!a} is not {one!a}" for name in absent for one in given if plain(one) == plain(name)]
    told = f" {'; '.join(near[:3])}: upper case, blanks or the form of an accent differ." if near else ""
    return f"Expected columns {list(absent)}, found {list(given)}.{told}"


def refuse_doubled(names: Iterable[Any]) -> None:
    """Raise a ValueError if a table has a column twice."""
    if doubled := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(
            f"Expected columns with a name of their own, found {', '.join(map(repr, doubled))} more than once. Rename "
            "or drop the others."
        )


def refuse_tables(rows: Mapping[Any, Any]) -> None:
    """Raise a TypeError if a mapping has tables in place of columns, as a `datasets.DatasetDict` has."""
    if tables := [name for name, one in rows.items() if hasattr(one, "column_names") or hasattr(one, "columns")]:
        raise TypeError(
            f"Expected a mapping of columns to lists, found {len(tables)} tables (`{type(rows).__name__}`). Pass one "
            f"of them: `rows[{tables[0]!r}]`."
        )


def whole_numbers(ids: Any) -> np.ndarray:
    """Return ids from Python as an array.

    Raises:
        ValueError: if they are ragged, or no whole numbers.
    """
    try:
        array = np.asarray(ids)
    except ValueError as error:
        raise ValueError(f"Expected rows of ids, of one length, found others ({error}). Pass one window.") from error
    is_whole = array.dtype.kind in "iu" or (array.dtype.kind == "f" and bool((array == np.rint(array)).all()))
    if array.ndim and not is_whole:
        raise ValueError(f"Expected whole numbers as ids, found {array.ravel()[:1]} of {array.dtype}. Pass those.")
    return array


def mixed_cells(columns: Mapping[Any, Any], error: Exception) -> ValueError:
    """Return the error for columns of Python values that pyarrow does not take.

    Args:
        columns: name → values.
        error: what pyarrow says to them.
    """
    for name, values in columns.items():
        try:
            pa.array(values, from_pandas=True)
        except (pa.ArrowException, OverflowError, UnicodeEncodeError) as of_column:
            return ValueError(
                f"Expected numbers, texts or times in column {name!r}, all of one type, found {_kinds(values)} "
                f"({of_column}). Convert the column to one type, as with `frame[name].astype(str)` or "
                "`pandas.to_numeric(frame[name])`."
            )
    return ValueError(
        f"Expected columns of one length, each of values of one type, found others ({error}). Correct the table."
    )


def _kinds(values: Sequence[Any]) -> str:
    """Return the types of some values, each with its first value."""
    first: dict[str, Any] = {}
    for value in values:
        if not (isinstance(value, float) and math.isnan(value)):
            first.setdefault(type(value).__name__, value)
    shown = [f"{kind} such as {str(value)[:40]!r}" for kind, value in first.items() if kind not in MISSING]
    return " and ".join(shown[:MOST_KINDS]) or "none"

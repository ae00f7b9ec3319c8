"""Scores of two classes from a file of predictions, of a run or of `predict`."""

from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl

from .blocks import ROW, EncodedTable

ROUNDED = 2e-6  # numbers as times are written in whole millionths
READERS: dict[str, Callable[[IO[bytes]], pl.DataFrame]] = {
    ".parquet": pl.read_parquet,
    ".jsonl": pl.read_ndjson,
    ".csv": pl.read_csv,
}


def positive_scores(path: Path) -> np.ndarray:
    """Return the probability of the second class of each row, `(rows,)` float64.

    Raises:
        ValueError: if the file holds no scores of two classes.
    """
    table = _read(path)
    classes = [name for name in table.columns if name.startswith("probability_")]
    name = "score" if "score" in table.columns else classes[1] if len(classes) == 2 else None
    scores = None if name is None else table[name].cast(pl.Float64, strict=False).drop_nulls().to_numpy()
    if scores is None or not len(scores):
        raise ValueError(
            f"Expected columns probability_NAME of two classes in {str(path)!r}, found {', '.join(table.columns)}. "
            "Scores of other models are not compared: leave --scores out."
        )
    return scores


def refuse_other_scores(path: Path, table: EncodedTable, name: str) -> None:
    """Raise a ValueError unless predictions are of the rows of a table, as far as row numbers and times tell.

    Args:
        path: of the predictions.
        table: encoded, with its typed rows.
        name: of the table, for the message.
    """
    scores, rows, time = _read(path), table.rows, table.processor.plan.time
    if ROW not in scores.columns:
        return
    scores = scores.filter(pl.col(ROW).is_not_null())
    numbers = scores[ROW].cast(pl.Int64).to_numpy()
    found = None
    if len(numbers) and numbers.max() >= len(rows):
        found = f"row {int(numbers.max()):,} of {len(rows):,}"
    elif time != ROW and time in scores.columns:
        own, theirs = pl.Series(table.dataset[numbers.tolist()][time]), scores[time]
        if not own.dtype.is_numeric():  # the same moments, however they are written
            by_number = np.empty(len(rows), dtype=np.int64)
            by_number[np.arange(len(rows)) if rows.row_numbers is None else np.array(rows.row_numbers)] = rows.time
            own = pl.Series(by_number[numbers])
            theirs = theirs.str.to_datetime(strict=False) if theirs.dtype == pl.String else theirs
            theirs = theirs.cast(pl.Datetime("us"), strict=False).cast(pl.Int64)
        apart = (own.cast(pl.Float64) - theirs.cast(pl.Float64, strict=False)).abs()
        if (other := (apart > ROUNDED).fill_null(False)).any():
            found = f"another {time} in row {int(numbers[other.arg_max()]):,}"
    if found is not None:
        raise ValueError(
            f"Expected the scores that `predict` wrote for {name}, found those of another table in {str(path)!r}: "
            f"{found}. Name the file of this table, or leave --scores out."
        )


def _read(path: Path) -> pl.DataFrame:
    if path.suffix not in READERS or not path.is_file():
        raise ValueError(f"Expected a file of predictions ({', '.join(READERS)}), found {str(path)!r}.")
    try:
        with open(path, "rb") as file:  # polars takes [ and * in a path for a pattern
            return READERS[path.suffix](file)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"Expected predictions in {str(path)!r}, found a damaged file: {error}.") from error

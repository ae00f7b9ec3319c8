"""Scores of two classes from a file of predictions, of a run or of `predict`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from ...data.encoded_rows import EncodedRows

READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
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


def refuse_other_scores(path: Path, rows: EncodedRows, time: str | None, name: str) -> None:
    """Raise a ValueError unless predictions are of the rows of a table, as far as row numbers and times tell.

    Args:
        path: of the predictions.
        rows: of the table, encoded.
        time: name of its time column.
        name: of the table, for the message.
    """
    table = _read(path)
    if "row" not in table.columns:
        return
    numbers = table["row"].cast(pl.Int64, strict=False).drop_nulls().to_numpy()
    found = f"row {int(numbers.max()):,} of {len(rows):,}" if len(numbers) and numbers.max() >= len(rows) else None
    if found is None and time in table.columns:
        by_number = np.empty(len(rows), dtype=np.int64)
        by_number[np.arange(len(rows)) if rows.row_numbers is None else np.array(rows.row_numbers)] = rows.time
        read = table[time]
        read = read.str.to_datetime(strict=False) if read.dtype == pl.String else read
        theirs = read.cast(pl.Datetime("us") if read.dtype.is_temporal() else pl.Int64, strict=False).cast(pl.Int64)
        if (other := theirs.is_not_null().to_numpy() & (theirs.fill_null(0).to_numpy() != by_number[numbers])).any():
            found = f"another {time} in row {int(numbers[other.argmax()]):,}"
    if found is not None:
        raise ValueError(
            f"Expected the scores that `predict` wrote for {name}, found those of another table in {str(path)!r}: "
            f"{found}. Name the file of this table, or leave --scores out."
        )


def _read(path: Path) -> pl.DataFrame:
    if path.suffix not in READERS or not path.is_file():
        raise ValueError(f"Expected a file of predictions ({', '.join(READERS)}), found {str(path)!r}.")
    try:
        return READERS[path.suffix](path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"Expected predictions in {str(path)!r}, found a damaged file: {error}.") from error

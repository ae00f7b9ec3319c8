"""Scores of two classes from a file of predictions, of a run or of `predict`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

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
    if path.suffix not in READERS or not path.is_file():
        raise ValueError(f"Expected a file of predictions ({', '.join(READERS)}), found {str(path)!r}.")
    try:
        table = READERS[path.suffix](path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"Expected predictions in {str(path)!r}, found a damaged file: {error}.") from error
    classes = [name for name in table.columns if name.startswith("probability_")]
    name = "score" if "score" in table.columns else classes[1] if len(classes) == 2 else None
    scores = None if name is None else table[name].cast(pl.Float64, strict=False).drop_nulls().to_numpy()
    if scores is None or not len(scores):
        raise ValueError(
            f"Expected columns probability_NAME of two classes in {str(path)!r}, found {', '.join(table.columns)}."
        )
    return scores

"""What each input contributes: evaluate with one input blanked or taken from another row, and see how far
scores fall.

Blanking asks what is lost without the input; shuffling keeps the input's own distribution, so the fall is not
owed to the model never having seen an empty one. A blank input that another one makes up for costs little,
and is used all the same; a fall near 0 under both means that the model hardly uses it.

    >>> table = ablation_table(evaluate_rows, test, {"image": ["image"], "text": ["text"]})
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np

HOWS = ("blank", "shuffle")


@dataclass(frozen=True)
class AblationRow:
    """One number of an ablation. `fall` is intact minus ablated: for an error such as RMSE, negative is
    worse.
    """

    modality: str
    how: str
    metric: str
    value: float
    intact: float

    @property
    def fall(self) -> float:
        """How much the metric drops without this input."""
        return self.intact - self.value


class AblatedRows(Sequence[dict[str, Any]]):
    """Rows in which some columns come from another row (`donors`) or are blank (`donors` is None).

    Args:
        rows: a sequence of dicts.
        columns: the columns to replace.
        donors: for each row the row that gives the columns, shape `(rows,)`.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], donors: np.ndarray | None):
        self.rows, self.columns, self.donors = rows, tuple(columns), donors

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]  # negative from the end, IndexError past it
        row = dict(self.rows[index])
        if self.donors is None:
            return row | {name: "" if isinstance(row[name], str) else None for name in self.columns}
        donor = self.rows[int(self.donors[index])]
        return row | {name: donor[name] for name in self.columns}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))


def ablate(rows: Any, columns: Sequence[str], how: str = "blank", seed: int = 0) -> Any:
    """Return the rows with some columns blanked, or each taken from another row.

    Blank is `""` for text and None for everything else (a missing picture, a missing cell). Shuffled columns
    all come from the same other row, by one seeded cycle through all rows: every row is used once, none keeps
        its own.

    Args:
        rows: a `datasets.Dataset`, or any sequence of dicts. Labels are best left alone.
        columns: for example `["image"]` or `["sentence1", "sentence2"]`.
        how: "blank" or "shuffle".
        seed: of the shuffling.

    Returns:
        A `datasets.Dataset` with the same features for a Dataset, else `AblatedRows`.

    Raises:
        ValueError: if `how` is neither, a column is missing, or there are fewer than two rows to shuffle.
    """
    if how not in HOWS:
        raise ValueError(f"how must be 'blank' or 'shuffle', got {how!r}.")
    is_dataset = isinstance(rows, datasets.Dataset)
    present = rows.column_names if is_dataset else list(rows[0]) if len(rows) else list(columns)
    if missing := [name for name in columns if name not in present]:
        raise ValueError(f"Expected columns {missing} in the rows to ablate, found {sorted(present)}.")
    donors = other_rows(len(rows), seed) if how == "shuffle" else None
    if not is_dataset:
        return AblatedRows(rows, columns, donors)
    kept = rows.remove_columns(list(columns))
    if donors is None:
        given = datasets.Dataset.from_dict(
            {name: [_blank_of(rows.features[name])] * len(rows) for name in columns},
            features=datasets.Features({name: rows.features[name] for name in columns}),
        )
    else:
        given = rows.select_columns(list(columns)).select(donors)
    return datasets.concatenate_datasets([kept, given], axis=1).select_columns(rows.column_names)


def _blank_of(feature: Any) -> str | None:
    is_text = isinstance(feature, datasets.Value) and feature.dtype in ("string", "large_string")
    return "" if is_text else None


def other_rows(num_rows: int, seed: int) -> np.ndarray:
    """For each row another one, each used once: one random cycle through all rows, shape `(num_rows,)`."""
    if num_rows < 2:
        raise ValueError(f"Shuffling needs at least two rows, found {num_rows}.")
    order = np.random.default_rng(seed).permutation(num_rows)
    donors = np.empty(num_rows, dtype=np.int64)
    donors[order] = np.roll(order, 1)
    return donors


def ablation_table(
    evaluate_rows: Callable[[Any], Mapping[str, float]],
    rows: Any,
    modalities: Mapping[str, Sequence[str]],
    metrics: Sequence[str] | None = None,
    hows: Sequence[str] = HOWS,
    seed: int = 0,
    intact: Mapping[str, float] | None = None,
) -> list[AblationRow]:
    """Evaluate intact, then with each modality blanked and shuffled.

    Args:
        evaluate_rows: rows → metrics. It must not tune anything on the ablated rows (keep the saved
            thresholds).
        rows: the rows to evaluate on, see `ablate`.
        modalities: name → its columns, e.g. `{"image": ["image"], "text": ["sentence1", "sentence2"]}`.
        metrics: which numbers to keep; default: all that `evaluate_rows` gives for the intact rows.
        hows: which of "blank" and "shuffle".
        seed: of the shuffling.
        intact: metrics of the intact rows, if they are already known.

    Returns:
        One row per modality, way and metric, in that order. A metric that is not defined on ablated rows is
        left out.

    Raises:
        ValueError: if a metric in `metrics` is not among those of the intact rows; see also `ablate`.
    """
    whole = dict(intact if intact is not None else evaluate_rows(rows))
    names = list(whole) if metrics is None else list(metrics)
    if unknown := [name for name in names if name not in whole]:
        raise ValueError(f"Expected metrics {unknown} from the evaluation, found {sorted(whole)}.")
    table = []
    for modality, columns in modalities.items():
        for how in hows:
            found = evaluate_rows(ablate(rows, columns, how, seed))
            table += [AblationRow(modality, how, n, found[n], whole[n]) for n in names if n in found]
    return table

"""What each input contributes: evaluate with one input blanked or taken from another row, and see how far
scores fall.

Blanking asks what is lost without the input; shuffling keeps the input's own distribution, so the fall is not
owed to the model never having seen an empty one. A blank input that another one makes up for costs little,
and is used all the same; a fall near 0 under both means that the model hardly uses it.

    >>> table = ablation_table(evaluate_rows, test, {"image": ["image"], "text": ["text"]})
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np

HOWS = ("blank", "shuffle")


@dataclass(frozen=True)
class AblationRow:
    """One number of an ablation. `fall` is intact minus ablated: for an error such as RMSE, negative is worse."""

    modality: str
    how: str
    metric: str
    value: float
    intact: float

    @property
    def fall(self) -> float:
        """How much the metric drops without this input."""
        return self.intact - self.value


def ablate(rows: datasets.Dataset, columns: Sequence[str], how: str = "blank", seed: int = 0) -> datasets.Dataset:
    """Return the rows with some columns blanked, or each taken from another row; the features stay.

    Blank is `""` for text and None for everything else (a missing picture, a missing cell). Shuffled columns
    all come from the same other row, by one seeded cycle through all rows: every row is used once, none keeps
        its own.

    Args:
        rows: labels in them are best left alone.
        columns: for example `["image"]` or `["sentence1", "sentence2"]`.
        how: "blank" or "shuffle".
        seed: of the shuffling.

    Raises:
        ValueError: if `how` is neither, a column is missing, or there are fewer than two rows to shuffle.
    """
    if how not in HOWS:
        raise ValueError(f"how must be 'blank' or 'shuffle', got {how!r}.")
    if missing := [name for name in columns if name not in rows.column_names]:
        raise ValueError(f"Expected columns {missing} in the rows to ablate, found {sorted(rows.features)}.")
    kept, given = rows.remove_columns(list(columns)), rows.select_columns(list(columns))
    if how == "shuffle":
        given = given.select(other_rows(len(rows), seed))
    else:
        texts = ("string", "large_string")
        blank = {name: "" if getattr(rows.features[name], "dtype", "") in texts else None for name in columns}
        values = {name: [value] * len(rows) for name, value in blank.items()}
        given = datasets.Dataset.from_dict(values, features=given.features)
    return datasets.concatenate_datasets([kept, given], axis=1).select_columns(rows.column_names)


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

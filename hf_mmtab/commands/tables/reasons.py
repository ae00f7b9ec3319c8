"""`predict --explain` for tables: the reasons for each judged row that a person will look at."""

from typing import Any

import numpy as np
import pyarrow as pa

from ...data.windows import WindowDataset
from ...evaluation.scored_rows import JudgedRows
from ...explaining.reason_columns import reason_columns
from ...metrics import decide, probabilities_from_logits
from ...metrics.names import label_names
from ..runs.shown_reasons import explain_judged
from .blocks import EncodedTable


def rows_to_explain(logits: np.ndarray, config: Any) -> np.ndarray:
    """Return which of the predictions `(n, num_labels)` are explained: of two classes the positive ones, else all."""
    if config.problem_type == "regression" or config.num_labels != 2:
        return np.arange(len(logits))
    probabilities = probabilities_from_logits(logits, config.problem_type)
    return np.flatnonzero(decide(probabilities, config.problem_type, config.threshold))


def table_reasons(
    count: int, model: Any, table: EncodedTable, windows: WindowDataset, judged: JudgedRows, logits: np.ndarray
) -> dict[str, pa.Array]:
    """Return the columns of reasons for the judged rows of some windows.

    Args:
        count: reasons for each row.
        model: a head, in evaluation mode.
        table: whose rows the windows hold.
        windows: that were scored.
        judged: rows of the windows, in the order of `logits`.
        logits: `(n, num_labels)`.
    """
    found: list[Any] = [None] * len(logits)
    for number in rows_to_explain(logits, model.config):
        place = int(judged.window[number]), int(judged.place[number])
        found[number] = explain_judged(model, table.processor, table.dataset, windows, *place)
    return reason_columns(found, count)


def reasons_sentence(explained: int, chosen: int, count: int, config: Any, unit: str = "rows") -> str:
    """Return how many predictions have reasons, and why others have none.

    Args:
        explained: predictions with a reason.
        chosen: predictions that `rows_to_explain` returned.
        count: all predictions.
        config: names the labels.
        unit: what was predicted, in the plural.
    """
    if config.problem_type == "regression" or config.num_labels != 2:
        return f"{explained:,} of {count:,} {unit} have reasons"
    called = f"{chosen:,} of {count:,} {unit} are called {label_names(config)[1]}"
    return f"{called}, {explained:,} of them have reasons" if chosen else f"{called}, so that no reasons are written"

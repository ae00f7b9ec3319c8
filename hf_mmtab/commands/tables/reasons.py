"""`predict --explain` for tables: the reasons for each judged row that a person will look at."""

from typing import Any

import numpy as np
import pyarrow as pa

from ...data.windows import WindowDataset
from ...evaluation.scored_rows import JudgedRows
from ...explaining.reason_columns import reason_columns
from ...metrics import decide, probabilities_from_logits
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

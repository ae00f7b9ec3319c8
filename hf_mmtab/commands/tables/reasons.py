"""`predict --explain` for tables: the reasons for each judged row that a person will look at."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ...data.windows import WindowDataset
from ...evaluation.scored_rows import JudgedRows
from ...explaining.explain import cells_as_read
from ...explaining.reason_columns import reason_columns
from ...explaining.tables import explain_window
from ...metrics import decide, probabilities_from_logits
from ...models.tabbert.collating_tabbert import TabBertCollator
from .blocks import EncodedTable
from .window_blocks import MODEL_INPUTS


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
    collator = TabBertCollator(table.processor)
    found: list[Any] = [None] * len(logits)
    for number in rows_to_explain(logits, model.config):
        window = int(judged.window[number])
        batch = collator(windows.__getitems__([window]))
        inputs = {name: batch[name].to(model.device) for name in MODEL_INPUTS if name in batch}
        start, length = int(windows.index.start[window]), int(windows.index.length[window])
        read = table.dataset.select(table.numbers(np.arange(start, start + length)).tolist()).to_list()
        with torch.inference_mode(False):
            found[number] = explain_window(
                model,
                table.processor,
                inputs,
                int(judged.place[number]),
                1 if model.config.num_labels == 2 and model.config.problem_type != "regression" else None,
                cells_as_read(read, table.processor.plan),
            )
    return reason_columns(found, count)

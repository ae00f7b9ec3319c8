"""The reasons for single predictions: those that a report shows, asked for row by row, and those beside scored rows."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from transformers import AutoModelForSequenceClassification, AutoProcessor

from ...data.windows.cutting import WindowDataset
from ...evaluation.decoded_histories import DecodedHistories
from ...evaluation.scored_rows import JudgedRows
from ...explaining.explain import cells_as_read, explain
from ...explaining.explanation import Explanation
from ...explaining.reason_columns import reason_columns
from ...explaining.tables import explain_window
from ...metrics import decide, probabilities_from_logits
from ...metrics.names import label_names
from ...models.tabbert.collating_tabbert import MODEL_INPUTS, TabBertCollator
from ...reports.facts import TellReasons
from ..tables.blocks import EncodedTable

REASONS = 3  # shown of each row


def explain_judged(
    model: Any,
    processor: Any,
    dataset: datasets.Dataset,
    windows: WindowDataset,
    window: int,
    place: int,
    label: int | None = None,
) -> Explanation:
    """Explain the score of a judged row of a table.

    Args:
        model: a head, in evaluation mode.
        processor: that made the ids.
        dataset: the typed rows.
        windows: of the encoded rows.
        window: number of the one that judges the row.
        place: of the row in it.
        label: number of the label or target; None: the predicted one. Of two classes it is always the positive one.
    """
    batch = TabBertCollator(processor)(windows.__getitems__([window]))
    inputs = {name: batch[name].to(model.device) for name in MODEL_INPUTS if name in batch}
    start, numbers = int(windows.index.start[window]), windows.rows.row_numbers
    read = np.arange(start, start + int(windows.index.length[window]))
    rows = dataset.select((read if numbers is None else np.array(numbers[read])).tolist()).to_list()
    label = 1 if model.config.num_labels == 2 and model.config.problem_type != "regression" else label
    with torch.inference_mode(False):
        return explain_window(model, processor, inputs, place, label, cells_as_read(rows, processor.plan))


def of_table(checkpoint: str, processor: Any, histories: DecodedHistories) -> TellReasons:
    """Return what tells the reasons for a scored row, by its place among them, and a label."""
    load = cache(lambda: AutoModelForSequenceClassification.from_pretrained(checkpoint, dtype="float32").eval())

    def reasons(i: int, label: int | None) -> list[str]:
        place = histories.judged(i)
        return _told(explain_judged(load(), processor, histories.all_columns, histories.windows, *place, label))

    return reasons


def of_pictures(checkpoint: str, rows: Sequence[Mapping[str, Any]]) -> TellReasons:
    """Return what tells the reasons for a row's score, by its place, and a label."""
    kinds: tuple[Any, ...] = (AutoModelForSequenceClassification, AutoProcessor)
    load = cache(lambda: [kind.from_pretrained(checkpoint) for kind in kinds])

    def reasons(i: int, label: int | None) -> list[str]:
        model, processor = load()
        row = dict(rows[i])
        row |= {} if {"image", "images"} & set(row) else {"image": None}  # data without pictures
        row |= {} if {"text", "sentence1"} & set(row) else {"text": ""}
        return _told(explain(model.eval(), processor, row, label))

    return reasons


def _told(explanation: Explanation) -> list[str]:
    """Return what the score is, and the strongest reasons for and against it."""
    strongest = sorted(explanation.reasons, key=lambda reason: -abs(reason.attribution))[:REASONS]
    told = [f"{one} {_added(one.attribution)}" for one in strongest if one.attribution]
    return [f"{explanation.explains}:", *told] if told else []


def _added(value: float) -> str:
    return f"{value:{'+,.0f' if abs(value) >= 10 else '+.2g'}}".replace("-", "−")


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

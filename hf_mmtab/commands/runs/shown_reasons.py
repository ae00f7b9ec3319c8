"""The reasons for single predictions that a report shows: asked for row by row, from the saved model."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import datasets
import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoProcessor

from ...data.windows import WindowDataset
from ...evaluation.decoded_histories import DecodedHistories
from ...explaining.explain import cells_as_read, explain
from ...explaining.explanation import Explanation
from ...explaining.tables import explain_window
from ...models.tabbert.collating_tabbert import MODEL_INPUTS, TabBertCollator

REASONS = 3  # shown of each row


def explain_judged(
    model: Any, processor: Any, dataset: datasets.Dataset, windows: WindowDataset, window: int, place: int
) -> Explanation:
    """Explain the score of a judged row of a table: of two classes for the positive one, else for the predicted one.

    Args:
        model: a head, in evaluation mode.
        processor: that made the ids.
        dataset: the typed rows.
        windows: of the encoded rows.
        window: number of the one that judges the row.
        place: of the row in it.
    """
    batch = TabBertCollator(processor)(windows.__getitems__([window]))
    inputs = {name: batch[name].to(model.device) for name in MODEL_INPUTS if name in batch}
    start, numbers = int(windows.index.start[window]), windows.rows.row_numbers
    read = np.arange(start, start + int(windows.index.length[window]))
    rows = dataset.select((read if numbers is None else np.array(numbers[read])).tolist()).to_list()
    label = 1 if model.config.num_labels == 2 and model.config.problem_type != "regression" else None
    with torch.inference_mode(False):
        return explain_window(model, processor, inputs, place, label, cells_as_read(rows, processor.plan))


def of_table(checkpoint: str, processor: Any, histories: DecodedHistories) -> Callable[[int], list[str]]:
    """Return what tells the reasons for a scored row, by its place among them."""
    load = cache(lambda: AutoModelForSequenceClassification.from_pretrained(checkpoint, dtype="float32").eval())

    def reasons(i: int) -> list[str]:
        place = int(histories.window[i]), int(histories.place[i])
        return _told(explain_judged(load(), processor, histories.all_columns, histories.windows, *place))

    return reasons


def of_pictures(checkpoint: str, rows: Sequence[Mapping[str, Any]]) -> Callable[[int], list[str]]:
    """Return what tells the reasons for a row's predicted label, by its place."""
    kinds: tuple[Any, ...] = (AutoModelForSequenceClassification, AutoProcessor)
    load = cache(lambda: [kind.from_pretrained(checkpoint) for kind in kinds])

    def reasons(i: int) -> list[str]:
        model, processor = load()
        return _told(explain(model.eval(), processor, rows[i]))

    return reasons


def _told(explanation: Explanation) -> list[str]:
    """Return what the score is, and the strongest reasons for and against it."""
    strongest = sorted(explanation.reasons, key=lambda reason: -abs(reason.attribution))[:REASONS]
    told = [f"{one} {_added(one.attribution)}" for one in strongest if one.attribution]
    return [f"{explanation.explains}: {told[0]}", *told[1:]] if told else []


def _added(value: float) -> str:
    return f"{value:{'+,.0f' if abs(value) >= 10 else '+.2g'}}".replace("-", "−")

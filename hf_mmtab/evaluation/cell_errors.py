"""The cells that a pretrained model was surest of and got wrong, with the rows around them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..data.windows import WindowDataset
from ..models.tabbert import TabBertForMaskedLM, TabBertProcessor
from ..models.tabbert.collating_tabbert import IGNORED, TabBertCollator
from ..models.tabbert.processing_tabbert import SEP_FIELD
from .decoded_histories import HistoryTable, as_text

MOST_WINDOWS = 256  # that are searched, evenly spread
MOST_SCORES = 2**25  # numbers that one batch may score at once
ROWS_BEFORE, ROWS_AFTER = 5, 2  # rows shown around a wrong cell
DIGITS = 3  # of the edges of bins


@dataclass(frozen=True)
class CellError:
    """A cell that a pretrained model got wrong.

    Args:
        field: its name.
        row: number of the row in the table, from 0.
        true: its value as text, a number as the interval of its bin.
        predicted: the value that the model gave the highest probability.
        probability: of `predicted`, among the values of the field.
        true_probability: of `true`.
        history: the rows around it as the model read them.
    """

    field: str
    row: int
    true: str
    predicted: str
    probability: float
    true_probability: float
    history: HistoryTable


@torch.no_grad()
def surest_cell_errors(
    model: TabBertForMaskedLM,
    processor: TabBertProcessor,
    windows: WindowDataset,
    collator: TabBertCollator,
    most_windows: int = MOST_WINDOWS,
) -> list[CellError]:
    """Return for each field the wrong cell that the model gave the highest probability, the surest first.

    Args:
        model: in evaluation mode, on any device.
        processor: of the model.
        windows: whose cells are judged.
        collator: decides which cells are judged, as in evaluation.
        most_windows: that are searched, evenly spread over `windows`.

    Returns:
        At most one for each field; none for a field without a wrong cell.
    """
    chosen = np.unique(np.linspace(0, len(windows) - 1, min(most_windows, len(windows))).astype(np.int64))
    longest = int(windows.index.length[chosen].max(initial=1))
    size = max(1, MOST_SCORES // (longest * model.config.vocab_size))
    surest: dict[int, CellError] = {}
    for first in range(0, len(chosen), size):
        numbers = chosen[first : first + size]
        batch = collator(windows.__getitems__(numbers.tolist()))
        labels = batch.pop("labels")  # (batch, rows, fields)
        scores = model(**{name: values.to(model.device) for name, values in batch.items()}).field_logits
        for field, (start, _) in enumerate(model.config.field_ranges):
            target = labels[..., field]
            probabilities = scores[field].float().softmax(dim=-1).cpu()  # (batch, rows, ids of the field)
            highest, guess = probabilities.max(dim=-1)
            wrong = target.ne(IGNORED) & target.ne(guess + start)
            window, row = np.unravel_index(int(highest.where(wrong, -1.0).argmax()), wrong.shape)
            sure = float(highest[window, row])
            if not wrong[window, row] or (field in surest and surest[field].probability >= sure):
                continue
            true = int(target[window, row])
            length = int(windows.index.length[numbers[window]])
            read = batch["input_ids"][window, :length].numpy()
            surest[field] = CellError(
                field=processor.fields[field],
                row=_row_number(windows, int(windows.index.start[numbers[window]]) + int(row)),
                true=_value(processor, field, true),
                predicted=_value(processor, field, int(guess[window, row]) + start),
                probability=sure,
                true_probability=float(probabilities[window, row, true - start]),
                history=_history(processor, read, int(row), field),
            )
    return sorted(surest.values(), key=lambda error: -error.probability)


def _row_number(windows: WindowDataset, place: int) -> int:
    """Return the number of an encoded row in the table as it came."""
    numbers = windows.rows.row_numbers
    return place if numbers is None else int(numbers[place])


def _value(processor: TabBertProcessor, field: int, number: int) -> str:
    ids = np.full((1, len(processor.fields)), processor.mask_token_id)
    ids[0, field] = number
    return as_text(processor.decode(ids, DIGITS)[processor.fields[field]][0].as_py())


def _history(processor: TabBertProcessor, read: np.ndarray, row: int, field: int) -> HistoryTable:
    """Return the rows around a cell as the model read them, its column first.

    Args:
        read: ids `(rows, fields)` of the window.
        row, field: of the cell.
    """
    asked = processor.fields[field]
    first, stop = max(0, row - ROWS_BEFORE), row + 1 + ROWS_AFTER
    decoded = processor.decode(read[first:stop], DIGITS)
    shown = [asked, *(name for name in decoded.column_names if name not in (asked, SEP_FIELD))]
    columns: list[list[Any]] = [decoded[name].to_pylist() for name in shown]
    cells = [[as_text(value) for value in line] for line in zip(*columns, strict=True)]
    return HistoryTable(shown, cells, row - first, first, asked)

"""The cells that a pretrained model was surest of and got wrong, with the rows around them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ..data.windows.cutting import WindowDataset
from ..data.windows.encoded_rows import EncodedRows
from ..models.tabbert import TabBertForMaskedLM, TabBertProcessor, TabGPT2LMHeadModel
from ..models.tabbert.collating_tabbert import IGNORED, TabBertCollator
from ..models.tabbert.processing.field_ids import SEP_FIELD
from .decoded_histories import HistoryTable, as_text

MOST_WINDOWS = 256  # windows that are searched, evenly spread
MOST_SCORES = 2**25  # numbers that one batch may score at once
ROWS_BEFORE, ROWS_AFTER = 5, 2  # rows shown around a wrong cell
DIGITS = 3  # significant digits of the edges of bins
CANDIDATES = 8  # wrong cells of a field that are kept, so that not all fields show the same row


@dataclass(frozen=True)
class CellError:
    """A cell that a pretrained model got wrong.

    Args:
        field: its name.
        row: number of the row in the table, from 0.
        entity: whose history it belongs to.
        true: its value as text, a number as the interval of its bin.
        predicted: the value that the model gave the highest probability.
        probability: of `predicted`, among the values of the field.
        true_probability: of `true`.
        history: the rows around it as the model read them; of a replaced cell also what it was.
    """

    field: str
    row: int
    entity: str
    true: str
    predicted: str
    probability: float
    true_probability: float
    history: HistoryTable


@dataclass(frozen=True)
class _WrongCell:
    """A wrong cell on its way to be shown: ids, chances, and the window `(rows, fields)` as read and as it was."""

    field: int
    place: int  # number of the row among the encoded rows
    row: int  # number of the row in its window
    true: int
    guess: int
    probability: float
    true_probability: float
    read: np.ndarray
    real: np.ndarray


def surest_cell_errors(
    model: TabBertForMaskedLM | TabGPT2LMHeadModel,
    processor: TabBertProcessor,
    windows: WindowDataset,
    collator: TabBertCollator,
    most_windows: int = MOST_WINDOWS,
) -> list[CellError]:
    """Return for each field the wrong cell that the model gave the highest probability, the surest first.

    Of a row that is shown for one field already, another field shows its next surest cell, if it has one.

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
    longest = int(windows.at(chosen).length.max(initial=1))
    size = max(1, MOST_SCORES // (longest * model.config.vocab_size))
    found: dict[int, list[_WrongCell]] = {}
    for first in range(0, len(chosen), size):
        for cell in _wrong_cells(model, windows, collator, chosen[first : first + size]):
            found.setdefault(cell.field, []).append(cell)
            found[cell.field] = sorted(found[cell.field], key=lambda one: -one.probability)[:CANDIDATES]
    shown: set[int] = set()
    errors = []
    for cells in sorted(found.values(), key=lambda cells: -cells[0].probability):
        cell = next((one for one in cells if one.place not in shown), cells[0])
        shown.add(cell.place)
        errors.append(_error(processor, windows, cell))
    return sorted(errors, key=lambda error: -error.probability)


@torch.no_grad()
def _wrong_cells(
    model: TabBertForMaskedLM | TabGPT2LMHeadModel,
    windows: WindowDataset,
    collator: TabBertCollator,
    numbers: np.ndarray,
) -> Iterator[_WrongCell]:
    """Yield the surest wrong cells of each field in some windows."""
    examples, index = windows.__getitems__(numbers.tolist()), windows.at(numbers)
    batch = collator(examples)
    labels = batch.pop("labels")  # (batch, rows, fields)
    scores = model(**{name: values.to(model.device) for name, values in batch.items()}).field_logits
    for field, (start, _) in enumerate(model.config.field_ranges):
        target = labels[..., field]
        probabilities = scores[field].float().softmax(dim=-1).cpu()  # (batch, rows, ids of the field)
        highest, guess = probabilities.max(dim=-1)
        wrong = target.ne(IGNORED) & target.ne(guess + start)
        sure = highest.where(wrong, -1.0).flatten()
        for flat in sure.topk(min(CANDIDATES, int(wrong.sum()))).indices.tolist():
            window, row = divmod(flat, target.shape[1])
            true, length = int(target[window, row]), int(index.length[window])
            yield _WrongCell(
                field=field,
                place=int(index.start[window]) + row,
                row=row,
                true=true,
                guess=int(guess[window, row]) + start,
                probability=float(highest[window, row]),
                true_probability=float(probabilities[window, row, true - start]),
                read=batch["input_ids"][window, :length].numpy(),
                real=np.asarray(examples[window]["input_ids"]),
            )


def _error(processor: TabBertProcessor, windows: WindowDataset, cell: _WrongCell) -> CellError:
    numbers = windows.rows.row_numbers
    return CellError(
        field=processor.fields[cell.field],
        row=cell.place if numbers is None else int(numbers[cell.place]),
        entity=_entity(windows.rows, cell.place),
        true=_value(processor, cell.field, cell.true),
        predicted=_value(processor, cell.field, cell.guess),
        probability=cell.probability,
        true_probability=cell.true_probability,
        history=_history(processor, cell),
    )


def _entity(rows: EncodedRows, place: int) -> str:
    """Return whose history a row belongs to, as in `User 7, Card 0`."""
    return ", ".join(f"{name} {value}" for name, value in rows.names_of(place).items())


def _value(processor: TabBertProcessor, field: int, number: int) -> str:
    ids = np.full((1, len(processor.fields)), processor.mask_token_id)
    ids[0, field] = number
    return as_text(processor.decode(ids, DIGITS)[processor.fields[field]][0].as_py())


def _history(processor: TabBertProcessor, cell: _WrongCell) -> HistoryTable:
    """Return the rows around a cell, its column first; a cell that another value replaced says what it was."""
    asked = processor.fields[cell.field]
    first, stop = max(0, cell.row - ROWS_BEFORE), cell.row + 1 + ROWS_AFTER
    read, real = cell.read[first:stop], cell.real[first:stop]
    as_read, as_was = processor.decode(read, DIGITS), processor.decode(real, DIGITS)
    replaced = (read != real) & (read != processor.mask_token_id)
    columns = {}
    for name, changed in zip(processor.fields, replaced.T, strict=True):
        texts = [as_text(value) for value in as_read[name].to_pylist()]
        was = [as_text(value) for value in as_was[name].to_pylist()]
        columns[name] = [
            f"{text} (was {before})" if other else text for text, before, other in zip(texts, was, changed, strict=True)
        ]
    shown = [asked, *(name for name in processor.fields if name not in (asked, SEP_FIELD))]
    rows = [list(line) for line in zip(*(columns[name] for name in shown), strict=True)]
    return HistoryTable(shown, rows, cell.row - first, first, asked)

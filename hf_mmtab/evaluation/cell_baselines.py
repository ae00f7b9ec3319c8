"""What guessing a masked cell without a model is worth: its field's usual value, or that of the row before."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.windows.cutting import IGNORED, WindowDataset
from ..data.windows.encoded_rows import EncodedRows

WINDOWS_PER_BATCH = 1024


@dataclass
class FieldScore:
    """How often the masked cells of one field are recovered, by the model and without it.

    Args:
        field: name of the column.
        values: different values, bins and marks that a cell can have.
        cells: masked cells that were judged.
        loss: mean of the model's loss, nats.
        accuracy: share of the cells whose best scored value is right.
        most_frequent: the same for always guessing the value that is most frequent in the training rows.
        previous_row: the same for copying the value of the history's row before (which need not lie in the
            window, nor be unmasked in it); without one, the most frequent value.
    """

    field: str
    values: int
    cells: int
    loss: float
    accuracy: float
    most_frequent: float
    previous_row: float

    @property
    def lead(self) -> float:
        """Accuracy beyond the better of the two guesses."""
        return self.accuracy - max(self.most_frequent, self.previous_row)


def most_frequent_ids(rows: EncodedRows, field_ranges: Sequence[Sequence[int]], skip: Sequence[int]) -> np.ndarray:
    """Return each field's most frequent id in the training rows, `(fields,)` int64.

    Args:
        field_ranges: `[start, end)` of the ids of each field.
        skip: for each field an id that is never asked for ([UNK]), -1: none.
    """
    counts = [np.zeros(end - start, dtype=np.int64) for start, end in field_ranges]
    for ids in rows.batches_of("train"):
        for i, (start, end) in enumerate(field_ranges):
            inside = ids[(ids[:, i] >= start) & (ids[:, i] < end), i]
            counts[i] += np.bincount(inside - start, minlength=end - start)
    for count, (start, end), unwanted in zip(counts, field_ranges, skip, strict=True):
        if start <= unwanted < end:
            count[unwanted - start] = -1
    return np.array([start + count.argmax() for count, (start, _) in zip(counts, field_ranges, strict=True)])


def guess_masked_cells(
    windows: WindowDataset, mask: Callable[[list[dict[str, Any]]], dict[str, Any]], usual: np.ndarray
) -> np.ndarray:
    """Count the masked cells and how many the two guesses get right.

    Args:
        windows: that were evaluated.
        mask: the collator that they were evaluated with; it must mask a window alike each time.
        usual: `(fields,)`, each field's most frequent id.

    Returns:
        `(3, fields)` int64: right by the usual value, right by the row before, masked cells.
    """
    totals = np.zeros((3, len(usual)), dtype=np.int64)
    for part in windows.parts():
        first_rows = part.rows.entity_starts
        for first in range(0, len(part), WINDOWS_PER_BATCH):
            chosen = np.arange(first, min(first + WINDOWS_PER_BATCH, len(part)))
            labels = mask(part.__getitems__(chosen.tolist()))["labels"].numpy()  # (batch, rows, fields)
            window, row, field = np.nonzero(labels != IGNORED)
            label, place = labels[window, row, field], part.index.start[chosen][window] + row
            begins = first_rows[np.searchsorted(first_rows, place, side="right") - 1] == place
            before, back = np.unique(np.where(begins, place, place - 1), return_inverse=True)
            copied = np.where(begins, usual[field], part.rows.take(before)[back, field])
            for line, right in enumerate((label == usual[field], label == copied, label != IGNORED)):
                totals[line] += np.bincount(field[right], minlength=len(usual))
    return totals


def field_scores(
    fields: Sequence[str], field_ranges: Sequence[Sequence[int]], model: np.ndarray, guesses: np.ndarray
) -> list[FieldScore]:
    """Put a model's counts beside those of the guesses; fields without a masked cell are left out.

    Args:
        fields: names.
        field_ranges: `[start, end)` of the ids of each field.
        model: `(3, fields)`: loss sums, right cells, masked cells (`MaskedCellMetrics.totals`).
        guesses: as `guess_masked_cells` returns them.

    Raises:
        ValueError: if they did not judge the same number of cells.
    """
    if not np.array_equal(model[2], guesses[2]):
        raise ValueError(
            f"Expected the model and the guesses to judge the same cells, found {model[2].astype(int).tolist()} and "
            f"{guesses[2].tolist()} cells per field. Give the collator a seed."
        )
    judged = np.flatnonzero(guesses[2]).tolist()
    means = (np.concatenate([model[:2], guesses[:2]])[:, judged] / guesses[2, judged]).T.tolist()
    sizes = [end - start for start, end in field_ranges]
    counts = [(fields[i], sizes[i], int(guesses[2, i])) for i in judged]
    return [FieldScore(*count, *of_field) for count, of_field in zip(counts, means, strict=True)]


def field_table(scores: Sequence[FieldScore]) -> str:
    """Return the scores as aligned text; an arrow marks fields in which a guess is at least as good."""
    width = max(len("field"), *(len(score.field) for score in scores))
    heads = f"{'values':>7} {'cells':>7} {'loss':>6} {'accuracy':>8} {'usual':>6} {'row before':>10}"
    lines = [f"{'field':{width}}  {heads}"]
    for s in scores:
        numbers = f"{s.values:7,} {s.cells:7,} {s.loss:6.3f} {s.accuracy:8.3f} {s.most_frequent:6.3f}"
        beaten = "" if s.lead > 0 else "  ← not beaten"
        lines.append(f"{s.field:{width}}  {numbers} {s.previous_row:10.3f}{beaten}")
    return "\n".join(lines)

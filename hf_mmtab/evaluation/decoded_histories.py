"""The rows behind a score, as a person reads them: the window's rows of the table as it came, the judged one marked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np

from ..data.windows.cutting import WindowDataset
from ..data.windows.encoded_rows import EncodedRows
from ..models.tabbert.processing.column_plan import ColumnPlan
from ..models.tabbert.processing.field_ids import SEP_FIELD
from .scored_rows import ScoredRows, judging_window

MOST_ROWS = 10  # of a window: those before the judged one, the judged one, and one after it if it was read
LONGEST_CELL = 28  # characters
DIGITS = 3  # significant digits of the edges of bins


@dataclass(frozen=True)
class HistoryTable:
    """Rows of one history, ready to be shown.

    Args:
        columns: their names.
        rows: cells as text.
        judged: number of the row that the prediction is about.
        first: number of the first of `rows` in the window: so many earlier ones are not shown.
        asked: the column of the only cell that is judged; None: the row is.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    judged: int
    first: int = 0
    asked: str | None = None


class DecodedHistories(Sequence[Mapping[str, Any]]):
    """For each scored row `{"history": HistoryTable}`, read from the table when asked for.

    Columns: the time, the label, the score of every row that has one, and what fields are made of. Columns that name
    the entity are left out, unless they are fields.

    Args:
        dataset: the typed rows that were encoded.
        rows: the encoded rows.
        plan: of the processor.
        windows: that the model read.
        scored: the rows that are shown, all judged in `windows`.
        label: columns that the model predicts; None: the plan's.
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        rows: EncodedRows,
        plan: ColumnPlan,
        windows: WindowDataset,
        scored: ScoredRows,
        label: Sequence[str] | None = None,
    ) -> None:
        fields = [str(plan.source(one)) for one in plan.fields]
        label = [name for name in (plan.label if label is None else label) if name in dataset.column_names]
        wanted = dict.fromkeys([*([plan.time] if plan.time else []), *label, *fields])
        self.columns = [name for name in wanted if name in dataset.column_names]
        self.labels = set(label)
        self.told = len(label) + (plan.time is not None)  # how many columns stand before the cells
        self.all_columns, self.dataset = dataset, dataset.select_columns(self.columns)
        kinds = {name: dataset.features[name] for name in self.columns}
        self.classes = {n: kind.names for n, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)}
        self._locate(rows, windows, scored)

    def _locate(self, rows: EncodedRows, windows: WindowDataset, scored: ScoredRows) -> None:
        self.rows, self.windows, self.scored = rows, windows, scored

    def judged(self, i: int) -> tuple[int, int]:
        """Return the number of the window that judges a scored row, and the place of the row in it."""
        return judging_window(self.windows, int(self.scored.rows[i]))

    def __len__(self) -> int:
        return len(self.scored)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: Any) -> Any:
        window, place = self.judged(i)
        index = self.windows.at(np.array([window]))
        start, length = int(index.start[0]), int(index.length[0])
        first = max(0, place - (MOST_ROWS - 2 if place + 1 < length else MOST_ROWS - 1))
        stop = min(length, place + 2)
        shown = np.arange(start + first, start + stop)
        cells = self._cells(shown)
        names = [f"{name} (label)" if name in self.labels else name for name in self.columns]
        table = [[as_text(cells[name][k]) for name in self.columns] for k in range(len(shown))]
        if self.scored.scores.ndim == 1:
            names.insert(self.told, "score")
            for line, score in zip(table, self._scores(shown), strict=True):
                line.insert(self.told, "" if np.isnan(score) else as_probability(score))
        return {"history": HistoryTable(names, table, place - first, first)}

    def _cells(self, shown: np.ndarray) -> dict[str, list[Any]]:
        """Return the values of some rows, by column."""
        numbers = shown if self.rows.row_numbers is None else np.array(self.rows.row_numbers[shown])
        cells = self.dataset[numbers.tolist()]
        for name, classes in self.classes.items():
            known = [None if code is None or code < 0 else code for code in cells[name]]
            cells[name] = [None if code is None else classes[code] for code in known]
        return cells

    def _scores(self, shown: np.ndarray) -> np.ndarray:
        """The scores of the shown rows, NaN for rows that were not judged."""
        rows = self.scored.rows
        near = np.flatnonzero((rows >= shown[0]) & (rows <= shown[-1]))[::-1]  # of equal rows the first one stays
        known = dict(zip(rows[near].tolist(), self.scored.scores[near].tolist(), strict=True))
        return np.array([known.get(row, np.nan) for row in shown.tolist()])


class HistoriesOfIds(DecodedHistories):
    """The same where only ids are known: values as the processor tells them, numbers as the interval of their bin.

    Args:
        processor: that encoded the rows.
        rows, windows, scored: see `DecodedHistories`.
    """

    def __init__(
        self,
        processor: Any,
        rows: EncodedRows,
        windows: WindowDataset,
        scored: ScoredRows,
        label: Sequence[str] | None = None,
    ) -> None:
        plan: ColumnPlan = processor.plan
        label, time = list(plan.label if label is None else label), [plan.time] if plan.time else []
        fields = [name for name in processor.fields if name != SEP_FIELD]
        self.label = label
        self.columns = list(dict.fromkeys([*time, *label, *fields]))
        self.labels, self.told, self.processor = set(label), len(label) + len(time), processor
        self._locate(rows, windows, scored)

    def _cells(self, shown: np.ndarray) -> dict[str, list[Any]]:
        plan, names = self.processor.plan, self.rows.label_names
        cells = self.processor.decode(self.rows.take(shown), DIGITS).to_pydict()
        if plan.time:
            times = np.array(self.rows.time[shown])
            cells[plan.time] = (times if plan.time_unit == "number" else times.astype("M8[us]")).tolist()
        if self.rows.labels is not None:
            labels = np.array(self.rows.labels[shown]).reshape(len(shown), -1)
            for name, column in zip(self.label, labels.T.tolist(), strict=True):
                cells[name] = [names[code] if code >= 0 else None for code in column] if names else column
        return cells


def as_probability(score: float) -> str:
    """Return a probability with the digits that tell it from 0."""
    return f"{score:.3f}" if score >= 0.0005 or score == 0 else f"{score:.0e}"


def as_text(value: Any, length: int = LONGEST_CELL) -> str:
    """Return a cell as a person writes it: no seconds where there are none, at most 6 digits, a dash where missing."""
    if value is None or value != value:
        return "–"
    if hasattr(value, "isoformat"):
        return str(value).removesuffix(":00") if hasattr(value, "hour") else str(value)
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"

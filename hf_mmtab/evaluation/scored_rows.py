"""Scores of the rows of one split: whose they are, when they happened, what they were worth."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..data.windows.cutting import WindowDataset, WindowLabel, has_label
from ..data.windows.encoded_rows import EncodedRows
from ..data.windows.window_index import WindowIndex
from ..files import whole_file
from ..metrics import probabilities_from_logits
from ..metrics.decisions import check_problem_type


@dataclass(frozen=True)
class ScoredRows:
    """What a model predicted for the rows of one split, each row once.

    Args:
        scores: `(n,)` probability of the positive class; `(n, classes)` probabilities, if there are more than two
            or a row has several labels; `(n, targets)` predicted values.
        labels: `(n,)` int64 classes, -100 unknown; `(n, classes)` of 0 and 1; `(n, targets)` float, NaN unknown.
            None: the table has no labels.
        rows: `(n,)` int64, place of the row in the data: of a table in `EncodedRows`; with one label per window the
            place of its last row. Default: 0 to n - 1.
        entities: `(n,)` str, the history that the row belongs to; several columns joined by "/". Default: "".
        times: `(n,)` datetime64[us] of the row; where the table's time is a number, that number. Default: NaT.
    """

    scores: np.ndarray
    labels: np.ndarray | None
    rows: np.ndarray = None  # type: ignore[assignment]
    entities: np.ndarray = None  # type: ignore[assignment]
    times: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        number = len(self.scores)
        defaults: dict[str, Any] = {
            "rows": np.arange(number),
            "entities": np.full(number, "", dtype=str),
            "times": np.full(number, "NaT", dtype="datetime64[us]"),
        }
        for name, default in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        for name in ("labels", "rows", "entities", "times"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.scores):
                raise ValueError(f"Expected {len(self.scores)} {name}, one per score, found {len(value)}.")
        if not np.isfinite(self.scores).all():
            bad = np.flatnonzero(~np.isfinite(self.scores.reshape(len(self.scores), -1)).all(axis=1))
            raise ValueError(
                f"Expected finite scores, found NaN or infinity in {len(bad)} of {len(self.scores)} rows, first at "
                f"place {bad[0]} (row {self.rows[bad[0]]} of history {str(self.entities[bad[0]])!r}). Training has "
                "probably diverged: lower the learning rate or clip gradients."
            )

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, chosen: Any) -> "ScoredRows":
        """Return some of the rows, by place or mask."""
        labels = None if self.labels is None else self.labels[chosen]
        return ScoredRows(self.scores[chosen], labels, self.rows[chosen], self.entities[chosen], self.times[chosen])

    @property
    def labelled(self) -> "ScoredRows":
        """The rows that have a label (of several targets, at least one).

        Raises:
            ValueError: if there is none.
        """
        if self.labels is None:
            raise ValueError(
                f"Expected labels to judge {len(self)} scores by, found a table without a label column. Name it in "
                "the column plan (`label: ...`), or predict without evaluating."
            )
        known = has_label(self.labels)
        if not known.any():
            raise ValueError(
                f"Expected labelled rows, found {len(self)} rows whose label is missing. Fill the label column, or "
                "predict without evaluating."
            )
        return self if known.all() else self.select(known)

    @property
    def probabilities(self) -> np.ndarray:
        """Scores `(n, num_labels)` as `hf_mmtab.metrics` takes them: of two classes both."""
        return np.stack([1 - self.scores, self.scores], axis=1) if self.scores.ndim == 1 else self.scores

    def save(self, path: str | Path, row_numbers: np.ndarray | None = None) -> None:
        """Write one row per score to a Parquet file: entity, time, row, label and score (of several: `score_0`, …).

        Args:
            path: of the file.
            row_numbers: `EncodedRows.row_numbers`: `row` is then the number in the table that was read, as `predict`
                writes it, and `place` the place in `EncodedRows`. None: both are the same, and `place` is left out.
        """
        numbers = self.rows if row_numbers is None else np.array(row_numbers[self.rows])
        columns: dict[str, Any] = {"entity": self.entities.astype(str), "time": self.times, "row": numbers}
        if row_numbers is not None:
            columns["place"] = self.rows
        for name, values in (("label", self.labels), ("score", self.scores)):
            if values is not None and values.ndim == 1:
                columns[name] = values
            elif values is not None:
                columns |= {f"{name}_{i}": values[:, i] for i in range(values.shape[1])}
        with whole_file(path) as partial:
            pq.write_table(pa.table(columns), partial)

    @classmethod
    def load(cls, path: str | Path) -> "ScoredRows":
        """Read what `save` wrote."""
        table = pq.read_table(path)

        def column(name: str) -> np.ndarray | None:
            if name in table.column_names:
                return table[name].to_numpy()
            several = [c for c in table.column_names if c.startswith(f"{name}_")]
            return np.stack([table[c].to_numpy() for c in several], axis=1) if several else None

        scores = column("score")
        if scores is None:
            raise ValueError(
                f"Expected the columns entity, time, row and score in {str(path)!r}, found {table.column_names}. Give "
                "a file that `ScoredRows.save` wrote."
            )
        coded = table["entity"].combine_chunks().dictionary_encode()  # not one Python object for each row
        entities = np.array(coded.dictionary.to_pylist(), dtype=str)[coded.indices.to_numpy()]
        times = table["time"].to_numpy().astype("datetime64[us]")
        place = table["place" if "place" in table.column_names else "row"].to_numpy()
        return cls(scores, column("label"), place, entities, times)


@dataclass(frozen=True)
class JudgedRows:
    """Which row each judgement is about.

    Args:
        window: `(n,)` number of the window that judges it.
        place: `(n,)` place of the row in that window.
        row: `(n,)` place of the row in `EncodedRows`.
    """

    window: np.ndarray
    place: np.ndarray
    row: np.ndarray


def judged_rows(windows: WindowDataset, label: WindowLabel | None = None) -> JudgedRows:
    """Return the rows that windows are judged on.

    With one label per window (`last`, `any`) that is the last row of each, in the order of the windows. With a
    label per row (`every`) it is each row from `label_start` on, in the order of the rows.

    NOTE: a row that several windows judge (stride below seq_len, or the window that ends a history) counts once, in
    the window with the most rows before it: the one that knows most of its past; of equal ones the first.

    Args:
        windows: of one split.
        label: None: as the windows are labelled.

    Raises:
        ValueError: if neither says which rows are judged.
    """
    label = _label_of(windows, label)
    found: list[JudgedRows] = []
    windows_before = rows_before = 0
    for part in windows.parts():  # one after another, which bounds what sorting takes
        own = _judged(part.index, label)
        found.append(JudgedRows(own.window + windows_before, own.place, own.row + rows_before))
        windows_before, rows_before = windows_before + len(part), rows_before + len(part.rows)
    return JudgedRows(*(_joined([getattr(one, name) for one in found]) for name in ("window", "place", "row")))


def judging_window(windows: WindowDataset, row: int) -> tuple[int, int]:
    """Return the number of the window that judges a row, and the place of the row in it, as `judged_rows` does.

    Args:
        windows: labelled.
        row: one that they judge.
    """
    part, windows_before, rows_before = windows.part_of(row)
    index, row = part.index, row - rows_before
    ends = index.start + index.length
    if windows.label == "every":
        judges = np.flatnonzero((index.start + index.label_start <= row) & (row < ends))
        window = int(judges[np.argmin(index.start[judges])])
    else:
        window = int(np.flatnonzero(ends - 1 == row)[0])
    return windows_before + window, row - int(index.start[window])


def _label_of(windows: WindowDataset, label: WindowLabel | None) -> WindowLabel:
    if (label := label or windows.label) is None:
        raise ValueError(
            "Expected windows whose label is 'last', 'any' or 'every', found windows without labels. Say which rows "
            "are judged: label=..."
        )
    return label


def _judged(index: WindowIndex, label: WindowLabel) -> JudgedRows:
    if label != "every":
        place = index.length.astype(np.int64) - 1
        return JudgedRows(np.arange(len(index)), place, index.start + place)
    count = index.length.astype(np.int64) - index.label_start
    window = np.repeat(np.arange(len(index)), count)
    begins = np.repeat(np.cumsum(count) - count, count)
    place = index.label_start[window] + np.arange(len(window)) - begins
    row = index.start[window] + place
    order = np.lexsort((window, -place, row))  # of one row: most rows before it first, then the first window
    first = np.ones(len(order), dtype=bool)
    first[1:] = row[order][1:] != row[order][:-1]
    chosen = order[first]
    return JudgedRows(window[chosen], place[chosen], row[chosen])


def scored_rows(
    windows: WindowDataset, logits: np.ndarray, problem_type: str, label: WindowLabel | None = None
) -> ScoredRows:
    """Return what a model's outputs say about the rows that the windows are judged on (see `judged_rows`).

    Args:
        windows: that the model read, in the order of `logits`.
        logits: `(windows, num_labels)`; with a label per row `(windows, rows, num_labels)`, padded at the end.
        problem_type: as in the model's config; decides between softmax, sigmoid and values as they are.
        label: None: as the windows are labelled.

    Raises:
        ValueError: if shapes do not fit the windows, or a logit of a judged row is not finite.
    """
    check_problem_type(problem_type)
    label = _label_of(windows, label)
    logits = np.asarray(logits)
    longest = max((int(part.index.length.max()) for part in windows.parts() if len(part)), default=0)
    dimensions = 3 if label == "every" else 2
    if len(logits) != len(windows) or logits.ndim != dimensions:
        wanted = f"({len(windows)}, rows, num_labels)" if label == "every" else f"({len(windows)}, num_labels)"
        raise ValueError(
            f"Expected logits of shape {wanted}, one per window under label {label!r}, found {logits.shape}. Give "
            "the outputs for these windows, in their order."
        )
    if label == "every" and logits.shape[1] < longest:
        raise ValueError(
            f"Expected logits of at least {longest} rows, as the longest window has, found {logits.shape[1]}. Give "
            "the outputs for these windows, unshortened."
        )
    found = []
    windows_before = rows_before = 0
    for part in windows.parts():
        own = logits[windows_before : windows_before + len(part)]
        judged = _judged(part.index, label)
        probabilities = probabilities_from_logits(
            own[judged.window, judged.place] if label == "every" else own, problem_type
        )
        if problem_type == "single_label_classification" and probabilities.shape[1] == 2:
            probabilities = probabilities[:, 1].copy()  # and not a view, which would keep both columns
        scored = scores_of_rows(part, judged, probabilities, label)
        found.append(replace(scored, rows=scored.rows + rows_before))
        windows_before, rows_before = windows_before + len(part), rows_before + len(part.rows)
    return ScoredRows(**{one.name: _joined([getattr(part, one.name) for part in found]) for one in fields(ScoredRows)})


def scores_of_rows(
    windows: WindowDataset, judged: JudgedRows, scores: np.ndarray, label: WindowLabel | None = None
) -> ScoredRows:
    """Put scores of judged rows beside their labels, entities and times.

    Args:
        windows: that `judged` speaks of.
        judged: the rows, see `judged_rows`.
        scores: `(n,)` or `(n, num_labels)`, in the order of `judged`.
        label: None: as the windows are labelled.
    """
    rows = windows.rows
    labels = None if rows.labels is None else _labels(windows, judged, label or windows.label)
    times = np.array(rows.time[judged.row]).astype("datetime64[us]")
    return ScoredRows(scores, labels, judged.row, entities_of(rows, judged.row), times)


def entities_of(rows: EncodedRows, places: np.ndarray) -> np.ndarray:
    """Return the name of the history of each row, `(n,)` str; several columns are joined by "/"."""
    number = rows.entity_of(places)
    if not rows.entity_names.width:  # the table is one history
        return np.full(len(places), "", dtype=str)
    columns = [rows.entity_names[name].cast(str).to_list() for name in rows.entity_names.columns]
    names = np.array(["/".join(parts) for parts in zip(*columns, strict=True)], dtype=str)
    return names[number]


def labels_of(windows: WindowDataset) -> np.ndarray:
    """Return the labels of the rows that windows are judged on, `(rows,)` or `(rows, targets)`."""
    return np.concatenate([_labels(part, judged_rows(part), part.label) for part in windows.parts()])


def _joined(arrays: list[Any]) -> Any:
    return arrays[0] if len(arrays) == 1 or arrays[0] is None else np.concatenate(arrays)


def _labels(windows: WindowDataset, judged: JudgedRows, label: WindowLabel | None) -> np.ndarray:
    if label == "any":
        return WindowDataset(windows.rows, windows.index, "any").window_labels(judged.window)
    assert windows.rows.labels is not None
    labels = np.array(windows.rows.labels[judged.row])
    return labels if labels.ndim > 1 else labels.astype(np.int64)

"""Windows of consecutive rows of one history, read from encoded rows that lie on disk once."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch

from .encoded_rows import IGNORED, EncodedRows
from .window_index import WindowIndex

WindowLabel = Literal["any", "last", "every"]


class WindowDataset(torch.utils.data.Dataset):
    """Windows of encoded rows, read from disk when asked for.

    An item holds `input_ids (rows, fields)` int64, `label_start`, and `labels` if the rows have them: of
    `any` row from `label_start` on (the paper: 1 if one of them is positive), of the `last` row, or of
    `every` row `(rows,)` with -100 before `label_start` (NaN for numbers).

    Args:
        rows: the encoded rows.
        index: where the windows lie.
        label: which rows' labels a window has; None: no labels.
        skip: model inputs that are neither read nor returned.
        beside: further model inputs → `(all rows, ...)`, of which items hold the window's rows.
    """

    def __init__(
        self,
        rows: EncodedRows,
        index: WindowIndex,
        label: WindowLabel | None = None,
        skip: frozenset[str] = frozenset(),
        beside: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        if label is not None and rows.labels is None:
            raise ValueError("Expected rows with a label column, found none. Name it in the column plan: `label: ...`.")
        if label == "any" and rows.labels is not None and (rows.labels.ndim > 1 or len(rows.label_names) > 2):
            raise ValueError(
                "The label of a window can be that of 'any' row only if the label is yes or no. Choose 'last'"
                " or 'every'."
            )
        self.rows, self.index, self.label, self.skip = rows, index, label, skip
        self.beside = dict(beside or {})

    def __len__(self) -> int:
        return len(self.index)

    def parts(self) -> Iterator["WindowDataset"]:
        """Yield the windows piece by piece, as `rows.parts()` has the rows."""
        yield self

    def part_of(self, row: int) -> tuple["WindowDataset", int, int]:
        """Return the piece whose rows hold a row, and how many windows and rows lie before the piece."""
        return self, 0, 0

    def with_rows(self, rows: Any) -> "WindowDataset":
        """Return the same windows of rows that have other labels, see `EncodedRows.relabelled`."""
        return WindowDataset(rows, self.index, self.label, self.skip, self.beside)

    def at(self, numbers: np.ndarray) -> WindowIndex:
        """Return where some of the windows lie."""
        return self.index[numbers]

    def __getitem__(self, i: int) -> dict[str, Any]:
        return self.__getitems__([i])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """Return several windows at once; DataLoader asks for whole batches by this name."""
        chosen = np.asarray(indices, dtype=np.int64)
        start, length = self.index.start[chosen], self.index.length[chosen]
        items: list[dict[str, Any]] = [{"label_start": int(s)} for s in self.index.label_start[chosen]]
        if "input_ids" not in self.skip:
            flat = np.repeat(start - (np.cumsum(length) - length), length) + np.arange(int(length.sum()))
            ids = self.rows.take(flat)
            for item, window in zip(items, np.split(ids, np.cumsum(length)[:-1]), strict=True):
                item["input_ids"] = window
        for name in self.beside.keys() - self.skip:
            for item, first, rows in zip(items, start, length, strict=True):
                item[name] = np.array(self.beside[name][first : first + rows])
        if self.label == "every":
            for item, first, rows in zip(items, start, length, strict=True):
                item["labels"] = self._row_labels(int(first), int(rows), item["label_start"])
        elif self.label is not None:
            for item, label in zip(items, self.window_labels(chosen), strict=True):
                item["labels"] = label
        return items

    def _row_labels(self, first: int, rows: int, label_start: int) -> np.ndarray:
        assert self.rows.labels is not None
        labels = np.array(self.rows.labels[first : first + rows])
        labels = labels if labels.ndim > 1 else labels.astype(np.int64)
        labels[:label_start] = np.nan if labels.ndim > 1 else IGNORED
        return labels

    def window_labels(self, chosen: np.ndarray | None = None) -> np.ndarray:
        """Return the label of each window, `(windows,)` int64 or `(windows, targets)` float32, under `any` or
        `last`.
        """
        if self.label not in ("any", "last") or self.rows.labels is None:
            raise ValueError(f"Windows have one label each under 'any' or 'last', found label={self.label!r}.")
        index = self.index if chosen is None else self.index[chosen]
        ends = index.start + index.length
        if self.label == "last":
            labels = np.array(self.rows.labels[ends - 1])
            return labels if labels.ndim > 1 else labels.astype(np.int64)
        begins = index.start + index.label_start
        positive, known = self.rows.label_sums
        any_positive = (positive[ends] - positive[begins]) > 0
        any_known = (known[ends] - known[begins]) > 0
        return np.where(any_known, any_positive, IGNORED).astype(np.int64)

    def class_counts(self) -> np.ndarray:
        """Return how many labels of each class the windows have, `(windows, classes)` int64.

        Raises:
            ValueError: if the labels are numbers.
        """
        classes = len(self.rows.label_names)
        if self.rows.labels is None or self.label is None or not classes:
            raise ValueError(
                f"Expected windows labelled with classes, found label={self.label!r} and classes "
                f"{self.rows.label_names}."
            )
        if self.label != "every":
            return (self.window_labels()[:, None] == np.arange(classes)).astype(np.int64)
        ends, begins = self.index.start + self.index.length, self.index.start + self.index.label_start
        counts = np.empty((len(self), classes), dtype=np.int64)
        for number in range(classes):
            before = np.concatenate([[0], np.cumsum(self.rows.labels == number)])
            counts[:, number] = before[ends] - before[begins]
        return counts

    def known_labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Return how many labels each window has and how many it should have, both `(windows,)` int64.

        Of several numbers one is enough.
        """
        labels = self.rows.labels
        if labels is None or self.label is None:
            raise ValueError(f"Expected windows with labels, found label={self.label!r}.")
        before = np.concatenate([[0], np.cumsum(has_label(labels))])
        ends, begins = self.index.start + self.index.length, self.index.start + self.index.label_start
        if self.label == "every":
            return before[ends] - before[begins], ends - begins
        first = ends - 1 if self.label == "last" else begins
        return (before[ends] > before[first]).astype(np.int64), np.ones(len(self), dtype=np.int64)

    def entities(self) -> np.ndarray:
        """Return the number of each window's entity, `(windows,)` int64; names are in `rows.entity_names`."""
        return self.rows.entity_of(self.index.start)

    def without(self, names: Any) -> "WindowDataset":
        """Return the same windows, but the named model inputs are neither read nor returned."""
        return WindowDataset(self.rows, self.index, self.label, self.skip | frozenset(names), self.beside)

    def select(self, chosen: Any) -> "WindowDataset":
        """Return some of the windows, by number or mask."""
        return WindowDataset(self.rows, self.index[np.asarray(chosen)], self.label, self.skip, self.beside)

    @property
    def fingerprint(self) -> str:
        """Hash of the rows, the processor and the windows: 16 hexadecimal digits."""
        digest = hashlib.sha256(f"{self.rows.fingerprint}|{self.label}".encode())
        for part in (self.index.start, self.index.length, self.index.label_start):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()[:16]


def has_label(labels: np.ndarray) -> np.ndarray:
    """Return which rows have a label, `(rows,)` bool: of numbers one is finite, of classes none is -100."""
    if np.issubdtype(labels.dtype, np.floating):
        known = np.isfinite(labels)
        return known.any(axis=1) if known.ndim > 1 else known
    known = labels != IGNORED
    return known.all(axis=1) if known.ndim > 1 else known

"""Where windows of consecutive rows lie: index arithmetic on row numbers."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

DEFAULT_SEQ_LEN = 10  # rows of a window: the paper's, for checkpoints that do not say


@dataclass
class WindowIndex:
    """Where windows lie.

    Attributes:
        start: `(windows,)` int64, first row.
        length: `(windows,)` int32, rows; windows shorter than the others are padded by the collator.
        label_start: `(windows,)` int32, rows of the window before it are context: never masked, never judged.
    """

    start: np.ndarray
    length: np.ndarray
    label_start: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, chosen: Any) -> "WindowIndex":
        return WindowIndex(self.start[chosen], self.length[chosen], self.label_start[chosen])


def cut_windows(
    start: np.ndarray,
    stop: np.ndarray,
    seq_len: int,
    stride: int,
    context_start: np.ndarray | None = None,
    align: Literal["start", "end"] = "start",
    pad: bool = True,
) -> WindowIndex:
    """Cut segments of rows `[start, stop)` into windows of at most `seq_len` rows; no window spans two
    segments.

    Args:
        start, stop: `(segments,)` row numbers.
        seq_len: rows of a window.
        stride: rows between windows.
        context_start: `(segments,)`, earliest row that a window may reach back to; None: `start`.
        align: "start": windows begin at every `stride`-th row of the segment, and one more ends at its last
            row if rows would be left over. "end": windows end at every `stride`-th row counted from the
            last, so that with stride 1 each row is the last of one window.
        pad: False leaves out windows shorter than `seq_len` and rows left over (the original).

    Raises:
        ValueError: if `seq_len` or `stride` is not positive.
    """
    if seq_len < 1 or stride < 1:
        raise ValueError(f"seq_len and stride must be at least 1, got seq_len {seq_len} and stride {stride}.")
    start, stop = np.asarray(start, dtype=np.int64), np.asarray(stop, dtype=np.int64)
    earliest = start if context_start is None else np.asarray(context_start, dtype=np.int64)
    rows = stop - start
    if align == "end":
        count = (rows + stride - 1) // stride
        owner, place = _repeated(count)
        ends = stop[owner] - (count[owner] - 1 - place) * stride
        begins = np.maximum(earliest[owner], ends - seq_len)
    else:
        count = np.where(rows >= seq_len, (rows - seq_len) // stride + 1, 0)
        covered = np.where(count > 0, (count - 1) * stride + seq_len, 0)
        more = (covered < rows) & pad
        owner, place = _repeated(count + more)
        extra = place >= count[owner]
        ends = np.where(extra, stop[owner], start[owner] + place * stride + seq_len)
        begins = np.where(extra, np.maximum(earliest[owner], ends - seq_len), ends - seq_len)
    index = WindowIndex(begins, (ends - begins).astype(np.int32), np.maximum(0, start[owner] - begins).astype(np.int32))
    return index if pad else index[index.length == seq_len]


def cut_growing(start: np.ndarray, stop: np.ndarray, seq_len: int, stride: int, first: np.ndarray) -> WindowIndex:
    """Cut segments of histories into windows that stay where they are when later rows are added to a history.

    Windows begin at every `stride`-th row of the history. Each judges (`label_start`) the rows that no window before it
    holds, so that a row has at least `seq_len - stride` rows before it, or its whole past.

    Args:
        start, stop: `(segments,)` row numbers.
        seq_len: rows of a window.
        stride: rows between windows, at most `seq_len`.
        first: `(segments,)`, where the history of each segment begins.
    """
    opening = -(-np.maximum(0, start - first - seq_len + 1) // stride)
    closing = -(-np.maximum(0, stop - 1 - first - seq_len + 1) // stride)
    owner, place = _repeated(closing - opening + 1)
    number = opening[owner] + place
    begins = first[owner] + number * stride
    ends = np.minimum(begins + seq_len, stop[owner])
    judged = np.where(number > 0, begins + seq_len - stride, begins)
    judged = np.maximum(judged, start[owner])
    return WindowIndex(begins, (ends - begins).astype(np.int32), (judged - begins).astype(np.int32))


def _repeated(count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each item of `count` repetitions its owner and its place among them."""
    owner = np.repeat(np.arange(len(count)), count)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)

"""Tables cut into windows, block after block, and what a function says of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from torch.utils.data import DataLoader

from ...data.windows.cutting import WindowDataset
from ...data.windows.encoded_rows import EncodedRows
from ...data.windows.splits import Split
from ...data.windows.window_index import cut_growing, cut_windows
from ...evaluation.scored_rows import JudgedRows, judged_rows
from ...models.tabbert import TabBertProcessor
from ...models.tabbert.collating_tabbert import MODEL_INPUTS, TabBertCollator

BLOCK_ROWS = 65_536
ALL_ROWS = Split("time", (1.0, 0.0, 0.0))  # no split: every row lies in the first part
Level = Literal["row", "window"]


@dataclass(frozen=True)
class WindowCut:
    """How a table is cut into windows for scoring.

    Args:
        seq_len: rows of a window.
        level: "row": each row is judged once. "window": windows lie side by side and are judged once each.
        every: whether one window judges all of its rows; then windows overlap by half.
        max_gap: seconds; no window spans a longer pause.
        stride: rows between windows that judge all of their rows; None: half a window.
    """

    seq_len: int
    level: Level
    every: bool = False
    max_gap: float | None = None
    stride: int | None = None

    def blocks(self, rows: EncodedRows, size: int = BLOCK_ROWS) -> Iterator[tuple[WindowDataset, JudgedRows, int]]:
        """Yield windows that cover about `size` rows at a time, which rows they judge, and how many they cover."""
        begins = np.zeros(len(rows), dtype=bool)
        begins[rows.entity_starts] = True
        if self.max_gap is not None:
            begins[1:] |= np.diff(rows.time) > self.max_gap * 1e6
        first = np.flatnonzero(begins)
        rows_of = np.diff(np.append(first, len(rows)))
        # A multiple of seq_len, so that no window is cut.
        size = max(self.seq_len, size // self.seq_len * self.seq_len)
        pieces = (rows_of + size - 1) // size
        owner = np.repeat(np.arange(len(first)), pieces)
        start = first[owner] + (np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)) * size
        stop = np.minimum(start + size, (first + rows_of)[owner])
        block = (np.cumsum(stop - start) - 1) // size
        for chosen in np.split(np.arange(len(start)), np.flatnonzero(np.diff(block)) + 1):
            if len(chosen):
                windows, judged = self._windows(rows, start[chosen], stop[chosen], first[owner][chosen])
                yield windows, judged, int((stop - start)[chosen].sum())

    def _windows(
        self, rows: EncodedRows, start: np.ndarray, stop: np.ndarray, earliest: np.ndarray
    ) -> tuple[WindowDataset, JudgedRows]:
        if self.level == "window":
            index = cut_windows(start, stop, self.seq_len, self.seq_len, earliest)
        elif self.every:
            stride = min(self.stride or max(1, self.seq_len // 2), self.seq_len)
            index = cut_growing(start, stop, self.seq_len, stride, earliest)
        else:
            index = cut_windows(start, stop, self.seq_len, 1, earliest, align="end")
        windows = WindowDataset(rows, index)
        return windows, judged_rows(windows, "every" if self.every and self.level == "row" else "last")


@torch.inference_mode()
def run_windows(
    function: Any,
    windows: WindowDataset,
    processor: TabBertProcessor,
    batch_size: int,
    device: torch.device,
    bf16: bool = False,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield what a function says of each batch of windows, as float32 on the CPU, and the batch's attention mask.

    Args:
        function: takes `MODEL_INPUTS`, the last two where the windows have them, and returns a tensor.
    """
    loader = DataLoader(cast(Any, windows), batch_size=batch_size, collate_fn=TabBertCollator(processor))
    for batch in loader:
        inputs = {name: batch[name].to(device) for name in MODEL_INPUTS if name in batch}
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            yield function(**inputs).float().cpu(), batch["attention_mask"]


def judged_values(batches: Iterable[torch.Tensor], judged: JudgedRows, dtype: Any = np.float32) -> np.ndarray:
    """Return the values of judged rows `(n, width)` from those of all rows of the windows.

    Args:
        batches: `(windows, rows, width)`, one after another; each may have another number of rows.
        judged: which row of which window.
        dtype: of the values.
    """
    found, done = np.empty((0, 0), dtype), 0
    for values in batches:
        if not done:
            found = np.empty((len(judged.row), values.shape[-1]), dtype)
        mine = (judged.window >= done) & (judged.window < done + len(values))
        found[mine] = values.numpy()[judged.window[mine] - done, judged.place[mine]]
        done += len(values)
    return found


def current_device() -> torch.device:
    """Return the accelerator, if there is one, else the CPU."""
    return torch.device(torch.accelerator.current_accelerator(check_available=True) or "cpu")

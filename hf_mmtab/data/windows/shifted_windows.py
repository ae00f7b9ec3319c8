"""Training windows that begin elsewhere in each epoch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .cutting import WindowDataset
from .sharded_windows import ShardedWindows
from .splits import segments
from .window_index import WindowIndex


class ShiftedWindows(WindowDataset):
    """The same windows, each moved by up to half a stride either way in each epoch.

    At a fixed stride, the place in a window can tell the phase of the table: with a row an hour and windows a day apart
    the first row is always at midnight, and a model learns to count instead of reading. Each window has a shift of its
    own, since one shift for a history would give a table of few histories few phases an epoch, and none leaves its
    history. Shifts follow from the seed and the epoch alone, so they are the same in all processes and after a resume.
    Before the first `set_epoch` nothing is moved.

    Args:
        windows: of training, without labels.
        stride: rows between them.
        max_gap: see `hf_mmtab.data.windows.splits.windows`.
        seed: of the shifts, one number or several.
        epoch: a number that processes share, of windows that move with others; None: of its own.
    """

    def __init__(
        self,
        windows: WindowDataset,
        stride: int,
        max_gap: float | None,
        seed: int | Sequence[int],
        epoch: torch.Tensor | None = None,
    ) -> None:
        super().__init__(windows.rows, windows.index, None, windows.skip)
        start, stop, _ = segments(windows.rows, max_gap)
        index = windows.index
        owner = np.searchsorted(start, index.start + index.label_start, side="right") - 1
        moves = index.label_start == 0  # others begin in rows of another segment
        self._unmoved = index
        self._lowest = np.where(moves, start[owner], index.start)
        self._highest = np.where(moves, stop[owner] - index.length, index.start)
        first, *rest = [seed] if isinstance(seed, int) else seed
        self.stride, self._seeds = stride, (first, rest)
        alone = torch.full((), -1, dtype=torch.long).share_memory_()  # also seen by loader processes
        self._epoch = alone if epoch is None else epoch
        self._drawn = -1

    def set_epoch(self, epoch: int) -> None:
        """Move the windows to where they are in this epoch."""
        self._epoch.fill_(epoch)

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """Return several windows of the epoch at once."""
        if (epoch := int(self._epoch)) != self._drawn:
            half, (first, rest) = self.stride // 2, self._seeds
            drawn = np.random.default_rng([first, epoch, *rest]).integers(-half, self.stride - half, len(self))
            start = np.clip(self._unmoved.start + drawn, self._lowest, self._highest)
            self.index = WindowIndex(start, self._unmoved.length, self._unmoved.label_start)
            self._drawn = epoch
        return super().__getitems__(indices)


class ShiftedShards(ShardedWindows):
    """The same windows, each moved in each epoch, see `ShiftedWindows`; the moves of a shard have a seed of its own.

    Args:
        windows: of training, without labels.
        stride, max_gap, seed: see `ShiftedWindows`.
    """

    def __init__(self, windows: ShardedWindows, stride: int, max_gap: float | None, seed: int) -> None:
        super().__init__(windows.rows, windows.cut, None, windows.skip, None, windows.chosen, windows.starts)
        self.stride, self.max_gap, self.seed = stride, max_gap, seed
        self._epoch = torch.full((), -1, dtype=torch.long).share_memory_()  # also seen by loader processes

    def set_epoch(self, epoch: int) -> None:
        """Move the windows to where they are in this epoch."""
        self._epoch.fill_(epoch)

    def part(self, number: int) -> WindowDataset:
        """Return the windows of one shard, which move with the epoch."""
        return self._kept(number)

    def _make(self, number: int) -> ShiftedWindows:
        seed = [self.seed, number] if number else [self.seed]  # the first shard moves as a table of one piece
        windows = WindowDataset(self.rows.shard(number), super()._make(number), None, self.skip)
        return ShiftedWindows(windows, self.stride, self.max_gap, seed, self._epoch)


def shifted(windows: WindowDataset, stride: int, max_gap: float | None, seed: int) -> ShiftedWindows | ShiftedShards:
    """Return training windows that begin elsewhere in each epoch, see `ShiftedWindows`."""
    kind = ShiftedShards if isinstance(windows, ShardedWindows) else ShiftedWindows
    return kind(windows, stride, max_gap, seed)  # type: ignore[arg-type]

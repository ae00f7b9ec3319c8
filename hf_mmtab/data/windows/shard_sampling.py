"""An order of windows that shuffles shards, so that few of them are read at a time."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from .cutting import WindowDataset
from .sharded_rows import MIXED
from .sharded_windows import ShardedWindows

AT_ONCE = 65_536  # numbers that become Python's at once


class ShardSampler(Sampler[int]):
    """Shuffles shards, and the windows of a few of them together.

    An epoch depends on seed and epoch number alone, so that all processes and a resumed run have the same one.

    Args:
        starts: `(shards + 1,)` windows before each shard, and in all.
        seed: of the shuffling.
        drawn: sampler that says which windows an epoch has, and how often; None: each once.
        mixed: shards that are shuffled together.

    Example:
        >>> sorted(ShardSampler(np.array([0, 2, 2, 5])))
        [0, 1, 2, 3, 4]
    """

    def __init__(self, starts: np.ndarray, seed: int = 0, drawn: Sampler | None = None, mixed: int = MIXED) -> None:
        self.starts, self.seed, self.epoch, self.mixed = np.asarray(starts), seed, 0, mixed
        self.drawn = drawn

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch; the loader calls it."""
        self.epoch = epoch
        if self.drawn is not None:
            self.drawn.set_epoch(epoch)  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return int(self.starts[-1]) if self.drawn is None else len(self.drawn)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(len(self.starts) - 1)
        draws = None if self.drawn is None else np.sort(np.fromiter(self.drawn, dtype=np.int64))
        for first in range(0, len(order), self.mixed):
            group = [self._windows(shard, draws) for shard in order[first : first + self.mixed].tolist()]
            numbers = random.permutation(np.concatenate(group))
            for start in range(0, len(numbers), AT_ONCE):
                yield from numbers[start : start + AT_ONCE].tolist()

    def _windows(self, shard: int, draws: np.ndarray | None) -> np.ndarray:
        begin, end = self.starts[shard : shard + 2].tolist()
        if draws is None:
            return np.arange(begin, end)
        return draws[np.searchsorted(draws, begin) : np.searchsorted(draws, end)]


def shard_sampler(windows: WindowDataset, seed: int, drawn: Sampler | None = None) -> Sampler | None:
    """Return the sampler of training windows: `drawn`, in an order that suits shards if there are several."""
    if not isinstance(windows, ShardedWindows) or windows.rows.num_shards == 1:
        return drawn
    return ShardSampler(windows.starts, seed, drawn)

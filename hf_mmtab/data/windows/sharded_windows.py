"""Windows of rows in shards: where they lie is worked out shard by shard, when one of them is asked for."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .cutting import WindowDataset, WindowLabel
from .encoded_rows import EncodedRows
from .sharded_rows import KEPT, ShardedRows
from .window_index import WindowIndex


class ShardedWindows(WindowDataset):
    """The windows of each shard, one shard behind the other; numbers of rows are those of the whole table.

    Of each shard only the number of windows is kept. Making the dataset therefore reads splits and histories of every
    shard once.

    Args:
        rows: in shards.
        cut: gives the windows of one shard.
        label, skip, beside: see `WindowDataset`.
        chosen: for each shard the numbers of its windows that are wanted; None: all.
        starts: `(shards + 1,)` windows before each shard, and in all; None: they are counted.
    """

    def __init__(
        self,
        rows: ShardedRows,
        cut: Callable[[EncodedRows], WindowDataset],
        label: WindowLabel | None = None,
        skip: frozenset[str] = frozenset(),
        beside: Mapping[str, np.ndarray] | None = None,
        chosen: Sequence[np.ndarray] | None = None,
        starts: np.ndarray | None = None,
    ) -> None:
        self.rows: ShardedRows = rows
        self.cut, self.label, self.skip, self.chosen = cut, label, skip, chosen
        self.beside = dict(beside or {})
        self._cache: OrderedDict[int, Any] = OrderedDict()
        self.starts = np.cumsum([0, *self._counts()]) if starts is None else starts

    def _counts(self) -> Iterator[int]:
        if self.chosen is not None:
            yield from map(len, self.chosen)
            return
        for part in self.rows.parts():
            yield len(self.cut(part))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": OrderedDict()}  # to another process go no windows, it works them out itself

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def index(self) -> WindowIndex:  # type: ignore[override]
        """Where all windows lie; 16 bytes each."""
        found = [part.index for part in self.parts()]
        starts = [index.start + first for index, first in zip(found, self.rows.starts[:-1].tolist(), strict=True)]
        lengths, labels = [one.length for one in found], [one.label_start for one in found]
        return WindowIndex(np.concatenate(starts), np.concatenate(lengths), np.concatenate(labels))

    def parts(self) -> Iterator[WindowDataset]:
        """Yield the windows of each shard, with numbers of rows in the shard."""
        return map(self.part, range(self.rows.num_shards))

    def part_of(self, row: int) -> tuple[WindowDataset, int, int]:
        """Return the windows of the shard that holds a row, and how many windows and rows lie before them."""
        number = int(np.searchsorted(self.rows.starts, row, side="right")) - 1
        return self.part(number), int(self.starts[number]), int(self.rows.starts[number])

    def part(self, number: int) -> WindowDataset:
        """Return the windows of one shard."""
        first, last = self.rows.starts[number : number + 2].tolist()
        beside = {name: values[first:last] for name, values in self.beside.items()}
        return WindowDataset(self.rows.shard(number), self._kept(number), self.label, self.skip, beside)

    def _kept(self, number: int) -> Any:
        """Return what was made of a shard; of the last few shards it is kept."""
        if number not in self._cache:
            self._cache[number] = self._make(number)
            if len(self._cache) > KEPT:
                self._cache.popitem(last=False)
        self._cache.move_to_end(number)
        return self._cache[number]

    def _make(self, number: int) -> Any:
        index = self.cut(self.rows.shard(number)).index
        return index if self.chosen is None else index[self.chosen[number]]

    def _by_shard(self, numbers: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield each shard of some windows, their places in `numbers`, and their numbers in the shard."""
        owner = np.searchsorted(self.starts, numbers, side="right") - 1
        for shard in np.unique(owner).tolist():
            places = np.flatnonzero(owner == shard)
            yield shard, places, numbers[places] - self.starts[shard]

    def at(self, numbers: np.ndarray) -> WindowIndex:
        """Return where some of the windows lie."""
        start = np.empty(len(numbers), dtype=np.int64)
        length, label_start = np.empty(len(numbers), dtype=np.int32), np.empty(len(numbers), dtype=np.int32)
        for shard, places, own in self._by_shard(np.asarray(numbers)):
            found = self.part(shard).index[own]
            start[places] = found.start + self.rows.starts[shard]
            length[places], label_start[places] = found.length, found.label_start
        return WindowIndex(start, length, label_start)

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """Return several windows at once; DataLoader asks for whole batches by this name."""
        items: list[dict[str, Any]] = [{}] * len(indices)
        for shard, places, own in self._by_shard(np.asarray(indices, dtype=np.int64)):
            for place, item in zip(places.tolist(), self.part(shard).__getitems__(own.tolist()), strict=True):
                items[place] = item
        return items

    def window_labels(self, chosen: np.ndarray | None = None) -> np.ndarray:
        """Return the label of each window, see `WindowDataset`."""
        if chosen is None:
            return np.concatenate([part.window_labels() for part in self.parts()])
        found = [(places, self.part(shard).window_labels(own)) for shard, places, own in self._by_shard(chosen)]
        if not found:
            return self.part(0).window_labels(chosen)
        order = np.argsort(np.concatenate([places for places, _ in found]), kind="stable")
        return np.concatenate([labels for _, labels in found])[order]

    def class_counts(self) -> np.ndarray:
        """Return how many labels of each class the windows have, `(windows, classes)` int64."""
        return np.concatenate([part.class_counts() for part in self.parts()])

    def known_labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Return how many labels each window has and how many it should have, both `(windows,)` int64."""
        known, wanted = zip(*(part.known_labels() for part in self.parts()), strict=True)
        return np.concatenate(known), np.concatenate(wanted)

    def without(self, names: Any) -> "ShardedWindows":
        """Return the same windows, but the named model inputs are neither read nor returned."""
        skip = self.skip | frozenset(names)
        return ShardedWindows(self.rows, self.cut, self.label, skip, self.beside, self.chosen, self.starts)

    def with_rows(self, rows: ShardedRows) -> "ShardedWindows":
        """Return the same windows of rows that have other labels, see `ShardedRows.relabelled`."""
        return ShardedWindows(rows, self.cut, self.label, self.skip, self.beside, self.chosen, self.starts)

    def select(self, chosen: Any) -> WindowDataset:
        """Return some of the windows, by number or mask; in another order than theirs they are no longer by shard."""
        numbers = np.asarray(chosen)
        numbers = np.flatnonzero(numbers) if numbers.dtype == bool else numbers
        if (np.diff(numbers) <= 0).any():
            return WindowDataset(self.rows, self.at(numbers), self.label, self.skip, self.beside)
        kept = np.split(numbers, np.searchsorted(numbers, self.starts[1:-1]))
        local = [one - start for one, start in zip(kept, self.starts[:-1].tolist(), strict=True)]
        if self.chosen is not None:
            local = [before[one] for before, one in zip(self.chosen, local, strict=True)]
        return ShardedWindows(self.rows, self.cut, self.label, self.skip, self.beside, local)

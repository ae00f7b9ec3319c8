"""Memory-mapped files with the outputs of a frozen part for each row of a dataset."""

import json
import math
import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...files import read_json, write_array

META_NAME, INDEX_NAME, KEYS_NAME, PIECES_NAME = "meta.json", "index.npy", "keys.json", "pieces.json"
# Names of stores, and of those being written: nothing else is deleted.
_STORE = re.compile(r".+-[0-9a-f]{24}")
_UNFINISHED = re.compile(_STORE.pattern + r"\.[0-9a-f]{32}\.tmp")
ABANDONED_AFTER = 3600.0  # seconds without a write, after which nobody is filling a store any more


class FeatureStore:
    """Reads the features of one dataset, row by row; safe to share between workers and processes (read only).

    Files: `data-RANK.bin` (raw values), `index.npy` (rows, 3) = file, first element of axis 0, length of axis
    0, `meta.json` (dtype on disk and as computed, shape behind axis 0), written last.

    Args:
        folder: a folder that `StoreWriter` has finished.
        columns: of the last axis, to read these alone; None: all.

    Raises:
        ValueError: if a file is damaged; names it.
    """

    def __init__(self, folder: str | os.PathLike, columns: Sequence[int] | None = None):
        self.folder, self.columns = (Path(folder), None if columns is None else torch.tensor(columns, dtype=torch.long))
        remedy = f"Delete the folder {str(folder)!r}: it is made anew."
        meta = read_json(self.folder / META_NAME, remedy)
        self.dtype, self.computed = getattr(torch, meta["dtype"]), getattr(torch, meta["computed"])
        self.tail, self.files = tuple(meta["tail"]), meta["files"]
        try:
            self.index = np.load(self.folder / INDEX_NAME)
        except (ValueError, EOFError) as error:
            path = str(self.folder / INDEX_NAME)
            raise ValueError(f"Expected a list of features in {path!r}, found a damaged file. {remedy}") from error
        # Mapped at once: another run that needs the room may delete the files, which a living map survives.
        self._maps = {file: self._map(file) for file in sorted({int(file) for file in self.index[:, 0]})}
        width = math.prod(self.tail) * self.dtype.itemsize
        for file, found in self._maps.items():
            wanted = int(self.index[self.index[:, 0] == file, 1:].sum(axis=1).max()) * width
            if len(found) < wanted:
                raise ValueError(
                    f"Expected at least {wanted:,} bytes in {str(self.folder / f'data-{file}.bin')!r}, found "
                    f"{len(found):,}: the file is damaged. {remedy}"
                )

    @property
    def folders(self) -> list[Path]:
        """The folders that are read."""
        return [self.folder]

    def _map(self, file: int) -> np.ndarray:
        path = self.folder / f"data-{file}.bin"
        empty = not path.stat().st_size
        return np.zeros(0, dtype=np.uint8) if empty else np.memmap(path, dtype=np.uint8, mode="r")

    def __len__(self) -> int:
        return len(self.index)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}  # a worker that is not forked maps the files itself

    def __getitem__(self, row: int) -> torch.Tensor:
        """Return the features of one row, a copy, shape `(length, *tail)`, in the dtype of the computation."""
        file, start, length = (int(value) for value in self.index[row])
        if file not in self._maps:
            self._maps[file] = self._map(file)
        width = math.prod(self.tail) * self.dtype.itemsize
        piece = np.array(self._maps[file][start * width : (start + length) * width])
        features = torch.from_numpy(piece).view(self.dtype).reshape(length, *self.tail)
        return (features if self.columns is None else features[..., self.columns]).to(self.computed)


class JoinedStore:
    """Rows that lie in several stores, in any order and any number of times.

    Args:
        stores: the stores.
        places: shape `(rows, 2)`: number of the store, row in it.
        ends: of rows made of several stored ones each: how many of those there are up to and with each row.
    """

    def __init__(self, stores: Sequence[FeatureStore], places: np.ndarray, ends: np.ndarray | None = None):
        self.stores, self.places = list(stores), places
        self.ends = np.arange(1, len(places) + 1) if ends is None else ends

    @property
    def folders(self) -> list[Path]:
        """The folders that are read."""
        return [store.folder for store in self.stores]

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, row: int) -> torch.Tensor:
        """Return the features of one row, a copy."""
        places = self.places[self.ends[row - 1] if row else 0 : self.ends[row]]
        return torch.cat([self.stores[store][int(place)] for store, place in places])


_OF_STORE = re.compile(r"data-\d+\.bin|share-\d+\.(npy|json)|(index\.npy|(keys|pieces)\.json)")


class StoreWriter:
    """Writes one process's share of a store.

    Args:
        folder: a folder of this run alone; it gets its final name when all shares are there.
        rank: number of this process; each writes its own file.
        dtype: on disk; None: as computed.
    """

    def __init__(self, folder: Path, rank: int, dtype: torch.dtype | None = None):
        self.folder, self.rank, self.dtype = folder, rank, dtype
        self.file = (folder / f"data-{rank}.bin").open("wb")
        self.entries: list[tuple[int, int, int, int]] = []
        self.written = 0
        self.meta: dict[str, Any] = {}

    def add(self, row: int, features: torch.Tensor) -> None:
        """Append the features of one row, shape `(length, *tail)`; only `length` may differ between rows."""
        stored = self.dtype or features.dtype
        names = [str(dtype).removeprefix("torch.") for dtype in (features.dtype, stored)]
        meta = {"computed": names[0], "dtype": names[1], "tail": list(features.shape[1:])}
        features = features.detach().to("cpu", stored).contiguous()
        if self.meta and meta != self.meta:
            raise ValueError(f"Features changed from {self.meta} to {meta} at row {row}")
        self.meta = meta
        self.file.write(features.view(torch.uint8).numpy().tobytes())
        self.entries.append((row, self.rank, self.written, len(features)))
        self.written += len(features)

    def close(self) -> None:
        """Finish this process's share."""
        self.file.close()
        write_array(
            self.folder / f"share-{self.rank}.npy", np.array(self.entries, dtype=np.int64).reshape(-1, 4), header=True
        )
        if self.meta:
            (self.folder / f"share-{self.rank}.json").write_text(json.dumps(self.meta), encoding="utf-8")


def finish_store(folder: Path, final: Path, rows: int) -> None:
    """Join the shares of all processes and give the store its final name, unless another run was faster."""
    shares = [np.load(path) for path in sorted(folder.glob("share-*.npy"))]
    entries = np.concatenate(shares)
    index = np.zeros((rows, 3), dtype=np.int64)
    index[entries[:, 0]] = entries[:, 1:]
    if len(entries) != rows:
        raise ValueError(f"Expected features of {rows} rows, found {len(entries)}")
    write_array(folder / INDEX_NAME, index, header=True)
    metas = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("share-*.json"))]
    if any(meta != metas[0] for meta in metas):
        raise ValueError(f"Processes computed features of different shapes: {metas}")
    meta = {**metas[0], "files": len(shares)}
    (folder / META_NAME).write_text(json.dumps(meta), encoding="utf-8")
    if final.is_dir() and not (final / META_NAME).is_file():  # what a killed removal left of an earlier one
        for path in final.iterdir():
            if _OF_STORE.fullmatch(path.name):
                path.unlink()
    try:
        folder.rename(final)
    except OSError:
        if not (final / META_NAME).is_file():
            raise
        shutil.rmtree(folder)


def folder_size(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def make_room(root: Path, needed: int, budget: int, keep: Sequence[Path]) -> bool:
    """Delete stores until `needed` bytes fit the budget; return whether they fit.

    Half-written stores of killed runs are deleted first, then the least recently used ones.

    Args:
        root: the folder of all stores.
        needed: bytes of the new store.
        budget: largest size of `root` in bytes.
        keep: stores in use.
    """
    if needed > budget or needed > shutil.disk_usage(root).free:
        return False
    for left in root.glob("*.tmp"):
        if not _UNFINISHED.fullmatch(left.name):
            continue  # not ours
        files = [path.stat().st_mtime for path in left.rglob("*")]
        if time.time() - max([left.stat().st_mtime, *files]) > ABANDONED_AFTER:
            shutil.rmtree(left, ignore_errors=True)
    stores = [path.parent for path in root.glob(f"*/{META_NAME}") if path.parent not in keep]
    stores = [store for store in stores if _STORE.fullmatch(store.name) and (store / INDEX_NAME).is_file()]
    stores.sort(key=lambda store: (store / META_NAME).stat().st_mtime)
    while folder_size(root) + needed > budget:
        if not stores:
            return False
        shutil.rmtree(stores.pop(0), ignore_errors=True)
    return True

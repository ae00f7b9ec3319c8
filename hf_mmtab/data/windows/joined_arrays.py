"""An array that lies in several files, read as one."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


class JoinedArray(np.lib.mixins.NDArrayOperatorsMixin):
    """Arrays one behind the other; what is not asked for is not read.

    A slice within one of them is a view of it, everything else is copied. Arithmetic reads all.

    Args:
        starts: `(arrays + 1,)`, items before each array and in all.
        part: gives an array by its number.
        dtype: of all.
        width: of the second dimension; None: there is none.
    """

    def __init__(
        self, starts: np.ndarray, part: Callable[[int], np.ndarray], dtype: Any, width: int | None = None
    ) -> None:
        self.starts, self.part, self.dtype = starts, part, np.dtype(dtype)
        self.shape = (int(starts[-1]),) if width is None else (int(starts[-1]), width)

    @property
    def ndim(self) -> int:
        """How many dimensions there are."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        for number in range(len(self.starts) - 1):
            yield from self.part(number)

    def __getitem__(self, chosen: Any) -> Any:
        if isinstance(chosen, slice):
            return self._slice(*chosen.indices(len(self)))
        places = np.asarray(chosen)
        if places.dtype == bool:
            places = np.flatnonzero(places)
        if ((places < -len(self)) | (places >= len(self))).any():
            raise IndexError(f"Expected places below {len(self)}, found {places.min()} to {places.max()}.")
        places = np.where(places < 0, places + len(self), places).astype(np.int64)
        out = np.empty((*places.shape, *self.shape[1:]), dtype=self.dtype)
        owner = np.searchsorted(self.starts, places, side="right") - 1
        for number in np.unique(owner).tolist():
            mine = owner == number
            out[mine] = self.part(number)[places[mine] - self.starts[number]]
        return out if places.ndim else out[()]

    def _slice(self, start: int, stop: int, step: int) -> np.ndarray:
        if step != 1:
            return self[np.arange(start, stop, step)]
        stop = max(start, stop)
        first = max(0, int(np.searchsorted(self.starts, start, side="right")) - 1)
        last = max(first + 1, int(np.searchsorted(self.starts, stop, side="left")))
        pieces = [
            self.part(number)[max(0, start - begin) : stop - begin]
            for number, begin in zip(range(first, last), self.starts[first:last].tolist(), strict=True)
            if number < len(self.starts) - 1
        ]
        if not pieces:
            return np.empty((0, *self.shape[1:]), dtype=self.dtype)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self[:], dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        arrays = [np.asarray(one) if isinstance(one, JoinedArray) else one for one in inputs]
        return getattr(ufunc, method)(*arrays, **kwargs)

"""Windows to batches: padding, and everything random about masked cells."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .checked_windows import check_columns
from .processing_tabbert import TabBertProcessor

IGNORED = -100
MODEL_INPUTS = ("input_ids", "attention_mask", "times", "statistics")  # of a head, the last two of some heads
HIDING = 0x756E6B  # any number that tells the draws of [UNK] from those of masks
# What stands beside a window's ids → its padding: what a frozen encoder gave earlier, (rows, hidden); numbers about
# each row, (rows, statistics); microseconds, (rows,), which do not decrease in the padding either.
PASSED_THROUGH = {"row_states": 0.0, "statistics": float("nan"), "times": 2**62}


@dataclass
class TabBertCollator:
    """Pads windows to one length and, for pretraining, masks cells.

    Each example is a mapping with `input_ids (rows, fields)` and, as the windows of `hf_mmtab.data` have
    them, `label_start` (earlier rows are context: neither masked nor judged) and `labels`: a number, numbers
    of shape `(targets,)`, or with `row_labels=True` one number per row `(rows,)`.

    Masking: each eligible cell is chosen with `mlm_probability`; a static field is chosen for all rows of a
    window at once; with `row_probability` whole rows are chosen on top. Of the chosen, `mask_share` become
    [MASK], `random_share` become another value of the same field, the rest stay. Eligible are values, bins
    and [MISSING] in real rows from `label_start` on; special tokens and the [SEP] column are never masked,
    nor [UNK] unless `mask_unknown`.

    With `unknown_probability` that share of the cells which are no target becomes [UNK] on top, half of them one by
    one, half as a field of a whole window, so that a value that training never had meets weights that were trained.
    Where the training rows have no missing value either, every second one becomes [MISSING]. None in evaluation.

    Args:
        processor: the fitted processor.
        mlm: True for pretraining: `labels (batch, rows, fields)`, -100 where not chosen.
        next_row: nothing is masked and every eligible cell is a label: for a model that predicts the next row.
        seed: None: torch's global generator. A number: what happens to a window depends on the seed, the epoch
            (see `set_epoch`) and the window's content alone. So every evaluation judges the same cells, in
            batches of any size and on any number of processes, and a resumed run masks as an uninterrupted one.
        pad_to_rows: pad to that many rows instead of the longest window of the batch.

    Example:

    ```python
    >>> rows = {"shop": ["a", "b", "a", "b"]}
    >>> processor = TabBertProcessor({"fields": {"shop": {}}}).fit(rows)
    >>> collator = TabBertCollator(processor, mlm=True, mlm_probability=1.0, mask_share=1.0, random_share=0.0)
    >>> collator([{"input_ids": np.array([[6], [7]])}])["input_ids"].tolist()
    [[[3], [3]]]
    ```
    """

    processor: TabBertProcessor
    mlm: bool = False
    mlm_probability: float = 0.15
    row_probability: float = 0.0
    mask_share: float = 0.8
    random_share: float = 0.1
    mask_unknown: bool = False
    next_row: bool = False
    row_labels: bool = False
    seed: int | None = None
    pad_to_rows: int | None = None
    unknown_probability: float = 0.0

    def __post_init__(self) -> None:
        shares = ("mlm_probability", "row_probability", "mask_share", "random_share", "unknown_probability")
        for name in shares:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}.")
        if self.mask_share + self.random_share > 1.0:
            raise ValueError(
                f"mask_share + random_share must be at most 1, got {self.mask_share} + {self.random_share}."
            )
        ranges = torch.tensor(self.processor.field_ranges)
        values = torch.tensor(self.processor.value_ranges())
        self._ranges, self._start, self._end = ranges, ranges[:, 0], ranges[:, 1]
        self._first_value, self._num_values = values[:, 0], values[:, 1] - values[:, 0]
        self._unknown = torch.tensor(self.processor.unknown_ids())
        self._never_missing = torch.tensor(self.processor.ids_without_rows())
        self._static = torch.tensor(self.processor.static_fields())
        self._maskable = self._num_values > 0
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()  # also seen by loader processes

    def set_epoch(self, epoch: int) -> None:
        """Choose other cells than in the epoch before; without a `seed` it changes nothing."""
        self._epoch.fill_(epoch)

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `input_ids (batch, rows, fields)`, `attention_mask (batch, rows)` and `labels`.

        Raises:
            ValueError: if a window has another number of fields, ids of other fields, or more rows than `pad_to_rows`.
        """
        if lacking := [e for e in examples if "input_ids" not in e]:
            raise ValueError(
                f"Expected encoded windows with input_ids, found {', '.join(map(str, lacking[0]))}. Encode them first: "
                "`processor(history)`, or `processor.encode` and windows of its rows."
            )
        windows = [torch.as_tensor(np.asarray(e["input_ids"]), dtype=torch.long) for e in examples]
        fields = len(self._start)
        for window in windows:
            if window.ndim != 2 or window.shape[1] != fields:
                raise ValueError(f"Expected windows of shape (rows, {fields}), found {tuple(window.shape)}.")
        lengths = torch.tensor([len(w) for w in windows])
        rows = int(lengths.max()) if self.pad_to_rows is None else self.pad_to_rows
        if int(lengths.max()) > rows:
            raise ValueError(f"Expected at most pad_to_rows={rows} rows, found a window of {int(lengths.max())}.")
        input_ids = torch.full((len(windows), rows, fields), self.processor.pad_token_id)
        for i, window in enumerate(windows):
            input_ids[i, : len(window)] = window
        check_columns(input_ids, self.processor.fields, self._ranges, len(self.processor.plan.special_tokens))
        attention_mask = (torch.arange(rows) < lengths[:, None]).long()
        batch = {"input_ids": input_ids, "attention_mask": attention_mask}
        starts = torch.tensor([int(e.get("label_start", 0)) for e in examples])
        if self.mlm:
            judged = attention_mask.bool() & (torch.arange(rows) >= starts[:, None])  # (batch, rows)
            if self.next_row:
                batch["labels"] = torch.where(self.eligible(input_ids, judged), input_ids, IGNORED)
            else:
                batch["input_ids"], batch["labels"] = self.mask_cells(input_ids, judged)
        elif "labels" in examples[0]:
            batch["labels"] = self._labels([e["labels"] for e in examples], rows)
        if self.unknown_probability:
            free = batch["labels"] == IGNORED if self.mlm and not self.next_row else None
            batch["input_ids"] = self.hide_cells(batch["input_ids"], input_ids, attention_mask.bool(), free)
        for name, filling in PASSED_THROUGH.items():
            if name in examples[0]:
                states = [torch.as_tensor(e[name]) for e in examples]
                padded = states[0].new_full((len(states), rows, *states[0].shape[1:]), filling)
                for i, state in enumerate(states):
                    padded[i, : min(rows, len(state))] = state[:rows]
                batch[name] = padded
        return batch

    def _labels(self, labels: list[Any], rows: int) -> torch.Tensor:
        tensors = [torch.as_tensor(np.asarray(label)) for label in labels]
        if not self.row_labels:
            stacked = torch.stack(tensors)
            return stacked.float() if stacked.is_floating_point() else stacked.long()
        fill: float = float("nan") if tensors[0].is_floating_point() else IGNORED
        padded = torch.full((len(tensors), rows, *tensors[0].shape[1:]), fill, dtype=tensors[0].dtype)
        for i, tensor in enumerate(tensors):
            padded[i, : len(tensor)] = tensor
        return padded.float() if padded.is_floating_point() else padded.long()

    def eligible(self, input_ids: torch.Tensor, judged: torch.Tensor) -> torch.Tensor:
        """Mark the cells that may be predicted, shape `(batch, rows, fields)`."""
        eligible = judged[:, :, None] & (input_ids >= self._start) & (input_ids < self._end) & self._maskable
        return eligible if self.mask_unknown else eligible & (input_ids != self._unknown)

    def mask_cells(self, input_ids: torch.Tensor, judged: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return masked ids and labels of shape `(batch, rows, fields)`.

        Args:
            judged: `(batch, rows)`, True where cells may be chosen.
        """
        batch, rows, fields = input_ids.shape
        keys = self._window_keys(input_ids)

        def draw(*shape: int) -> torch.Tensor:
            # rows come first in `shape`, so that padding changes no draw of the rows before it
            return torch.rand(shape) if keys is None else counted_uniforms(keys, shape)

        eligible = self.eligible(input_ids, judged)
        chance, kind, value = draw(batch, rows, fields), draw(batch, rows, fields), draw(batch, rows, fields)
        shared_chance, shared_kind = draw(batch, 1, fields), draw(batch, 1, fields)
        row_chance, row_kind = draw(batch, rows, 1), draw(batch, rows, 1)
        chosen = torch.where(self._static, shared_chance, chance) < self.mlm_probability
        whole_row = (row_chance < self.row_probability).expand_as(chosen) & ~self._static
        kind = torch.where(self._static, shared_kind, torch.where(whole_row, row_kind, kind))
        chosen = (chosen | whole_row) & eligible
        labels = torch.where(chosen, input_ids, IGNORED)
        random_ids = self._first_value + (value * self._num_values).long().clamp(max=self._num_values - 1)
        masked = torch.where(chosen & (kind < self.mask_share), self.processor.mask_token_id, input_ids)
        replaced = chosen & (kind >= self.mask_share) & (kind < self.mask_share + self.random_share)
        return torch.where(replaced, random_ids, masked), labels

    def hide_cells(
        self, given: torch.Tensor, original: torch.Tensor, real: torch.Tensor, free: torch.Tensor | None
    ) -> torch.Tensor:
        """Return ids of shape `(batch, rows, fields)` in which some cells are [UNK].

        Args:
            given: ids that the model would get.
            original: the same without masks.
            real: `(batch, rows)`, True where a row is no padding.
            free: cells that may be hidden, as `given`; None: all of the real rows.
        """
        batch, rows, fields = given.shape
        keys = self._window_keys(original)
        if keys is not None:
            keys = mixed(keys + np.uint64(HIDING))  # other numbers than those of masking

        def draw(*shape: int) -> torch.Tensor:
            return torch.rand(shape) if keys is None else counted_uniforms(keys, shape)

        single, kind, whole = draw(batch, rows, fields), draw(batch, rows, fields), draw(batch, 1, fields)
        half = self.unknown_probability / 2
        hidden = (torch.where(self._static, 1.0, single) < half) | (whole < half)
        hidden = hidden & real[:, :, None] & (given >= self._start) & (given < self._end) & self._maskable
        if free is not None:
            hidden = hidden & free
        stands_for_it = torch.where(kind < 0.5, self._unknown, self._never_missing)
        return torch.where(hidden, stands_for_it, given)

    def _window_keys(self, input_ids: torch.Tensor) -> np.ndarray | None:
        """Return a number for each window `(batch,)` that follows from seed, epoch and content; None without seed."""
        if self.seed is None:
            return None
        run = mixed(mixed(np.array([self.seed], dtype=np.int64).view(np.uint64)) + np.uint64(int(self._epoch)))
        real_rows = input_ids.ne(self.processor.pad_token_id).any(dim=-1).sum(dim=1).tolist()
        contents = [zlib.crc32(ids[:n].tobytes()) for ids, n in zip(input_ids.numpy(), real_rows, strict=True)]
        return mixed(run ^ np.array(contents, dtype=np.uint64))


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Scatter whole numbers over all of 64 bits (the finaliser of SplitMix64, Steele et al. 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def counted_uniforms(keys: np.ndarray, shape: tuple[int, ...]) -> torch.Tensor:
    """Return uniform numbers in [0, 1) that follow from keys and places alone, and move the keys on.

    Args:
        keys: `(batch,)` uint64, changed in place so that the next call gives other numbers.
        shape: beginning with `batch`.
    """
    places = np.arange(1, 1 + np.prod(shape[1:], dtype=np.int64), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits = mixed(keys[:, None] + places)  # (batch, places)
    keys[:] = mixed(keys + np.uint64(1))
    return torch.from_numpy((bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)).view(shape)

"""Train, validation and test: by time, by entity, or as the paper did; and what leaks between them."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from transformers.utils import logging

from .cutting import WindowDataset, WindowLabel
from .encoded_rows import SPLITS, EncodedRows
from .sharded_rows import ShardedRows
from .sharded_windows import ShardedWindows
from .time_split import HIGHEST, split_at, split_places
from .window_index import WindowIndex, cut_growing, cut_windows

logger = logging.get_logger(__name__)

SplitKind = Literal["time", "entity", "paper"]
DEFAULT_FRACTIONS = {"time": (0.7, 0.1, 0.2), "entity": (0.7, 0.1, 0.2), "paper": (0.6, 0.2, 0.2)}


@dataclass(frozen=True)
class Split:
    """How rows are divided.

    Attributes:
        kind: "time": earlier rows train, later ones validate and test; earlier rows may be context of later
            windows, never labels. "entity": no entity in two splits. "paper": windows are drawn at random
            (kept for reproduction: overlapping windows share rows, see `leak_check`); the processor is
            fitted on all rows.
        fractions: of the rows (of the windows under "paper"): train, validation, test.
            None: .7, .1, .2; paper: .6, .2, .2.
        seed: of the draw under "entity" and "paper".
    """

    kind: SplitKind = "time"
    fractions: tuple[float, float, float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in DEFAULT_FRACTIONS:
            raise ValueError(f"split must be one of {', '.join(DEFAULT_FRACTIONS)}, got {self.kind!r}.")
        shares = self.shares
        if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6 or shares[0] == 0:
            raise ValueError(
                f"Expected split_fractions to be fractions of train, validation and test that sum to 1, the first "
                f"above 0, got {shares}."
            )

    @property
    def shares(self) -> tuple[float, float, float]:
        """The fractions, or the kind's own."""
        return tuple(self.fractions) if self.fractions is not None else DEFAULT_FRACTIONS[self.kind]  # type: ignore

    def rows(self, entity: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Return the split of each row as uint8 into `SPLITS`; rows of one time are never divided.

        Args:
            entity: `(rows,)`, time: `(rows,)`.

        Raises:
            ValueError: if the training split would be empty.
        """
        if self.kind == "paper":
            return np.zeros(len(time), dtype=np.uint8)
        split = self._by_time(time) if self.kind == "time" else self.of_entities(np.bincount(entity))[entity]
        self.check_training(int((split == 0).sum()), len(split))
        return split

    def check_training(self, training: int, rows: int) -> None:
        """Raise a ValueError if there are rows and none of them to train on."""
        if rows and not training:
            raise ValueError(
                f"The {self.kind} split of {rows} rows leaves no row to train on: too few different "
                f"{'times' if self.kind == 'time' else 'entities'}. Choose other fractions or another split."
            )

    def _by_time(self, time: np.ndarray) -> np.ndarray:
        places = split_places(self.shares, len(time))
        ordered = np.partition(np.append(time, HIGHEST), places)  # a split without rows begins after all of them
        return split_at(time, ordered[places].tolist())

    def of_entities(self, rows: np.ndarray) -> np.ndarray:
        """Return the split of each entity under "entity", `(entities,)` uint8.

        Args:
            rows: of each entity, in the order in which the entities first appear.
        """
        order = np.random.default_rng(self.seed).permutation(len(rows))
        # an entity goes where the middle of its rows falls, entities lined up in random order
        middle = (np.cumsum(rows[order]) - rows[order] / 2) / max(1, rows.sum())
        of_entity = np.empty(len(rows), dtype=np.uint8)
        of_entity[order] = np.searchsorted(np.cumsum(self.shares)[:2], middle, side="right")
        return of_entity


def segments(rows: EncodedRows, max_gap: float | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the parts of histories that lie in one split, and where the history of each begins.

    Args:
        rows: the encoded rows.
        max_gap: seconds; a longer pause ends a history.

    Returns:
        First row, row behind the last, and first row of the history, each `(segments,)` int64.
    """
    hard = np.zeros(len(rows), dtype=bool)
    hard[rows.entity_starts] = True
    if max_gap is not None:
        hard[1:] |= np.diff(rows.time) > max_gap * 1e6
    own = np.array(rows.split)
    begins = hard.copy()
    begins[1:] |= own[1:] != own[:-1]
    start, barriers = np.flatnonzero(begins), np.flatnonzero(hard)
    stop = np.append(start[1:], len(rows))[: len(start)]  # without rows there is none
    return start, stop, barriers[np.searchsorted(barriers, start, side="right") - 1] if len(start) else start


def windows(
    rows: EncodedRows,
    split: str,
    seq_len: int = 10,
    stride: int = 5,
    label: WindowLabel | None = None,
    align: Literal["start", "end"] | None = None,
    context: bool = True,
    max_gap: float | None = None,
    pad: bool = True,
    judges: bool | None = None,
) -> WindowDataset:
    """Return the windows of one split.

    With a label for every row, windows that judge are those of `predict`: they begin at every `stride`-th row of a
    history, wherever the split begins, so that a row has the same rows before it in both.

    Args:
        split: "train", "validation" or "test".
        seq_len: rows of a window.
        stride: rows between windows; the paper: 5 for pretraining, 10 for fine-tuning.
        label: see `WindowDataset`.
        align: see `cut_windows`; None: "start" without labels and under the label of any row, else "end", so that
            judged rows have rows before them.
        context: let windows of later splits reach back into earlier rows of the same entity (time split).
        max_gap: seconds; a longer pause ends a history, no window spans it.
        pad: False leaves out short windows and rows left over (the original).
        judges: whether the windows are for scores; None: those of validation and test are.

    Raises:
        ValueError: if there is no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}.")
    if isinstance(rows, ShardedRows):
        if rows.facts["split"]["kind"] == "paper" and rows.num_shards > 1:
            raise ValueError(
                f"Expected split: time or entity of rows in {rows.num_shards} shards, found 'paper', which draws "
                "windows out of the whole table. Prepare the rows with another split."
            )
        cut = partial(
            windows, split=split, seq_len=seq_len, stride=stride, label=label, align=align, context=context,
            max_gap=max_gap, pad=pad, judges=judges,
        )  # fmt: skip
        return ShardedWindows(rows, cut, label)
    past = label == "every" and rows.facts["order"] == "time"  # in the order of the file there is none
    align = align or ("end" if label == "last" or past else "start")
    start, stop, earliest = segments(rows, max_gap)
    kind, own = rows.facts["split"]["kind"], np.array(rows.split)
    # rows that are not in the order of time (the original's) have no earlier rows to reach back to
    if not context or kind != "time" or rows.facts["order"] != "time":
        earliest = start
    mine = own[start] == SPLITS.index(split) if kind != "paper" else np.ones(len(start), dtype=bool)
    judges = split != "train" if judges is None else judges
    if judges and past and pad and align == "end" and kind != "paper" and stride <= seq_len:
        return WindowDataset(rows, cut_growing(start[mine], stop[mine], seq_len, stride, earliest[mine]), label)
    index = cut_windows(start[mine], stop[mine], seq_len, stride, earliest[mine], align, pad)
    if label == "every" and align == "end" and kind != "paper":
        # a row that two windows hold belongs to the one in which more rows come before it, also in training: at the
        # start of a window everything looks new
        index.label_start = np.maximum(index.label_start, index.length - stride).astype(np.int32)
    if kind == "paper":
        index = _drawn(index, SPLITS.index(split), Split(**rows.facts["split"]))
    return WindowDataset(rows, index, label)


def _drawn(index: WindowIndex, split: int, how: Split) -> WindowIndex:
    order = np.random.default_rng(how.seed).permutation(len(index))
    bounds = [0, *(round(share * len(index)) for share in np.cumsum(how.shares)[:2]), len(index)]
    return index[np.sort(order[bounds[split] : bounds[split + 1]])]


def _shared(train: WindowDataset, test: WindowDataset) -> dict[str, int]:
    total = len(train.rows)
    covered = np.zeros(total + 1, dtype=np.int64)
    np.add.at(covered, train.index.start, 1)
    np.add.at(covered, train.index.start + train.index.length, -1)
    seen = np.concatenate([[0], np.cumsum(np.cumsum(covered[:-1]) > 0)])
    begins, ends = test.index.start, test.index.start + test.index.length
    judged = ends - 1 if test.label == "last" else begins + test.index.label_start
    return {
        "sharing_rows": int((seen[ends] > seen[begins]).sum()),
        "sharing_labelled_rows": int((seen[ends] > seen[judged]).sum()),
        "sharing_entities": int(np.isin(test.entities(), np.unique(train.entities())).sum()),
    }


def leak_check(train: WindowDataset, test: WindowDataset, split: str = "test") -> dict[str, Any]:
    """Count test windows that share rows or entities with training windows; logs a warning if labelled rows
    do. `split` is what the warning calls the judged windows.

    Returns:
        `windows` of the test split, and of these `sharing_rows` (a row of theirs lies in a training window),
        `sharing_labelled_rows` (a row that the test window is judged on does), `sharing_entities`, and the
        three as shares of the windows.
    """
    counts = dict.fromkeys(("sharing_rows", "sharing_labelled_rows", "sharing_entities"), 0)
    for training, judged in zip(train.parts(), test.parts(), strict=True):  # histories lie in one part
        for name, found in _shared(training, judged).items():
            counts[name] += found
    number = max(1, len(test))
    shares = {f"{name}_share": count / number for name, count in counts.items()}
    result: dict[str, Any] = {"windows": len(test)} | counts | shares
    if counts["sharing_labelled_rows"]:
        logger.warning(
            f"Leak: {counts['sharing_labelled_rows']} of {len(test)} {split} windows "
            f"({result['sharing_labelled_rows_share']:.1%}) are judged on rows that training windows contain. "
            "Use the time or the entity split for numbers that hold on new data."
        )
    return result

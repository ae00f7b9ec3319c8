"""Sentences about a run on a table that a reader of its numbers must know."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from transformers import AutoConfig
from transformers.utils import logging

from ...data.windows.cutting import WindowDataset
from ...data.windows.splits import DEFAULT_FRACTIONS
from ...evaluation.scored_rows import judged_rows, labels_of
from ...evaluation.unseen_values import UnseenValues, missing_cells_note, unseen_note, unseen_values
from ...models.tabbert.processing_tabbert import TabBertProcessor
from ...tasks import PreparedTable
from ...tasks.table_heads import WITHOUT_ENCODER
from ...tasks.table_labels import count_positive
from ..console import counted

logger = logging.get_logger(__name__)

OF_NUMBERS = ("numeric", "money")  # kinds of fields
FAR_OFF = 5.0  # mean score over share of positives, or the reverse: no longer probabilities
JUDGED_WORDS = {"last": "the last", "any": "any of them", "every": "every one"}
LEAKS = " Leak: a model may remember these rows, so scores are too good. Choose split: time or entity."


def warn_each(notes: Sequence[str]) -> None:
    """Warn of what a reader of the numbers must know."""
    for note in notes:
        logger.warning(note)


def tell_unseen(
    table: PreparedTable, places: np.ndarray | str, what: str, of_missing: bool = True
) -> tuple[list[UnseenValues], list[str]]:
    """Return the fields that are [UNK] more often than in training, and sentences about them, which are logged too.

    Args:
        table: of the judged rows.
        places: of the judged rows, or the name of their split.
        what: the rows, as in "test rows".
        of_missing: whether the sentences name fields that are [MISSING] more often, too.
    """
    found = unseen_values(table.rows, table.processor, places)
    told = unseen_note(found, what)
    if of_missing:
        told += missing_cells_note(table.rows, table.processor, places, what)
    warn_each(told)
    return found, told


def data_summary(table: PreparedTable) -> str:
    """Return how many rows and histories a table has, and over which time."""
    rows, plan = table.rows, table.processor.plan
    told = f"{len(rows):,} rows"
    if plan.entity:
        told += f" of {rows.num_entities:,} histories"
    if plan.time is not None and plan.time_unit != "number" and len(rows):
        ends = np.array(rows.time_bounds).astype("M8[us]").astype("M8[D]")
        told += f", {ends[0]} to {ends[1]}"
    return told


def stride_note(seq_len: int, stride: int) -> list[str]:
    """Say which share of the rows training leaves out, where its windows lie apart."""
    if stride <= seq_len:
        return []
    left_out = 1 - seq_len / stride
    return [
        f"Training windows of {seq_len:,} rows begin every {stride:,} rows: {left_out:.0%} of the rows of a long "
        f"history are in no window of an epoch. To train on all of them: stride of {seq_len:,} at most."
    ]


def missing_note(processor: TabBertProcessor) -> list[str]:
    """Say which columns of numbers have cells without one, in the rows that the processor was fitted on."""
    told, columns = processor.summary(), [str(processor.plan.source(field)) for field in processor.plan.fields]
    found = zip(columns, told["kind"], told["missing"], strict=True)
    shares = {column: share for column, kind, share in found if kind in OF_NUMBERS and share}
    if not shares:
        return []
    counts = [f"{name} {round(share * processor.rows_fitted):,}" for name, share in shares.items()]
    shown = ", ".join(counts[:5]) + (f" and {len(counts) - 5} more columns" if len(counts) > 5 else "")
    return [
        f"Cells without a number, empty or written as `missing` says (NaN, NA, null, …), count as missing: {shown} of "
        f"{processor.rows_fitted:,} training rows."
    ]


def describe_windows(windows: Mapping[str, WindowDataset], seq_len: int | None, window_label: str) -> str:
    """Return the line about rows and windows, with how many are positive.

    Args:
        windows: of each split.
        seq_len: rows of a window; None: the model reads rows and their past, and no windows.
        window_label: what is judged.
    """
    rows = next(iter(windows.values())).rows
    parts = []
    for split, cut in windows.items():
        positive, labels = count_positive(cut), labels_of(cut) if seq_len is None else cut
        if positive is not None and seq_len is None:
            positive = int(np.count_nonzero(labels == 1))
        parts.append(f"{len(labels):,} {split}" + (f" ({positive:,} positive)" if positive is not None else ""))
    judged = f"windows of {seq_len} rows, judged on {JUDGED_WORDS[window_label]}" if seq_len else "judged rows"
    return f"{len(rows):,} rows of {counted(rows.num_entities, 'history', 'histories')}; {judged}: {', '.join(parts)}"


def rows_before(windows: WindowDataset) -> str:
    """Say how many rows a model reads before a row that it judges: at the start of a history there are few."""
    before = np.concatenate([judged_rows(part).place for part in windows.parts()])
    if not len(before):
        return "no row is judged"
    tenth, middle = np.quantile(before, (0.1, 0.5), method="lower").tolist()
    half = counted(middle, "earlier row", "earlier rows")
    return f"{half} at the median, {tenth:,} or fewer for one row in ten"


def leak_sentence(split: str, leak: dict[str, Any]) -> str:
    """Say what a split shares with training, and that it leaks where labelled rows are shared."""
    return (
        f"Of {leak['windows']:,} {split} windows, {leak['sharing_labelled_rows']:,} "
        f"({leak['sharing_labelled_rows_share']:.1%}) are judged on rows that training windows contain, and "
        f"{leak['sharing_entities']:,} ({leak['sharing_entities_share']:.1%}) belong to an entity of training."
        + (LEAKS if leak["sharing_labelled_rows"] else "")
    )


def pretraining_note(pretrained: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    """Say if an encoder was pretrained on the same table under another split: it may have seen rows that are judged.

    Args:
        pretrained: recipe of the encoder; empty if it has none.
        mine: recipe of the run.
    """
    if not pretrained or not same_data(pretrained.get("data"), mine.get("data")):
        return []
    before, now = _split_of(pretrained), _split_of(mine)
    other = [name for name, value in now.items() if before.get(name, value) != value]
    if not other:
        return []
    return [
        f"The encoder was pretrained on this table with another {' and '.join(other)}: it has seen, without their "
        "labels, rows that are judged here."
    ]


def same_data(one: Any, other: Any) -> bool:
    """Tell whether two entries `data` name the same files, however they are spelt."""
    if one is None or other is None or one == other:
        return one == other
    first, second = (os.path.realpath(os.path.expanduser(str(data))) for data in (one, other))
    return first == second


def _split_of(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a recipe divides the rows, its defaults written out."""
    split = recipe.get("split") or "time"
    fractions = recipe.get("split_fractions") or DEFAULT_FRACTIONS[split]
    found = {"split": split, "split_fractions": [round(float(share), 6) for share in fractions]}
    if split != "time":  # nothing is drawn by time
        found["split_seed"] = recipe.get("split_seed") or 0
    return found | {"simulate": recipe.get("simulate")}


def length_note(pretrained: Mapping[str, Any], seq_len: int) -> list[str]:
    """Say if windows are longer than those that an encoder was pretrained on: it has never met the later positions.

    Args:
        pretrained: recipe of the encoder; empty if it has none.
        seq_len: rows of a window of the run.
    """
    learned = pretrained.get("seq_len")
    if learned is None or learned >= seq_len:
        return []
    return [
        f"Windows of {seq_len} rows are longer than the {learned} of pretraining: the encoder's positions from row "
        f"{learned + 1} on are as they were drawn. Pretrain with this seq_len, shorten it, or thaw the encoder."
    ]


def head_note(pretrained: str, architecture: str) -> list[str]:
    """Say if a checkpoint has a head of its own, which the new one does not begin from."""
    heads = [
        name
        for name in AutoConfig.from_pretrained(pretrained).architectures or []
        if name.endswith("ForSequenceClassification")
    ]
    if not heads or architecture in WITHOUT_ENCODER:
        return []
    return [
        f"{pretrained} is a {heads[0]}: only its encoder is taken. Its head is left behind, and the new one starts "
        "from random weights."
    ]


def later_rows_note(config: Any, has_encoder: bool) -> list[str]:
    """Say where a score may know what came after its row.

    Args:
        config: of the model.
        has_encoder: false for an LSTM on raw cells.
    """
    reads_on = config.lstm_bidirectional or (has_encoder and not config.next_row)
    if config.window_label != "every" or not reads_on:
        return []
    return [
        "With a label for every row, this model also reads rows of the window that come after the judged one: these "
        "numbers hold for judging afterwards, not for judging a row when it happens. For that use window_label: last, "
        "or an encoder pretrained with next_row: true and lstm_bidirectional: false."
    ]


def score_note(metrics: Mapping[str, float], unseen: bool = False) -> list[str]:
    """Say if probabilities of the positive class are far from how often it occurs.

    Args:
        metrics: of the test rows.
        unseen: whether these rows have values that training never had.
    """
    mean, share = metrics.get("mean_score", 0.0), metrics.get("positive_rate", 0.0)
    if not mean or not share or 1 / FAR_OFF < mean / share < FAR_OFF:
        return []
    remedy = (
        "The values that training never had may be the cause."
        if unseen
        else "Longer training usually brings them together."
    )
    return [
        f"The mean predicted probability is {mean:.2%}, and {share:.2%} of the test rows are positive: read scores as "
        f"a ranking, not as probabilities. {remedy}"
    ]

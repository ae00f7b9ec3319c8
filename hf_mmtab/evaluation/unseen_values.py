"""Fields in which new rows have more [UNK] than the training rows had: values that training never met."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.encoded_rows import CountedIds, EncodedRows

MORE = 0.005  # share of the rows beyond that of training from which on a field is named
NAMED = 3  # fields in the sentence; the table has all


@dataclass
class UnseenValues:
    """How often a field is [UNK].

    Args:
        field: its name.
        training: share of the training rows.
        here: share of the judged rows.
    """

    field: str
    training: float
    here: float


def unseen_values(
    rows: EncodedRows | CountedIds, processor: Any, places: np.ndarray | slice | str = slice(None)
) -> list[UnseenValues]:
    """Return the fields that are [UNK] more often than in training, the greatest difference first.

    Args:
        rows: encoded with `processor`.
        processor: fitted on the training rows.
        places: the rows to count, as `EncodedRows.share_of` takes them; all by default.
    """
    found = []
    columns = zip(processor.fields, processor.unknown_ids(), processor.unknown_shares(), strict=True)
    for number, (name, unknown, training) in enumerate(columns):
        if number < len(processor.plan.fields):
            here = rows.share_of(number, unknown, places)
            if here > training + MORE:
                found.append(UnseenValues(name, training, here))
    return sorted(found, key=lambda one: one.training - one.here)


def unseen_note(found: Sequence[UnseenValues], what: str) -> list[str]:
    """Say which fields have values that training never had.

    Args:
        found: see `unseen_values`.
        what: the rows, as in "test rows".
    """
    if not found:
        return []
    told = ", ".join(f"{one.field} {one.here:.1%} (training {one.training:.1%})" for one in found[:NAMED])
    more = f" and {len(found) - NAMED} more fields" if len(found) > NAMED else ""
    return [
        f"Values that training never had are [UNK] in the {what}: {told}{more}. Scores of these rows rest on the other "
        "fields. If the share is high, leave the field out (`plan_edits`), or train on later rows."
    ]

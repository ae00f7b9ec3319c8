"""Fields in which new rows have more [UNK] than the training rows had: values that training never met."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.windows.encoded_rows import CountedIds, EncodedRows
from ..models.tabbert.processing.unknown_cells import MORE

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
    return _more_often(rows, processor, processor.unknown_ids(), processor.unknown_shares(), places)


def _more_often(
    rows: EncodedRows | CountedIds,
    processor: Any,
    ids: Sequence[int],
    shares: Sequence[float],
    places: np.ndarray | slice | str,
) -> list[UnseenValues]:
    """Return the fields whose id of `ids` is more frequent than its share in training, the greatest change first."""
    found = []
    for number, field in enumerate(processor.plan.fields):
        here = rows.share_of(number, ids[number], places)
        if here > shares[number] + MORE:
            found.append(UnseenValues(field.name, shares[number], here))
    return sorted(found, key=lambda one: one.training - one.here)


def missing_cells_note(rows: EncodedRows, processor: Any, places: np.ndarray | slice | str, what: str) -> list[str]:
    """Say which fields are [MISSING] more often than in the rows that a processor was fitted on.

    The time since the row before is left out: the first row of a history has none.

    Args:
        rows, processor, places: see `unseen_values`.
        what: the rows, as in "test rows".
    """
    gaps = {one.name for one in processor.plan.fields if one.kind == "time_gap"}
    found = _more_often(rows, processor, processor.missing_ids(), processor.missing_shares(), places)
    told = [f"{one.field} {one.here:.1%} (there {one.training:.1%})" for one in found if one.field not in gaps]
    if not told:
        return []
    more = f" and {len(told) - NAMED} more fields" if len(told) > NAMED else ""
    return [
        f"Cells are missing in the {what} more often than in the rows that the processor was fitted on: "
        f"{', '.join(told[:NAMED])}{more}. An encoder that met few of them knows little of such rows."
    ]


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

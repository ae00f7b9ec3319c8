"""A word on values that training never had, in rows that Python code gives to a processor. Commands count their own."""

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from transformers.utils import logging

logger = logging.get_logger(__name__)

MORE = 0.005  # share of the rows beyond that of training from which on a field is named
# Beside processors, not in them: what was told is neither saved with one nor part of the hash that `Dataset.map` makes.
_told: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()


def count_unknown(processor: Any, ids: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return how many cells of each field are [UNK], `(fields,)`.

    Args:
        processor: that encoded the rows.
        ids: field → ids of the rows.
    """
    names = [field.name for field in processor.plan.fields]
    unknown = zip(names, processor.unknown_ids(), strict=False)  # a [SEP] column is no field
    return np.array([np.count_nonzero(ids[name] == number) for name, number in unknown], dtype=np.int64)


def warn_of_unknown(processor: Any, counts: np.ndarray, rows: int) -> None:
    """Warn of the fields that are [UNK] more often than in training, of each once in the life of a processor.

    Args:
        processor: that encoded the rows.
        counts: see `count_unknown`.
        rows: how many there are.
    """
    told = _told.setdefault(processor, set())
    found = []
    for field, count, share in zip(processor.plan.fields, counts, processor.unknown_shares(), strict=False):
        if field.name not in told and rows and count / rows > share + MORE:
            found.append(f"{field.name} {count / rows:.1%} (training {share:.1%})")
            told.add(field.name)
    if found:
        logger.warning(
            f"Values that training never had are [UNK] in these {rows:,} rows: {', '.join(found)}. Scores of such rows "
            "rest on the other fields. This is said once for each field."
        )

"""Labels of the rows of a batch -> one tensor: of one label a row, or of several."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

IGNORED = -100  # class of a row that no loss counts
REMEDY = "Encode rows whose labels are numbers of classes, such as those of `datasets.ClassLabel`."


def gather_labels(rows: Sequence[Mapping[str, Any]], num_labels: int | None) -> torch.Tensor | None:
    """Return class ids `(batch,)` long, or for lists of them `(batch, num_labels)` float, 0 or 1; None: no row has any.

    Args:
        rows: with `labels`: a class id, a list of them, or a list of 0.0 and 1.0, one of each label.
        num_labels: of the model; None: not known.

    Raises:
        ValueError: if some rows have no label, or a label is none, with its row in the batch.
    """
    labels = [_plain(row.get("labels")) for row in rows]
    lacking = [number for number, label in enumerate(labels, start=1) if _is_missing(label)]
    if len(lacking) == len(labels):
        return None
    if lacking:
        raise ValueError(
            f"Expected a label in every row or in none, found none in row {lacking[0]} of the batch "
            f"({len(lacking)} of {len(labels)}). Leave these rows out, or give them one."
        )
    several = isinstance(labels[0], list)
    if other := [number for number, label in enumerate(labels, start=1) if isinstance(label, list) != several]:
        kinds = ("a list of labels", "one label")
        raise ValueError(
            f"Expected {kinds[not several]} in every row, as in the first of the batch, found {kinds[several]}, "
            f"{labels[other[0] - 1]!r:.60}, in row {other[0]}. Write lists everywhere, or nowhere."
        )
    if not several:
        return torch.tensor([_class_id(one, num_labels, number, IGNORED) for number, one in enumerate(labels, start=1)])
    if num_labels is None:
        raise ValueError(
            "Expected num_labels, found None, but rows have lists of labels. Pass `MMBTCollator(..., num_labels=N)`."
        )
    found = torch.zeros(len(labels), num_labels)  # (batch, num_labels)
    for number, present in enumerate(labels, start=1):
        if present and all(type(one) is float for one in present):
            if len(present) != num_labels or not set(present) <= {0.0, 1.0}:
                raise ValueError(
                    f"Expected {num_labels} values of 0.0 and 1.0, or the ids of the labels that a row has, found "
                    f"{present!r:.60} in row {number} of the batch. {REMEDY}"
                )
            found[number - 1] = torch.tensor(present)
            continue
        ids = [_class_id(one, num_labels, number) for one in present]
        if len(set(ids)) < len(ids):
            raise ValueError(
                f"Expected each id of a label once, found {present!r:.60} in row {number} of the batch. Remove "
                "doubles; a 0 or 1 for each label is written in floats (0.0, 1.0)."
            )
        found[number - 1, ids] = 1.0
    return found


def _plain(label: Any) -> Any:
    """Return a label of NumPy or torch, a tuple or a set as Python has it."""
    if hasattr(label, "tolist"):
        label = label.tolist()
    if isinstance(label, set | frozenset):
        return sorted(label, key=str)
    return [_plain(one) for one in label] if isinstance(label, list | tuple) else label


def _is_missing(label: Any) -> bool:
    return label is None or label != label  # NaN


def _class_id(label: Any, num_labels: int | None, number: int, ignored: int = 0) -> int:
    """Return a label as the number of its class.

    Args:
        label: of a row.
        num_labels: how many there are; None: not known.
        number: of the row, for the message.
        ignored: a number below 0 that is allowed; 0: none.
    """
    whole = isinstance(label, int) or (isinstance(label, float) and label.is_integer())
    if whole and (label == ignored or (label >= 0 and (num_labels is None or label < num_labels))):
        return int(label)
    bound = "from 0 on" if num_labels is None else f"from 0 to {num_labels - 1}"
    raise ValueError(
        f"Expected the number of a class {bound}, found {label!r:.60} ({type(label).__name__}) in row {number} of the "
        f"batch. {REMEDY}"
    )

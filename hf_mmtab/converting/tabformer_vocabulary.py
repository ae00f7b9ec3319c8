"""TabFormer's vocabulary and fitted encoders as our processor: the `paper_card` plan with the original's ids.

Plain values come in; reading the pickled files safely is the caller's part.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ..models.tabbert.processing.column_plan import ORIGINAL_SPECIAL_TOKENS
from ..models.tabbert.processing.field import Field
from ..models.tabbert.processing.field_kinds import make_fields
from ..models.tabbert.processing.plan_presets import resolve_plan
from ..models.tabbert.processing_tabbert import TabBertProcessor

SPECIAL_FIELD, LABEL_FIELD = "SPECIAL", "Is Fraud?"
# Source: IBM/TabFormer at ebb7cd6, dataset/card.py: columns_to_select, then the columns that LabelEncoder numbers.
CARD_FIELDS = tuple(field.name for field in resolve_plan("paper_card").fields)
BINNED_FIELDS = ("Timestamp", "Amount")
NUMBERED_AS_THEY_ARE = ("User", "Card")
NANOSECONDS_OF_1990 = 631_152_000 * 10**9


# What a raw value of the original's file is in a table that `CardTransactions` read: both of IBM's dialects become
# the same text, and identifiers are whole numbers.
_OUR_VALUE: dict[str, Callable[[Any], str | int]] = {
    **dict.fromkeys(("Merchant Name", "Zip", "MCC"), int),
    **dict.fromkeys(("Use Chip", "Merchant State"), str),
    "Merchant City": lambda value: str(value).strip(),
    "Errors?": lambda value: str(value).strip(" ,"),
}


@dataclass
class OriginalEncoders:
    """What `encoder_fit.pkl` holds.

    Args:
        classes: column → raw values, in the order in which LabelEncoder numbers them.
        edges: `Timestamp` and `Amount` → bin edges, shape `(bins + 1,)`, of the scaled values.
        first, last: the range of time that was scaled to 0 … 1, nanoseconds since 1970.
        rows: number of rows that they were fitted on.
    """

    classes: dict[str, list[Any]]
    edges: dict[str, np.ndarray]
    first: float
    last: float
    rows: int = 0


def vocabulary_fields(tokens: Sequence[str]) -> dict[str, list[str]]:
    """Split the lines of a `vocab.nb` (`Field_token`, in the order of ids) by field.

    Returns:
        Field → its tokens in the order of ids; ids of a field follow one another in the order of the fields.

    Raises:
        ValueError: if they are not the vocabulary of a card table as the original writes it.
    """
    known = (SPECIAL_FIELD, *CARD_FIELDS, LABEL_FIELD)
    fields: dict[str, list[str]] = {}
    last = None
    for place, token in enumerate(tokens):
        name = max((name for name in known if token.startswith(f"{name}_")), key=len, default=None)
        if name is None:
            raise _foreign_token(token, place, tokens)
        if name != last and name in fields:
            raise ValueError(
                f"Expected the ids of each column to follow one another, found {token!r} (line {place + 1}) after "
                f"those of {last!r}. The vocabulary was changed or put together from several."
            )
        fields.setdefault(name, []).append(token.removeprefix(f"{name}_"))
        last = name
    wanted = [SPECIAL_FIELD, *(name for name in CARD_FIELDS if name in fields), LABEL_FIELD]
    absent = [name for name in known if name not in fields and name != "User"]
    if absent or list(fields) != wanted:
        raise ValueError(
            f"Expected the columns {list(known)} in this order (User may be absent), found {list(fields)}. "
            "Is it the vocabulary of another run?"
        )
    if tuple(fields[SPECIAL_FIELD]) != ORIGINAL_SPECIAL_TOKENS:
        raise ValueError(
            f"Expected the special tokens {list(ORIGINAL_SPECIAL_TOKENS)} first, found {fields[SPECIAL_FIELD]}."
        )
    return fields


def _foreign_token(token: str, place: int, tokens: Sequence[str]) -> ValueError:
    numbers = [field.name for field in resolve_plan("paper_prsa").fields if field.kind == "numeric"]
    if any(one.startswith(f"{name}_") for one in tokens for name in numbers):
        return ValueError(
            "Found the vocabulary of TabFormer's PRSA table. The original saved neither its bin edges nor its "
            "time range, so no processor can be made from its files: train anew with the plan `paper_prsa`."
        )
    return ValueError(
        f"Expected lines `Column_value` with a column of the card table ({', '.join(CARD_FIELDS)}), found "
        f"{token[:60]!r} in line {place + 1}. Pass vocab.nb or vocab_token2id.bin of the run."
    )


def processor_from_original(
    tokens: Sequence[str], encoders: OriginalEncoders, sep_column: bool = True
) -> tuple[TabBertProcessor, torch.Tensor]:
    """Build the fitted processor that gives the original's ids.

    Bins get their ids in increasing order here (the original: by frequency), so that neighbours in id are neighbours
    in value; every other id stays.

    Args:
        tokens: the vocabulary, `Field_token` in the order of ids.
        encoders: of the same run.
        sep_column: whether rows end with [SEP], as for BERT; GPT-2 has none.

    Returns:
        The processor, and our id of each original id, shape `(vocab,)`.

    Raises:
        ValueError: if the vocabulary and the encoders do not belong together.
    """
    fields = vocabulary_fields(tokens)
    bins = {len(encoders.edges[name]) - 1 for name in BINNED_FIELDS}
    if len(bins) != 1:
        raise ValueError(f"Expected as many bins of Timestamp as of Amount, found {sorted(bins)}.")
    if encoders.first < NANOSECONDS_OF_1990 or encoders.last < encoders.first:
        raise ValueError(
            f"Expected the encoder of Timestamp to hold nanoseconds since 1970, found {encoders.first:g} to "
            f"{encoders.last:g}. It was fitted with a pandas whose timestamps have another unit."
        )
    num_bins = bins.pop()
    edits: dict[str, Any] = {name: {"num_bins": num_bins} for name in BINNED_FIELDS}
    edits |= {} if "User" in fields else {"User": None}
    plan = resolve_plan("paper_card")
    plan = plan.edit(sep_column=sep_column, label_ids=len(fields[LABEL_FIELD]), fields=edits)
    processor = TabBertProcessor(plan)
    id_map = torch.arange(len(tokens))
    start, made = len(ORIGINAL_SPECIAL_TOKENS), make_fields(processor.plan)
    for field in made:
        name = field.plan.name
        field.place(start, specials=False, unknown_id=0)
        if name in BINNED_FIELDS:
            order = _set_bins(field, fields[name], encoders)
            id_map[start : field.end] = start + order
        else:
            field.values = _values(name, fields[name], encoders)
        start = field.end
    processor._fitted, processor.rows_fitted = made, encoders.rows
    return processor, id_map


def _set_bins(field: Field, tokens: list[str], encoders: OriginalEncoders) -> torch.Tensor:
    """Set the bins of a field; return the place of each original token among the increasing bins."""
    plan = field.plan
    edges = np.asarray(encoders.edges[plan.name], dtype=np.float64).reshape(-1)
    numbers = np.array([_number(plan.name, token) for token in tokens], dtype=np.int64)
    if len(np.unique(numbers)) != len(numbers) or numbers.min() < 0 or numbers.max() >= len(edges) - 1:
        raise ValueError(
            f"Expected bins 0 to {len(edges) - 2} of {plan.name!r}, each once, found {sorted(numbers.tolist())}. "
            "The vocabulary and encoder_fit.pkl come from different runs."
        )
    if np.any(np.diff(edges) < 0) or not np.isfinite(edges).all():
        raise ValueError(f"Expected increasing bin edges of {plan.name!r}, found {edges.tolist()}.")
    timed = plan.name == "Timestamp"
    field.edges, field.bins = edges, np.sort(numbers)
    field.temporal = timed
    field.lowest = encoders.first / 1000 if timed else float(np.exp(edges[0]))  # microseconds; dollars
    field.highest = encoders.last / 1000 if timed else float(np.exp(edges[-1]))
    return torch.from_numpy(np.argsort(np.argsort(numbers)))


def _values(name: str, tokens: list[str], encoders: OriginalEncoders) -> pa.Array:
    """Return the values of a categorical field as our tables hold them, in the order of ids."""
    numbers = [_number(name, token) for token in tokens]
    if name in NUMBERED_AS_THEY_ARE:
        return pa.array(numbers, pa.int64())
    classes = encoders.classes[name]
    if max(numbers) >= len(classes) or min(numbers) < 0:
        raise ValueError(
            f"Expected values 0 to {len(classes) - 1} of {name!r}, as encoder_fit.pkl numbers them, found "
            f"{max(numbers)} in the vocabulary. The two come from different runs."
        )
    ours = [_OUR_VALUE[name](classes[number]) for number in numbers]
    return pa.array(ours, pa.int64() if _OUR_VALUE[name] is int else pa.string())


def _number(name: str, token: str) -> int:
    try:
        return int(float(token)) if "." in token else int(token)
    except ValueError:
        raise ValueError(f"Expected numbers as values of {name!r} in the vocabulary, found {token!r}.") from None

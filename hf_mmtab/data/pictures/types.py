"""Arrow types of the input's own columns, which text files do not write down."""

import json
import re
from typing import Any

import pyarrow as pa

_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")
TEXTS = "texts"  # see `kind_of_value`
DEEPEST = 32  # types within types; Arrow refuses to write 64


def type_of(values: list[Any]) -> pa.DataType:
    """Return the Arrow type that holds all values; text for mixed ones and for what is nested too deeply."""
    try:
        kind = pa.array(values).type
        return kind if _depth(kind) <= DEEPEST else pa.string()
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, RecursionError):
        return pa.string()


def kind_of_value(value: Any) -> str:
    """Return what kind of JSON value this is; lists of texts are a kind of their own."""
    is_texts = isinstance(value, list) and all(isinstance(one, str) for one in value)
    return TEXTS if is_texts else type(value).__name__


def type_of_texts(values: list[Any]) -> pa.DataType:
    """Return the Arrow type of a column of a text file: int64 where all say whole numbers as Python writes them.

    "007" stays a text, and so does what does not fit in 64 bits.
    """
    told = [value for value in values if value]
    if told and all(isinstance(value, str) and _WHOLE.fullmatch(value) for value in told):
        return pa.int64()
    return type_of(values)


def _depth(kind: pa.DataType) -> int:
    return 1 + max((_depth(kind.field(place).type) for place in range(kind.num_fields)), default=0)


def note_type(types: dict[str, pa.DataType], name: str, new: pa.DataType) -> None:
    """Widen a column's type so that it holds `new`, too: whole numbers to floats, anything else to text."""
    old = types.get(name, pa.null())
    if pa.types.is_null(old) or old == new:
        types[name] = new
    elif not pa.types.is_null(new):
        numeric = [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in (old, new)]
        types[name] = pa.float64() if all(numeric) else pa.string()


def as_types(values: list[Any], kind: pa.DataType, mixed: bool = False) -> list[Any]:
    """Return own values fit for their column: texts as whole numbers, or in a text column other kinds as JSON.

    Args:
        values: of the input.
        kind: of the column.
        mixed: its texts are JSON too, so that `json.loads` gives back every value.
    """
    if pa.types.is_integer(kind):
        return [(int(value) if value else None) if isinstance(value, str) else value for value in values]
    if not pa.types.is_string(kind):
        return values
    texts = (type(None),) if mixed else (str, type(None))
    return [v if isinstance(v, texts) else json.dumps(v, ensure_ascii=False, default=str) for v in values]

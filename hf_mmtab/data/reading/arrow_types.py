"""Columns of Parquet and Arrow files whose types `datasets` or polars does not know, as types that both know."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from transformers.utils import logging

from .places import Place

logger = logging.get_logger(__name__)


def with_known_types(table: pa.Table, path: Place) -> pa.Table:
    """Return a table whose columns can be read on, and say which are left out.

    Decimals of more than 38 digits become floats, UUIDs text, other extension types what they are stored as; maps,
    unions, intervals and lists as views are left out.

    Args:
        path: of the file, for messages.
    """
    for field in table.schema:
        place = table.schema.get_field_index(field.name)
        column = _plain(table.column(place))
        if _is_known(column.type):
            if column.type != field.type:
                table = table.set_column(place, field.name, column)
            continue
        kind = str(field.type).replace(f" ({field.name!r})", "")
        logger.warning_once(
            f"Not read: column {field.name!r} of {str(path)!r}, of type {kind}. To read it, write single values."
        )
        table = table.remove_column(place)
    return table


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind: Any = column.type
    if isinstance(kind, pa.UuidType):
        texts = [None if value is None else str(value) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    if isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.JsonType):
        stored = [chunk.storage for chunk in column.chunks]  # type: ignore[attr-defined]
        return _plain(pa.chunked_array(stored, kind.storage_type))
    if pa.types.is_run_end_encoded(kind):
        decoded = [pc.run_end_decode(chunk) for chunk in column.chunks]
        return _plain(pa.chunked_array(decoded, kind.value_type))
    if pa.types.is_decimal(kind) and not pa.types.is_decimal128(kind):
        short = pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind)
        return column.cast(pa.decimal128(kind.precision, kind.scale) if short else pa.float64())
    return column


def _is_known(kind: Any) -> bool:
    if pa.types.is_map(kind) or pa.types.is_union(kind) or pa.types.is_interval(kind):
        return False
    if pa.types.is_nested(kind):
        views = pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)
        return not views and all(_is_known(kind.field(i).type) for i in range(kind.num_fields))
    odd = pa.types.is_decimal(kind) and not pa.types.is_decimal128(kind)
    return not odd and not (isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.JsonType))

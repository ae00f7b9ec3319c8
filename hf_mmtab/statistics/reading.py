"""The columns of a data set whose rows were encoded."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..data.shards.writing import TableShards
from ..data.windows.encoded_rows import EncodedRows
from ..data.windows.histories import iter_tables
from ..data.windows.sharded_rows import ShardedRows
from ..models.tabbert.processing.column_plan import ColumnPlan
from ..models.tabbert.processing.field_ids import FieldIds
from ..models.tabbert.processing.values import column
from .columns import TableColumns, columns_of, columns_of_history, moments, value_codes
from .earlier import together
from .old_labels import OldLabels


def read_columns(
    dataset: datasets.Dataset, rows: EncodedRows, fields: FieldIds, old_labels: OldLabels | None = None
) -> TableColumns:
    """Read the columns that a plan makes fields of, as values and not as bins.

    Args:
        dataset: the typed rows that `rows` were encoded from.
        rows: for the order, the times and whose rows they are.
        fields: the processor that encoded them.
        old_labels: which labels are read beside the fields; None: none.

    Raises:
        ValueError: if `dataset` has another number of rows, or lacks a column.
    """
    if len(dataset) != len(rows):
        raise ValueError(
            f"Expected the {len(rows)} rows that were encoded, found a table of {len(dataset)}. Give the table that "
            "the processor encoded, with the same entities and max_rows."
        )

    def read(name: str) -> pa.Array:
        parts = [column(table, name) for table in iter_tables(dataset, [name])]
        return pa.concat_arrays(parts) if parts else pa.array([], type=pa.float64())

    order = None if rows.row_numbers is None else np.array(rows.row_numbers)
    found = columns_of(read, fields, _histories(rows, fields.plan), np.array(rows.time), order)
    if old_labels is not None:
        labels = old_labels.read(
            lambda name: _named(read(name), dataset.features[name]), dataset.column_names, len(rows)
        )
        if set(old_labels.columns) <= set(dataset.column_names):
            old_labels.warn_if_all_unknown(labels)
        found.labels = {name: values if order is None else values[order] for name, values in labels.items()}
    return found


def shard_columns(
    rows: ShardedRows, number: int, fields: FieldIds, old_labels: OldLabels | None = None
) -> TableColumns:
    """Return the columns of a shard that kept its values; see `read_columns`."""
    shard = rows.shard(number)
    histories = _histories(shard, fields.plan)
    found = columns_of(partial(column, shard.values), fields, histories, np.array(shard.time), None)
    if old_labels is not None:
        found.labels = old_labels.of_rows(np.asarray(shard.labels))
    return found


def typed_columns(
    shards: TableShards, fields: FieldIds, numbers: Sequence[int], offsets: np.ndarray, place: int
) -> TableColumns:
    """Return the columns of a shard of typed rows, without their histories; see `read_columns`.

    Args:
        shards: of the table.
        fields: of the processor.
        numbers: of those that hold rows.
        offsets: rows of the table before each piece.
        place: of the shard among these.
    """
    rows, of_table = shards.typed_rows(numbers[place], offsets)
    found = columns_of_history(rows, fields)
    return replace(found, histories={}, time=found.time if shards.plan.time is not None else of_table)


def typed_times(shards: TableShards, numbers: Sequence[int], offsets: np.ndarray, place: int) -> np.ndarray:
    """Return the times of a shard of typed rows, see `typed_columns`."""
    rows, of_table = shards.typed_rows(numbers[place], offsets)
    return moments(rows, shards.plan) if shards.plan.time is not None else of_table


def _named(array: pa.Array, feature: Any) -> pa.Array:
    """Return the names of the classes of a `ClassLabel`, null where unknown; other columns as they are."""
    if not isinstance(feature, datasets.ClassLabel):
        return array
    codes = pc.if_else(pc.less(array, 0), None, array)
    return pa.array(feature.names).take(codes)


def _histories(rows: EncodedRows, plan: ColumnPlan) -> dict[str, np.ndarray]:
    """Codes of the entity and of its leading parts; a table that is one history has one code."""
    number = np.zeros(len(rows), dtype=np.int64)
    number[rows.entity_starts[1:]] = 1
    number = np.cumsum(number)
    found = {"/".join(plan.entity): number}
    for count in range(len(plan.entity) - 1, 0, -1):
        leading = list(plan.entity[:count])
        codes = [value_codes(rows.entity_names[name].to_arrow())[0] for name in leading]
        found["/".join(leading)] = together(*codes)[number]
    return found

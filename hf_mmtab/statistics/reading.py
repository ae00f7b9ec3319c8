"""The columns of a data set whose rows were encoded."""

import datasets
import numpy as np
import pyarrow as pa

from ..data.encoded_rows import EncodedRows
from ..data.histories import iter_tables
from ..models.tabbert.column_plan import ColumnPlan
from ..models.tabbert.values import column
from .columns import TableColumns, columns_of, value_codes
from .earlier import together


def read_columns(dataset: datasets.Dataset, rows: EncodedRows, plan: ColumnPlan) -> TableColumns:
    """Read the columns that a plan makes fields of, as values and not as bins.

    Args:
        dataset: the typed rows that `rows` were encoded from.
        rows: for the order, the times and whose rows they are.
        plan: of the processor.

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
    return columns_of(read, plan, _histories(rows, plan), np.array(rows.time), order)


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

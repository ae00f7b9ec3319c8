"""One history of table rows → windows of ids, as pipelines and services cut them."""

from typing import Any

import numpy as np
import pyarrow as pa

from ..data.reading.written_times import wall_clock
from ..data.windows.window_index import DEFAULT_SEQ_LEN, WindowIndex, cut_growing, cut_windows
from ..models.tabbert.processing.column_plan import ColumnPlan
from ..models.tabbert.processing.text_numbers import is_text
from ..models.tabbert.processing.values import as_table, column, in_unit, microseconds

ROWS = ("last", "every")  # which rows of a history are judged


def read_history(rows: Any, plan: ColumnPlan) -> pa.Table:
    """Return the rows of one entity as a table, with texts of its time column read as timestamps.

    Raises:
        ValueError: if there is no row, or a text is no date and time in the order year, month, day.
    """
    table = as_table(rows)
    if table.num_rows == 0:
        raise ValueError("Expected a history of at least one row, found a table without rows.")
    time = plan.time
    if time is None or time not in table.column_names or not is_text(table[time].type):
        return table
    try:
        moments = wall_clock(table[time]).cast(pa.timestamp("us"))
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"Expected times such as 2024-05-01T10:30:00 in column {time!r}: {error}. Make them timestamps first."
        ) from error
    return table.set_column(table.column_names.index(time), time, moments)


def history_windows(table: pa.Table, plan: ColumnPlan, config: Any) -> WindowIndex:
    """Cut a history into the windows that judge its rows: those of the `predict` command."""
    bounds = segments_of(table, plan, config.max_gap)
    start, stop = bounds[:-1], bounds[1:]
    seq_len = config.seq_len or DEFAULT_SEQ_LEN
    if config.label_level == "row":
        stride = min(config.eval_stride or max(1, seq_len // 2), seq_len)
        return cut_growing(start, stop, seq_len, stride, start)
    return cut_windows(start, stop, seq_len, 1, start, align="end")


def segments_of(table: pa.Table, plan: ColumnPlan, max_gap: float | None) -> np.ndarray:
    """Return where one history begins, goes on after a pause of more than `max_gap` seconds, and ends."""
    bounds = np.array([0, table.num_rows])
    if max_gap is None:
        return bounds
    moments = in_unit(column(table, str(plan.time)), plan.time_unit)
    pauses = np.diff(microseconds(moments)) > max_gap * 1e6
    return np.insert(bounds, 1, np.flatnonzero(pauses) + 1)

"""Statistics of the past: numbers about each row of a table and about what came before it."""

from .columns import TableColumns, columns_of_history, read_columns
from .features import GROUPS
from .row_statistics import RowStatistics

__all__ = ["GROUPS", "RowStatistics", "TableColumns", "columns_of_history", "read_columns"]

"""Statistics of the past: numbers about each row of a table and about what came before it."""

from .columns import TableColumns, columns_of_history
from .features import GROUPS
from .old_labels import OldLabels, seconds_of
from .reading import read_columns, read_parts
from .row_statistics import RowStatistics

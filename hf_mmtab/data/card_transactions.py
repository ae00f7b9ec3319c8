"""Card transactions in the schema of IBM's TabFormer table, both dialects, and simulated ones."""

import datasets
import polars as pl
import pyarrow as pa

from .reading.cell_types import moment
from .reading.places import Place
from .reading.table_cells import TableCells
from .reading.table_files import is_csv
from .table import Table

COLUMNS = {
    "User": pl.Int32(),
    "Card": pl.Int32(),
    "Year": pl.Int32(),
    "Month": pl.Int8(),
    "Day": pl.Int8(),
    "Time": pl.String(),
    "Amount": pl.String(),
    "Use Chip": pl.String(),
    "Merchant Name": pl.Int64(),
    "Merchant City": pl.String(),
    "Merchant State": pl.String(),
    "Zip": pl.Float64(),
    "MCC": pl.Int32(),
    "Errors?": pl.String(),
    "Is Fraud?": pl.String(),
}
KINDS = {
    "User": pa.int32(),
    "Card": pa.int32(),
    "Timestamp": pa.timestamp("us"),
    "Amount": pa.float64(),
    "Use Chip": pa.string(),
    "Merchant Name": pa.int64(),
    "Merchant City": pa.string(),
    "Merchant State": pa.string(),
    "Zip": pa.int32(),
    "MCC": pa.int32(),
    "Errors?": pa.string(),
}
LABEL = "Is Fraud?"
LABEL_NAMES = ["No", "Yes"]


class CardTransactions(Table):
    """Card payments of simulated people (Altman 2019, arXiv:1910.03033; IBM/TabFormer).

    Rows: 24,386,900 of 2,000 users and 6,139 cards, 2.4 GB as CSV; ordered by user, card and time.
    Columns: `User`, `Card`, `Timestamp` (from Year, Month, Day, Time; minutes), `Amount` (US dollars, refunds
    negative), `Use Chip`, `Merchant Name` (a hash), `Merchant City`, `Merchant State`, `Zip`, `MCC`,
    `Errors?` and the label `Is Fraud?`.
    Classes: No, Yes; 29,757 rows (0.12 %) are fraud.
    Missing values: state and zip of online and foreign payments, `Errors?` where there was none.
    Dialects: older files write ` ONLINE` with a leading space and end errors in a comma (`Bad PIN,`); spaces
    and trailing commas are removed, so that both give the same table.
    Licence: Apache-2.0, with the code at https://github.com/IBM/TabFormer
    """

    VERSION = datasets.Version("1.0.0")

    def _features(self, features: datasets.Features) -> datasets.Features:
        if not is_csv(self._files[0]):  # a table that was read before
            return datasets.Features.from_arrow_schema(pa.schema(KINDS))
        if LABEL in features:
            features[LABEL] = datasets.ClassLabel(names=LABEL_NAMES)
        return features

    @property
    def _missing(self) -> tuple[str, ...]:
        return ()

    def _cells_of(self, path: Place, sample: pa.Table) -> TableCells:
        """Return IBM's columns; they may come in any order, and the label may be absent.

        Raises:
            ValueError: if another column is absent.
        """
        if not is_csv(path):
            return super()._cells_of(path, sample)
        names = sample.column_names
        self._require(path, names, [name for name in COLUMNS if name != LABEL], "IBM's card table")
        clock = pl.col("Time").str  # 06:21
        hours, minutes = (part.cast(pl.Int64, strict=False) for part in (clock.head(2), clock.tail(2)))
        derived = {name: pl.col(name) for name in KINDS} | {
            "Timestamp": moment("Year", "Month", "Day", hours * 60 + minutes),
            "Amount": pl.col("Amount").str.strip_prefix("$").cast(pl.Float64, strict=False),
            "Merchant City": pl.col("Merchant City").str.strip_chars(),
            "Zip": pl.col("Zip").cast(pl.Int32, strict=False),
            "Errors?": pl.col("Errors?").str.strip_chars(" ,"),
        }
        if LABEL in names:
            label = pl.col(LABEL).cast(pl.Enum(LABEL_NAMES), strict=False)
            derived[LABEL] = label.to_physical().cast(pl.Int64)
        types = {name: kind for name, kind in COLUMNS.items() if name in names and kind != pl.String}
        return TableCells(sample, types, {}, self._missing, derived=derived, required=self.config.required)

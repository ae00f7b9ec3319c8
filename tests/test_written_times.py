"""Times mean the same from files of every kind, and how dates are written is proved, chosen aloud, or refused."""

import datetime
import logging
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

from hf_mmtab.arguments import TableDataArguments
from hf_mmtab.data.reading.records import BadRecordError
from hf_mmtab.data.table import Table
from hf_mmtab.models.tabbert import TabBertProcessor
from hf_mmtab.models.tabbert.processing.plan_guess import infer_plan
from hf_mmtab.serving.history_windows import read_history
from hf_mmtab.tasks.table import TableTask

ZONES = {"America/New_York": "-05:00", "Asia/Kolkata": "+05:30", "UTC": "Z", "+02:00": "+0200"}
LOCAL = [datetime.datetime(2024, 1, 31, 20, 30), datetime.datetime(2024, 2, 1, 9, 15, 30)]
PLAN = {
    "time": "when",
    "fields": {
        "h": {"kind": "time_part", "column": "when", "part": "hour"},
        "g": {"kind": "time_gap", "column": "when", "num_bins": 2},
    },
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(logging.getLogger("hf_mmtab"), "propagate", True)


def _read(path, **options):
    builder = Table(path, **options)
    builder.download_and_prepare()
    return builder.as_dataset(split="train")


def _zoned(zone):
    if zone.startswith("+"):
        return datetime.timezone(datetime.timedelta(hours=int(zone[1:3])))
    return ZoneInfo(zone)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("options", [{}, {"roles": {"when": "time"}}, {"types": {"when": "timestamp"}}])
def test_zoned_times_are_local_hours_from_every_file(zone, options, tmp_path, caplog):
    moments = [one.replace(tzinfo=_zoned(zone)) for one in LOCAL]
    table = pa.table({"when": pa.array(moments, pa.timestamp("us", zone)), "x": [1, 2]})
    texts = [f"{one:%Y-%m-%dT%H:%M:%S}{ZONES[zone]}" for one in LOCAL]
    (tmp_path / "t.csv").write_text("when,x\n" + "\n".join(f"{one},1" for one in texts) + "\n")
    pa.parquet.write_table(table, tmp_path / "t.parquet")
    with pa.ipc.new_file(tmp_path / "t.arrow", table.schema) as file:
        file.write_table(table)
    for suffix in ("csv", "parquet", "arrow"):
        with caplog.at_level(logging.INFO, logger="hf_mmtab"):
            rows = _read(tmp_path / f"t.{suffix}", **options)
        assert rows["when"][:] == LOCAL and rows.features["when"].dtype == "timestamp[us]"
        assert "are read as they are written, in local hours" in caplog.text and "`types: {when: utc}`" in caplog.text
        caplog.clear()

    processor = TabBertProcessor(PLAN).fit(pa.table({"when": LOCAL}))
    ids = processor.encode(pa.table({"when": LOCAL})).to_pydict()
    assert processor.encode(table).to_pydict() == ids
    assert processor.encode(read_history({"when": texts}, processor.plan)).to_pydict() == ids


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_moments_in_utc_are_read_where_the_recipe_says_so(suffix, tmp_path):
    zone = ZoneInfo("America/New_York")
    frame = pl.DataFrame({"when": [one.replace(tzinfo=zone) for one in LOCAL], "x": [1, 2]})
    path = tmp_path / f"t.{suffix}"
    frame.write_csv(path) if suffix == "csv" else frame.write_parquet(path)
    rows = _read(path, types={"when": "utc"})
    assert rows["when"][:] == [one + datetime.timedelta(hours=5) for one in LOCAL]


def test_several_offsets_in_a_column_are_told(tmp_path, caplog):
    (tmp_path / "t.csv").write_text("when\n2024-03-10T01:00:00-05:00\n2024-03-10T03:00:00-04:00\n")
    rows = _read(tmp_path / "t.csv")
    assert [one.hour for one in rows["when"]] == [1, 3]
    assert "(-04:00, -05:00)" in caplog.text and "Between two offsets, pauses" in caplog.text


DATES = [  # cells, the days that they are (month, day), what is said
    (["03/04/2024", "05/06/2024"], [(4, 3), (6, 5)], "decides. If the month comes first: `types: {when: '%m/%d/%Y'}`"),
    (["03/04/24", "05/06/24"], [(4, 3), (6, 5)], "'%m/%d/%y'"),
    (["3-4-2024 9:05", "5-6-2024 10:00"], [(4, 3), (6, 5)], "'%m-%d-%Y %H:%M'"),
    (["03/04/2024", "12/31/2024"], [(3, 4), (12, 31)], "month first, as '12/31/2024' shows"),
    (["03/04/24", "12/31/24"], [(3, 4), (12, 31)], "month first, as '12/31/24' shows"),
    (["03/04/2024 10:00:05", "12/31/2024 10:00:00"], [(3, 4), (12, 31)], "month first"),
    (["03/04/2024", "31/12/2024"], [(4, 3), (12, 31)], ""),
    (["03.04.2024", "31.12.2024"], [(4, 3), (12, 31)], ""),
    (["2024-04-03", "2024-12-31"], [(4, 3), (12, 31)], ""),
]  # fmt: skip


@pytest.mark.parametrize(("cells", "days", "told"), DATES)
@pytest.mark.parametrize("known_by", [{"roles": {"when": "time"}}, {"types": {"when": "timestamp"}}, {}])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_order_of_day_and_month_is_proved_or_told(cells, days, told, known_by, suffix, tmp_path, caplog):
    if suffix == "parquet" and not known_by:
        pytest.skip("texts of a Parquet file stay texts where nobody says that they are times")
    frame, path = pl.DataFrame({"when": cells, "x": [1, 2]}), tmp_path / f"t.{suffix}"
    frame.write_csv(path) if suffix == "csv" else frame.write_parquet(path)
    with caplog.at_level(logging.INFO, logger="hf_mmtab"):
        rows = _read(path, **known_by)
    assert [(one.year, one.month, one.day) for one in rows["when"]] == [(2024, *day) for day in days]
    assert told in caplog.text if told else "Dates of column" not in caplog.text


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_dates_that_prove_both_orders_are_refused_where_they_order_the_rows(suffix, tmp_path):
    frame, path = pl.DataFrame({"when": ["12/31/2024", "31/12/2024"], "x": [1, 2]}), tmp_path / f"t.{suffix}"
    frame.write_csv(path) if suffix == "csv" else frame.write_parquet(path)
    for known_by in ({"roles": {"when": "time"}}, {"types": {"when": "timestamp"}}):
        with pytest.raises(ValueError, match=r"found '31/12/2024', whose day.*'12/31/2024', whose month"):
            _read(path, **known_by)
    assert _read(path)["when"][:] == ["12/31/2024", "31/12/2024"]


def test_a_processor_keeps_the_order_for_tables_that_do_not_prove_it(tmp_path, caplog):
    rows = "\n".join(f"{'ab'[i % 2]},{1 + i % 12}/{1 + i % 28}/2024,{i % 3}" for i in range(120))
    (tmp_path / "t.csv").write_text(f"who,when,x\n{rows}\n")
    (tmp_path / "new.csv").write_text("who,when,x\na,3/4/2024,1\na,3/5/2024,1\n")
    task, columns = TableTask("table", Table), {"entity_columns": ["who"], "time_column": "when"}
    prepared = task.prepare(TableDataArguments(task="table", data=str(tmp_path / "t.csv"), **columns), tmp_path)
    assert prepared.processor.plan.month_first == ("when",)
    new, _ = task.read(
        TableDataArguments(task="table", data=str(tmp_path / "new.csv")), tmp_path, str(tmp_path / "processor")
    )
    assert [one.month for one in new["when"]] == [3, 3] and "the processor's plan says so" in caplog.text


SECONDS = [1_577_836_800 + 60 * i for i in range(40)]


@pytest.mark.parametrize("scale", [1, 1000, 1_000_000])
@pytest.mark.parametrize("odd", [0, -1, 1_577_836_800_000_000_000 // 10])
def test_an_odd_number_among_moments_is_named(scale, odd):
    times = [one * scale for one in SECONDS]
    times[7] = odd
    with pytest.raises(ValueError, match=rf"found {odd} in row 8 \(1 such of 40\).*missing: \['{odd}'\].*time_unit"):
        infer_plan(pl.DataFrame({"when": times, "shop": list("xy") * 20}), time="when")


@pytest.mark.parametrize("odd", ["n/a", "unknown", "-", "nan?"])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_odd_text_among_moments_is_named(odd, suffix, tmp_path):
    frame = pl.DataFrame({"when": [*map(str, SECONDS), odd], "x": [1] * 41})
    path = tmp_path / f"t.{suffix}"
    frame.write_csv(path) if suffix == "csv" else frame.write_parquet(path)
    options = {"roles": {"when": "time"}, "required": ("when",)}
    with pytest.raises(
        BadRecordError, match=rf"found '{odd[:2]}.*(line 42|row 41), column 'when'.*add it to `missing`"
    ):
        _read(path, **options)


def test_a_time_that_is_no_number_is_a_missing_one(tmp_path):
    pl.DataFrame({"when": [*map(float, SECONDS), float("nan")]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(BadRecordError, match=r"found none .*row 41, column 'when'"):
        _read(tmp_path / "t.parquet", required=("when",))

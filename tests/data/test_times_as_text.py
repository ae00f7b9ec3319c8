"""Times that are stored as text are times from files of every kind, and a few odd cells among them are named."""

import datetime

import polars as pl
import pytest

from hf_mmtab.arguments import TableDataArguments
from hf_mmtab.data.reading.records import BadRecordError
from hf_mmtab.data.table import Table
from hf_mmtab.models.tabbert.processing.plan_guess import infer_plan
from hf_mmtab.tasks.table import TableTask

SUFFIXES = ("csv", "parquet", "arrow")
MOMENTS = [datetime.datetime(2024, 1, 20) + datetime.timedelta(minutes=61 * i, seconds=i) for i in range(200)]
FORMS = {
    "moments": "%Y-%m-%d %H:%M:%S", "iso": "%Y-%m-%dT%H:%M:%S", "zulu": "%Y-%m-%dT%H:%M:%SZ",
    "minutes": "%Y-%m-%d %H:%M", "days": "%Y-%m-%d", "slashes": "%d/%m/%Y", "points": "%d.%m.%Y %H:%M",
    "american": "%m/%d/%Y %H:%M",
}  # fmt: skip
DAYS = ("days", "slashes")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def _write(columns, path):
    write = {"csv": "write_csv", "parquet": "write_parquet", "arrow": "write_ipc"}[path.suffix[1:]]
    getattr(pl.DataFrame(columns), write)(path)
    return path


def _read(path, **options):
    builder = Table(path, **options)
    builder.download_and_prepare()
    return builder, builder.as_dataset(split="train")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("form", FORMS)
def test_times_as_text_are_times_from_every_file(form, suffix, tmp_path):
    texts = [one.strftime(FORMS[form]) for one in MOMENTS]
    _, rows = _read(_write({"time": [*texts[:100], None, *texts[100:]], "x": [1] * 201}, tmp_path / f"t.{suffix}"))
    expected = [datetime.datetime.strptime(one, FORMS[form]) for one in texts]
    expected = [one.date() for one in expected] if form in DAYS else expected
    assert rows["time"][:] == [*expected[:100], None, *expected[100:]]


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_only_times_leave_text_of_typed_files(suffix, tmp_path):
    columns = {
        "code": [f"{i:03}" for i in range(50)],
        "number": [str(i) for i in range(50)],
        "paid": [f"{i}.5" for i in range(50)],
        "flag": ["true", "false"] * 25,
        "plain_date": [f"202401{1 + i % 28:02}" for i in range(50)],
        "entity": ["2024-01-01"] * 50,
        "named": ["2024-01-01"] * 50,
    }
    options = {"roles": {"entity": "text"}, "types": {"named": "string"}}
    _, rows = _read(_write(columns, tmp_path / f"t.{suffix}"), **options)
    assert {name: rows[name][:] for name in rows.column_names} == columns


def test_the_plan_of_a_table_does_not_depend_on_the_kind_of_its_file(tmp_path):
    columns = {
        "time": [str(one) for one in MOMENTS], "who": ["a", "b"] * 100, "x": [i / 4 for i in range(200)]
    }  # fmt: skip
    plans = []
    for suffix in SUFFIXES:
        _, rows = _read(_write(columns, tmp_path / f"t.{suffix}"))
        plans.append(infer_plan(rows.to_polars(), entity=("who",)).to_dict())
    assert plans[0]["time"] == "time" and plans[0] == plans[1] == plans[2]


@pytest.mark.parametrize("form", ["moments", "days", "american"])
def test_a_processor_reads_a_typed_file_as_it_did_in_training(form, tmp_path):
    texts = [one.strftime(FORMS[form]) for one in MOMENTS]
    columns = {"time": texts, "who": ["a", "b"] * 100, "shop": list("wxyz") * 50}
    paths = [_write(columns, tmp_path / f"t.{suffix}") for suffix in SUFFIXES]
    task = TableTask("table", Table)
    named = {"entity_columns": ["who"]}
    trained = task.prepare(TableDataArguments(task="table", data=str(paths[1]), **named), tmp_path)
    assert trained.processor.plan.time == "time"
    expected = trained.processor.encode(trained.dataset)
    for path in paths:
        arguments = TableDataArguments(task="table", data=str(path))
        rows, _ = task.read(arguments, tmp_path, str(tmp_path / "processor"))
        assert trained.processor.encode(rows).equals(expected)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("odd", ["20x4-01-01 10:00:00", "soon", "2024-13-41", "-"])
def test_an_odd_cell_among_times_is_a_bad_record(odd, form, suffix, tmp_path):
    texts = [one.strftime(FORMS[form]) for one in MOMENTS]
    path = _write({"time": [*texts[:7], odd, *texts[7:]], "x": [1] * 201}, tmp_path / f"t.{suffix}")
    place = "line 9" if suffix == "csv" else "row 8"
    with pytest.raises(BadRecordError, match=rf"found '{odd}' \('.*t.{suffix}', {place}, column 'time'\)\. Correct"):
        _read(path)
    builder, rows = _read(path, on_bad_record="skip")
    assert len(rows) == 200 and not isinstance(rows[0]["time"], str)
    assert [(one.found, one.column) for one in builder.skipped] == [(repr(odd), "time")]
    assert _read(path, types={"time": "string"})[1]["time"][7] == odd


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_remedy_of_an_odd_time_says_how_it_stays_text(suffix, tmp_path):
    path = _write({"time": [*map(str, MOMENTS), "soon"]}, tmp_path / f"t.{suffix}")
    with pytest.raises(BadRecordError, match=r"`types: {time: string}` keeps the column as text"):
        _read(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "cells",
    [
        ["2024-01-01"] * 18 + ["soon"],  # too few to judge by
        ["2024-01-01"] * 94 + ["soon"] * 6,
        ["7"] * 99 + ["soon"],
        ["20240101"] * 99 + ["soon"],
    ],
    ids=["few", "often", "numbers", "numbers like dates"],
)
def test_columns_that_are_not_mostly_times_stay_text(cells, suffix, tmp_path):
    assert _read(_write({"c": cells}, tmp_path / f"t.{suffix}"))[1]["c"][:] == cells


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_days_beside_moments_are_moments(suffix, tmp_path):
    cells = [str(one) for one in MOMENTS] + ["2024-03-01"] * 3
    _, rows = _read(_write({"time": cells}, tmp_path / f"t.{suffix}"))
    assert rows["time"][:] == [*MOMENTS, *[datetime.datetime(2024, 3, 1)] * 3]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_odd_cell_in_a_column_that_the_plan_does_not_read_is_no_matter(suffix, tmp_path):
    path = _write({"time": [*map(str, MOMENTS), "soon"], "x": [1] * 201}, tmp_path / f"t.{suffix}")
    assert len(_read(path, used=("x",))[1]) == 201


def test_a_later_file_may_hold_the_times_themselves(tmp_path):
    pl.DataFrame({"time": [str(one) for one in MOMENTS]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"time": MOMENTS}).write_parquet(tmp_path / "b.parquet")
    assert _read(tmp_path)[1]["time"][:] == MOMENTS * 2

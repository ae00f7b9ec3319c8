"""Times that are numbers have a unit: guessed by their size, told in words, kept in the plan."""

import logging

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from hf_mmtab.arguments import TableDataArguments
from hf_mmtab.data.table import Table
from hf_mmtab.models.tabbert import TabBertProcessor
from hf_mmtab.models.tabbert.processing.plan_guess import infer_plan, time_unit
from hf_mmtab.models.tabbert.processing.values import microseconds
from hf_mmtab.serving.history_windows import segments_of
from hf_mmtab.tasks.guessed_plan import describe_guess
from hf_mmtab.tasks.table import TableTask

START = 1_577_836_800  # 2020-01-01, a Wednesday
PAUSES = [0, 60, 600, 7200, 60, 60, 100_000, 60]  # seconds; two are longer than an hour
SECONDS = START + np.cumsum(PAUSES)
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def _frame(times):
    return pl.DataFrame({"who": ["a"] * len(times), "when": times, "shop": list("xyxyxyxy")})


@pytest.mark.parametrize("unit", PER_SECOND)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_numbers_of_any_unit_cut_histories_where_timestamps_do(unit, suffix, tmp_path, caplog):
    frame = _frame(SECONDS * PER_SECOND[unit])
    stamps = frame.with_columns(pl.from_epoch("when", "s" if unit == "s" else unit).alias("when"))
    written = {}
    for name, one in (("numbers", frame), ("stamps", stamps)):
        path = tmp_path / f"{name}{suffix}"
        one.write_csv(path) if suffix == ".csv" else one.write_parquet(path)
        arguments = TableDataArguments(
            task="table", data=str(path), entity_columns=["who"], time_column="when", max_gap=3600.0, seq_len=3,
            split_fractions=[1.0, 0.0, 0.0],
        )  # fmt: skip
        task = TableTask("table", Table)
        with caplog.at_level(logging.INFO, logger="hf_mmtab"):
            prepared = task.prepare(arguments, tmp_path / name)
        index = task.windows(arguments, prepared.rows, "train").index
        written[name] = (prepared.rows.time[:].tolist(), index.start.tolist(), index.length.tolist())
        ids = prepared.processor.encode(prepared.dataset).to_pydict()
        written[name] += (ids, list(ids))
    assert written["numbers"] == written["stamps"]
    assert written["numbers"][1] == [0, 3, 6]
    saved = TabBertProcessor.from_pretrained(tmp_path / "numbers" / "processor")
    assert saved.plan.time_unit == unit
    assert segments_of(frame.to_arrow(), saved.plan, 3600).tolist() == [0, 3, 6, 8]
    assert saved.encode(frame).to_pydict() == written["numbers"][3]


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        (SECONDS, "s"),
        (SECONDS + 0.25, "s"),
        (SECONDS * 1000.0, "ms"),
        (np.arange(8), "number"),
        (np.arange(8) / 2, "number"),
        (np.array([20200101 + i for i in range(8)]), "number"),
        (np.array([*SECONDS[:-1], SECONDS[-1] * 1000]), "number"),
        (np.array([202001010000 + i for i in range(8)]), "number"),
        (np.array([20200101000000 + i for i in range(8)]), None),
        (np.array([-5, 5]), "number"),
        ([None, None], None),
        (["a", "b"], None),
    ],
)
def test_the_unit_of_numbers_is_told_by_their_size(times, unit):
    assert time_unit(pl.Series(times)) == unit


@pytest.mark.parametrize(("unit", "words"), [("ms", "milliseconds since 1970"), ("number", "plain numbers")])
def test_a_guessed_plan_says_the_unit_and_has_the_calendar_of_moments_only(unit, words):
    plan = infer_plan(_frame(SECONDS * 1000 if unit == "ms" else np.arange(8)), "who", "when")
    assert f"time: when ({'numbers: ' if unit == 'ms' else ''}{words}" in describe_guess(plan)
    assert ("when.hour" in [field.name for field in plan.fields]) == (unit == "ms")


@pytest.mark.parametrize("unit", [None, "number"])
def test_a_named_plan_gets_a_unit_and_keeps_one_that_it_says(unit, tmp_path, caplog):
    _frame(SECONDS).write_csv(tmp_path / "t.csv")
    plan = {"entity": "who", "time": "when", "fields": {"shop": {}, "gap": {"kind": "time_gap"}}}
    if unit is not None:
        plan["time_unit"] = unit
    arguments = TableDataArguments(task="table", data=str(tmp_path / "t.csv"), plan=plan)
    task = TableTask("table", Table)
    dataset, _ = task.read(arguments, tmp_path)
    assert task.plan(arguments, lambda rows: dataset.with_format("arrow")[:rows]).time_unit == (unit or "s")


def test_a_processor_without_a_unit_counts_whole_numbers_as_microseconds_as_it_did():
    plan = {"entity": "who", "time": "when", "fields": {"gap": {"kind": "time_gap", "num_bins": 4}}}
    frame = _frame(SECONDS)
    old, told = TabBertProcessor(plan).fit(frame), TabBertProcessor({**plan, "time_unit": "us"}).fit(frame)
    assert old.encode(frame).equals(told.encode(frame)) and "time_unit" not in old.plan.to_dict()
    assert old._fitted[0].edges.max() == pytest.approx(0.1)


@pytest.mark.parametrize(("times", "unit"), [([START, 10**17], "s"), ([1.0, 1e14], "number"), ([1, 10**16], "number")])
def test_a_time_too_large_for_its_unit_is_told(times, unit, tmp_path):
    plan = {"time": "when", "time_unit": unit, "fields": {"when.gap": {"kind": "time_gap"}}}
    table = pa.table({"when": times})
    with pytest.raises(ValueError, match=r"[Ee]xpected times"):
        TabBertProcessor(plan).fit(table)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("kind", "per_second"), [(pa.timestamp("s"), 1), (pa.timestamp("ms", "UTC"), 10**3), (pa.date64(), 10**3)]
)
def test_moments_beyond_64_bits_of_microseconds_are_refused_and_not_turned_round(kind, per_second, sign):
    far = sign * (2**63 // (10**6 // per_second) + 10**9)
    with pytest.raises(ValueError, match=rf"within 64 bits of microseconds, found others .*{far}\)\. Correct"):
        microseconds(pa.array([0, far]).cast(kind))


@pytest.mark.parametrize("kind", [pa.timestamp("s", "America/New_York"), pa.timestamp("ms"), pa.timestamp("ns")])
def test_moments_are_those_of_utc_and_missing_ones_zero(kind):
    moments = pa.array([-1_500_000, 0, None]).cast(pa.timestamp("us", kind.tz)).cast(kind, safe=False)
    assert microseconds(moments).tolist() == [-1_000_000 if kind.unit == "s" else -1_500_000, 0, 0]

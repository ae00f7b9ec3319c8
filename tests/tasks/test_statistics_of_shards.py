"""Statistics of the past on rows in shards: those of one machine, as far as they look at each history alone."""

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prepared_tables import PLAN, arguments, events, prepared

from hf_mmtab.arguments import TabBertHeadArguments, TableDataArguments
from hf_mmtab.data.splits import windows
from hf_mmtab.statistics.features import OF_ALL_HISTORIES, OF_ONE_HISTORY
from hf_mmtab.table_baselines import TableBaselines
from hf_mmtab.tasks import TableTask, get_task
from hf_mmtab.tasks.table_heads import beside_ids, fit_statistics

FIELDS = {
    "shop": {},
    "price": {"kind": "money", "num_bins": 4},
    "code": {},
    "hour": {"kind": "time_part", "part": "hour"},
    "gap": {"kind": "time_gap", "num_bins": 4},
}
OWN = list(OF_ONE_HISTORY)


@pytest.fixture
def table(tmp_path):
    rows = events(400, 9)
    codes = [str(i % 23) if i % 5 else "" for i in range(rows.num_rows)]  # text that is numbers in every row
    pq.write_table(rows.append_column("code", pa.array(codes)), tmp_path / "events.parquet", row_group_size=50)
    return tmp_path / "events.parquet"


def both(tmp_path, data, **options):
    """Return the table as one machine has it, and in shards that kept their values."""
    made = prepared(data, tmp_path / "rows", keep_values=True, **options)
    whole = get_task(data.task, TableTask).prepare(data, tmp_path / "whole", needs_label=True)
    in_shards = TableDataArguments(task=data.task, data=data.data, rows=str(made.folder))
    return whole, get_task(data.task, TableTask).prepare(in_shards, tmp_path / "none", needs_label=True)


def statistics_of(table, chosen):
    """Fit statistics and return them with those of all rows, in the order of the table that was read."""
    train = windows(table.rows, "train", 5, 1, "every")
    fit_statistics(TabBertHeadArguments(architecture="boosted", statistics=chosen), table, train)
    values = beside_ids(table, True, False)["statistics"]
    numbers = table.rows.row_numbers
    order = np.arange(len(values)) if numbers is None else np.argsort(np.array(numbers[:]))
    return table.processor.statistics, np.array(values)[order]


PLANS = {
    "one entity column": {},
    "several entity columns": {"entity": ["who", "shop"], "fields": {**FIELDS, "shop": None}},
    "no time column": {"time": None, "fields": {"shop": {}, "price": {"kind": "money"}}},
    "order of the file": {"order": "time", "fields": {"code": {}, "price": {"kind": "numeric"}}},
}


@pytest.mark.parametrize("name", PLANS)
def test_statistics_of_each_history_are_those_of_one_machine(tmp_path, table, name):
    plan = {**PLAN, "fields": FIELDS, **PLANS[name]}
    plan["fields"] = {field: settings for field, settings in plan["fields"].items() if settings is not None}
    whole, shards = both(tmp_path, arguments(table, plan=plan), shards=4)

    expected, values = statistics_of(whole, OWN)
    found, ours = statistics_of(shards, OWN)
    assert shards.rows.num_shards > 2 and found == expected and set(found["groups"]) == set(OWN)
    np.testing.assert_allclose(ours, values, rtol=1e-5, atol=1e-6)
    assert np.isfinite(values).any(axis=0).all() and (values[:, 1:].std(axis=0) > 0).any()
    if name == "several entity columns":
        assert any(one.startswith("who: ") for one in found["names"])  # all histories of `who`


def test_in_one_shard_statistics_of_all_histories_are_made_too(tmp_path, table):
    whole, shards = both(tmp_path, arguments(table, plan={**PLAN, "fields": FIELDS}), shards=1)

    expected, values = statistics_of(whole, ["auto"])
    found, ours = statistics_of(shards, ["auto"])
    assert found == expected and {"lately", "usual"} <= set(found["groups"])
    np.testing.assert_allclose(ours, values, rtol=1e-5, atol=1e-6)


def test_statistics_of_all_histories_are_left_out_of_auto_and_refused_by_name(tmp_path, table, caplog):
    _, shards = both(tmp_path, arguments(table, plan={**PLAN, "fields": FIELDS}), shards=4)

    assert set(statistics_of(shards, ["auto"])[0]["groups"]) == set(OWN)
    assert "lately, usual, labels look at rows of all histories and are left out" in caplog.text
    for chosen in (["lately", "row"], ["*beyond everybody's mean*"]):
        with pytest.raises(ValueError, match=r"found those of (lately|usual), which look at rows of all histories"):
            statistics_of(shards, chosen)
    assert set(OF_ALL_HISTORIES) | set(OWN) == {*OF_ALL_HISTORIES, *OWN}


def test_baselines_find_the_same_in_shards(tmp_path, table):
    pytest.importorskip("lightgbm")
    whole, shards = both(tmp_path, arguments(table, plan={**PLAN, "fields": FIELDS}), shards=4)
    found = []
    for one in (whole, shards):
        cut = {split: windows(one.rows, split, 5, 1, "last") for split in ("train", "validation", "test")}
        baselines = TableBaselines(one, cut, threads=1)
        features = baselines.features("boosted_rows")
        order = np.argsort(np.array(one.rows.row_numbers[baselines.needed]))
        amount = baselines.run("amount")["test"]
        found.append((features.names, np.array(features.values)[order], np.sort(amount.probabilities[:, 1])))
    assert found[0][0] == found[1][0]
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1][2], found[0][2], rtol=1e-6)


def test_values_lie_beside_the_ids_only_where_they_are_asked_for(tmp_path, table):
    data = arguments(table, plan={**PLAN, "fields": FIELDS})
    whole, shards = both(tmp_path, data, shards=3)
    names = ["shop", "price", "code", "when"]
    number = shards.rows.row_numbers[:]
    typed = pq.read_table(table).select(names).take(pa.array(number))
    assert pa.concat_tables([part.values for part in shards.rows.parts()]).equals(typed)
    plain = prepared(data, tmp_path / "plain", shards=3)
    assert not list(plain.folder.rglob("*.values.arrow"))
    rows = TableDataArguments(task="table", data=str(table), rows=str(plain.folder))
    without = get_task("table", TableTask).prepare(rows, tmp_path / "none", needs_label=True)
    with pytest.raises(ValueError, match=r"found rows that hold ids alone in .*Prepare them with `--keep_values true`"):
        without.require_values()
    with pytest.raises(ValueError, match="found others in"):
        prepared(data, tmp_path / "rows", shards=3)
    assert whole.has_values and isinstance(whole.values[0]["when"], datetime.datetime)

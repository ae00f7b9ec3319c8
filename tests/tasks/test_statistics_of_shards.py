"""Statistics of the past on rows in shards: those of one machine."""

import datetime
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prepared_tables import PLAN, arguments, events, prepared

from hf_mmtab.arguments import TabBertHeadArguments, TableDataArguments
from hf_mmtab.data.windows.splits import windows
from hf_mmtab.statistics import of_all_histories, row_statistics
from hf_mmtab.statistics.features import OF_ALL, OF_ONE_HISTORY
from hf_mmtab.table_baselines import TableBaselines
from hf_mmtab.tasks import TableTask, get_task
from hf_mmtab.tasks.prepared_table import rows_digest
from hf_mmtab.tasks.table_heads import beside_ids, fit_statistics, old_labels

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


def statistics_of(table, chosen, lag=None):
    """Fit statistics and return them with those of all rows, in the order of the table that was read."""
    train = windows(table.rows, "train", 5, 1, "every")
    model = TabBertHeadArguments(architecture="boosted", statistics=chosen, label_lag=lag)
    fit_statistics(model, table, train, old_labels(TableDataArguments(task="table", data="-"), model, table))
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
    np.testing.assert_array_equal(ours, values)


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("block_rows", [2**20, 40])
def test_statistics_of_all_histories_are_those_of_one_machine(tmp_path, table, name, block_rows, monkeypatch):
    monkeypatch.setattr(of_all_histories, "BLOCK_ROWS", block_rows)  # rows of one moment stay together
    plan = {**PLAN, "fields": FIELDS, **PLANS[name]}
    plan["fields"] = {field: settings for field, settings in plan["fields"].items() if settings is not None}
    lag = None if plan["time"] is None else "9 hours"
    whole, shards = both(tmp_path, arguments(table, plan=plan), shards=4)

    expected, values = statistics_of(whole, ["auto"], lag)
    found, ours = statistics_of(shards, ["auto"], lag)
    assert shards.rows.num_shards > 2 and found == expected
    without_time = {"labels", "lately"}  # both count hours or days
    assert set(OF_ALL) - (without_time if plan["time"] is None else set()) <= set(found["groups"])
    of_all = [i for i, one in enumerate(found["names"]) if re.search("everybody|usual residual|of the last|known", one)]
    np.testing.assert_array_equal(ours[:, of_all], values[:, of_all])
    np.testing.assert_allclose(ours, values, rtol=1e-5, atol=1e-6)
    told = [name for name, some in zip(expected["names"], np.isfinite(values).any(axis=0), strict=True) if some]
    never = {one for one in expected["names"] if "mean of the last hour" in one}  # events are an hour apart or tied
    assert set(expected["names"]) - set(told) <= never


def test_statistics_of_all_histories_that_prepare_made_are_read(tmp_path, table, monkeypatch):
    data = arguments(table, plan={**PLAN, "fields": FIELDS})
    whole, shards = both(tmp_path, data, shards=4)
    before = {file: file.stat().st_mtime_ns for file in shards.rows.folder.rglob("*.arrow")}
    digest = rows_digest(shards.rows.folder)
    made = prepared(data, tmp_path / "rows", of_all_histories=True, shards=4)  # rows are there: statistics alone
    assert made.made and prepared(data, tmp_path / "rows", of_all_histories=True).made is False
    assert before.items() <= {file: file.stat().st_mtime_ns for file in made.folder.rglob("*.arrow")}.items()
    assert not (tmp_path / ".rows.hf_mmtab-prepare").exists() and rows_digest(made.folder) == digest

    expected, values = statistics_of(whole, ["auto"])
    monkeypatch.setattr(of_all_histories.OfAllHistories, "run", None)
    rows = TableDataArguments(task="table", data=str(table), rows=str(made.folder))
    found, ours = statistics_of(get_task("table", TableTask).prepare(rows, tmp_path / "none"), ["auto"])
    assert found == expected
    np.testing.assert_array_equal(ours, values)
    file = sorted(made.folder.rglob("*.of-all.arrow"))[2]
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"bytes in '.*00002.of-all.arrow', found .*: the file is damaged"):
        get_task("table", TableTask).prepare(rows, tmp_path / "none")


def test_a_category_of_many_values_has_no_state_in_shards_either(tmp_path, table, monkeypatch):
    for module in (row_statistics, of_all_histories):
        monkeypatch.setattr(module, "MOST_STATE_VALUES", 20)  # of `code`, which has 22; `shop` has fewer
    whole, shards = both(tmp_path, arguments(table, plan={**PLAN, "fields": FIELDS}), shards=4)
    made = prepared(arguments(table, plan={**PLAN, "fields": FIELDS}), shards.rows.folder, of_all_histories=True)

    expected, values = statistics_of(whole, ["lately", "usual"])
    assert made.facts["of_all_histories"] == {"groups": ["lately", "usual"], "crowded": expected["crowded"]}
    assert expected["crowded"] == ["code"] and any("everybody's mean at this code" in one for one in expected["names"])
    found, ours = statistics_of(shards, ["lately", "usual"])
    assert found == expected
    np.testing.assert_array_equal(ours, values)


def test_baselines_find_the_same_in_shards(tmp_path, table):
    pytest.importorskip("lightgbm")
    whole, shards = both(tmp_path, arguments(table, plan={**PLAN, "fields": FIELDS}), shards=4)
    found = []
    for one in (whole, shards):
        cut = {split: windows(one.rows, split, 5, 1, "last") for split in ("train", "validation", "test")}
        baselines = TableBaselines(one, cut, threads=1)
        features = baselines.features("boosted_history")
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

"""Tables in shards: the same rows as one process makes in memory, whatever the shards, files and order of the rows."""

import json
import shutil

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prepared_tables import PLAN, arguments, cards, events, expect_rows_of_one_machine, prepared, rows_of

from hf_mmtab import prepare_table
from hf_mmtab.data.reading.records import BadRecordError
from hf_mmtab.data.shards.writing import TableShards, shard_of
from hf_mmtab.data.table import Table
from hf_mmtab.tasks import get_task
from hf_mmtab.tasks.table import TableTask


@pytest.fixture
def table(tmp_path):
    pq.write_table(events(), tmp_path / "events.parquet", row_group_size=50)
    return tmp_path / "events.parquet"


@pytest.mark.parametrize("shards", [1, 3, 40])
def test_cards_are_as_on_one_machine_for_any_number_of_shards(tmp_path, shards):
    data = arguments(cards(tmp_path), task="card_transactions", plan=None)
    made = prepared(data, tmp_path / "rows", shards=shards)

    expect_rows_of_one_machine(data, tmp_path / "rows", tmp_path / "whole")
    assert made.made and made.facts["engine"] == "local" and 1 <= len(made.facts["shards"]) <= shards
    assert not (tmp_path / ".rows.hf_mmtab-prepare").exists()


VARIANTS = {
    "as it is": {},
    "one entity": {"entities": ["w3"]},
    "no entity column": {"plan": {**PLAN, "entity": []}},
    "no time column": {"plan": {"entity": "who", "label": "bad", "fields": {"shop": {}, "price": {"kind": "numeric"}}}},
    "neither": {"plan": {"fields": {"shop": {}}}},
    "order of the file": {"plan": {**PLAN, "order": "file", "fields": {"shop": {}}}},
    "two entity columns": {"plan": {**PLAN, "entity": ["who", "shop"]}},
    "split by entity": {"split": "entity", "split_seed": 4},
    "split of the paper": {"split": "paper"},
    "nothing to validate on": {"split_fractions": [0.5, 0.0, 0.5]},
    "all for training": {"split_fractions": [1.0, 0.0, 0.0]},
    "no label": {"plan": {**PLAN, "label": []}},
    "numbers as label": {"plan": {**PLAN, "label": "price", "fields": {"shop": {}}}},
    "two labels": {"plan": {**PLAN, "label": ["price", "more"], "fields": {"shop": {}}}},
    "first rows": {"max_rows": 101},
    "guessed plan": {"plan": None, "entity_columns": ["who"], "label_columns": ["bad"]},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_plans_splits_and_labels_are_as_on_one_machine(tmp_path, name):
    rows = events().append_column("more", pa.array(np.arange(303)))
    pq.write_table(rows.drop_columns("unread"), tmp_path / "events.parquet")
    data = arguments(tmp_path / "events.parquet", **VARIANTS[name])
    made = prepared(data, tmp_path / "rows", shards=4)

    expect_rows_of_one_machine(data, tmp_path / "rows", tmp_path / "whole")
    entities = data.entity_columns or (data.plan or {}).get("entity")
    assert entities or len(made.facts["shards"]) == 1  # one history lies in one shard


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 2)), min_size=3, max_size=40),
    st.integers(1, 6),
    st.sampled_from([[0.7, 0.1, 0.2], [0.4, 0.6, 0.0]]),
)
def test_any_small_table_is_as_on_one_machine(tmp_path, cells, shards, fractions):
    who, when, shop = zip(*cells, strict=True)
    folder = tmp_path / "case"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    pq.write_table(pa.table({"who": who, "when": when, "shop": shop}), folder / "t.parquet")
    plan = {"entity": "who", "time": "when", "fields": {"shop": {}, "when": {"kind": "numeric", "num_bins": 3}}}
    data = arguments(folder / "t.parquet", plan=plan, split_fractions=fractions)
    try:
        prepared(data, folder / "rows", shards=shards)
    except ValueError as error:
        with pytest.raises(ValueError, match="leaves no row to train on") as expected:
            get_task("table", TableTask).prepare(data, folder / "whole")
        assert str(error) == str(expected.value)
        return
    expect_rows_of_one_machine(data, folder / "rows", folder / "whole")


@pytest.mark.parametrize("kind", ["csv", "arrow", "parquet"])
def test_files_cut_within_histories_times_and_quotes_are_one_table(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(Table, "BLOCK_BYTES", 97)
    rows = events(120, 3).drop_columns("unread").append_column("note", pa.array(['a "quoted",\nnote'] * 123))
    folder = tmp_path / "parts"
    folder.mkdir()
    for number, (first, end) in enumerate([(0, 1), (1, 60), (60, 60), (60, 123)]):  # one row, and none
        part = rows.slice(first, end - first)
        if kind == "csv":
            pa.csv.write_csv(part, folder / f"{number}.csv")
        elif kind == "parquet":
            pq.write_table(part, folder / f"{number}.parquet", row_group_size=7)
        else:
            with pa.OSFile(str(folder / f"{number}.arrow"), "wb") as out, pa.ipc.new_file(out, part.schema) as writer:
                writer.write_table(part, max_chunksize=11)
    data = arguments(folder, plan={**PLAN, "fields": {**PLAN["fields"], "note": {}}})
    made = prepared(data, tmp_path / "rows", shards=2)

    expect_rows_of_one_machine(data, tmp_path / "rows", tmp_path / "whole")
    assert made.facts["rows"] == 123


def test_a_label_column_that_the_table_lacks_gives_rows_without_labels(tmp_path, table):
    pq.write_table(events().drop_columns(["bad", "unread"]), tmp_path / "unlabelled.parquet")
    data = arguments(tmp_path / "unlabelled.parquet")
    prepared(data, tmp_path / "rows", shards=2)

    expect_rows_of_one_machine(data, tmp_path / "rows", tmp_path / "whole")


def test_a_checkpoints_processor_encodes_the_rows(tmp_path, table):
    processor = get_task("table", TableTask).prepare(arguments(table), tmp_path / "run").processor
    processor.save_pretrained(tmp_path / "model")
    data = arguments(table, plan=None)
    made = prepared(data, tmp_path / "rows", pretrained=str(tmp_path / "model"), shards=3)

    assert made.facts["processor_fingerprint"] == processor.fingerprint
    expect_rows_of_one_machine(data, tmp_path / "rows", tmp_path / "whole", str(tmp_path / "model"))


def test_repeated_rows_and_rows_out_of_order_are_told(tmp_path, table, caplog):
    prepared(arguments(table), tmp_path / "rows", shards=3)

    assert "3 of 303 rows repeat an earlier row" in caplog.text  # lists, as in `unread`, are not compared
    assert "144 of 303 rows come after a later row of the same history" in caplog.text
    caplog.clear()
    different = events().append_column("id", pa.array(range(303)))  # read by no field
    pq.write_table(different, table)
    prepared(arguments(table), tmp_path / "others", shards=3)
    assert "repeat an earlier row" not in caplog.text


def test_a_broken_row_is_named_or_left_out_as_on_one_machine(tmp_path):
    lines = ["who,when,shop,price"] + [f"w{i % 3},2024-01-{i % 28 + 1:02},s{i % 4},{i}" for i in range(40)]
    lines[18] = "w1,2024-01-05,s1"
    lines[30] = "w1,yesterday,s1,4"
    file = tmp_path / "t.csv"
    file.write_text("\n".join(lines) + "\n")
    plan = {**PLAN, "label": []}
    with pytest.raises(BadRecordError) as expected:
        get_task("table", TableTask).prepare(arguments(file, plan=plan), tmp_path / "whole")
    with pytest.raises(BadRecordError) as found:
        prepared(arguments(file, plan=plan), tmp_path / "rows", shards=2)

    assert str(found.value) == str(expected.value) and "line 19" in str(found.value)
    assert not (tmp_path / "rows").exists() and not (tmp_path / ".rows.hf_mmtab-prepare").exists()
    data = arguments(file, plan=plan, on_bad_record="skip")
    made = prepared(data, tmp_path / "rows", shards=2)
    expect_rows_of_one_machine(data, tmp_path / "rows", tmp_path / "whole")
    assert made.facts["left_out"] == 2 and made.facts["rows"] == 38
    assert [record["line"] for record in made.facts["skipped"]] == [19, 31]


def test_an_interrupted_start_goes_on_and_encodes_no_shard_twice(tmp_path, table, monkeypatch):
    encoded = []
    encode = TableShards.encode

    def interrupted(self, item, **given):
        place = item[0]
        if place == 2 and not encoded.count("stopped"):
            encoded.append("stopped")
            raise KeyboardInterrupt
        encoded.append(place)
        return encode(self, item, **given)

    monkeypatch.setattr(TableShards, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepared(arguments(table), tmp_path / "rows", shards=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TableShards, "scatter", None)  # the table is not read again
        patch.setattr(TableShards, "fit", None)
        prepared(arguments(table), tmp_path / "rows", shards=4)

    assert encoded == [0, 1, "stopped", 2, *range(3, len(encoded) - 1)]
    expect_rows_of_one_machine(arguments(table), tmp_path / "rows", tmp_path / "whole")


def test_another_table_or_plan_does_not_go_on_from_an_interrupted_start(tmp_path, table, monkeypatch):
    def interrupted(*given, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TableShards, "encode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepared(arguments(table), tmp_path / "rows", shards=4)
    data = arguments(table, plan={**PLAN, "fields": {"price": {"kind": "numeric", "num_bins": 3}}})
    prepared(data, tmp_path / "rows", shards=4)

    expect_rows_of_one_machine(data, tmp_path / "rows", tmp_path / "whole")


def test_finished_rows_are_kept_and_others_refused(tmp_path, table):
    out = tmp_path / "rows"
    assert prepared(arguments(table), out, shards=2).made
    stamp = (out / "rows.json").stat().st_mtime_ns

    assert not prepared(arguments(table), out, shards=5).made
    assert (out / "rows.json").stat().st_mtime_ns == stamp
    other = arguments(table, split="entity")
    with pytest.raises(ValueError, match=r"found others in .*rows'. Choose another folder, or start anew with"):
        prepared(other, out)
    assert prepared(other, out, overwrite=True).made
    expect_rows_of_one_machine(other, out, tmp_path / "whole")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"found notes\.txt in"):
        prepared(arguments(table), out, overwrite=True)
    assert json.loads((out / "rows.json").read_text())["split"]["kind"] == "entity"


def test_what_does_not_fit_is_named(tmp_path, table):
    with pytest.raises(ValueError, match=r"Expected columns \['colour'\], found \['who', 'when'"):
        prepared(arguments(table, plan={"fields": {"colour": {}}}), tmp_path / "rows")
    with pytest.raises(ValueError, match=r"found no row of w99\. There are w0"):
        prepared(arguments(table, entities=["w0", "w99"]), tmp_path / "rows")
    pq.write_table(events().slice(0, 0), tmp_path / "none.parquet")
    with pytest.raises(ValueError, match=r"Expected rows in .*none.parquet', found none\. Give a table with rows"):
        prepared(arguments(tmp_path / "none.parquet"), tmp_path / "rows")


def test_the_cuts_of_the_split_are_kept(tmp_path, table):
    facts, rows = rows_of(prepared(arguments(table), tmp_path / "rows", shards=3).folder)

    time, split = rows["#time"].to_numpy(), rows["#split"].to_numpy()
    assert facts["split_cuts"] == [time[split == 1].min(), time[split == 2].min()]


def test_the_shard_of_a_history_is_the_same_on_every_machine_and_in_every_block():
    names, numbers = pl.Series([f"w{i}" for i in range(6)]), pl.Series(range(6), dtype=pl.Int32)

    assert shard_of([names], 6, 10).tolist() == [1, 3, 2, 5, 7, 4]
    assert (
        shard_of([numbers], 6, 10).tolist() == shard_of([numbers.cast(pl.UInt8)], 6, 10).tolist() == [0, 9, 0, 6, 2, 2]
    )
    assert shard_of([names[2:4], numbers[2:4]], 2, 10).tolist() == shard_of([names, numbers], 6, 10).tolist()[2:4]
    assert shard_of([], 3, 1).tolist() == [0, 0, 0]
    spread = np.bincount(shard_of([pl.Series(range(100_000))], 100_000, 50))
    assert spread.min() > 1800 and spread.max() < 2200


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"shards": 0}, "shards"),
        ({"entity_columns": "account", "max_rows": "5 rows"}, "max_rows"),
        ({"engine": "spark"}, "engine"),
        ({"entity_colums": ["account"]}, "Did you mean 'entity_columns'"),
    ],
)
def test_arguments_from_python_are_checked_as_those_of_a_recipe(tmp_path, keys, message):
    with pytest.raises(ValueError, match=message):
        prepare_table("payments.csv", tmp_path / "rows", **keys)
    assert not list(tmp_path.iterdir())

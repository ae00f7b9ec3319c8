"""`predict` and `embed` of shards of whole histories, as workers of a cluster score them, here in one process.

With workers of Ray: tests/tasks/test_ray_engine.py.
"""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from prepared_tables import PLAN, arguments, events
from untrained_heads import EVERY, expect_same_scores, untrained_head

from hf_mmtab.arguments import TabBertHeadArguments
from hf_mmtab.commands import embed, predict
from hf_mmtab.data.reading.records import BadRecordError
from hf_mmtab.data.shards.local_engine import LocalEngine
from hf_mmtab.data.windows.splits import windows
from hf_mmtab.models.tabbert import TabBertBoostedForSequenceClassification, TabBertConfig, TabBertForMaskedLM
from hf_mmtab.models.tabbert.modeling_tabbert_boosted import STATISTICS
from hf_mmtab.statistics.features import OF_ONE_HISTORY
from hf_mmtab.tasks import TableTask, get_task
from hf_mmtab.tasks.table_heads import beside_ids, fit_statistics, old_labels


class OneWorker(LocalEngine):
    """A cluster of one worker, which is this process."""

    workers, piece_rows = 4, 60

    def __init__(self, folder, address=None):
        assert folder.is_dir()

    def map_with(self, make, items):
        step = make()
        return [step(item) for item in items]


@pytest.fixture(autouse=True)
def one_worker(monkeypatch):
    ray_engine = pytest.importorskip("hf_mmtab.data.shards.ray_engine")
    monkeypatch.setattr(ray_engine, "RayEngine", OneWorker)


@pytest.fixture
def table(tmp_path):
    pq.write_table(events(), tmp_path / "events.parquet", row_group_size=50)
    return tmp_path / "events.parquet"


def both(command, model, table, out, *more):
    """Run a command in one process and in shards; return the outputs."""
    command.main([model, str(table), str(out / "local.parquet"), *more])
    command.main([model, str(table), str(out / "shards"), "--engine", "ray", *more])
    return out / "shards", out / "local.parquet"


LAST = {"window_label": "last", "label_level": "window"}
HEADS = {
    "every row": ({}, {}, []),
    "last row": ({}, LAST, []),
    "windows": ({}, {**LAST, "window_label": "any"}, []),
    "a pause ends a window": ({}, {"max_gap": 4 * 3600.0}, []),
    "no time column": ({"time": None, "fields": {"shop": {}}}, {}, []),
    "no entity column": ({"entity": []}, {}, []),
    "two entity columns": ({"entity": ["who", "shop"]}, {}, []),
    "order of the file": ({"order": "file", "fields": {"shop": {}}}, {}, []),
}


@pytest.mark.parametrize("name", HEADS)
def test_scores_of_shards_are_those_of_the_table(tmp_path, table, name):
    plan, settings, more = HEADS[name]
    model = untrained_head(tmp_path, arguments(table, plan={**PLAN, **plan}), **settings)

    found, expected = both(predict, model, table, tmp_path, *more)
    expect_same_scores(found, expected)
    assert len(list(found.iterdir())) in ([1] if plan.get("entity") == [] else [3, 4])


def test_embeddings_of_shards_are_those_of_the_table(tmp_path, table):
    processor = get_task("table", TableTask).prepare(arguments(table), tmp_path / "run").processor
    torch.manual_seed(0)
    sizes = {"field_hidden_size": 8, "field_num_heads": 2, "hidden_size": 8, "num_attention_heads": 2}
    encoder = TabBertForMaskedLM(TabBertConfig(**processor.config_kwargs(), **sizes, num_hidden_layers=1))
    for saved in (encoder, processor):
        saved.save_pretrained(tmp_path / "encoder")
    found, expected = both(embed, str(tmp_path / "encoder"), table, tmp_path, "--float16")

    expect_same_scores(found, expected, "embedding")


def boosted(folder, data, statistics, lag=None):
    """Save boosted trees on statistics of a table."""
    lightgbm = pytest.importorskip("lightgbm")
    table = get_task("table", TableTask).prepare(data, folder / "run")
    train = windows(table.rows, "train", 6, 1, "last")
    arguments = TabBertHeadArguments(architecture="boosted", statistics=statistics, label_lag=lag)
    fit_statistics(arguments, table, train, old_labels(data, arguments, table))
    values, fitted = beside_ids(table, True, False)["statistics"], table.processor.statistics
    known = table.rows.labels >= 0
    rows = lightgbm.Dataset(np.array(values[known]), table.rows.labels[known])
    trees = lightgbm.train({"objective": "binary", "verbosity": -1, "num_threads": 1}, rows, 20)
    settings = {"statistics": fitted["names"], "statistics_codes": fitted["categorical"], **EVERY, **LAST, "seq_len": 6}
    model = TabBertBoostedForSequenceClassification(TabBertConfig(**table.processor.config_kwargs(), **settings))
    model.set_trees(STATISTICS, [trees])
    for saved in (model, table.processor):
        saved.save_pretrained(folder / "model")
    return str(folder / "model")


@pytest.mark.parametrize("chosen", [[*OF_ONE_HISTORY], ["auto"]], ids=["each history", "all histories"])
@pytest.mark.parametrize("plan", [{}, {"entity": ["who", "shop"]}, {"time": None}], ids=["one", "two", "no time"])
def test_statistics_of_each_history_and_of_all_are_read(tmp_path, table, plan, chosen):
    fields = {"price": {"kind": "money"}, **({} if "entity" in plan else {"shop": {}})}
    fields |= {} if "time" in plan else {"gap": {"kind": "time_gap"}}
    model = boosted(tmp_path, arguments(table, plan={**PLAN, **plan, "fields": fields}), chosen)
    names = TabBertConfig.from_pretrained(model).statistics
    assert any("everybody's mean" in name for name in names) == (chosen == ["auto"] and "entity" not in plan)
    found, expected = both(predict, model, table, tmp_path)
    expect_same_scores(found, expected)
    (tmp_path / "statistics").mkdir()
    tables = both(embed, model, table, tmp_path / "statistics", "--what", "statistics")
    ours, theirs = (pq.read_table(one).sort_by("row").to_pandas() for one in tables)
    pd.testing.assert_frame_equal(ours, theirs, check_exact=False, rtol=1e-5)
    assert ours.shape == (303, len(names) + len([*ours]) - sum(one.startswith("statistic: ") for one in ours))


def test_old_labels_are_refused(tmp_path, table):
    model = boosted(tmp_path, arguments(table), ["auto"], "9 hours")
    with pytest.raises(ValueError, match=r"found one that reads statistics of the groups labels in .* without label_"):
        predict.main([model, "absent.csv", str(tmp_path / "more"), "--engine", "ray"])


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_shards_are_joined_into_one_file_where_a_file_is_named(tmp_path, table, ending):
    model = untrained_head(tmp_path, arguments(table))
    found, expected = tmp_path / f"found.{ending}", tmp_path / f"expected.{ending}"
    predict.main([model, str(table), str(expected)])
    predict.main([model, str(table), str(found), "--engine", "ray"])

    if ending == "parquet":
        expect_same_scores(found, expected)
    lines = (sorted(line[:40] for line in path.read_bytes().splitlines()) for path in (found, expected))
    assert ending == "parquet" or next(lines) == next(lines)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_broken_row_is_named_or_left_out_as_in_one_process(tmp_path, capsys):
    lines = ["who,when,shop,price"] + [f"w{i % 3},2024-01-{i % 28 + 1:02},s{i % 4},{i}" for i in range(40)]
    (tmp_path / "good.csv").write_text("\n".join(lines) + "\n")
    model = untrained_head(tmp_path, arguments(tmp_path / "good.csv", plan={**PLAN, "label": []}))
    (tmp_path / "bad.csv").write_text("\n".join([*lines[:17], "w1,2024-01-05,s1", *lines[17:]]) + "\n")
    messages = []
    for engine in ("local", "ray"):
        with pytest.raises(BadRecordError, match=r"line 18\)\. Complete the row") as found:
            predict.main([model, str(tmp_path / "bad.csv"), str(tmp_path / "out.parquet"), "--engine", engine])
        messages.append(str(found.value))
    assert messages[0] == messages[1] and not (tmp_path / "out.parquet").exists()
    found, expected = both(predict, model, tmp_path / "bad.csv", tmp_path, "--on_bad_record", "skip")
    expect_same_scores(found, expected)
    assert capsys.readouterr().out.count("1 bad record left out") == 2


def test_rows_that_differ_from_training_and_reasons_are_told_over_all_shards(tmp_path, table, caplog, capsys):
    model = untrained_head(tmp_path, arguments(table))
    moved = events().to_pydict() | {"shop": ["new"] * 303}
    pq.write_table(pa.table(moved), tmp_path / "moved.parquet")
    found, expected = both(predict, model, tmp_path / "moved.parquet", tmp_path, "--explain", "1")

    expect_same_scores(found, expected)
    notes = [
        record.getMessage() for record in caplog.records if "Values that training never had" in record.getMessage()
    ]
    assert len(notes) == 2 and notes[0] == notes[1] and "shop 100.0%" in notes[0]
    told = [line for line in capsys.readouterr().out.splitlines() if "rows are called" in line]
    assert len(told) == 2 and told[0] == told[1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--state", "state"], r"Expected a whole table beside --engine ray, found --state\. Take --engine local"),
        (["--level", "window"], "Expected --level row for"),
    ],
)
def test_what_does_not_fit_is_told_before_the_table_is_read(tmp_path, table, more, message):
    model = untrained_head(tmp_path, arguments(table))
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"Expected a new folder for Parquet files, found one that holds files at"):
        predict.main([model, str(table), str(tmp_path / "used"), "--engine", "ray"])
    with pytest.raises(ValueError, match=message):
        predict.main([model, "absent.csv", str(tmp_path / "out"), "--engine", "ray", *more])


def test_columns_that_the_model_reads_and_the_table_lacks_are_named(tmp_path, table):
    model = untrained_head(tmp_path, arguments(table))
    pq.write_table(events().drop_columns(["shop", "unread"]), tmp_path / "less.parquet")
    for engine in ("local", "ray"):
        with pytest.raises(ValueError, match=r"Expected columns \['shop'\], found \['who', 'when', 'price', 'bad'\]"):
            predict.main([model, str(tmp_path / "less.parquet"), str(tmp_path / "out.parquet"), "--engine", engine])

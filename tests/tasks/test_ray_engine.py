"""`prepare` on Ray with two workers: the same as in one process, also where a worker is killed."""

import os
import signal
import threading
import time

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prepared_tables import PLAN, arguments, cards, events, expect_rows_of_one_machine, prepared, rows_of
from untrained_heads import expect_same_scores, untrained_head

from hf_mmtab.commands import predict
from hf_mmtab.data.reading.records import BadRecordError

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'hf-mmtab[ray]'")
pytestmark = pytest.mark.slow  # a cluster of two workers starts in some twenty seconds


@pytest.fixture(scope="module")
def cluster():
    # other work on the machine would go first
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"})
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=2**28)
    yield
    ray.shutdown()


@pytest.fixture
def table(tmp_path):
    pq.write_table(events(), tmp_path / "events.parquet", row_group_size=50)
    return tmp_path / "events.parquet"


def same(one, other):
    (facts, rows), (other_facts, other_rows) = rows_of(one), rows_of(other)
    differ = {name for name in facts if facts[name] != other_facts[name]} - {"shards"}
    return rows.equals(other_rows) and differ == {"engine"}


def libraries_of(process):
    try:
        return " ".join(one.path for one in process.memory_maps())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""


def test_cards_are_as_in_one_process_also_on_other_numbers_of_shards(cluster, tmp_path):
    data = arguments(cards(tmp_path, 300_000, 40), task="card_transactions", plan=None)
    prepared(data, tmp_path / "local", shards=2)
    made = prepared(data, tmp_path / "ray", shards=5, engine="ray")

    assert made.facts["engine"] == "ray" and len(made.facts["shards"]) == 5
    assert same(tmp_path / "ray", tmp_path / "local")
    expect_rows_of_one_machine(data, tmp_path / "ray", tmp_path / "whole")
    loaded = [libraries_of(process) for process in psutil.Process().children(recursive=True)]
    assert any("polars" in one for one in loaded) and not any("libtorch" in one for one in loaded)


def test_rows_in_any_order_in_pieces_of_a_file_are_as_in_one_process(cluster, tmp_path, table, monkeypatch):
    monkeypatch.setattr("hf_mmtab.data.shards.ray_engine.RayEngine.piece_rows", 60)  # seven pieces
    plan = {"entity": "who", "fields": {"shop": {}, "price": {"kind": "numeric"}}}  # numbers of rows are the time
    data = arguments(table, entities=["w1", "w3", "w5"], plan=plan)  # others: test_sharded_table.py, in one process
    prepared(data, tmp_path / "local", keep_values=True)
    prepared(data, tmp_path / "ray", shards=3, engine="ray", keep_values=True)

    assert same(tmp_path / "ray", tmp_path / "local")
    values = [
        sum(pa.ipc.open_file(file).read_all().num_rows for file in (tmp_path / one).rglob("*.values.arrow"))
        for one in ("ray", "local")
    ]
    assert values[0] == values[1] > 100


def test_a_broken_row_is_named_and_broken_rows_are_counted_over_all_workers(cluster, tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    for part in range(3):
        lines = ["who,when,shop,price"] + [f"w{i % 3},2024-01-{i % 28 + 1:02},s{i % 4},{i}" for i in range(40)]
        lines[10 + part] = "w1,2024-01-05,s1"
        (folder / f"{part}.csv").write_text("\n".join(lines if part else [*lines[:10], *lines[11:]]) + "\n")
    plan = {**PLAN, "label": []}
    with pytest.raises(BadRecordError, match=r"Expected 4 cells, found 3: .*\.csv', line 1[23]\)\. Complete the row"):
        prepared(arguments(folder, plan=plan), tmp_path / "ray", engine="ray")

    data = arguments(folder, plan=plan, on_bad_record="skip")
    made = prepared(data, tmp_path / "ray", engine="ray")
    prepared(data, tmp_path / "local")
    assert (made.facts["rows"], made.facts["left_out"]) == (117, 2)
    assert same(tmp_path / "ray", tmp_path / "local")
    (folder / "2.csv").write_text("who,when,shop\nw1,2024-01-05,s1\n")
    with pytest.raises(
        ValueError, match=r"found none called \['price'\] in '.*2\.csv'.*take the file out of the folder\.$"
    ):
        prepared(data, tmp_path / "other", engine="ray")


def test_the_first_rows_alone_are_for_one_process(cluster, tmp_path, table):
    with pytest.raises(ValueError, match="Expected no max_rows beside engine: ray"):
        prepared(arguments(table, max_rows=5), tmp_path / "rows", engine="ray")


class Killer(threading.Thread):
    """Kills a worker of each step whose process has one of the titles, while a block runs; `most` of them."""

    def __init__(self, *titles, most=99):
        super().__init__()
        self.titles, self.most, self.killed, self.done = titles, most, set(), threading.Event()

    def run(self):
        while not self.done.is_set() and len(self.killed) < self.most:
            for process in psutil.Process().children(recursive=True):
                try:
                    step = " ".join(process.cmdline())
                    if step.startswith(self.titles) and step not in self.killed:
                        time.sleep(0.05)
                        os.kill(process.pid, signal.SIGKILL)
                        self.killed.add(step)
                except (psutil.NoSuchProcess, psutil.AccessDenied, ProcessLookupError):
                    continue
            time.sleep(0.01)

    def __enter__(self):
        self.start()
        return self.killed

    def __exit__(self, *error):
        self.done.set()
        self.join()


def test_workers_that_are_killed_change_nothing(cluster, tmp_path):
    data = arguments(cards(tmp_path, 60_000, 40), task="card_transactions", plan=None)
    prepared(data, tmp_path / "local", of_all_histories=True)
    with Killer("ray::MapBatches", "ray::HashShuffle", "ray::<lambda>", "ray::_merge") as killed:
        prepared(data, tmp_path / "ray", shards=6, engine="ray", of_all_histories=True)

    assert len(killed) >= 3, killed
    assert same(tmp_path / "ray", tmp_path / "local")
    found, expected = (of_all_histories_in(tmp_path / one) for one in ("ray", "local"))
    assert found.num_columns > 30 and found.equals(expected)


def of_all_histories_in(folder):
    """Return the statistics of all histories in the order of the table; NaN is null, which equals itself."""
    shards = []
    for file in sorted((folder / "shards").glob("?????.arrow")):
        rows = pa.ipc.open_file(file).read_all().select(["#row"])
        made = pa.ipc.open_file(file.with_suffix(".of-all.arrow")).read_all()
        for name in made.column_names:
            rows = rows.append_column(name, pa.array(made[name].to_numpy(), from_pandas=True))
        shards.append(rows)
    return pa.concat_tables(shards).sort_by("#row").combine_chunks()


def test_scores_are_as_in_one_process_also_where_a_worker_is_killed(cluster, tmp_path, table, monkeypatch, capsys):
    monkeypatch.setattr("hf_mmtab.data.shards.ray_engine.RayEngine.piece_rows", 60)
    monkeypatch.setattr("hf_mmtab.data.shards.writing.SHARD_BYTES", 2_000)  # a dozen shards
    model = untrained_head(tmp_path, arguments(table))
    predict.main([model, str(table), str(tmp_path / "local.parquet")])
    with Killer("ray::MapWorker", most=1) as killed:
        predict.main([model, str(table), str(tmp_path / "scores"), "--engine", "ray"])

    assert killed and len(list((tmp_path / "scores").iterdir())) > 2
    expect_same_scores(tmp_path / "scores", tmp_path / "local.parquet")
    assert "303 predictions in" in capsys.readouterr().out

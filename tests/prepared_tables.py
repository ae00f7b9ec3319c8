"""Tables for the tests of `prepare`, and what one machine makes of them in memory."""

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hf_mmtab.arguments import PrepareArguments, TableDataArguments
from hf_mmtab.data.simulated_cards import write_csv
from hf_mmtab.data.simulated_world import World
from hf_mmtab.tasks import TableTask, get_task
from hf_mmtab.tasks.sharded_table import PreparedShards, prepare_shards

START = datetime.datetime(2024, 1, 1)
PLAN: dict[str, Any] = {
    "entity": "who",
    "time": "when",
    "label": "bad",
    "fields": {"shop": {}, "price": {"kind": "numeric", "num_bins": 4}, "gap": {"kind": "time_gap", "num_bins": 4}},
}


def events(rows: int = 300, entities: int = 7, seed: int = 0) -> pa.Table:
    """Rows of several entities in any order, with ties in time, repeated rows and missing labels."""
    rng = np.random.default_rng(seed)
    bad = [None if x < 0.05 else bool(x > 0.8) for x in rng.random(rows)]
    table = pa.table(
        {
            "who": [f"w{i}" for i in rng.integers(0, entities, rows)],
            "when": [START + datetime.timedelta(hours=int(h)) for h in rng.integers(0, rows // 2 + 1, rows)],
            "shop": [f"shop {i}" for i in rng.geometric(0.3, rows)],
            "price": rng.integers(1, 50, rows) / 4,
            "bad": pa.array(bad, pa.bool_()),
            "unread": [[i] for i in range(rows)],
        }
    )
    return pa.concat_tables([table, table.slice(0, 3)])


def cards(folder: Path, rows: int = 5_000, users: int = 20) -> Path:
    """Write a table of simulated cards."""
    file = folder / "cards.csv"
    with open(file, "w", encoding="utf-8", newline="") as out:
        write_csv(World(users, rows, 0.01, 3), out)
    return file


def arguments(data: Path, **keys: Any) -> TableDataArguments:
    """Return the keys of a recipe for a table."""
    return TableDataArguments(**{"task": "table", "data": str(data), "plan": PLAN} | keys)


def prepared(data: TableDataArguments, out: Path, pretrained: str | None = None, **options: Any) -> PreparedShards:
    """Prepare a table in shards."""
    task = get_task(data.task, TableTask)
    return prepare_shards(task, data, out, PrepareArguments(**options), pretrained)


def rows_of(folder: Path) -> tuple[dict[str, Any], pa.Table]:
    """Return the facts and all rows of a folder of shards in the order of the table, ids as the processor gave them."""
    facts = json.loads((folder / "rows.json").read_text())
    shards = []
    for number, shard in enumerate(facts["shards"]):
        rows = pa.ipc.open_file(folder / "shards" / shard["file"]).read_all()
        names = pa.ipc.open_file(folder / "shards" / f"{number:05}.entities.arrow").read_all()
        _check_histories(rows, names["#start"].to_numpy(), facts["order"])
        sizes = np.diff(np.append(names["#start"].to_numpy(), rows.num_rows))
        for name in names.drop_columns("#start").column_names:
            of_rows = names[name].take(pa.array(np.repeat(np.arange(len(sizes)), sizes)))
            rows = rows.append_column(f"entity {name}", of_rows)
        shards.append(rows)
    whole = pa.concat_tables(shards).sort_by("#row")
    for name, base in zip(facts["fields"], facts["bases"], strict=True):
        ids = whole[name].to_numpy().astype(np.int64) + base
        whole = whole.set_column(whole.column_names.index(name), name, pa.array(ids))
    return facts, whole


def _check_histories(rows: pa.Table, starts: np.ndarray, order: str) -> None:
    """Check that rows of a history are in the order of time, and of the table within a time."""
    inner = np.ones(rows.num_rows, dtype=bool)
    inner[starts] = False
    time, number = rows["#time"].to_numpy(), rows["#row"].to_numpy()
    back = (time[1:] < time[:-1]) | ((time[1:] == time[:-1]) & (number[1:] < number[:-1]))
    assert not (inner[1:] & (back if order == "time" else number[1:] < number[:-1])).any()


def expect_rows_of_one_machine(data: TableDataArguments, folder: Path, scratch: Path, pretrained: str | None = None):
    """Check that the rows in shards are those that `TableTask.prepare` makes in one process."""
    table = get_task(data.task, TableTask).prepare(data, scratch, pretrained)
    facts, found = rows_of(folder)
    rows = table.rows
    numbers = np.arange(len(rows)) if rows.row_numbers is None else np.asarray(rows.row_numbers)
    order = np.argsort(numbers)
    assert found["#row"].to_pylist() == list(range(len(rows)))
    ids = rows.take(order)
    assert facts["fields"] == rows.fields
    for place, name in enumerate(rows.fields):
        np.testing.assert_array_equal(found[name].to_numpy(), ids[:, place], name)
    np.testing.assert_array_equal(found["#time"].to_numpy(), rows.time[order])
    np.testing.assert_array_equal(found["#split"].to_numpy(), rows.split[order])
    assert (rows.labels is None) == ("#label" not in found.column_names)
    if rows.labels is not None:
        labels = np.array(found["#label"].to_pylist(), dtype=rows.labels.dtype)
        np.testing.assert_array_equal(labels, rows.labels[order])
    assert facts["label_names"] == rows.label_names
    assert facts["processor_fingerprint"] == table.processor.fingerprint
    of_rows = np.searchsorted(rows.entity_starts, np.arange(len(rows)), side="right") - 1
    for name in rows.entity_names.columns:
        expected = rows.entity_names[name].to_numpy()[of_rows][order]
        assert found[f"entity {name}"].to_pylist() == expected.tolist()
    assert facts["left_out"] == len(table.skipped)

"""Parquet columns of types that datasets or polars do not know: read as ones they know, or left out with a word."""

import uuid
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hf_mmtab import prepare_table
from hf_mmtab.arguments import TableDataArguments
from hf_mmtab.data.image_text import ImageText
from hf_mmtab.data.reading.arrow_types import logger
from hf_mmtab.data.table import Table
from hf_mmtab.data.windows.sharded_rows import ShardedRows
from hf_mmtab.tasks import get_task
from hf_mmtab.tasks.table import TableTask

ROWS = 40
ODD = {
    "long decimals": (pa.array([Decimal(10) ** 50 + i for i in range(ROWS)], pa.decimal256(60, 0)), pa.float64()),
    "short decimals": (pa.array([Decimal(i) / 4 for i in range(ROWS)]).cast(pa.decimal32(6, 2)), pa.decimal128(6, 2)),
    "uuids": (pa.array([uuid.UUID(int=i).bytes for i in range(ROWS)], pa.uuid()), pa.string()),
    "eight-bit booleans": (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1] * ROWS, pa.int8())), pa.int8()),
    "maps": (pa.array([[("a", i)] for i in range(ROWS)], pa.map_(pa.string(), pa.int64())), None),
    "list views": (pa.array([[i] for i in range(ROWS)], pa.list_view(pa.int64())), None),
    "structs of long decimals": (pa.array([{"a": Decimal(1)}] * ROWS, pa.struct([("a", pa.decimal256(60, 0))])), None),
    "lists": (pa.array([[i] for i in range(ROWS)]), pa.list_(pa.int64())),
}


def write(path, **columns):
    plain = {
        "account": [f"a{i % 4}" for i in range(ROWS)],
        "when": pa.array(np.arange(ROWS) * 10**9, pa.timestamp("us")),
        "amount": np.arange(ROWS) * 1.5,
        "fraud": [i % 2 for i in range(ROWS)],
    }
    pq.write_table(pa.table(plain | columns), path)
    return path


@pytest.fixture
def said(monkeypatch):
    heard = []
    monkeypatch.setattr(logger, "warning_once", heard.append)
    return heard


@pytest.mark.parametrize("name", ODD)
def test_a_table_is_read_and_a_column_that_cannot_be_is_named(tmp_path, said, name):
    odd, kind = ODD[name]
    path = write(tmp_path / "table.parquet", odd=odd)
    builder = Table(path, cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare()
    rows = builder.as_dataset(split="train")
    if kind is None:
        assert "odd" not in rows.column_names
        assert f"Not read: column 'odd' of {str(path)!r}" in said[0]
    else:
        assert rows.features.arrow_schema.field("odd").type == kind
        assert said == []


def test_uuids_are_text_and_long_decimals_numbers(tmp_path):
    path = write(tmp_path / "table.parquet", a=ODD["uuids"][0], b=ODD["long decimals"][0])
    builder = Table(path, cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare()
    rows = builder.as_dataset(split="train")
    assert rows[3]["a"] == str(uuid.UUID(int=3))
    assert rows[3]["b"] == float(10**50 + 3)


@pytest.mark.parametrize("name", ODD)
def test_such_a_column_beside_pictures_and_texts_stops_nothing(tmp_path, said, name):
    Image.new("RGB", (9, 9)).save(tmp_path / "1.jpg")
    labels = ["cat", "dog"] * (ROWS // 2)
    table = pa.table({"image": ["1.jpg"] * ROWS, "text": [f"text {i}" for i in range(ROWS)], "label": labels})
    pq.write_table(table.append_column("odd", ODD[name][0]), tmp_path / "rows.parquet")
    builder = ImageText(tmp_path / "rows.parquet", cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare()
    assert sum(map(len, builder.as_dataset().values())) == ROWS


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"account": pa.array([[i] for i in range(ROWS)])}, "single values in column 'account', which names"),
        ({"fraud": pa.array([[i] for i in range(ROWS)])}, "single values in the label column 'fraud'"),
        ({"when": pa.array([2**63 + i for i in range(ROWS)], pa.uint64())}, "times within 64 bits"),
        ({"a\0b": pa.array([1] * ROWS)}, "names without NUL characters"),
    ],
)
def test_columns_that_cannot_serve_are_refused_alike_on_one_machine_and_in_shards(tmp_path, changed, message):
    path = write(tmp_path / "table.parquet", **changed)
    keys = {"entity_columns": ["account"], "time_column": "when", "label_columns": ["fraud"]}
    with pytest.raises(ValueError, match=message):
        get_task("table", TableTask).prepare(TableDataArguments(task="table", data=str(path), **keys), tmp_path / "one")
    with pytest.raises(ValueError, match=message):
        prepare_table(path, tmp_path / "shards", **keys)


@pytest.mark.parametrize("name", ["#row", "#time", "#shard", "#rest", "#split", "#label", "#start", "#code"])
def test_shards_refuse_a_column_called_as_one_of_their_own(tmp_path, name):
    path = write(tmp_path / "table.parquet", **{name: pa.array(["x", "y"] * (ROWS // 2))})
    keys = {"entity_columns": ["account"], "time_column": "when", "label_columns": ["fraud"]}
    with pytest.raises(ValueError, match=f"than shards have themselves.*found {name}. Rename the column"):
        prepare_table(path, tmp_path / "shards", **keys)


def test_durations_name_histories_in_shards_as_on_one_machine(tmp_path):
    path = write(tmp_path / "table.parquet", account=pa.array([i % 4 for i in range(ROWS)], pa.duration("s")))
    keys = {"entity_columns": ["account"], "time_column": "when", "label_columns": ["fraud"]}
    arguments = TableDataArguments(task="table", data=str(path), **keys)
    one = get_task("table", TableTask).prepare(arguments, tmp_path / "one")
    prepare_table(path, tmp_path / "shards", shards=3, **keys)
    shards = ShardedRows(tmp_path / "shards")
    assert shards.processor_fingerprint == one.processor.fingerprint
    assert len(shards.entity_names) == len(one.rows.entity_names) == 4

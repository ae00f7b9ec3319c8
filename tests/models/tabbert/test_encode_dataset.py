"""A dataset of rows to a dataset of ids: the same ids whatever the batching."""

import logging

import datasets
import polars as pl
import pyarrow as pa
import pytest

from hf_mmtab import TabBertProcessor

PLAN = {"entity": "who", "time": "when", "fields": {"shop": {}, "gap": {"kind": "time_gap"}}}


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    frame = pl.DataFrame({"who": [1, 2] * 10, "shop": list("abcde") * 4, "hour": range(20)})
    return frame.with_columns(when=pl.datetime(2024, 1, 1) + pl.duration(hours=pl.col("hour") ** 2)).drop("hour")


@pytest.mark.parametrize("batch_size", [1, 3, 7, 1000])
def test_ids_do_not_depend_on_the_size_of_a_batch(rows, batch_size):
    processor = TabBertProcessor(PLAN).fit(rows)
    whole = processor.encode(rows).to_pydict()
    encoded = processor.encode_dataset(datasets.Dataset.from_polars(rows), batch_size)
    assert encoded.column_names == processor.fields and encoded[:] == whole
    assert processor.encode(rows.lazy()).to_pydict() == whole


def test_encoding_by_map_is_told_where_gaps_may_be_lost(rows, monkeypatch):
    processor = TabBertProcessor(PLAN).fit(rows)
    dataset = datasets.Dataset.from_polars(rows)
    said = []
    logger = logging.getLogger("hf_mmtab.models.tabbert.processing_tabbert")
    monkeypatch.setattr(logger, "warning_once", said.append, raising=False)
    mapped = dataset.map(lambda batch: processor.encode(batch).to_pydict(), batched=True, batch_size=1000)
    assert mapped["gap"][:] == processor.encode_dataset(dataset)["gap"][:] and "encode_dataset" in said[0]
    without = TabBertProcessor({"entity": "who", "fields": {"shop": {}}}).fit(rows)
    said.clear()
    dataset.map(lambda batch: without.encode(batch).to_pydict(), batched=True)
    assert said == []


def test_each_split_of_a_dict_is_a_table_of_its_own(rows):
    processor = TabBertProcessor(PLAN).fit(rows)
    whole = datasets.Dataset.from_polars(rows)
    splits = datasets.DatasetDict(train=whole.select(range(9)), test=whole.select(range(9, 20)))
    encoded = processor.encode_dataset(splits, batch_size=7)
    assert isinstance(encoded, datasets.DatasetDict)
    for name, split in splits.items():
        assert encoded[name].to_dict() == processor.encode(split).to_pydict()
    assert processor.encode_dataset(datasets.DatasetDict()) == {}


@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: datasets.IterableDatasetDict(train=one)])
def test_a_stream_is_told_the_way_that_works(wrap, rows):
    processor = TabBertProcessor(PLAN).fit(rows)
    stream = datasets.Dataset.from_polars(rows).to_iterable_dataset()
    with pytest.raises(TypeError, match=r"found Iterable.*encode_batches\(dataset\.with_format"):
        processor.encode_dataset(wrap(stream))
    batches = processor.encode_batches(stream.with_format("arrow").iter(7))
    assert pa.concat_tables(batches).to_pydict() == processor.encode(rows).to_pydict()


@pytest.mark.parametrize("table", [[{"who": 1}], {"who": [1]}, pa.table({"who": [1]}), None])
def test_other_rows_are_told_their_way(table):
    with pytest.raises(TypeError, match=r"Expected a datasets\.Dataset or DatasetDict, found"):
        TabBertProcessor(PLAN).encode_dataset(table)

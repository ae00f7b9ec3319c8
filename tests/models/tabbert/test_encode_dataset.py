"""A dataset of rows to a dataset of ids: the same ids whatever the batching."""

import logging

import datasets
import polars as pl
import pytest

from hf_mmtab import TabBertProcessor

PLAN = {
    "entity": "who",
    "time": "when",
    "fields": {"shop": {}, "gap": {"kind": "time_gap"}},
}


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    frame = pl.DataFrame({"who": [1, 2] * 10, "shop": list("abcde") * 4, "hour": range(20)})
    return frame.with_columns(when=pl.datetime(2024, 1, 1) + pl.duration(hours=pl.col("hour") ** 2)).drop(
        "hour"
    )


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

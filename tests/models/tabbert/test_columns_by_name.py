"""Columns are found by their names in whatever order they stand; ids in another column's place are refused."""

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from hf_mmtab.data.windows.encoded_rows import EncodedRows
from hf_mmtab.models.tabbert import TabBertCollator, TabBertConfig, TabBertModel, TabBertProcessor

ROWS = {"amount": [1.0, 2.0, 3.0, 4.0], "fee": [4.0, 3.0, 2.0, 1.0], "shop": ["a", "b"] * 2, "place": ["b", "a"] * 2}
SWAPPED = {name: ROWS[name] for name in reversed(ROWS)}
NUMBER = {"kind": "numeric", "num_bins": 4}
PLAN = {"fields": {"amount": NUMBER, "fee": NUMBER, "shop": {}, "place": {}}}


@pytest.fixture(scope="module")
def processor() -> TabBertProcessor:
    return TabBertProcessor(PLAN).fit(ROWS)


@pytest.mark.parametrize("kind", [dict, pl.DataFrame, pd.DataFrame, pa.table, datasets.Dataset.from_dict, list])
def test_the_order_of_columns_changes_nothing(processor, kind):
    rows = [dict(zip(SWAPPED, cells, strict=True)) for cells in zip(*SWAPPED.values(), strict=True)]
    swapped = rows if kind is list else kind(SWAPPED)
    expected = processor.encode(ROWS)
    assert processor.encode(swapped).equals(expected)
    assert (processor(swapped)["input_ids"] == processor(ROWS)["input_ids"]).all()
    assert processor.decode(expected.select(list(SWAPPED))).equals(processor.decode(expected))
    assert TabBertProcessor(PLAN).fit(swapped).fingerprint == processor.fingerprint


def test_ids_in_the_place_of_another_column_are_refused(processor):
    config = TabBertConfig(
        **processor.config_kwargs(),
        field_hidden_size=8, field_num_heads=2, hidden_size=16, num_attention_heads=2, num_hidden_layers=1,
    )  # fmt: skip
    ids, model = np.array(processor(ROWS)["input_ids"]), TabBertModel(config).eval()
    swapped, collate = ids[..., [1, 0, 2, 3]], TabBertCollator(processor)
    message = (
        r"Expected ids from \d+ to \d+ in column 0 of input_ids, 'amount', or special ones, found \d+, which 'fee'"
    )
    with pytest.raises(ValueError, match=message):
        model(input_ids=torch.tensor(swapped))
    with pytest.raises(ValueError, match=message):
        collate([{"input_ids": swapped[0]}])
    ids[0, 0, 0] = ids[0, 0, 1]  # as a random cell of the original's masking
    ids[0, :, 3] = processor.mask_token_id
    model(**collate([{"input_ids": ids[0]}]))


def test_encoded_rows_are_written_by_the_names_of_their_columns(processor, tmp_path):
    ranges, rows = dict(zip(processor.fields, processor.field_ranges, strict=True)), np.arange(4)
    table = processor.encode(ROWS).select(list(SWAPPED))
    one, facts = np.zeros(4, dtype=np.int64), {"fingerprint": "", "processor_fingerprint": "", "split": {}}
    found = EncodedRows.write(tmp_path / "rows", [table], ranges, one, rows, one, pl.DataFrame(), None, [], None, facts)
    assert (found.take(rows) == processor(ROWS)["input_ids"][0]).all()

"""A table's own columns that are called like those that a command writes stand beside them."""

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from running import command
from untrained_heads import save_pooled

from hf_mmtab import TabBertProcessor
from hf_mmtab.commands.drift import main as drift
from hf_mmtab.locking import draft_folder


def saved(folder, entity, time):
    """Return a head without training and the table that its processor was fitted on."""
    rng = np.random.default_rng(0)
    moments = np.datetime64("2024-03-01", "us") + rng.permutation(40) * np.timedelta64(1, "h")
    table = pl.DataFrame({entity: [f"w{i % 4}" for i in range(40)], time: moments, "amount": rng.normal(size=40)})
    plan = {"entity": entity, "time": time, "label": "odd", "fields": {"amount": {"kind": "numeric", "num_bins": 4}}}
    processor = TabBertProcessor(plan).fit(table)
    save_pooled(folder / "model", processor)
    table.write_parquet(folder / "new.parquet")
    return folder / "model", table


@pytest.mark.parametrize(
    ("entity", "time"), [("row", "at"), ("prediction", "at"), ("probability_LABEL_1", "row"), ("who", "embedding")]
)
def test_keys_that_are_called_like_scores_stay(entity, time, tmp_path):
    checkpoint, table = saved(tmp_path, entity, time)
    command("predict", checkpoint, tmp_path / "new.parquet", tmp_path / "scores.parquet")
    command("embed", checkpoint, tmp_path / "new.parquet", tmp_path / "vectors.parquet")
    for name in ("scores", "vectors"):
        found = pq.read_table(tmp_path / f"{name}.parquet")
        rows = found["row"].to_numpy()
        assert sorted(rows) == [*range(40)]
        for own in (entity, time):
            free = own if f"input_{own}" not in found.column_names else f"input_{own}"
            assert found[free].to_pylist() == table[own][rows.tolist()].to_list()
    assert len(pq.read_schema(tmp_path / "scores.parquet").names) == 6  # keys, number, decision and two probabilities


def test_one_process_at_a_time_writes_a_page_of_drift(tmp_path):
    checkpoint, _ = saved(tmp_path, "who", "at")
    with draft_folder(tmp_path / "page.html"), pytest.raises(BlockingIOError, match="for this run alone"):
        drift([str(checkpoint), str(tmp_path / "new.parquet"), str(tmp_path / "page.html")])

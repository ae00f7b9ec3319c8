"""Tables of thousands of columns: seconds, and one sentence for all columns that share a fate."""

import logging
import time

import numpy as np
import polars as pl
import pytest

from hf_mmtab.arguments import TableDataArguments
from hf_mmtab.data.table import Table
from hf_mmtab.models.tabbert.processing.plan_guess import infer_plan
from hf_mmtab.tasks.table import TableTask

COLUMNS = 4000


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["numbers", "texts"])
def test_a_guessed_plan_of_thousands_of_columns_takes_seconds(kind, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(logging.getLogger("hf_mmtab"), "propagate", True)
    rng, rows = np.random.default_rng(0), 60
    values = [1, 2, 3] if kind == "numbers" else ["a", "b", "c"]
    columns = {f"c{i}": values[:1] * rows if i % 2 else rng.choice(values, rows) for i in range(COLUMNS)}
    when = [f"2024-01-01 10:{i:02d}:00" for i in range(rows)]
    pl.DataFrame({"who": ["a", "b"] * (rows // 2), "when": when, **columns}).write_csv(tmp_path / "t.csv")
    arguments = TableDataArguments(
        task="table", data=str(tmp_path / "t.csv"), entity_columns=["who"], time_column="when"
    )
    started = time.process_time()
    prepared = TableTask("table", Table).prepare(arguments, tmp_path / "run")
    assert time.process_time() - started < 30  # 5 s on a free core; quadratic steps took minutes
    assert len(prepared.rows.fields) == COLUMNS // 2 + 1
    told = sorted({one for one in caplog.messages if "hold the same value" in one})
    assert len(told) == 1 and f"columns 'c1', 'c3', 'c5', 'c7', 'c9' and {COLUMNS // 2 - 5:,} more" in told[0]


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (["x"] * 300, "all rows of the sample hold the same value"),
        ([None] * 300, "no row of the sample has a value"),
        ([f"id {i}" for i in range(300)], "every row has a new value"),
        ([[i] for i in range(300)], "no field can read List(Int64)"),
    ],
)
def test_columns_without_a_field_are_named_in_one_sentence(cells, reason, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("hf_mmtab"), "propagate", True)
    kind = pl.String if cells[0] is None else None
    many = {f"c{i}": pl.Series(cells, dtype=kind) for i in range(20)}
    infer_plan(pl.DataFrame({"shop": ["a", "b"] * 150, **many}))
    assert set(caplog.messages) == {
        f"Left out of the plan, since {reason}: columns 'c0', 'c1', 'c2', 'c3', 'c4' and 15 more."
    }

"""Heads on tables that were never trained: what they say of rows is as good as any, and the same everywhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from hf_mmtab.arguments import TableDataArguments
from hf_mmtab.models.tabbert import (
    TabBertConfig,
    TabBertPooledForSequenceClassification,
    TabBertRawLstmForSequenceClassification,
)
from hf_mmtab.tasks import TableTask, get_task

SIZES = {"field_hidden_size": 8, "field_num_heads": 1, "lstm_hidden_size": 8, "seq_len": 6}
EVERY = {"window_label": "every", "label_level": "row", "problem_type": "single_label_classification"}


def untrained_head(folder: Path, data: TableDataArguments, **settings: Any) -> str:
    """Save a head on raw cells with the processor of a table, and return where."""
    processor = get_task(data.task, TableTask).prepare(data, folder / "run").processor
    torch.manual_seed(0)
    config = TabBertConfig(**processor.config_kwargs(), **{**SIZES, **EVERY, **settings})
    model = TabBertRawLstmForSequenceClassification(config)
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.5)
    for saved in (model, processor):
        saved.save_pretrained(folder / "model")
    return str(folder / "model")


def save_pooled(folder: Path, processor: Any) -> None:
    """Save a linear head on a small encoder, and the processor."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16}
    config = TabBertConfig(**processor.config_kwargs(), **sizes, field_hidden_size=8, field_num_heads=2, seq_len=8)
    config.problem_type = "single_label_classification"
    for saved in (TabBertPooledForSequenceClassification(config), processor):
        saved.save_pretrained(folder)


def expect_same_scores(found: Path, expected: Path, column: str = "probability_LABEL_1") -> None:
    """Check that two outputs of `predict` or `embed` say the same of each row, whatever the order of the rows."""
    ours, theirs = (pq.read_table(path).sort_by("row") for path in (found, expected))
    assert ours.schema.equals(theirs.schema)
    for name in ours.column_names:
        if not name.startswith(("probability", "embedding")):
            assert ours[name].equals(theirs[name]), name
    found, wanted = (np.array(table[column].to_pylist()) for table in (ours, theirs))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    assert found.std() > 0.01

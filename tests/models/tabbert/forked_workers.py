"""Call a processor in forked workers after its engines have run in the parent: run by `test_forked_workers.py`.

Usage: python forked_workers.py PROCESSOR ROWS.arrow FOLDER
"""

import sys

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.feather as feather
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import pipeline

from hf_mmtab.models.tabbert import TabBertConfig, TabBertLstmForSequenceClassification, TabBertProcessor


class Histories(IterableDataset):
    """Each worker encodes its share of the histories."""

    def __init__(self, processor, histories):
        self.processor, self.histories = processor, histories

    def __iter__(self):
        worker = get_worker_info()
        for number in range(worker.id, len(self.histories), worker.num_workers):
            yield number, self.processor(self.histories[number], return_tensors="np")["input_ids"]


def start_threads(processor, rows):
    """Use every engine in the parent, as fitting does: a fork leaves their threads behind."""
    pl.concat([pl.from_arrow(rows)] * 50).group_by("who").agg(pl.len()).sort("who")
    pa.concat_tables([rows] * 50).to_pandas()
    TabBertProcessor(processor.plan).fit(rows)


def main():
    """Compare the ids of forked workers with those of the parent, in every form that a table may have."""
    processor, rows = TabBertProcessor.from_pretrained(sys.argv[1]), feather.read_table(sys.argv[2])
    start_threads(processor, rows)
    histories = [rows.filter(pa.compute.equal(rows["who"], who)) for who in rows["who"].unique()]
    expected = [processor(one, return_tensors="np")["input_ids"] for one in histories]
    pieces = [[one.slice(i, 3) for i in range(0, one.num_rows, 3)] for one in histories]
    forms = {
        "pyarrow": histories,
        "polars in many chunks": [pl.concat([pl.from_arrow(t) for t in p], rechunk=False) for p in pieces],
        "dict of lists": [one.to_pydict() for one in histories],
    }
    for form, tables in forms.items():
        loader = DataLoader(
            Histories(processor, tables), batch_size=None, num_workers=2, multiprocessing_context="fork"
        )
        ids = dict(iter(loader))
        assert sorted(ids) == list(range(len(histories))), form
        for number, array in ids.items():
            assert np.array_equal(array, expected[number]), (form, number)

    torch.manual_seed(0)
    sizes = {"field_hidden_size": 8, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = TabBertConfig(**processor.config_kwargs(), **sizes, head_hidden_size=8, num_labels=2)
    for part in (TabBertLstmForSequenceClassification(config), processor):
        part.save_pretrained(sys.argv[3])
    score = pipeline("tabular-sequence-classification", model=sys.argv[3], device="cpu")
    tables = forms["polars in many chunks"]
    answers = list(score(tables, num_workers=1))
    assert [one["label"] for one in answers] == [score(one)["label"] for one in tables]
    assert len(answers) == len(histories)


if __name__ == "__main__":
    main()

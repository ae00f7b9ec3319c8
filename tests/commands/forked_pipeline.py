"""Judge histories in a worker that was forked after the engines ran: run by `test_boosted_and_fusion.py`.

Usage: python forked_pipeline.py TABLE.csv RUN ...
"""

import gc
import sys

gc.disable()  # what the imports make stays

import polars as pl  # noqa: E402
from transformers import pipeline  # noqa: E402

import hf_mmtab  # noqa: E402, F401

gc.freeze()
gc.enable()


def main(path, *runs):
    """Compare the answers of a forked worker with those of the parent, in every form that a history may have."""
    table = pl.read_csv(path, try_parse_dates=True)
    histories = [
        history.sort("when") for _, history in table.group_by("who", "card", maintain_order=True)
    ]  # the threads of polars run, and a fork leaves them behind
    for run in runs:
        compare(pipeline("tabular-sequence-classification", model=run, device="cpu"), histories)


def compare(score, histories):
    expected = [score(one) for one in histories[:6]]
    for convert in (pl.DataFrame.clone, pl.DataFrame.to_arrow, lambda one: one.to_dict(as_series=False)):
        assert list(score([convert(one) for one in histories[:6]], num_workers=1)) == expected
    try:
        list(score([one.lazy() for one in histories[:6]], num_workers=1))
    except ValueError as error:
        assert "LazyFrame.collect()" in str(error), error
    else:
        raise AssertionError("a lazy frame was collected without threads")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Latency of one example: the pipeline on torch beside the exported model on onnxruntime, in float32 and int8.

    python scripts/benchmark.py serving CHECKPOINT INPUT.parquet --entity account

INPUT holds new examples: columns `image` and `text`, or the rows of a table, whose histories `--entity` tells apart.
One process and one thread for each; other work on the machine makes the 99th percentile slow. Prints a Markdown table.
"""

import argparse
import itertools
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from transformers import pipeline

from hf_mmtab.exporting import export_checkpoint
from hf_mmtab.pipelines import IMAGE_TEXT_TASK, TABULAR_TASK
from hf_mmtab.serving import Predictor
from hf_mmtab.tasks.checkpoints import is_table_checkpoint


def main(arguments: Sequence[str]) -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(prog="benchmark.py serving", description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("input", help="Parquet file of new examples")
    parser.add_argument("--entity", help="column that tells the histories of a table apart")
    parser.add_argument("--rows", type=int, default=50, help="of a history; default: 50")
    parser.add_argument("--calls", type=int, default=200, help="default: 200")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    tables = is_table_checkpoint(options.checkpoint)
    frame = pl.read_parquet(options.input)
    if tables:
        examples: list[Any] = [one.head(options.rows) for one in frame.partition_by(options.entity)]
    else:
        examples = frame.select("image", "text").to_dicts()
    task: Any = TABULAR_TASK if tables else IMAGE_TEXT_TASK  # transformers types the names of its own alone
    judge = pipeline(task, model=options.checkpoint, device="cpu")
    print(f"{platform.processor() or platform.machine()}, one thread, {options.calls} calls")
    print("| | p50 | p99 |\n|---|---|---|")
    report("torch, pipeline", judge, examples, options.calls)
    with tempfile.TemporaryDirectory() as made:
        for name, int8 in (("onnxruntime", False), ("onnxruntime, int8", True)):
            export_checkpoint(options.checkpoint, Path(made) / name, int8)
            served = Predictor(Path(made) / name, threads=1)
            report(name, served, examples, options.calls)
            scores = [(judge(one, top_k=None), served(one, top_k=None)) for one in examples[:50]]
            print(f"|  largest difference of a score on {len(scores)} examples | {largest(scores):.1e} | |")


def report(name: str, judge: Callable[[Any], Any], examples: list[Any], calls: int) -> None:
    """Print a row of the table, in milliseconds."""
    times = []
    for number, example in enumerate(itertools.islice(itertools.cycle(examples), calls + 5)):
        start = time.perf_counter()
        judge(example)
        if number >= 5:  # the first are slower
            times.append((time.perf_counter() - start) * 1e3)
    print(f"| {name} | {np.percentile(times, 50):.1f} ms | {np.percentile(times, 99):.1f} ms |")


def largest(scores: list[tuple[list[dict], list[dict]]]) -> float:
    """Return the largest difference of a label's score."""
    pairs = [({s["label"]: s["score"] for s in one}, {s["label"]: s["score"] for s in two}) for one, two in scores]
    return max(abs(one[label] - two[label]) for one, two in pairs for label in one)

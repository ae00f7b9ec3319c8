"""The benchmark of label shares: which runs it asks for, its table and its picture; and, slowly, the whole of it."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars
import pytest
from PIL import Image

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("tabular_labels", SCRIPTS / "benchmarks" / "tabular_labels.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def results(test, validation=0.5):
    return {"metrics": {"test": {"average_precision": test}, "validation": {"average_precision": validation}}}


def test_table_and_picture_have_mean_spread_and_gaps(benchmark, tmp_path):
    found = {(model, share): [results(0.25), results(0.75)] for model in benchmark.MODELS for share in (0.1, 1.0)}
    found["boosted", 0.1] = []
    lines = benchmark.table_of(found, [0.1, 1.0]).splitlines()
    assert lines[2] == "| 10% | 0.500 ± 0.354 (0.500) | 0.500 ± 0.354 (0.500) | – |"
    benchmark.draw(found, [0.1, 1.0], "payments", tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").convert("L").getextrema() != (255, 255)


@pytest.mark.slow
def test_three_models_learn_from_two_shares_and_are_not_trained_twice(tmp_path):
    rng = np.random.default_rng(0)
    when = polars.datetime_range(polars.datetime(2024, 1, 1), polars.datetime(2024, 3, 1), "1h", eager=True)
    table = polars.DataFrame({"when": when, "who": rng.integers(0, 60, len(when)), "x": rng.integers(0, 9, len(when))})
    table.with_columns(bad=polars.col("x") > 7).write_csv(tmp_path / "t.csv", datetime_format="%Y-%m-%d %H:%M")
    common = f"task: table\ndata: {tmp_path / 't.csv'}\nseq_len: 8\nreport_to: none\nnum_train_epochs: 1\n"
    (tmp_path / "pre.yaml").write_text(
        f"{common}output_dir: {tmp_path / 'pre'}\nnext_row: true\nhidden_size: 16\nnum_hidden_layers: 1\n"
        "num_attention_heads: 2\nintermediate_size: 16\nfield_hidden_size: 8\nfield_num_heads: 2\n"
        "plan: {entity: who, time: when, label: bad, fields: {x: {kind: numeric}}}\n"
    )
    (tmp_path / "fine.yaml").write_text(f"{common}output_dir: {tmp_path / 'no'}\nwindow_label: every\n")
    pretrain = [sys.executable, "-m", "hf_mmtab", "pretrain", str(tmp_path / "pre.yaml")]
    subprocess.run(pretrain, check=True, capture_output=True, timeout=600)
    command = [sys.executable, str(SCRIPTS / "benchmark.py"), "tabular-labels", str(tmp_path / "fine.yaml")]
    command += ["--pretrained", str(tmp_path / "pre"), "--out", str(tmp_path / "out"), "--shares", "0.3", "1"]
    command += ["--row_inputs", "surprise"]
    first = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert first.returncode == 0, first.stderr[-3000:]
    assert [line.split("|")[1].strip() for line in first.stdout.splitlines()[2:]] == ["30%", "100%"]
    shown = json.loads((tmp_path / "out" / "boosted_1_1" / "results.json").read_text())["metrics"]["test"]
    assert f"{shown['average_precision']:.3f}" in first.stdout.splitlines()[-1]
    before = (tmp_path / "out" / "raw_lstm_1_1" / "results.json").stat().st_mtime_ns
    again = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert again.stdout == first.stdout
    assert (tmp_path / "out" / "raw_lstm_1_1" / "results.json").stat().st_mtime_ns == before

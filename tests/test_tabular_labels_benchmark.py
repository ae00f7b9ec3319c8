"""The benchmark of label shares: which runs it asks for, its table and its picture; and, slowly, the whole of it."""

import importlib.util
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import polars
import pytest
from PIL import Image

from hf_mmtab.commands import pretrain

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
def test_three_models_learn_from_two_shares_and_are_not_trained_twice(tmp_path, monkeypatch, capsys):
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
    (tmp_path / "fine.yaml").write_text(f"{common}output_dir: {tmp_path / 'no'}\nwindow_label: every\nbootstrap: 20\n")
    pretrain.main([str(tmp_path / "pre.yaml")])
    capsys.readouterr()
    arguments = ["tabular-labels", str(tmp_path / "fine.yaml"), "--pretrained", str(tmp_path / "pre")]
    arguments += ["--out", str(tmp_path / "out"), "--shares", "0.3", "1", "--row_inputs", "surprise"]
    arguments += ["--reasons", "false"]
    monkeypatch.setattr(sys, "path", [*sys.path])  # the script adds its own folder
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments])
    script = runpy.run_path(str(SCRIPTS / "benchmark.py"))
    script["main"]()
    first = capsys.readouterr().out
    assert [line.split("|")[1].strip() for line in first.splitlines()[2:]] == ["30%", "100%"]
    shown = json.loads((tmp_path / "out" / "boosted_1_1" / "results.json").read_text())["metrics"]["test"]
    assert f"{shown['average_precision']:.3f}" in first.splitlines()[-1]
    before = (tmp_path / "out" / "raw_lstm_1_1" / "results.json").stat().st_mtime_ns
    script["main"]()
    assert capsys.readouterr().out == first
    assert (tmp_path / "out" / "raw_lstm_1_1" / "results.json").stat().st_mtime_ns == before

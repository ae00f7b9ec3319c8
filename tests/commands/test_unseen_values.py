"""Every command that reads new rows names the fields whose values training never had, with their share, once."""

import logging
import shutil
from importlib import import_module
from pathlib import Path

import pytest
from transformers import pipeline

import hf_mmtab  # noqa: F401  (registers the pipeline)
from hf_mmtab.commands.console import start_logging

COMMANDS = {
    "predict": ["{model}", "{data}", "out.csv"],
    "predict --state": ["{model}", "{data}", "out.csv", "--state", "state"],
    "embed": ["{model}", "{data}", "out.parquet"],
    "drift": ["{model}", "{data}", "out.html"],
    "eval_checkpoint": ["{model}", "{data}", "--out", "judged", "--split", "all", "--no_reasons", "--bootstrap", "0"],
}


@pytest.fixture
def place(tmp_path, fixtures, monkeypatch) -> Path:
    """A folder with a model and a table of which a third of the shops are new."""
    shutil.copytree(fixtures / "runs_0_1" / "lstm", tmp_path / "model")
    lines = (fixtures / "runs_0_1" / "payments.csv").read_text().splitlines()
    cells = [line.split(",") for line in lines]
    column = cells[0].index("shop")
    for row in cells[1::3]:
        row[column] = "nowhere"
    (tmp_path / "new.csv").write_text("\n".join(map(",".join, cells)) + "\n")
    (tmp_path / "old.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told_by(caplog) -> list[str]:
    return [one.getMessage() for one in caplog.records if "training never had" in one.getMessage()]


@pytest.fixture
def heard(caplog, monkeypatch):
    start_logging()  # the first call of a process takes the package's lines away from the root
    monkeypatch.setattr(logging.getLogger("hf_mmtab"), "propagate", True)
    caplog.set_level(logging.WARNING)
    return caplog


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_names_fields_and_shares_once(place, heard, name):
    words = [word.format(model="model", data="new.csv") for word in COMMANDS[name]]
    import_module(f"hf_mmtab.commands.{name.split()[0]}").main(words)
    (told,) = told_by(heard)
    assert "shop 33." in told and "(training 0.0%)" in told


@pytest.mark.parametrize("name", ["predict", "embed", "drift"])
def test_known_values_are_passed_over_in_silence(place, heard, name):
    words = [word.format(model="model", data="old.csv") for word in COMMANDS[name]]
    import_module(f"hf_mmtab.commands.{name}").main(words)
    assert not told_by(heard)


def test_beside_kept_rows_the_share_is_that_of_the_new_ones(place, heard):
    lines = Path("new.csv").read_text().splitlines()
    known = [line for line in lines[1:] if ",nowhere," not in line]
    Path("first.csv").write_text("\n".join([lines[0], *known[:-20]]) + "\n")
    new = [line.replace("2024-01", "2024-03") for line in lines[1:] if ",nowhere," in line]
    Path("then.csv").write_text("\n".join([lines[0], *new]) + "\n")
    for data in ("first.csv", "then.csv"):
        import_module("hf_mmtab.commands.predict").main(["model", data, f"{data}.out.csv", "--state", "state"])
    (told,) = told_by(heard)
    assert "shop 100.0% (training 0.0%)" in told


def test_a_pipeline_names_them_too(place, heard):
    import polars as pl

    table = pl.read_csv("new.csv", try_parse_dates=True)
    score = pipeline("tabular-sequence-classification", model="model")
    for history in table.partition_by(score.processor.plan.entity[0])[:3]:
        score(history.sort(score.processor.plan.time))
    (told,) = told_by(heard)
    assert "shop" in told

"""A run that is killed at any write ends, by the same command, as one that nothing happened to."""

import json
import os
from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml
from killed_writes import Disk
from running import Killed
from safetensors.torch import load_file

STEP = int(os.environ.get("HF_MMTAB_KILL_STEP", "1"))  # of the writes of a run, every how many-th is tried
DISK = Disk()
SAME = ("*.parquet", "config.json", "*processor*.json", "tabbert_values.json", "column_plan.yaml")


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != ".hf_mmtab.lock.owner"}


def assert_same(run: Path, whole: Path) -> None:
    assert files_of(run) == files_of(whole)
    for pattern in SAME:
        for path in sorted(whole.rglob(pattern)):
            assert (run / path.relative_to(whole)).read_bytes() == path.read_bytes(), path.relative_to(whole)
    for path in whole.rglob("*.safetensors"):
        ours, theirs = load_file(run / path.relative_to(whole)), load_file(path)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours), path
    mine, theirs = (json.loads((folder / "results.json").read_text()) for folder in (run, whole))
    for unlike in ("minutes", "training_minutes", "summary"):
        del mine[unlike], theirs[unlike]
    mine["notes"] = [note for note in mine["notes"] if not note.startswith("The run went on from checkpoint-")]
    assert mine == theirs


@pytest.fixture
def commands(tmp_path, recipe, fixtures):
    """Kind of run → the function that starts it in a folder."""
    values = yaml.safe_load(recipe.read_text()) | {"num_train_epochs": 1, "bootstrap": 0}
    recipe.write_text(yaml.safe_dump(values))
    table = yaml.safe_load((fixtures / "runs_0_1" / "pretrain.yaml").read_text())
    table |= {"data": str(fixtures / "runs_0_1" / "payments.csv"), "num_train_epochs": 1}
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(table))
    started = {"finetune": str(recipe), "pretrain": str(tmp_path / "table.yaml")}

    def start(kind: str, folder: Path, *more: str) -> None:
        command = import_module(f"hf_mmtab.commands.{kind}")
        command.main([started[kind], "--output_dir", str(folder), "--disable_tqdm", "true", *more])

    return start


def kill_and_finish(start, kind: str, tmp_path: Path, choose) -> None:
    whole = tmp_path / "whole"
    with DISK.watched(whole) as writes:
        start(kind, whole)
    told = list(writes)
    for number in choose(told):
        run = tmp_path / f"killed-{number}"
        with DISK.watched(run, number), pytest.raises(Killed):
            start(kind, run)
        start(kind, run)
        assert_same(run, whole)


def last_writes(told: list[str]) -> list[int]:
    """One write inside a checkpoint, one inside the report, and the last one, which marks the run as finished."""
    checkpoint = next(i for i, one in enumerate(told) if "trainer_state.json" in one)
    page = next(i for i, one in enumerate(told) if one.startswith("open /report/.report.html"))
    results = [i for i, one in enumerate(told) if "results.json" in one]
    assert results[-1] >= len(told) - 4, told[-6:]  # the mark of the finished run is written last
    return [checkpoint, page + 1, results[-1]]


@pytest.mark.parametrize("kind", ["finetune", pytest.param("pretrain", marks=pytest.mark.slow)])
def test_a_kill_at_a_write_that_matters_is_finished_by_the_same_command(commands, tmp_path, kind):
    kill_and_finish(commands, kind, tmp_path, last_writes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["finetune", "pretrain"])
def test_a_kill_at_any_write_is_finished_by_the_same_command(commands, tmp_path, kind):
    kill_and_finish(commands, kind, tmp_path, lambda told: range(0, len(told), STEP))

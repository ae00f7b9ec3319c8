"""Runs written by version 0.1.0 (tests/fixtures/runs_0_1) are read, continued and judged as that version did.

Random tiny models, made-up data. `lstm-interrupted` and `mmbt-interrupted` were killed after their first checkpoint.
"""

import json

import pyarrow.parquet as pq
import pytest
import torch
from running import command
from safetensors.torch import load_file


@pytest.mark.parametrize(("name", "run"), [("finetune", "mmbt"), ("pretrain", "tabbert"), ("finetune", "lstm")])
def test_a_finished_run_is_read_and_not_trained_again(runs, name, run, capsys):
    before = (runs / run / "model.safetensors").read_bytes()
    command(name, f"{run}/recipe.yaml")
    assert (runs / run / "model.safetensors").read_bytes() == before
    assert json.loads((runs / run / "results.json").read_text())["summary"].strip() in capsys.readouterr().out


@pytest.mark.parametrize("run", ["mmbt", "lstm"])
def test_an_interrupted_run_ends_with_the_weights_and_scores_of_one_without_interruption(runs, run):
    command("finetune", f"{run}-interrupted/recipe.yaml")
    ours, reference = (load_file(runs / name / "model.safetensors") for name in (f"{run}-interrupted", run))
    assert ours.keys() == reference.keys()
    for name, tensor in reference.items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-6, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    new, old = (json.loads((runs / name / "results.json").read_text()) for name in (f"{run}-interrupted", run))
    for split, metrics in old["metrics"].items():
        for name, value in metrics.items():
            assert new["metrics"][split][name] == pytest.approx(value, abs=1e-6, nan_ok=True), (split, name)


@pytest.mark.parametrize(("run", "data"), [("mmbt", "pictures"), ("lstm", "payments.csv")])
def test_an_older_checkpoint_gives_the_scores_that_it_gave(runs, run, data):
    command("eval_checkpoint", run, data, "--split", "test", "--out", "judged", "--bootstrap", "0")
    new, old = (pq.read_table(runs / f / "predictions" / "test.parquet") for f in ("judged", run))
    assert new.num_rows == old.num_rows > 0
    scores = [name for name in old.column_names if name.startswith(("probability", "score"))]
    assert scores
    for name in scores:
        torch.testing.assert_close(
            torch.tensor(new[name].to_pylist()), torch.tensor(old[name].to_pylist()), atol=1e-6, rtol=1e-5
        )


def test_an_older_encoder_is_fine_tuned_and_gives_the_head_that_it_gave(runs):
    command("finetune", "lstm.yaml", "--output_dir", "again")
    ours, reference = (load_file(runs / name / "model.safetensors") for name in ("again", "lstm"))
    assert ours.keys() == reference.keys()
    for name, tensor in reference.items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-6, rtol=1e-5)

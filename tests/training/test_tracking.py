"""TensorBoard, W&B (offline) and MLflow for real: the audit's series, one run on resume, the report as an artefact."""

import json
import os

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import TrainerCallback

from hf_mmtab.training import MMTabTrainer, MMTabTrainingArguments
from hf_mmtab.training.tracking import TRACKING_FILE, send_report


class Rows(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, i):
        return {"x": torch.full((4,), float(i)), "labels": torch.tensor(float(i % 2))}


class Net(nn.Module):
    freezable_modules = {"body": "body"}

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x, labels=None):
        logits = self.head(self.body(x))[:, 0]
        return {"loss": ((logits - labels) ** 2).mean(), "logits": logits}


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step == self.step


def train(folder, tracker, stop, **more):
    arguments = MMTabTrainingArguments(
        str(folder), max_steps=6, save_steps=2, logging_steps=1, audit_steps=1, freeze={"body": "2 steps"},
        report_to=tracker, per_device_train_batch_size=4, disable_tqdm=True, show_freeze_report=False, use_cpu=True,
        learning_rate=0.01,
    )  # fmt: skip
    torch.manual_seed(0)
    MMTabTrainer(Net(), arguments, train_dataset=Rows(), callbacks=[StopAt(stop)]).train(**more)
    return json.loads((folder / TRACKING_FILE).read_text())


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    for name in ("WANDB_RUN_ID", "WANDB_RESUME", "MLFLOW_RUN_ID", "TENSORBOARD_LOGGING_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    yield
    for name in ("WANDB_RUN_ID", "WANDB_RESUME", "MLFLOW_RUN_ID", "TENSORBOARD_LOGGING_DIR"):
        os.environ.pop(name, None)


def page(folder):
    (folder / "report").mkdir()
    file = folder / "report" / "report.html"
    file.write_text("<html>worth it</html>")
    return file


def test_tensorboard_gets_the_audit_and_goes_on_after_a_resume(tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    first = train(tmp_path, "tensorboard", 4)
    second = train(tmp_path, "tensorboard", 6, resume_from_checkpoint=True)
    assert first == second
    send_report(tmp_path, page(tmp_path), ["tensorboard"])
    events = reading.EventAccumulator(first["tensorboard"])
    events.Reload()
    series = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    frozen = dict(series["train/audit/body/frozen"])
    assert [frozen[step] for step in range(1, 7)] == [1, 1, 0, 0, 0, 0]
    moved = dict(series["train/audit/body/relative_change"])
    assert moved[2] == 0 < moved[3]
    assert dict(series["train/audit/body/gradient_norm"])[4] > 0
    assert "report/text_summary" in events.Tags()["tensors"]


@pytest.mark.slow
def test_mlflow_gets_the_audit_one_run_and_the_report(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    first = train(tmp_path, "mlflow", 4)
    second = train(tmp_path, "mlflow", 6, resume_from_checkpoint=True)
    assert first == second
    send_report(tmp_path, page(tmp_path), ["mlflow"])
    client = mlflow.MlflowClient()
    history = client.get_metric_history(first["mlflow"], "audit/body/frozen")
    assert {one.step: one.value for one in history} == {1: 1, 2: 1, 3: 0, 4: 0, 5: 0, 6: 0}
    assert [one.path for one in client.list_artifacts(first["mlflow"])] == ["report.html"]


@pytest.mark.slow
def test_wandb_gets_the_audit_one_run_and_the_report(tmp_path):
    wandb = pytest.importorskip("wandb")
    first = train(tmp_path, "wandb", 4)
    assert "train/audit/body/frozen" in dict(wandb.run.summary)
    wandb.finish()  # the process is killed
    second = train(tmp_path, "wandb", 6, resume_from_checkpoint=True)
    assert first == second == {"wandb": wandb.run.id}
    assert wandb.run.summary["train/audit/body/frozen"] == 0
    send_report(tmp_path, page(tmp_path), ["wandb"])
    assert wandb.run is None  # the next run of a comparison has one of its own
    third = train(tmp_path / "other", "wandb", 2)
    assert third != first
    wandb.finish()


@pytest.mark.slow
def test_a_new_training_in_the_same_folder_is_a_new_run(tmp_path):
    pytest.importorskip("mlflow")
    assert train(tmp_path, "mlflow", 2) != train(tmp_path, "mlflow", 2)


def test_a_tracker_that_fails_ends_no_run(tmp_path, caplog):
    (tmp_path / TRACKING_FILE).write_text('{"mlflow": "nix"}')
    pytest.importorskip("mlflow")
    send_report(tmp_path, page(tmp_path), ["mlflow", "none"])
    assert "mlflow did not take the report" in caplog.text


@pytest.mark.slow
def test_hyperparameters_are_searched_from_python_under_a_freeze_schedule(tmp_path):
    pytest.importorskip("optuna")
    arguments = MMTabTrainingArguments(
        str(tmp_path), max_steps=4, freeze={"body": "2 steps"}, report_to="none", per_device_train_batch_size=4,
        disable_tqdm=True, show_freeze_report=False, use_cpu=True, eval_strategy="steps", eval_steps=2,
        save_strategy="no",
    )  # fmt: skip
    rows = Rows()
    trainer = MMTabTrainer(None, arguments, model_init=lambda trial=None: Net(), train_dataset=rows, eval_dataset=rows)
    best = trainer.hyperparameter_search(
        lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)},
        n_trials=2, direction="minimize", backend="optuna",
    )  # fmt: skip
    assert 1e-4 <= best.hyperparameters["learning_rate"] <= 1e-1
    assert trainer.audit.position.statuses["body"].trains_since == 2  # in the last trial as in a run

"""Interrupted and resumed equals never interrupted, bit for bit, through thaw boundaries."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from run_toy import build, full_weights
from transformers import TrainerCallback

from hf_mmtab.training.audit.update_audit import read_records
from hf_mmtab.training.checkpoints import last_complete_checkpoint

SETTINGS = {
    "num_train_epochs": 4,
    "freeze": {"image_encoder": "1 epoch", "text_encoder": "20 steps"},
    "save_strategy": "steps",
    "save_steps": 4,
    "save_total_limit": 2,
    "gradient_accumulation_steps": 1,
    "weight_decay": 0.01,
}
MODEL = {"dropout": 0.1, "batch_norm": True}  # random numbers and statistics must continue too
WATCHING = {
    "eval_strategy": "epoch",
    "metric_for_best_model": "score",
    "greater_is_better": True,
    "load_best_model_at_end": False,
}
VARIANTS = {
    "linear": {"lr_scheduler_type": "linear", "warmup_steps": 3, "thaw_warmup": {"text_encoder": "5 steps"}},
    "plateau": {**WATCHING, "lr_scheduler_type": "reduce_lr_on_plateau", "warmup_steps": 3, "plateau_patience": 0},
    "bertadam": {"optim_preset": "bertadam", "warmup_steps": 0.1},
    "accumulation": {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2},
    "stopping": {**WATCHING, "early_stopping_patience": 2, "num_train_epochs": 8, "learning_rate": 1e-4},
    "cached": {"feature_cache": True, "freeze": {"image_encoder": "3 epochs"}, **WATCHING},
}


class Interrupt(TrainerCallback):
    def __init__(self, at):
        self.at = at

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if state.global_step == self.at:
            raise KeyboardInterrupt


def run(folder, variant, interrupt=None, resume=None):
    settings = {**SETTINGS, **VARIANTS[variant]}
    trainer = build({"folder": str(folder), "settings": settings, "model": MODEL})
    if interrupt is not None:
        trainer.add_callback(Interrupt(interrupt))
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def assert_same_run(first, second):
    one, other = full_weights(first), full_weights(second)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert first.state.global_step == second.state.global_step
    assert first.optimizer.param_groups[0]["lr"] == second.optimizer.param_groups[0]["lr"]
    records = [read_records(Path(trainer.args.output_dir) / "update_audit.jsonl") for trainer in (first, second)]
    assert records[0] == records[1]
    evaluations = [[e["eval_loss"] for e in t.state.log_history if "eval_loss" in e] for t in (first, second)]
    assert evaluations[0] == evaluations[1]


SLOW_VARIANTS = [pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS if name not in ("linear", "plateau")]


@pytest.mark.parametrize("variant", ["linear", "plateau", *SLOW_VARIANTS])
def test_resumed_run_equals_an_uninterrupted_one(tmp_path, variant):
    whole = run(tmp_path / "whole", variant)
    for step in (7, 17, 21):  # before a thaw, between the two, after the second inside an epoch
        folder = tmp_path / f"cut-{step}"
        with pytest.raises(KeyboardInterrupt):
            run(folder, variant, interrupt=step)
        assert_same_run(whole, run(folder, variant, resume=True))


def test_checkpoint_at_the_end_of_an_epoch_holds_its_evaluation(tmp_path):
    run(tmp_path, "plateau")
    checkpoint = last_complete_checkpoint(tmp_path)
    state = json.loads((Path(checkpoint) / "trainer_state.json").read_text())
    assert state["global_step"] == 32
    assert max(entry["step"] for entry in state["log_history"] if "eval_score" in entry) == 32


def test_early_stopping_continues_to_count(tmp_path):
    whole = run(tmp_path / "whole", "stopping")
    assert whole.state.global_step == 24  # best at the first evaluation, then two without improvement
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", "stopping", interrupt=18)
    assert run(tmp_path / "cut", "stopping", resume=True).state.global_step == 24


def test_run_that_early_stopping_ended_stays_ended_when_resumed(tmp_path):
    whole = run(tmp_path, "stopping")
    assert last_complete_checkpoint(tmp_path).endswith("checkpoint-24")
    records = read_records(tmp_path / "update_audit.jsonl")
    resumed = run(tmp_path, "stopping", resume=True)
    assert_same_run(whole, resumed)
    assert resumed.state.global_step == 24 and read_records(tmp_path / "update_audit.jsonl") == records


AT_THE_END = {
    "thaw at the last step": ("linear", {"freeze": {"image_encoder": "4 epochs", "text_encoder": "from 2 epochs"}}),
    "layers": ("linear", {"freeze": {}, "gradual_unfreezing": {"text_encoder": "32 steps"}}),
    "thaw where it stopped": ("stopping", {"freeze": {"image_encoder": "24 steps"}}),
}


@pytest.mark.parametrize("case", AT_THE_END)
def test_a_run_that_is_resumed_at_its_end_says_of_each_part_what_the_whole_run_said(tmp_path, case):
    variant, own = AT_THE_END[case]
    settings = {**SETTINGS, **VARIANTS[variant], **own}
    told = []
    for resume in (None, True):
        trainer = build({"folder": str(tmp_path), "settings": settings, "model": MODEL})
        trainer.train(resume_from_checkpoint=resume)
        told.append({part: trainer.audit.explain(part) for part in trainer.audit.parts})
    assert told[0] == told[1] and any("before its thaw" in text or "frozen again" in text for text in told[0].values())


def test_resuming_with_another_schedule_that_changes_the_optimizer_is_an_error(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "linear", interrupt=9)
    settings = {**SETTINGS, **VARIANTS["linear"], "freeze": {"image_encoder": "forever"}}
    trainer = build({"folder": str(tmp_path), "settings": settings, "model": MODEL})
    with pytest.raises(ValueError, match=r"was saved for other parts than this run trains.*'forever' may not come"):
        trainer.train(resume_from_checkpoint=True)


def test_resuming_with_another_moment_of_thaw_works(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "linear", interrupt=9)
    freeze = {"image_encoder": "1 epoch", "text_encoder": "3 epochs"}
    trainer = build({"folder": str(tmp_path), "settings": {**SETTINGS, "freeze": freeze}, "model": MODEL})
    trainer.train(resume_from_checkpoint=True)
    assert trainer.audit.position.statuses["text_encoder"].trains_since == 24


def test_nothing_to_resume_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="No complete checkpoint to resume from"):
        run(tmp_path, "linear", resume=True)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Runs that signal 9 ended: before an optimizer step, and while a checkpoint was written."""
    folder = tmp_path_factory.mktemp("killed")
    scenario = {"name": "run", "settings": {**SETTINGS, **VARIANTS["plateau"]}, "model": MODEL}
    faults = [{"kill": 18}, {"kill_while_saving": 16}]
    scenarios = [{**scenario, **fault, "folder": str(folder / next(iter(fault)))} for fault in faults]
    (folder / "scenarios.json").write_text(json.dumps(scenarios))
    command = [sys.executable, str(Path(__file__).with_name("run_toy.py")), str(folder / "scenarios.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "expected"), [("kill", 16), ("kill_while_saving", 12)])
def test_run_killed_with_signal_9_resumes_to_the_same_weights(killed, tmp_path, fault, expected):
    assert (killed / f"{fault}.exit").read_text() == "-9"
    assert last_complete_checkpoint(killed / fault).endswith(f"checkpoint-{expected}")
    resumed = run(killed / fault, "plateau", resume=True)
    assert_same_run(run(tmp_path / "whole", "plateau"), resumed)


@pytest.mark.parametrize("resume", [None, True])
def test_a_file_where_a_checkpoint_will_be_is_told_before_training(resume, tmp_path):
    (tmp_path / "checkpoint-8").write_text("notes")
    with pytest.raises(ValueError, match=r"checkpoint-8' to be the folder of a checkpoint.*found a file"):
        run(tmp_path, "linear", resume=resume)
    assert (tmp_path / "checkpoint-8").read_text() == "notes"

"""Two processes (gloo) train to the same weights as one process with the same global batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from run_toy import build, full_weights
from safetensors.torch import load_file
from toy import largest_difference

pytestmark = pytest.mark.slow

TWO_THAWS = {"image_encoder": "1 epoch", "text_encoder": "2 epochs"}
BERT = {"bert.encoder.layer.[01]": "1 epoch", "bert.embeddings": "2 epochs"}
SCENARIOS = {
    "thaws": {"settings": {"freeze": TWO_THAWS}},
    "accumulation": {"settings": {"freeze": TWO_THAWS, "gradient_accumulation_steps": 2}},
    "off_on_off": {"settings": {"freeze": {"text_encoder": ["1 epoch", "from 2 epochs"], "image_encoder": 0.5}}},
    "gradual": {"settings": {"gradual_unfreezing": {"text_encoder": "6 steps"}}},
    # Plain SGD: Adam turns the rounding noise in a gradient that is zero by nature (biases of keys) into steps.
    "checkpointing": {
        "kind": "bert",
        "settings": {"freeze": BERT, "activation_checkpointing": True, "optim": "sgd", "learning_rate": 0.05},
    },
    "find_unused_off": {"settings": {"freeze": TWO_THAWS, "ddp_find_unused_parameters": False}},
    "weighted": {"settings": {"freeze": TWO_THAWS, "class_weights": "balanced", "gradient_accumulation_steps": 2}},
    # Its loss divides by the labels of the whole batch, which Trainer counts over processes and micro-batches.
    "language_model": {
        "kind": "gpt2",
        "settings": {"gradient_accumulation_steps": 2, "optim": "sgd", "learning_rate": 0.05, "max_grad_norm": 0.5},
    },
    "bertadam": {"settings": {"freeze": TWO_THAWS, "optim_preset": "bertadam", "warmup_steps": 0.2}},
    "cached": {"settings": {"freeze": {"image_encoder": "2 epochs"}, "feature_cache": True}},
    "bf16": {"settings": {"freeze": TWO_THAWS, "bf16": True}},
}
# FSDP2 through accelerate's own preparation. On a machine without accelerators accelerate falls back to DDP, so
# `ShardedTrainer` asks for it; writing checkpoints in this way needs an accelerator and is not covered.
SHARDED = {"fsdp": True, "fsdp_config": {"version": 2, "transformer_layer_cls_to_wrap": "ToyLayer"}}
COMMON = {"train_sampling_strategy": "sequential", "num_train_epochs": 3, "learning_rate": 1e-3}


def settings_of(name, per_device):
    settings = {**COMMON, **SCENARIOS[name]["settings"]}
    return {**settings, "per_device_train_batch_size": per_device}


def launch(path, scenarios):
    """Run scenarios one after another in two processes, which accelerate starts; `tests/commands` uses torchrun too."""
    (path / "scenarios.json").write_text(json.dumps(scenarios))
    launcher = ["accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--main_process_port=29572"]
    script = str(Path(__file__).with_name("run_toy.py"))
    command = [sys.executable, "-m", *launcher, script, str(path / "scenarios.json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=550)
    assert done.returncode == 0, done.stderr[-4000:]


def results(folder, name):
    weights = [load_file(folder / f"{name}-{rank}.safetensors") for rank in (0, 1)]
    facts = [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in (0, 1)]
    assert facts[0]["world"] == 2
    return weights, facts


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    path = tmp_path_factory.mktemp("two")
    scenarios = [
        {**SCENARIOS[name], "name": name, "folder": str(path / name), "settings": settings_of(name, 2)}
        for name in SCENARIOS
    ]
    scenarios[0]["count_bytes"] = True
    saving = {**settings_of("thaws", 2), "save_strategy": "steps", "save_steps": 6}
    again = {"folder": str(path / "saving"), "settings": saving}
    scenarios.append({**again, "name": "saving"})
    scenarios += [
        {**again, "name": f"resumed-{step}", "resume": str(path / "saving" / f"checkpoint-{step}")}
        for step in (6, 12, 18)
    ]
    scenarios.append(
        {"name": "sharded", "folder": str(path / "sharded"), "settings": {**settings_of("thaws", 2), **SHARDED}}
    )
    launch(path, scenarios)
    return path


def train_in_one_process(folder, name):
    scenario = {**SCENARIOS[name], "folder": str(folder), "settings": settings_of(name, 4)}
    trainer = build(scenario)
    trainer.train()
    return full_weights(trainer)


@pytest.mark.parametrize("name", SCENARIOS)
def test_ranks_are_identical(two_processes, name):
    (first, second), _ = results(two_processes / name, name)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "bf16"])
def test_weights_equal_one_process(two_processes, name, tmp_path):
    (weights, _), _ = results(two_processes / name, name)
    assert largest_difference(train_in_one_process(tmp_path, name), weights) < 1e-6


def test_bf16_equals_one_process_up_to_its_rounding(two_processes, tmp_path):
    # Each process rounds the gradient of its half of the batch to bfloat16, so 1e-6 is out of reach by nature.
    (weights, _), _ = results(two_processes / "bf16", "bf16")
    assert largest_difference(train_in_one_process(tmp_path, "bf16"), weights) < 5e-3


def test_frozen_parts_are_not_reduced(two_processes):
    _, facts = results(two_processes / "thaws", "thaws")
    model = build({"folder": str(two_processes / "unused"), "settings": {}}).model
    size = {name: sum(p.numel() * 4 for p in getattr(model, name).parameters()) for name in ("encoder", "image_model")}
    everything = sum(p.numel() * 4 for p in model.parameters())
    per_step = facts[0]["bytes"]
    assert set(per_step[:8]) == {everything - size["encoder"] - size["image_model"]}
    assert set(per_step[8:16]) == {everything - size["encoder"]}
    assert set(per_step[16:]) == {everything}


@pytest.mark.parametrize("step", [6, 12, 18])
def test_resumed_two_process_run_equals_an_uninterrupted_one(two_processes, step):
    (whole, _), _ = results(two_processes / "saving", "saving")
    (first, second), _ = results(two_processes / "saving", f"resumed-{step}")
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert largest_difference(whole, first) < 1e-6


def test_features_are_shared_between_processes(two_processes):
    _, facts = results(two_processes / "cached", "cached")
    # 16 rows each in 2 batches of 8, one batch for the size, then 8 steps after the thaw.
    assert [fact["image_calls"] for fact in facts] == [1 + 2 + 8] * 2


def test_sharded_training_equals_one_process(two_processes, tmp_path):
    (first, second), facts = results(two_processes / "sharded", "sharded")
    assert facts[0]["sharded"]
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert largest_difference(train_in_one_process(tmp_path, "thaws"), first) < 1e-6

"""What a run computes in: measured, given, remembered, and the same on all ranks."""

import json
import shutil

import pytest
import torch
from torch import nn
from toy import toy_arguments, toy_model, toy_trainer, weights

from hf_mmtab.hardware import allowed_cores, fit_threads
from hf_mmtab.training import MMTabTrainer, MMTabTrainingArguments, precision
from hf_mmtab.training.arguments import number_of_workers
from hf_mmtab.training.precision import (
    PRECISION_FILE,
    Times,
    choose,
    choose_for,
    go_on_as_before,
    measure,
    read_choice,
    settle,
)

CPU = torch.device("cpu")
# of an EPYC without units for bfloat16, and of one with them
WITHOUT = Times({"bf16": 2.3e-3, "fp32": 0.9e-3})
WITH = Times({"bf16": 0.5e-3, "fp32": 1.0e-3})


class Large(nn.Module):
    def __init__(self, convolution=False):
        super().__init__()
        self.dense = nn.Linear(256, 512)
        self.convolution = nn.Conv2d(64, 64, 3) if convolution else None


def measured(monkeypatch, times):
    """Let every measurement of the run give these times; return the list of the precisions asked for."""
    asked = []

    def give(model, precisions):
        asked.append(tuple(precisions))
        return times

    monkeypatch.setattr(precision, "measure", give)
    monkeypatch.setattr(precision, "SMALLEST_MEASURED", 1)
    return asked


@pytest.mark.parametrize(("times", "expected"), [(WITHOUT, "fp32"), (WITH, "bf16")])
def test_the_faster_format_is_chosen_and_the_line_says_why(times, expected):
    choice = choose(times)
    assert choice.precision == expected
    if times is WITHOUT:
        assert choice.sentence == (
            "Precision: float32 (one product of this model's size takes 2.3 ms in bfloat16, 0.9 ms in float32 on one "
            "core of this processor); change it with `precision: bf16`"
        )


def test_a_gain_that_casting_takes_back_does_not_count():
    assert choose(Times({"bf16": 0.95e-3, "fp32": 1.0e-3})).precision == "fp32"


def test_convolutions_weigh_in_and_choose_their_layout():
    layouts = {("fp32", True): 6e-3, ("fp32", False): 9e-3, ("bf16", True): 20e-3, ("bf16", False): 3e-3}
    choice = choose(Times({"bf16": 1e-3, "fp32": 1e-3}, layouts))
    assert (choice.precision, choice.channels_last) == ("bf16", False)
    assert "kernels channels first: 20.0 ms last, 3.0 ms first" in choice.reason
    choice = choose(Times({"bf16": 1e-3, "fp32": 1e-3}, layouts), channels_last=True)
    assert (choice.precision, choice.channels_last) == ("fp32", True)


def test_measuring_covers_every_combination_and_leaves_threads_alone():
    threads = torch.get_num_threads()
    times = measure(Large(convolution=True), ("fp32", "bf16"))
    assert set(times.product) == {"fp32", "bf16"} and len(times.convolution) == 4
    assert all(0 < seconds < 60 for seconds in [*times.product.values(), *times.convolution.values()])
    assert torch.get_num_threads() == threads


def test_small_models_compute_in_float32_unmeasured(monkeypatch):
    monkeypatch.setattr(precision, "measure", None)
    assert choose_for(toy_model(), CPU).precision == "fp32"
    assert choose_for(nn.Identity(), CPU).precision == "fp32"


def test_a_gpu_is_asked_for_its_units(monkeypatch):
    monkeypatch.setattr(precision, "measure", None)
    for units, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, units=units: units)
        assert choose_for(Large(), torch.device("cuda")).precision == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"bf16": True}, "bf16"),
        ({"bf16": False}, "fp32"),
        ({"precision": "bf16"}, "bf16"),
        ({"precision": "fp32"}, "fp32"),
        ({"fp16": True}, "fp16"),
        ({}, "bf16"),
    ],
)
def test_what_is_given_wins(tmp_path, monkeypatch, given, expected):
    asked = measured(monkeypatch, WITH)
    args = MMTabTrainingArguments(str(tmp_path), channels_last=True, **given)
    assert settle(Large(), args).precision == expected
    assert asked == ([] if given else [("fp32", "bf16")])
    assert (args.bf16, args.fp16) == (expected == "bf16", expected == "fp16")
    assert args.mixed_precision == {"fp32": "no"}.get(expected, expected)


def test_a_contradiction_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"found precision: fp32 beside bf16: true\. Remove one"):
        MMTabTrainingArguments(str(tmp_path), precision="fp32", bf16=True)
    with pytest.raises(ValueError, match="precision must be one of auto, fp32, bf16, fp16, got 'half'"):
        MMTabTrainingArguments(str(tmp_path), precision="half")
    with pytest.raises(ValueError, match="must be 'auto' or a whole number from 0 to 512, got 'many'"):
        MMTabTrainingArguments(str(tmp_path), dataloader_num_workers="many")


@pytest.mark.parametrize(("first", "second"), [(WITH, WITHOUT), (WITHOUT, WITH)])
def test_a_resumed_run_keeps_what_it_began_with(tmp_path, monkeypatch, first, second):
    options = {"save_strategy": "steps", "save_steps": 8, "channels_last": True}
    measured(monkeypatch, first)
    whole = toy_trainer(tmp_path / "run", **options)
    whole.train()
    for later in (tmp_path / "run").glob("checkpoint-*"):
        if later.name != "checkpoint-8":
            shutil.rmtree(later)
    measured(monkeypatch, second)
    resumed = toy_trainer(tmp_path / "run", toy_model(seed=5), **options)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.choice.precision == whole.choice.precision == choose(first).precision
    assert resumed.choice.reason == "as in checkpoint-8, from which the run goes on"
    before, after = weights(whole.model), weights(resumed.model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_checkpoint_from_before_the_choice_goes_on_in_float32(tmp_path, monkeypatch):
    measured(monkeypatch, WITH)
    toy_trainer(tmp_path, precision="fp32", save_strategy="steps", save_steps=8).train()
    for path in tmp_path.glob(f"checkpoint-*/{PRECISION_FILE}"):
        assert read_choice(path.parent).precision == "fp32"
        path.unlink()
        (path.parent / "files.json").unlink()  # checkpoints had no list of files then either
    assert settle(toy_model(), toy_arguments(tmp_path)).precision == "fp32"


def test_a_checkpoint_of_another_folder_warns(tmp_path, monkeypatch):
    toy_trainer(tmp_path / "a", precision="bf16", save_strategy="steps", save_steps=8).train()
    other = toy_trainer(tmp_path / "b", precision="fp32")
    warned = []
    monkeypatch.setattr("hf_mmtab.training.precision.logger.warning", warned.append)
    other.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-8"))
    assert any("computed in bfloat16 and goes on in float32" in text for text in warned)


def test_a_recorded_recipe_with_bf16_is_the_same_run(tmp_path):
    before, mine = {"seed": 1, "bf16": True}, {"seed": 1}
    args = MMTabTrainingArguments(str(tmp_path))
    go_on_as_before(before, mine, args)
    assert mine == before and args.precision == "bf16"
    before, mine = {"bf16": True}, {"precision": "fp32"}
    go_on_as_before(before, mine, MMTabTrainingArguments(str(tmp_path), precision="fp32"))
    assert mine != before


def test_ranks_get_the_choice_of_the_first(tmp_path, monkeypatch):
    """A rank whose own measurement would say float32 takes what the first one sends."""
    asked = measured(monkeypatch, WITHOUT)
    monkeypatch.setattr(MMTabTrainingArguments, "process_index", 1)
    monkeypatch.setattr(MMTabTrainingArguments, "world_size", 2)
    monkeypatch.setattr(precision, "broadcast_object_list", lambda values: [choose(WITH)])
    args = MMTabTrainingArguments(str(tmp_path))
    assert settle(Large(), args).precision == "bf16" and args.bf16 and not asked


def test_workers_follow_the_device(tmp_path, monkeypatch):
    assert MMTabTrainingArguments(str(tmp_path), use_cpu=True).dataloader_num_workers == 0
    assert MMTabTrainingArguments(str(tmp_path), dataloader_num_workers=2).dataloader_num_workers == 2
    monkeypatch.setattr("hf_mmtab.training.arguments.allowed_cores", lambda: 16)
    assert number_of_workers("auto", on_cpu=False) == 4
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert number_of_workers("auto", on_cpu=False) == 1


def test_a_quota_limits_threads(tmp_path, monkeypatch):
    quota = tmp_path / "cpu.max"
    quota.write_text("100000 100000\n")
    assert allowed_cores(quota) == 1
    quota.write_text("max 100000\n")
    assert allowed_cores(quota) == allowed_cores(tmp_path / "absent")
    set_to = []
    monkeypatch.setattr("hf_mmtab.hardware.allowed_cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    fit_threads()
    assert set_to == []
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    fit_threads()
    assert set_to == [2]


def test_a_choice_is_a_plain_file(tmp_path):
    precision.write_choice(tmp_path, choose(WITH))
    assert json.loads((tmp_path / PRECISION_FILE).read_text())["precision"] == "bf16"
    assert read_choice(tmp_path) == choose(WITH)


def test_a_run_inside_another_may_compute_otherwise(tmp_path):
    formats = ("fp32", "bf16")
    arguments = [toy_arguments(tmp_path / name, precision=name, max_steps=1) for name in formats]
    for name, args in reversed(list(zip(formats, arguments, strict=True))):
        trainer = MMTabTrainer(toy_model(), args, train_dataset=toy_trainer(tmp_path / "rows").train_dataset)
        assert trainer.accelerator.mixed_precision == args.mixed_precision == {"fp32": "no"}.get(name, name)

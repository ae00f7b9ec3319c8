"""A run whose validation metric collapses says so, goes back to its best weights, and learns more slowly."""

import logging
from pathlib import Path

import pytest
import torch
from run_toy import build, full_weights
from test_resuming import Interrupt
from transformers import TrainerCallback

from hf_mmtab.training import MMTabTrainingArguments
from hf_mmtab.training.collapse import SLOWER, collapse_notes, course_notes, has_collapsed

# The classifier thaws after two epochs of eight steps, with a rate that destroys it.
SETTINGS = {
    "num_train_epochs": 5,
    "freeze": {"classifier": "2 epochs"},
    "part_learning_rates": {"classifier": 30.0},
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "metric_for_best_model": "loss",
    "greater_is_better": False,
    "load_best_model_at_end": False,
    "gradient_accumulation_steps": 1,
}


class Weights(TrainerCallback):
    """Keeps the weights that each epoch starts from."""

    def __init__(self):
        self.at = {}

    def on_epoch_begin(self, args, state, control, model=None, **kwargs):
        self.at[round(state.epoch)] = full_weights_of(model)


def full_weights_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def trainer_of(folder, **changes):
    settings = {**SETTINGS, **changes}
    return build({"folder": str(folder), "settings": settings, "model": {"dropout": 0.1}})


def losses(trainer):
    return [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]


@pytest.mark.parametrize("scheduler", ["constant", "linear", "reduce_lr_on_plateau"])
def test_a_planted_collapse_after_a_thaw_goes_back_and_lowers_the_rate(tmp_path, caplog, scheduler):
    trainer, weights = trainer_of(tmp_path, lr_scheduler_type=scheduler, plateau_patience=9), Weights()
    trainer.add_callback(weights)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    found = losses(trainer)
    assert found[2] > 1.5 * min(found[:2]), "the collapse is planted"
    # the fourth epoch starts from the weights that the third started from
    assert all(torch.equal(value, weights.at[3][name]) for name, value in weights.at[2].items())
    notes = collapse_notes(trainer.state.log_history)
    assert notes[0].startswith("Collapse in epoch 3 (step 24): loss on validation was")
    assert "went back to its best weights" in notes[0] and notes[0] in caplog.text
    part = next(g for g in trainer.optimizer.param_groups if g["part"] == "classifier")
    if scheduler != "linear":
        assert part["lr"] == pytest.approx(30.0 * SLOWER ** len(notes))
    else:
        assert trainer.lr_scheduler.base_lrs[0] < 30.0 * SLOWER


@pytest.mark.slow
def test_a_resumed_run_after_a_collapse_equals_one_without_a_stop(tmp_path):
    whole = trainer_of(tmp_path / "whole", lr_scheduler_type="linear")
    whole.train()
    for step in (22, 24, 29):  # before the collapse is seen, right after it, an epoch later
        cut = trainer_of(tmp_path / f"cut{step}", lr_scheduler_type="linear")
        cut.add_callback(Interrupt(step))
        with pytest.raises(KeyboardInterrupt):
            cut.train()
        resumed = trainer_of(tmp_path / f"cut{step}", lr_scheduler_type="linear")
        resumed.train(resume_from_checkpoint=True)
        one, other = full_weights(whole), full_weights(resumed)
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert losses(resumed) == losses(whole)
        groups = [[group["lr"] for group in t.optimizer.param_groups] for t in (whole, resumed)]
        assert groups[0] == groups[1]


def test_without_the_key_a_run_goes_on_and_says_that_it_ends_worse(tmp_path):
    trainer = trainer_of(tmp_path, collapse_factor=None)
    trainer.train()
    assert collapse_notes(trainer.state.log_history) == []
    assert "The run ends worse than it began: loss" in course_notes(trainer.state.log_history, trainer.args)[0]


def test_without_a_checkpoint_the_collapse_is_told(tmp_path):
    trainer = trainer_of(tmp_path, save_strategy="no")
    trainer.train()
    assert "There is no checkpoint to go back to" in collapse_notes(trainer.state.log_history)[0]
    assert not list(Path(tmp_path).glob("checkpoint-*"))


def test_bertadam_keeps_its_step_counts(tmp_path):
    trainer = trainer_of(tmp_path, optim_preset="bertadam", part_learning_rates={"classifier": 3000.0})
    trainer.train()
    assert collapse_notes(trainer.state.log_history)
    assert max(state["step"] for state in trainer.optimizer.state.values()) == 40


@pytest.mark.parametrize(
    ("value", "best", "more_is_better", "floor", "expected"),
    [
        (0.5, 0.8, True, None, True),
        (0.6, 0.8, True, None, False),
        (0.6, 0.8, True, 0.7, True),
        (99.0, 63.0, False, None, True),
        (80.0, 63.0, False, None, False),
        (80.0, 63.0, False, 79.0, True),
        (80.0, 79.5, False, 79.0, False),  # it never was better than the guess
        (float("nan"), 63.0, False, None, True),
        (1.0, float("inf"), False, None, False),  # the first evaluation
        (-0.5, -0.2, True, None, True),
        (0.02, 0.06, True, None, False),  # of few positives that is chance
    ],
)
def test_what_is_a_collapse(value, best, more_is_better, floor, expected):
    assert has_collapsed(value, best, 1.5, more_is_better, floor) is expected


def test_a_factor_that_is_no_fall_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"collapse_factor must be above 1 \(or null.*got 1.0"):
        MMTabTrainingArguments(str(tmp_path), collapse_factor=1.0)

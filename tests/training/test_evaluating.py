"""Evaluating, predicting and computing features leave no trace in the training."""

import random

import numpy as np
import pytest
import torch
from toy import ToyRows, toy_trainer, weights
from transformers import TrainerCallback

from hf_mmtab.training.random_state import keep_random_state


def draws():
    return random.random(), np.random.rand(), torch.rand(2).tolist()  # noqa: NPY002


def draw_at_random(prediction):
    draws()
    return {"score": 0.5}


class Predict(TrainerCallback):
    """Predicts in the middle of a run."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 5:
            self.trainer.predict(ToyRows(6, seed=2))
            self.trainer.evaluate({"a": ToyRows(6, seed=2), "b": ToyRows(5, seed=3)})


def run(folder, predict=False, **settings):
    callback = Predict()
    options = {"compute_metrics": draw_at_random, "callbacks": [callback] if predict else None}
    trainer = toy_trainer(folder, trainer_options=options, **settings)
    callback.trainer = trainer
    trainer.train()
    return weights(trainer.model)


@pytest.mark.parametrize(
    "evaluating",
    [
        {"eval_strategy": "epoch"},
        {"eval_strategy": "steps", "eval_steps": 3, "eval_on_start": True},
        {"eval_strategy": "epoch", "save_strategy": "steps", "save_steps": 3, "dataloader_num_workers": 1},
        {"predict": True},
        {"eval_strategy": "epoch", "feature_cache": True, "freeze": {"image_encoder": "1 epoch"}},
    ],
)
def test_evaluating_does_not_change_the_weights(tmp_path, evaluating):
    workers = {"dataloader_num_workers": evaluating.get("dataloader_num_workers", 0)}
    freeze = {"freeze": evaluating.get("freeze")}
    plain = run(tmp_path / "plain", **workers, **freeze)
    evaluated = run(tmp_path / "evaluated", **evaluating)
    assert all(torch.equal(plain[name], evaluated[name]) for name in plain)


def test_random_numbers_go_on_where_they_were_after_an_error_too():
    torch.manual_seed(3), random.seed(3), np.random.seed(3)  # noqa: NPY002
    expected = [draws(), draws()]
    torch.manual_seed(3), random.seed(3), np.random.seed(3)  # noqa: NPY002
    first = draws()
    with pytest.raises(KeyboardInterrupt), keep_random_state():
        draws()
        raise KeyboardInterrupt
    assert [first, draws()] == expected

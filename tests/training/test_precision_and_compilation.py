"""bf16 and torch.compile: frozen stays frozen, thawed moves, and compiled equals eager."""

import pytest
from toy import largest_difference, moved, toy_model, toy_trainer, weights

TWO_THAWS = {"image_encoder": "1 epoch", "text_encoder": "2 epochs"}


def test_bf16_freezes_and_thaws(tmp_path):
    model = toy_model()
    before = weights(model)
    trainer = toy_trainer(tmp_path, model, bf16=True, freeze={**TWO_THAWS, "image_encoder": "forever"})
    trainer.train()
    assert moved(before, weights(model), "image_model") == 0.0
    assert moved(before, weights(model), "encoder") > 0


def test_bf16_with_stored_features_equals_recomputing(tmp_path):
    found = []
    for cached in (False, True):
        model = toy_model(dropout=0.0)
        freeze = {"image_encoder": "3 epochs"}
        toy_trainer(tmp_path / str(cached), model, bf16=True, freeze=freeze, feature_cache=cached).train()
        found.append(weights(model))
    assert largest_difference(*found) < 1e-6


@pytest.mark.slow
def test_compiled_training_equals_eager_through_both_thaws(tmp_path):
    found = []
    for compiled in (False, True):
        model = toy_model(dropout=0.0, batch_norm=False)
        settings = {"torch_compile": True, "torch_compile_backend": "aot_eager"} if compiled else {}
        toy_trainer(tmp_path / str(compiled), model, freeze=TWO_THAWS, learning_rate=1e-3, **settings).train()
        found.append(weights(model))
    assert largest_difference(*found) < 1e-6

"""Per-part learning rates, layer-wise decay, warm-up after the thaw, and warm-up then plateau."""

import pytest
from toy import toy_model, toy_trainer
from transformers import TrainerCallback

from hf_mmtab.training import FreezeSchedule
from hf_mmtab.training.learning_rates import WarmupCallback


class Rates(TrainerCallback):
    """Keeps the learning rate that each group's step applies."""

    def __init__(self, trainer):
        self.trainer, self.seen = trainer, []
        trainer.add_callback(self)

    def on_optimizer_step(self, args, state, control, **kwargs):
        self.seen.append({group["part"]: rate for group, rate in self.applied})

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        self.applied = [(group, group["lr"]) for group in optimizer.param_groups]


def rates_of(folder, trainer_options=None, **changes):
    trainer = toy_trainer(folder, trainer_options=trainer_options, **changes)
    rates = Rates(trainer)
    trainer.train()
    return trainer, rates.seen


def test_parts_have_their_own_learning_rate_under_any_scheduler(tmp_path):
    _, seen = rates_of(tmp_path, part_learning_rates={"text_encoder": 1e-3}, lr_scheduler_type="linear")
    assert seen[0]["text_encoder"] == pytest.approx(1e-3) and seen[0]["classifier"] == pytest.approx(1e-2)
    assert seen[12]["text_encoder"] == pytest.approx(5e-4) and seen[12]["classifier"] == pytest.approx(5e-3)


def test_learning_rate_falls_from_layer_to_layer(tmp_path):
    _, seen = rates_of(tmp_path, layerwise_lr_decay={"text_encoder": 0.5})
    assert [seen[0][f"text_encoder[{layer}]"] for layer in range(3)] == pytest.approx([2.5e-3, 5e-3, 1e-2])


def test_thawed_part_warms_up_on_its_own(tmp_path):
    trainer, seen = rates_of(tmp_path, freeze={"text_encoder": "1 epoch"}, thaw_warmup={"text_encoder": "4 steps"})
    assert [row["text_encoder"] for row in seen[8:13]] == pytest.approx([2.5e-3, 5e-3, 7.5e-3, 1e-2, 1e-2])
    assert {row["classifier"] for row in seen} == {1e-2}
    assert trainer.optimizer.param_groups[0]["lr"] == 1e-2


def test_layers_of_a_gradual_thaw_warm_up_one_by_one(tmp_path):
    _, seen = rates_of(
        tmp_path, gradual_unfreezing={"text_encoder": "1 epoch"}, thaw_warmup={"text_encoder": "2 steps"}
    )
    assert [row["text_encoder[1]"] for row in seen[8:11]] == pytest.approx([5e-3, 1e-2, 1e-2])
    assert [row["text_encoder[0]"] for row in seen[16:19]] == pytest.approx([5e-3, 1e-2, 1e-2])


@pytest.mark.parametrize("greater_is_better, metric", [(True, "score"), (False, "loss_like")])
def test_plateau_follows_the_direction_of_the_metric_after_its_warmup(tmp_path, greater_is_better, metric):
    sign = -1.0 if greater_is_better else 1.0
    values = iter([0.5, 0.6, 0.7, 0.8, 0.9])  # always worse

    trainer, seen = rates_of(
        tmp_path,
        {"compute_metrics": lambda prediction: {metric: sign * next(values)}},
        lr_scheduler_type="reduce_lr_on_plateau",
        warmup_steps=4,
        plateau_factor=0.1,
        plateau_patience=0,
        eval_strategy="epoch",
        metric_for_best_model=metric,
        greater_is_better=greater_is_better,
        logging_strategy="steps",
        logging_steps=1,
    )
    assert [row["classifier"] for row in seen[:5]] == pytest.approx([0.0, 2.5e-3, 5e-3, 7.5e-3, 1e-2])
    assert [seen[step]["classifier"] for step in (8, 15, 16, 23)] == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3])
    logged = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    assert logged == pytest.approx([row["classifier"] for row in seen])


def test_own_optimizer_with_part_learning_rates_is_an_error(tmp_path):
    import torch
    from toy import toy_model

    model = toy_model()
    options = {"optimizers": (torch.optim.SGD(model.parameters(), lr=0.1), None)}
    trainer = toy_trainer(tmp_path, model, trainer_options=options, part_learning_rates={"text_encoder": 1e-3})
    with pytest.raises(ValueError, match="need the Trainer to build the optimizer"):
        trainer.train()


def test_endless_warmup_after_the_thaw_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"thaw_warmup of 'text_encoder' must end, got 'forever'"):
        toy_trainer(tmp_path, freeze={"text_encoder": "1 epoch"}, thaw_warmup={"text_encoder": "forever"})


@pytest.mark.parametrize("freeze, warns", [({"image_encoder": "1 epoch"}, True), ({"text_encoder": "1 epoch"}, False)])
def test_warmup_of_a_part_that_never_thaws_warns(tmp_path, monkeypatch, freeze, warns):
    said = []
    monkeypatch.setattr("hf_mmtab.training.callbacks.logger.warning", said.append)
    toy_trainer(tmp_path, rows=8, freeze=freeze, thaw_warmup={"text_encoder": "2 steps"}).train()
    message = "thaw_warmup of text_encoder has no effect: the freeze schedule never thaws a part of this name."
    assert (message in said) == warns


def test_warmup_factor_without_a_thaw_is_1():
    warmup = WarmupCallback()
    warmup.begin(FreezeSchedule({}).plan(toy_model(), 8, 24), 0, {"text_encoder": "10 steps"})
    assert warmup.start_factor(0) == 1.0
    assert warmup.factor(5, "text_encoder") == 1.0


@pytest.mark.parametrize(
    ("argument", "part", "value", "reason"),
    [
        ("part_learning_rates", "text_encoder", 1e-3, "no weight of it trains"),
        ("thaw_warmup", "text_encoder", "2 steps", "no weight of it trains"),
        ("layerwise_lr_decay", "text_encoder", 0.5, "it has one layer, or one that trains"),
        ("layerwise_lr_decay", "classifier", 0.5, "it has one layer, or one that trains"),
    ],
)
def test_a_rate_of_a_part_that_does_not_train_is_told(tmp_path, caplog, argument, part, value, reason):
    toy_trainer(tmp_path, freeze={"text_encoder": "forever"}, **{argument: {part: value}}).train()
    assert f"{argument} of {part!r} has no effect: {reason}. Take it out, or thaw the part." in caplog.text


def test_a_rate_of_a_part_that_trains_later_is_not_told(tmp_path, caplog):
    toy_trainer(tmp_path, freeze={"text_encoder": "1 epoch"}, part_learning_rates={"text_encoder": 1e-3}).train()
    assert "has no effect" not in caplog.text

"""Weighted losses have closed forms, and do not depend on how the batch is cut."""

import math
from types import SimpleNamespace

import pytest
import torch
from toy import largest_difference, toy_model, toy_trainer, weights

from hf_mmtab.training import ClassificationLoss, balanced_class_weights, count_labels, pos_weights
from hf_mmtab.training.losses import loss_from_arguments


def output(logits):
    return {"logits": torch.as_tensor(logits)}


def test_zero_logits_give_log_of_the_number_of_classes():
    loss = ClassificationLoss("cross_entropy")(output(torch.zeros(4, 3)), torch.tensor([0, 1, 2, 1]))
    assert loss.item() == pytest.approx(math.log(3))


def test_zero_logits_give_log_2_for_several_labels():
    assert ClassificationLoss("bce")(output(torch.zeros(4, 3)), torch.ones(4, 3)).item() == pytest.approx(math.log(2))


def test_class_weights_multiply_each_example():
    loss = ClassificationLoss("cross_entropy", class_weights=[1.0, 3.0])
    assert loss(output(torch.zeros(2, 2)), torch.tensor([0, 1])).item() == pytest.approx(2 * math.log(2))


def test_ignored_labels_do_not_count():
    loss = ClassificationLoss("cross_entropy")(output(torch.zeros(3, 2)), torch.tensor([0, -100, 1]))
    assert loss.item() == pytest.approx(math.log(2))
    several = torch.tensor([[1.0, -100.0]])
    assert ClassificationLoss("bce")(output(torch.zeros(1, 2)), several).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("kind, labels", [("focal", torch.tensor([0, 1])), ("focal_bce", torch.eye(2))])
def test_focal_loss_of_even_chances_is_a_power_of_one_half(kind, labels):
    loss = ClassificationLoss(kind, focal_gamma=2.0)(output(torch.zeros(2, 2)), labels)
    assert loss.item() == pytest.approx(0.25 * math.log(2))


def test_focal_loss_with_gamma_0_is_cross_entropy():
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    focal = ClassificationLoss("focal", focal_gamma=0.0)(output(logits), labels)
    assert focal.item() == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item())


def test_pos_weight_equals_torch():
    logits, labels = torch.randn(5, 3), torch.randint(0, 2, (5, 3)).float()
    weight = torch.tensor([1.0, 2.0, 3.0])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=weight)
    assert ClassificationLoss("bce", pos_weight=[1, 2, 3])(output(logits), labels).item() == pytest.approx(
        expected.item()
    )


def test_pos_weight_rules():
    assert pos_weights([10, 50], 100, "total_over_positives") == [10.0, 2.0]
    assert pos_weights([10, 50], 100, "negatives_over_positives") == [9.0, 1.0]


def test_absent_label_has_a_finite_weight():
    assert pos_weights([0, 50], 100, "total_over_positives") == [100.0, 2.0]
    assert balanced_class_weights([0, 50]) == [0.0, 1.0]


def test_unknown_rule_is_an_error():
    with pytest.raises(ValueError, match="pos_weight must be one of"):
        pos_weights([1], 2, "inverse")


def test_balanced_weights_have_mean_1_over_the_examples():
    found = balanced_class_weights([10, 30, 60])
    assert found == pytest.approx([100 / 30, 100 / 90, 100 / 180])
    assert sum(w * n for w, n in zip(found, [10, 30, 60], strict=True)) == pytest.approx(100)


def test_labels_are_counted_in_every_form():
    assert count_labels([0, 2, 2, -100], 3) == [1, 0, 2]
    assert count_labels(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), 2) == [2, 1]
    assert count_labels([[0], [0, 2], []], 3) == [2, 0, 1]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"class_weights": "balanced"}, "needs the number of training examples per class"),
        ({"class_weights": {"cat": 2.0}}, r"Unknown classes \['cat'\] in class_weights"),
        ({"class_weights": {"LABEL_0": None}}, r"class_weights of 'LABEL_0' must be a number from 0 on, got None"),
        ({"class_weights": {"LABEL_1": -1}}, r"class_weights of 'LABEL_1' must be a number from 0 on, got -1"),
        ({"loss": "bce", "class_weights": {"LABEL_0": 2.0}}, "class_weights belong to one class per example"),
        ({"loss": "focal", "pos_weight": {"LABEL_0": 2.0}}, "pos_weight is for several labels per example"),
    ],
)
def test_weights_that_do_not_fit_are_errors(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        toy_trainer(tmp_path, **changes)


def test_weights_by_class_name_follow_the_class_ids():
    names = {"class_weights": {"LABEL_2": 5.0}, "pos_weight": None, "loss": "model"}
    args = SimpleNamespace(**names, focal_gamma=2.0, label_smoothing_factor=0.0)
    loss = loss_from_arguments(args, toy_model().config, None, None)
    assert loss.weights.tolist() == [1.0, 1.0, 5.0]


@pytest.mark.parametrize("settings", [{"class_weights": "balanced"}, {"loss": "focal"}, {"loss": "cross_entropy"}])
def test_gradient_does_not_depend_on_accumulation(tmp_path, settings):
    found = []
    for batch, accumulation in ((8, 1), (2, 4)):
        model = toy_model(dropout=0.0, batch_norm=False)
        trainer = toy_trainer(
            tmp_path / str(batch),
            model,
            rows=30,  # the last window is short
            trainer_options={"label_counts": [10, 12, 8]} if "class_weights" in settings else {},
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            optim="sgd",
            learning_rate=0.1,
            **settings,
        )
        trainer.train()
        found.append(weights(model))
    assert largest_difference(*found) < 1e-6

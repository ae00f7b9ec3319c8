"""Logistic regression with its strength chosen on validation: one label, several, and classes that training lacks."""

import numpy as np
import pytest

from hf_mmtab.evaluation.judging import majority_scores
from hf_mmtab.evaluation.scored_rows import ScoredRows
from hf_mmtab.image_text_baselines.logistic import RAREST, STRENGTHS, Split, fit_logistic


def rows_of(number: int, classes: int, noise: float, seed: int) -> Split:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, number)
    signal = np.eye(classes)[labels] + noise * rng.normal(size=(number, classes))
    return Split(np.hstack([signal, rng.normal(size=(number, 40))]) * 5 + 3, labels)


def loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float(-np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-7, 1)).mean())


@pytest.mark.parametrize("classes", [2, 4])
def test_noisy_features_are_held_back_and_clear_ones_are_not(classes):
    chosen = {}
    for noise in (0.1, 1.0):
        train, validation, test = (rows_of(number, classes, noise, number) for number in (300, 301, 400))
        fitted = fit_logistic(train, validation, classes)
        probabilities = fitted.predict(test.features)
        assert probabilities.shape == (400, classes) and np.allclose(probabilities.sum(axis=1), 1)
        assert fitted.loss == pytest.approx(loss(fitted.predict(validation.features), validation.labels))
        assert loss(probabilities, test.labels) < np.log(classes)  # better than knowing nothing
        chosen[noise] = fitted.strength
    assert chosen[1.0] < chosen[0.1] and set(chosen.values()) <= set(STRENGTHS)


def test_each_of_several_labels_has_its_own_regression_and_a_constant_one_keeps_its_share():
    train, validation = rows_of(200, 3, 0.3, 0), rows_of(200, 3, 0.3, 1)
    several = [
        Split(one.features, np.stack([one.labels == 0, one.labels > 0, np.zeros(200)], axis=1).astype(int))
        for one in (train, validation)
    ]
    fitted = fit_logistic(*several, num_labels=3)
    probabilities = fitted.predict(several[1].features)
    assert ((probabilities[:, :2] > 0.5) == several[1].labels[:, :2]).mean() > 0.9
    assert (probabilities[:, 2] == 0).all()


def test_a_class_without_training_rows_is_never_likely():
    train, validation = rows_of(100, 3, 0.3, 0), rows_of(100, 3, 0.3, 1)
    kept = train.labels != 1
    fitted = fit_logistic(Split(train.features[kept], train.labels[kept]), validation, 3)
    assert (fitted.predict(validation.features)[:, 1] == 0).all() and np.isfinite(fitted.loss)


def test_a_regression_as_one_linear_layer_says_the_same():
    for classes in (2, 4):
        train, validation = rows_of(300, classes, 0.5, 0), rows_of(300, classes, 0.5, 1)
        fitted = fit_logistic(train, validation, classes)
        weights, biases = fitted.as_linear()
        logits = validation.features @ weights.T + biases
        softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        assert np.abs(softmax - fitted.predict(validation.features)).max() < 1e-9


def test_a_feature_that_hardly_varies_gets_no_enormous_weight():
    train, validation = rows_of(300, 3, 0.5, 0), rows_of(300, 3, 0.5, 1)
    dead = [Split(np.hstack([one.features, 1e-30 * one.features[:, :1]]), one.labels) for one in (train, validation)]
    weights, _ = fit_logistic(*dead, num_labels=3).as_linear()
    assert np.abs(weights).max() < 10 and np.abs(weights[:, -1]).max() < 1e-6


def test_labels_that_training_does_not_vary_become_biases():
    train, validation = rows_of(200, 3, 0.3, 0), rows_of(200, 3, 0.3, 1)
    columns = [np.stack([one.labels == 0, np.zeros(200), np.ones(200)], axis=1) for one in (train, validation)]
    several = [Split(one.features, two.astype(int)) for one, two in zip((train, validation), columns, strict=True)]
    fitted = fit_logistic(*several, num_labels=3)
    weights, biases = fitted.as_linear()
    sigmoid = 1 / (1 + np.exp(-(validation.features @ weights.T + biases)))
    assert np.abs(sigmoid[:, 0] - fitted.predict(validation.features)[:, 0]).max() < 1e-9
    assert np.allclose(sigmoid[:, 1:], [RAREST, 1 - RAREST])
    kept = train.labels != 1
    without = fit_logistic(Split(train.features[kept], train.labels[kept]), validation, 3)
    weights, biases = without.as_linear()
    assert (validation.features @ weights.T + biases)[:, 1].max() == pytest.approx(np.log(RAREST / (1 - RAREST)))
    alone = fit_logistic(Split(train.features, np.full(200, 2)), validation, 3)  # one class in training
    weights, biases = alone.as_linear()
    assert not weights.any() and biases.argmax() == 2


def test_the_majority_line_repeats_what_training_meets():
    classes = majority_scores(
        np.array([0, 0, 1, 2, -100]), "single_label_classification", ScoredRows(np.zeros((2, 3)), None)
    )
    assert classes.scores.tolist() == [[0.5, 0.25, 0.25]] * 2
    positive = majority_scores(np.array([0, 0, 0, 1]), "single_label_classification", ScoredRows(np.zeros(2), None))
    assert positive.scores.tolist() == [0.25, 0.25]
    labels = np.array([[1, 0], [1, 1]])
    assert majority_scores(
        labels, "multi_label_classification", ScoredRows(np.zeros((1, 2)), None)
    ).scores.tolist() == [[1.0, 0.5]]
    targets = np.array([[1.0, np.nan], [3.0, 5.0]])
    assert majority_scores(targets, "regression", ScoredRows(np.zeros((1, 2)), None)).scores.tolist() == [[2, 5]]

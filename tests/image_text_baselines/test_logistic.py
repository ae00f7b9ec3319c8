"""Logistic regression with its strength chosen on validation: one label, several, and classes that training lacks."""

import numpy as np
import pytest

from hf_mmtab.evaluation.majority import majority_scores
from hf_mmtab.evaluation.scored_rows import ScoredRows
from hf_mmtab.image_text_baselines.logistic import STRENGTHS, Split, fit_logistic


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


def test_the_majority_line_repeats_what_training_meets():
    classes = majority_scores(
        np.array([0, 0, 1, 2, -100]), "single_label_classification", ScoredRows(np.zeros((2, 3)), None)
    )
    assert classes.scores.tolist() == [[0.5, 0.25, 0.25]] * 2
    positive = majority_scores(
        np.array([0, 0, 0, 1]), "single_label_classification", ScoredRows(np.zeros(2), None)
    )
    assert positive.scores.tolist() == [0.25, 0.25]
    labels = np.array([[1, 0], [1, 1]])
    assert majority_scores(
        labels, "multi_label_classification", ScoredRows(np.zeros((1, 2)), None)
    ).scores.tolist() == [[1.0, 0.5]]
    targets = np.array([[1.0, np.nan], [3.0, 5.0]])
    assert majority_scores(targets, "regression", ScoredRows(np.zeros((1, 2)), None)).scores.tolist() == [
        [2, 5]
    ]

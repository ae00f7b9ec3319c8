"""Thresholds of several labels that hold on other rows."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from hf_mmtab.evaluation.row_evaluation import evaluate_rows
from hf_mmtab.evaluation.scored_rows import ScoredRows
from hf_mmtab.metrics import cross_fitted_thresholds, decide, tune_thresholds
from hf_mmtab.metrics.thresholds import FOLDS

KIND = "multi_label_classification"


def draw(rng: np.random.Generator, rows: int, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels of these rates, and calibrated probabilities of a model that knows something."""
    odds = np.log(rates / (1 - rates)) + rng.normal(scale=2.0, size=(rows, len(rates)))
    probabilities = 1 / (1 + np.exp(-odds))
    return probabilities, (rng.random(probabilities.shape) < probabilities).astype(int)


def test_rare_labels_do_better_on_other_rows_than_at_thresholds_of_their_own():
    rng = np.random.default_rng(0)
    rates = np.array([0.3] * 3 + [0.02] * 17)
    gains = []
    for _ in range(10):
        chosen_on, test = draw(rng, 150, rates), draw(rng, 5000, rates)
        both = (cross_fitted_thresholds(*chosen_on).values, tune_thresholds(*chosen_on))
        held, own = (f1_score(test[1], decide(test[0], KIND, cuts), average="micro") for cuts in both)
        gains.append(held - own)
    assert np.mean(gains) > 0.015 and min(gains) > -0.01


def test_frequent_labels_of_different_scales_keep_their_own_thresholds():
    rng = np.random.default_rng(1)
    probabilities, labels = draw(rng, 3000, np.array([0.3, 0.4]))
    probabilities[:, 1] /= 10  # a head that is shy of the second label
    found = cross_fitted_thresholds(probabilities, labels)
    assert found.values == pytest.approx(tune_thresholds(probabilities, labels), rel=0.25)
    assert found.values[1] < 0.1 < found.values[0] and found.weight < np.inf
    assert "each label's own" in str(found) or "drawn to a common" in str(found)


def test_a_label_without_a_positive_takes_the_common_threshold():
    probabilities, labels = draw(np.random.default_rng(2), 200, np.array([0.3, 0.3, 0.3]))
    labels[:, 2] = 0
    found = cross_fitted_thresholds(probabilities, labels)
    assert found.values[2] == pytest.approx(found.common)


def test_the_held_out_values_are_those_of_rows_that_chose_nothing():
    rng = np.random.default_rng(3)
    probabilities = rng.random((100, 30))
    labels = (rng.random((100, 30)) < 0.05).astype(int)  # nothing to learn
    found = cross_fitted_thresholds(probabilities, labels)
    in_sample = f1_score(labels, decide(probabilities, KIND, tune_thresholds(probabilities, labels)), average="micro")
    assert found.held_out is not None and found.held_out[0] < in_sample
    assert f"micro-F1 is {found.held_out[0]:.3f} and macro-F1 {found.held_out[1]:.3f}" in str(found)


def test_too_few_rows_for_folds_take_one_common_threshold():
    rows = 2 * FOLDS - 1
    labels = np.tile([[1, 0]], (rows, 1))
    found = cross_fitted_thresholds(np.tile([[0.8, 0.2]], (rows, 1)), labels)
    assert found.values == pytest.approx([0.5, 0.5]) and found.held_out is None
    assert str(found) == (
        "Decision thresholds were chosen on validation: one of 0.500 for all labels, since single labels' own did not "
        "hold on other rows."
    )


def test_labels_that_are_not_0_and_1_are_refused():
    with pytest.raises(ValueError, match="Expected labels of 0 and 1"):
        cross_fitted_thresholds(np.full((20, 2), 0.5), np.full((20, 2), -100))


def test_an_evaluation_also_gives_f1_at_one_half():
    probabilities, labels = draw(np.random.default_rng(4), 200, np.array([0.1, 0.1]))
    scored = ScoredRows(probabilities, labels)
    tuned = evaluate_rows(scored, KIND, {0: "a", 1: "b"}, [0.3, 0.3], bootstrap=0).metrics
    plain = evaluate_rows(scored, KIND, {0: "a", 1: "b"}, bootstrap=0).metrics
    assert tuned["micro_f1_at_half"] == plain["micro_f1"] != tuned["micro_f1"]
    assert "micro_f1_at_half" not in plain

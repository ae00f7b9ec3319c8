"""Greedy ensemble selection on validation scores."""

import numpy as np
import pytest

from hf_mmtab.evaluation.combining import log_loss, select_greedily
from hf_mmtab.evaluation.scored_rows import ScoredRows

LABELS = np.array([0, 0, 1, 1])


def scored(*of_class_1):
    p = np.array(of_class_1)
    return ScoredRows(np.stack([1 - p, p], axis=1), LABELS)


def test_two_models_with_errors_on_different_rows_are_averaged_and_a_worse_copy_is_left_out():
    found = select_greedily(
        {"a": scored(0.1, 0.9, 0.9, 0.9), "b": scored(0.9, 0.1, 0.9, 0.9), "chance": scored(0.5, 0.5, 0.5, 0.5)}
    )
    assert found.weights == {"a": 0.5, "b": 0.5}
    assert found.loss == pytest.approx(-np.log([0.5, 0.5, 0.9, 0.9]).mean())
    assert found.losses["chance"] == pytest.approx(np.log(2)) and found.loss < min(found.losses.values())
    assert str(found).startswith(
        "ensemble: 0.50 a, 0.50 b (the mean of their probabilities), chosen greedily by log loss"
    )


def test_the_best_stays_alone_where_no_average_is_better():
    found = select_greedily({"worse": scored(0.4, 0.4, 0.6, 0.6), "best": scored(0.1, 0.1, 0.9, 0.9)})
    assert found.weights == {"best": 1.0} and "best (no average was better)" in str(found)


def test_the_loss_of_several_labels_counts_each_label():
    probabilities, labels = np.array([[0.9, 0.2]]), np.array([[1, 0]])
    assert log_loss(probabilities, labels) == pytest.approx(-np.log([0.9, 0.8]).mean())

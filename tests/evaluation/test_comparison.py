"""Several models on the same rows: means and spreads over seeds, intervals, paired differences."""

import numpy as np
import pytest

from hf_mmtab.evaluation.comparison import ScoredModel, compare_scored, comparison_markdown, in_words
from hf_mmtab.evaluation.scored_rows import ScoredRows
from hf_mmtab.metrics import PairedDifference

NAMES = {0: "no", 1: "yes"}
SINGLE = "single_label_classification"


def scored(scores, labels):
    entities = (np.arange(len(scores)) % 40).astype(str)
    return ScoredRows(np.asarray(scores), np.asarray(labels), entities=entities)


def compared(one, other, problem_type=SINGLE, names=NAMES, **options):
    return compare_scored({"a": [ScoredModel(one)], "b": [ScoredModel(other)]}, problem_type, names, **options)


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(0).integers(0, 2, 400)


def noisy(labels, strength, seed):
    noise = np.random.default_rng(seed).random(len(labels))
    return scored(np.clip(strength * labels + (1 - strength) * noise, 0, 1), labels)


def test_means_spreads_and_differences_are_over_seeds_and_the_same_rows(labels):
    models = {
        "good": [ScoredModel(noisy(labels, 0.3, 1), [0.4], 1.0), ScoredModel(noisy(labels, 0.3, 2), [0.5], 3.0)],
        "bad": [ScoredModel(noisy(labels, 0.1, seed)) for seed in (3, 4)],
    }
    good, bad = compare_scored(models, SINGLE, NAMES, bootstrap=200)
    assert good.is_own and not bad.is_own
    assert list(good.scores) == ["average_precision", "roc_auc", "f1", "recall_at_fpr_0.001", "recall_at_fpr_0.01"]
    lead = np.mean(good.scores["average_precision"]) - np.mean(bad.scores["average_precision"])
    difference = bad.differences["average_precision"]
    assert difference.difference == pytest.approx(lead)
    assert difference.low < lead < difference.high
    for result in (good, bad):
        for name, values in result.scores.items():
            assert len(values) == 2
            assert result.intervals[name].value == pytest.approx(np.mean(values)), name
    assert good.seconds == 120.0
    assert bad.seconds is None
    table = comparison_markdown([good, bad], ["average_precision"], "test").splitlines()
    assert table[2].startswith(f"| good | {np.mean(good.scores['average_precision']):.3f} ± ")
    assert table[2].endswith("| – | 2 | 2.0 |")
    assert table[3].endswith("| 2 | – |")


def test_a_model_is_not_ahead_of_itself(labels):
    same = noisy(labels, 0.2, 1)
    _, other = compared(same, same, bootstrap=50)
    difference = other.differences["average_precision"]
    assert (difference.difference, difference.low, difference.high) == (0.0, 0.0, 0.0)


def test_several_targets_are_compared_by_their_error():
    true = np.random.default_rng(0).normal(size=(200, 2))
    near, far = scored(true + 0.1, true), scored(true + 0.5, true)
    results = compared(near, far, "regression", {0: "a", 1: "b"}, bootstrap=50)
    assert results[0].scores["rmse"][0] == pytest.approx(0.1)
    assert results[1].differences["rmse"].difference == pytest.approx(-0.4)


def test_rows_of_one_class_have_no_ranking_to_compare():
    one = scored(np.linspace(0, 1, 50), np.zeros(50, int))
    results = compared(one, one)
    assert results[1].scores["average_precision"] == []
    assert not results[1].differences


def test_models_judged_on_other_rows_or_labels_are_refused(labels):
    one = noisy(labels, 0.2, 1)
    fewer = one.select(np.arange(300))
    with pytest.raises(ValueError, match=r"Expected b to be judged on the 400 rows of a, found 300 rows, 300"):
        compared(one, fewer)
    flipped = scored(one.scores, 1 - one.labels)
    with pytest.raises(ValueError, match="found others on the same 400 rows"):
        compared(one, flipped)


@pytest.mark.parametrize(
    ("metric", "low", "high", "words"),
    [
        ("rmse", 4.1, 8.8, "worse"),
        ("rmse", -8.8, -4.1, "better"),
        ("average_precision", 0.01, 0.09, "better"),
        ("average_precision", -0.09, -0.01, "worse"),
        ("average_precision", -0.01, 0.09, "not told apart"),
    ],
)
def test_a_difference_is_said_in_words(metric, low, high, words):
    assert in_words(PairedDifference((low + high) / 2, low, high, 0.5, 100), metric) == words

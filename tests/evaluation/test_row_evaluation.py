"""Metrics of scored rows against numbers computed by hand, thresholds, what is resampled, prior correction."""

import datetime

import numpy as np
import pytest

from hf_mmtab.evaluation.row_evaluation import choose_threshold, evaluate_rows, headline, resampling_groups
from hf_mmtab.evaluation.scored_rows import ScoredRows
from hf_mmtab.metrics import brier_score, effective_prior, prior_log_ratios

NAMES = {0: "no", 1: "yes"}
SINGLE = "single_label_classification"


def rows_of(scores, labels, entities=None, days=None):
    number = len(scores)
    entities = [str(i) for i in range(number)] if entities is None else entities
    start = datetime.datetime(2020, 1, 1)
    days = range(number) if days is None else days
    times = np.array([start + datetime.timedelta(days=int(d)) for d in days], dtype="datetime64[us]")
    return ScoredRows(np.array(scores), np.array(labels), np.arange(number), np.array(entities), times)


def test_average_precision_and_threshold_metrics_are_those_computed_by_hand():
    scored = rows_of([0.9, 0.8, 0.7, 0.6, 0.5], [1, 0, 1, 0, 0])
    found = evaluate_rows(scored, SINGLE, NAMES, threshold=0.65, bootstrap=0).metrics
    assert found["average_precision"] == pytest.approx((1 + 2 / 3) / 2)  # precisions at the two positives
    assert found["roc_auc"] == pytest.approx(5 / 6)  # of six pairs one is in the wrong order
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"] == 1.0
    assert found["f1"] == pytest.approx(0.8)
    assert found["accuracy"] == pytest.approx(0.8)
    assert found["brier"] == pytest.approx((0.01 + 0.64 + 0.09 + 0.36 + 0.25) / 5)
    assert found["mean_score"] == pytest.approx(0.7)
    assert found["positive_rate"] == pytest.approx(0.4)


def test_recall_at_a_false_positive_rate_counts_the_false_alarms_that_are_allowed():
    # 1,000 negatives: 0.1 % allows one false alarm, 1 % ten
    negatives = np.concatenate([[0.9], np.full(9, 0.7), np.full(990, 0.1)])
    scored = rows_of([0.95, 0.8, 0.5, 0.05, *negatives], [1, 1, 1, 1, *np.zeros(1000, int)])
    found = evaluate_rows(scored, SINGLE, NAMES, bootstrap=0).metrics
    assert found["recall_at_fpr_0.001"] == pytest.approx(2 / 4)  # 0.95 and 0.8, above the nine of 0.7
    assert found["recall_at_fpr_0.01"] == pytest.approx(3 / 4)  # ten false alarms lie above 0.5


def test_the_threshold_is_the_one_with_the_best_f1_on_validation():
    # cuts: 0.9 → F1 2/3, 0.8 → 1/2, 0.7 → 4/5, 0.6 → 2/3
    assert choose_threshold(rows_of([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0])) == pytest.approx(0.65)
    assert choose_threshold(rows_of(np.full((2, 3), 1 / 3), [0, 1])) is None


def test_rows_without_a_label_are_left_out():
    scored = rows_of([0.9, 0.8, 0.1], [1, -100, 0])
    found = evaluate_rows(scored, SINGLE, NAMES, bootstrap=0)
    assert found.rows == 2
    assert found.metrics["average_precision"] == 1.0


def test_root_mean_squared_error_over_all_targets_and_of_each():
    scored = rows_of(np.array([[1.0, 10.0], [2.0, 20.0]]), np.array([[1.0, 13.0], [6.0, np.nan]]))
    found = evaluate_rows(scored, "regression", {0: "PM2.5", 1: "PM10"}, bootstrap=20)
    assert found.metrics["rmse"] == pytest.approx(np.sqrt((0 + 9 + 16) / 3))
    assert found.metrics["rmse/PM2.5"] == pytest.approx(np.sqrt(16 / 2))
    assert found.metrics["rmse/PM10"] == pytest.approx(3.0)
    assert found.intervals["rmse/PM2.5"].value == pytest.approx(np.sqrt(8))
    assert set(found.intervals) == {"rmse", "mae", "rmse/PM2.5", "rmse/PM10"}


def test_intervals_hold_the_headline_and_the_value_itself():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    scored = rows_of(np.clip(labels * 0.3 + rng.random(300) * 0.7, 0, 1), labels, np.arange(300) % 30)
    found = evaluate_rows(scored, SINGLE, NAMES, 0.5, bootstrap=200)
    assert tuple(found.intervals) == headline(SINGLE, 2)
    assert (found.resampled_by, found.groups, found.rows) == ("entity", 30, 300)
    for name, interval in found.intervals.items():
        assert interval.value == pytest.approx(found.metrics[name]), name
        assert interval.low <= interval.value <= interval.high, name


def test_whole_histories_are_resampled_so_that_copies_of_rows_add_no_certainty():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 40)
    scores = np.clip(labels * 0.2 + rng.random(40) * 0.8, 0, 1)
    once = rows_of(scores, labels, days=np.zeros(40))
    copied = rows_of(np.tile(scores, 9), np.tile(labels, 9), np.tile(np.arange(40).astype(str), 9), np.zeros(360))
    honest = evaluate_rows(copied, SINGLE, NAMES, bootstrap=400).intervals["roc_auc"]
    wide = evaluate_rows(once, SINGLE, NAMES, bootstrap=400).intervals["roc_auc"]
    narrow = evaluate_rows(copied, SINGLE, NAMES, resample_by="row", bootstrap=400).intervals["roc_auc"]
    assert honest.high - honest.low == pytest.approx(wide.high - wide.low, rel=0.05)
    assert narrow.high - narrow.low < 0.5 * (wide.high - wide.low)


def test_the_groups_of_auto_are_the_fewer_ones_that_are_still_enough():
    many = rows_of(np.zeros(200), np.zeros(200, int), [f"{i % 50}/{i}" for i in range(200)], np.arange(200) % 25)
    assert resampling_groups(many)[1] == "day"  # 25 days, 50 users
    assert resampling_groups(many, "entity")[0].max() == 49  # the user, not the card
    few_days = rows_of(np.zeros(200), np.zeros(200, int), np.arange(200) % 50, np.arange(200) % 5)
    assert resampling_groups(few_days)[1] == "entity"
    neither = rows_of(np.zeros(9), np.zeros(9, int))
    assert resampling_groups(neither) == (None, "row")


def test_brier_score_is_the_mean_squared_distance():
    assert brier_score(np.array([1, 0]), np.array([0.8, 0.4])) == pytest.approx((0.04 + 0.16) / 2)


def test_up_sampling_and_class_weights_change_the_prior_that_training_sees():
    assert effective_prior([0.9, 0.1]) == pytest.approx([0.9, 0.1])
    assert effective_prior([90, 10], class_weights=[1, 9]) == pytest.approx([0.5, 0.5])
    assert effective_prior([0.9, 0.1], [1, 3], sampled=[0.5, 0.5]) == pytest.approx([0.25, 0.75])


def corrected(probabilities, trained, actual):
    """The softmax of the logits moved by `prior_log_ratios`."""
    moved = np.log(probabilities) + prior_log_ratios(trained, actual)
    return np.exp(moved) / np.exp(moved).sum(axis=-1, keepdims=True)


def test_corrected_probabilities_are_what_bayes_says():
    # balanced training says 0.8, odds 4; positives are 1 in 100: odds 4 / 99
    assert corrected([0.2, 0.8], [0.5, 0.5], [0.99, 0.01]) == pytest.approx([99 / 103, 4 / 103])
    assert corrected([0.5, 0.25, 0.25], [1, 1, 1], [1, 2, 1]) == pytest.approx([0.4, 0.4, 0.2])


def test_the_logit_of_the_first_class_and_the_ranking_stay():
    assert prior_log_ratios([0.5, 0.5], [0.998, 0.002])[0] == 0.0
    softmax = np.random.default_rng(0).dirichlet([1, 1], size=50)
    moved = corrected(softmax, [0.5, 0.5], [0.998, 0.002])
    assert (np.argsort(moved[:, 1]) == np.argsort(softmax[:, 1])).all()


def test_a_model_that_is_right_on_balanced_data_is_right_on_the_data_after_correction():
    rng = np.random.default_rng(2)
    labels = (rng.random(200_000) < 0.02).astype(int)
    x = rng.normal(labels * 1.0, 1.0)  # log odds of two normals of one width: x - 0.5, plus those of the prior
    balanced = 1 / (1 + np.exp(-(x - 0.5)))
    both = np.stack([1 - balanced, balanced], axis=1)
    assert corrected(both, [0.5, 0.5], [0.98, 0.02])[:, 1].mean() == pytest.approx(labels.mean(), rel=0.05)
    assert balanced.mean() > 10 * labels.mean()


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="resample_by must be one of auto, entity, day, row, got 'user'"):
        resampling_groups(rows_of([0.1], [1]), "user")
    with pytest.raises(ValueError, match=r"Expected scores of 3 labels \(a, b, c\), found 2"):
        evaluate_rows(rows_of([0.1], [1]), SINGLE, dict(enumerate("abc")))
    with pytest.raises(ValueError, match="found 2 of the prior, 2 sampled and 3 weights"):
        effective_prior([1, 1], [1, 1, 1])
    with pytest.raises(ValueError, match="Expected shares and weights of at least 0"):
        effective_prior([1, -1])
    with pytest.raises(ValueError, match=r"Expected every class to have a share above 0, found \[1.0, 0.0\]"):
        prior_log_ratios([1, 0], [0.5, 0.5])
    with pytest.raises(ValueError, match="Expected priors of as many classes"):
        prior_log_ratios([0.5, 0.5], [0.2, 0.3, 0.5])

"""Metrics: closed forms first, then agreement with scikit-learn, then messages."""

import time

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score
from transformers import EvalPrediction

from hf_mmtab.metrics import (
    BinaryMetric,
    MultiLabelMetric,
    RegressionMetric,
    SingleLabelMetric,
    binary_scores,
    bootstrap_interval,
    compute_metrics_for,
    decide,
    multi_label_scores,
    paired_bootstrap,
    per_class_table,
    probabilities_from_logits,
    regression_scores,
    scores_for,
    single_label_scores,
    tune_thresholds,
)
from hf_mmtab.metrics.cells import CELL_METRICS, cells_of

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
THREE = {0: "cat", 1: "dog", 2: "bird"}


def softmax_of(rng: np.random.Generator, labels: np.ndarray, classes: int, skill: float = 1.5) -> np.ndarray:
    logits = rng.normal(size=(len(labels), classes))
    logits[np.arange(len(labels)), labels] += skill
    return probabilities_from_logits(logits, SINGLE)


# --- probabilities and decisions ----------------------------------------------------------------------------


def test_zero_logits_give_equal_probabilities():
    assert np.allclose(probabilities_from_logits(np.zeros((2, 4)), SINGLE), 0.25)
    assert np.allclose(probabilities_from_logits(np.zeros((2, 4)), MULTI), 0.5)


def test_huge_logits_do_not_overflow():
    logits = np.array([[1e4, -1e4]])
    with np.errstate(all="raise", under="ignore"):
        assert probabilities_from_logits(logits, SINGLE).tolist() == [[1.0, 0.0]]
        assert probabilities_from_logits(logits, MULTI).tolist() == [[1.0, 0.0]]


def test_logits_that_are_not_finite_are_refused_with_the_first_row():
    logits = np.zeros((5, 2), dtype=np.float32)
    logits[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"NaN or infinity in 1 of 5 rows, first in row 3.*diverged"):
        probabilities_from_logits(logits, SINGLE)


def test_an_unknown_problem_type_is_refused():
    with pytest.raises(ValueError, match=r"problem_type must be one of \['single_label.*got 'multilabel'"):
        compute_metrics_for("multilabel", THREE)


def test_a_probability_equal_to_its_threshold_is_a_yes():
    assert decide(np.array([[0.3, 0.3]]), MULTI, [0.3, 0.31]).tolist() == [[1, 0]]
    assert decide(np.array([[0.7, 0.3]]), SINGLE, [0.3]).tolist() == [1]
    assert decide(np.array([[0.5, 0.5]]), SINGLE).tolist() == [1]
    assert decide(np.array([[0.4, 0.2, 0.4]]), SINGLE).tolist() == [0]


def test_thresholds_that_do_not_fit_the_labels_are_refused():
    with pytest.raises(ValueError, match="Expected 1 or 3 thresholds, one per label, found 2"):
        decide(np.zeros((1, 3)), MULTI, [0.1, 0.2])
    with pytest.raises(ValueError, match=r"takes a threshold only if it has two classes.*found 3 for 3 classes"):
        decide(np.zeros((1, 3)), SINGLE, [0.1, 0.2, 0.3])


# --- thresholds ---------------------------------------------------------------------------------------------


def test_threshold_lies_halfway_in_the_gap_of_a_perfect_ranking():
    assert tune_thresholds(np.array([0.9, 0.8, 0.4, 0.1]), np.array([1, 1, 0, 0])) == pytest.approx([0.6])


def test_of_equal_f1_the_highest_threshold_wins():
    # Cutting after the first positive or after the second, with three negatives between, gives F1 2/3 twice.
    probabilities, labels = np.array([0.9, 0.5, 0.4]), np.array([1, 0, 0])
    assert tune_thresholds(probabilities, labels) == pytest.approx([0.7])
    labels = np.array([1, 0, 0, 0, 1, 0])
    assert 2 * 1 / (1 + 2) > 2 * 2 / (5 + 2)
    assert tune_thresholds(np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4]), labels) == pytest.approx([0.85])


def test_equal_probabilities_are_never_cut_apart():
    probabilities, labels = np.array([0.5, 0.5, 0.5, 0.2]), np.array([1, 0, 0, 0])
    (threshold,) = tune_thresholds(probabilities, labels)
    assert threshold == pytest.approx(0.35)


def test_threshold_of_neighbouring_floats_still_separates_them():
    low = 0.3
    high = np.nextafter(low, 1)
    (threshold,) = tune_thresholds(np.array([high, low]), np.array([1, 0]))
    assert low < threshold <= high


def test_label_without_positive_keeps_one_half():
    thresholds = tune_thresholds(np.array([[0.9, 0.9], [0.1, 0.2]]), np.array([[1, 0], [0, 0]]))
    assert thresholds == pytest.approx([0.5, 0.5])


def test_tuned_thresholds_reach_the_best_f1_of_the_precision_recall_curve():
    rng = np.random.default_rng(0)
    labels = (rng.random((500, 6)) < 0.2).astype(int)
    probabilities = np.round(np.clip(rng.normal(0.3 + 0.2 * labels, 0.2), 0, 1), 2)  # many ties
    predictions = decide(probabilities, MULTI, tune_thresholds(probabilities, labels))
    for i in range(6):
        precision, recall, _ = precision_recall_curve(labels[:, i], probabilities[:, i])
        best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
        assert f1_score(labels[:, i], predictions[:, i]) == pytest.approx(best)


def test_tuning_refuses_unlabelled_rows_and_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"labels of 0 and 1; drop unlabelled rows \(-100\)"):
        tune_thresholds(np.array([0.1, 0.2]), np.array([1, -100]))
    with pytest.raises(ValueError, match=r"one shape with at least one row.*found \(2, 3\) and \(2,\)"):
        tune_thresholds(np.zeros((2, 3)), np.zeros(2))


# --- scores -------------------------------------------------------------------------------------------------


def test_perfect_prediction_scores_one_everywhere():
    labels = np.array([0, 1, 2, 1])
    scores = single_label_scores(labels, np.eye(3)[labels], THREE, per_class=True)
    assert {k for k, v in scores.items() if v == 1.0} >= {
        "accuracy", "micro_f1", "macro_f1", "weighted_f1", "macro_average_precision", "f1/bird", "recall/dog",
    }  # fmt: skip
    assert scores["support/dog"] == 2.0
    assert scores["classes_without_positive"] == 0.0


def test_constant_prediction_scores_its_class_share():
    labels = np.array([0] * 6 + [1] * 3 + [2])
    probabilities = np.tile([0.5, 0.3, 0.2], (10, 1))
    scores = single_label_scores(labels, probabilities, THREE)
    assert scores["accuracy"] == pytest.approx(0.6)
    assert scores["macro_f1"] == pytest.approx((2 * 6 / 16) / 3)
    assert scores["macro_average_precision"] == pytest.approx((0.6 + 0.3 + 0.1) / 3)  # AP = share of positives


def test_average_precision_by_hand():
    # Ranked 1 0 1 0: precision 1 at the first positive, 2/3 at the second.
    scores = binary_scores(np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1]))
    assert scores["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["roc_auc"] == pytest.approx(3 / 4)


def test_recall_at_a_false_positive_rate_by_hand():
    # 100 negatives; one of them (1 %) ranks above the second positive, two above the third.
    labels = np.array([1, 0, 1, 0, 1] + [0] * 98)
    scores = binary_scores(labels, np.linspace(1, 0, len(labels)))
    assert scores["recall_at_fpr_0.001"] == pytest.approx(1 / 3)
    assert scores["recall_at_fpr_0.01"] == pytest.approx(2 / 3)


def test_a_class_without_positive_is_left_out_of_the_mean_and_counted():
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]])
    scores = single_label_scores(labels, probabilities, THREE, per_class=True)
    assert scores["macro_average_precision"] == 1.0
    assert scores["macro_f1"] == 1.0
    assert scores["classes_without_positive"] == 1.0
    assert "average_precision/bird" not in scores
    assert scores["support/bird"] == 0.0


@pytest.mark.parametrize("labels", [np.array([2, 2]), np.array([[0, 1, 1], [0, 1, 1]])])
def test_where_each_class_has_all_rows_or_none_average_precision_is_not_defined(labels):
    probabilities = np.array([[0.9, 0.06, 0.04], [0.5, 0.3, 0.2]])  # all wrong
    kind = SINGLE if labels.ndim == 1 else MULTI
    scores = scores_for(kind, labels, probabilities, THREE, per_class=True)
    assert not {name for name in scores if "average_precision" in name}
    assert scores["recall/bird"] == scores["weighted_f1"] == 0.0
    assert scores["classes_without_positive"] == (2.0 if kind == SINGLE else 1.0)
    interval = bootstrap_interval("macro_average_precision", labels, probabilities, kind, num_resamples=9)
    assert np.isnan(interval.value) and interval.undefined_resamples == 9


def test_a_label_of_all_rows_is_left_out_of_the_mean_average_precision():
    labels, probabilities = np.array([[1, 1], [1, 0], [1, 1]]), np.array([[0.1, 0.1], [0.9, 0.2], [0.9, 0.3]])
    scores = multi_label_scores(labels, probabilities, {0: "all", 1: "some"})
    assert scores["macro_average_precision"] == pytest.approx((1 + 2 / 3) / 2)  # of "some": ranked 1 0 1
    assert scores["classes_without_positive"] == 0.0


def test_a_predicted_class_without_positive_counts_as_f1_zero():
    labels, probabilities = np.array([0, 0]), np.array([[0.9, 0.1, 0.0], [0.1, 0.0, 0.9]])
    assert single_label_scores(labels, probabilities, THREE)["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    table = per_class_table(labels, decide(probabilities, SINGLE), probabilities, THREE)
    assert [row["f1"] for row in table] == [pytest.approx(2 / 3), None, 0.0]


def test_binary_scores_without_a_positive_leave_out_what_is_not_defined():
    assert binary_scores(np.zeros(3, int), np.array([0.1, 0.2, 0.3])) == {"positive_rate": 0.0, "threshold": 0.5}


def test_multi_label_scores_agree_with_scikit_learn():
    rng = np.random.default_rng(1)
    labels, probabilities = (rng.random((200, 3)) < 0.3).astype(int), rng.random((200, 3))
    scores = multi_label_scores(labels, probabilities, THREE, [0.4, 0.5, 0.6])
    predictions = probabilities >= [0.4, 0.5, 0.6]
    for average in ("micro", "macro", "weighted"):
        assert scores[f"{average}_f1"] == pytest.approx(f1_score(labels, predictions, average=average))
    assert scores["macro_average_precision"] == pytest.approx(average_precision_score(labels, probabilities))


def test_regression_scores_by_hand_and_targets_not_measured_are_left_out():
    scores = regression_scores(
        np.array([[1.0, 10.0], [3.0, np.nan]]), np.array([[1.0, 13.0], [7.0, 0.0]]), {0: "PM2.5", 1: "PM10"}
    )
    assert scores["rmse"] == pytest.approx(np.sqrt((9 + 16) / 3))
    assert scores["rmse/PM2.5"] == pytest.approx(np.sqrt(8))
    assert scores["rmse/PM10"] == pytest.approx(3.0)
    assert scores["mae"] == pytest.approx(7 / 3)
    assert regression_scores(np.array([1.0, 2.0, 3.0]), np.full(3, 2.0))["r2"] == pytest.approx(0.0)
    with pytest.raises(ValueError, match="at least one measured target, found none in 2 rows"):
        regression_scores(np.full(2, np.nan), np.zeros(2))


# --- for Trainer, and evaluate ------------------------------------------------------------------------------


def test_trainer_metrics_are_a_flat_dict_of_floats():
    logits = np.array([[4.0, 0, 0], [0, 3.0, 0], [0, 0, 1.0], [2.0, 0, 0]])
    metrics = compute_metrics_for(SINGLE, THREE)(EvalPrediction((logits, None), np.array([0, 1, 2, -100])))
    assert metrics["accuracy"] == 1.0
    assert all(isinstance(v, float) for v in metrics.values())
    assert not any("/" in name for name in metrics)


def test_labels_per_step_are_scored_step_by_step_without_the_padding():
    logits = np.array([[[2.0, 0], [0, 2.0]], [[0, 2.0], [9.0, 0]]])
    metrics = compute_metrics_for(SINGLE, {0: "no", 1: "yes"})(EvalPrediction(logits, np.array([[0, 1], [0, -100]])))
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["positive_rate"] == pytest.approx(1 / 3)


def test_rows_that_are_all_unlabelled_are_refused():
    with pytest.raises(ValueError, match="found 2 rows that are all labelled -100"):
        compute_metrics_for(SINGLE, THREE)(EvalPrediction(np.zeros((2, 3)), np.array([-100, -100])))


def test_saved_threshold_is_used_for_the_binary_decision():
    prediction = EvalPrediction(np.array([[0.0, -1.0], [0.0, -3.0]]), np.array([1, 0]))
    names = {0: "genuine", 1: "fraud"}
    assert compute_metrics_for(SINGLE, names)(prediction)["recall"] == 0.0
    tuned = compute_metrics_for(SINGLE, names, thresholds=[0.2])(prediction)
    assert (tuned["f1"], tuned["threshold"]) == (1.0, 0.2)


def test_evaluate_metrics_work_offline_and_in_batches(tmp_path):
    labels = np.array([0, 1, 2, 2])
    probabilities = np.eye(3)[[0, 1, 2, 1]] * 0.8 + 0.1
    metric = SingleLabelMetric(cache_dir=str(tmp_path))
    for half in (slice(0, 2), slice(2, 4)):
        metric.add_batch(predictions=probabilities[half], references=labels[half])
    assert metric.compute(id2label=THREE) == pytest.approx(single_label_scores(labels, probabilities, THREE))

    truth, chances = np.array([[1, 0], [0, 1]]), np.array([[0.6, 0.2], [0.1, 0.4]])
    found = MultiLabelMetric(cache_dir=str(tmp_path)).compute(
        predictions=chances, references=truth, thresholds=[0.5, 0.4]
    )
    assert found["micro_f1"] == 1.0
    found = BinaryMetric(cache_dir=str(tmp_path)).compute(predictions=[0.9, 0.1], references=[1, 0], threshold=0.05)
    assert (found["roc_auc"], found["precision"]) == (1.0, 0.5)
    found = RegressionMetric(cache_dir=str(tmp_path)).compute(predictions=[[1.0], [2.0]], references=[[1.0], [4.0]])
    assert found["rmse"] == pytest.approx(np.sqrt(2))


# --- bootstrap ----------------------------------------------------------------------------------------------


def problem(kind: str, rows: int = 300) -> tuple[np.ndarray, np.ndarray, str]:
    rng = np.random.default_rng(5)
    if kind == REGRESSION:
        labels = rng.normal(size=(rows, 2))
        return labels, labels + rng.normal(size=(rows, 2)), kind
    if kind == MULTI:
        labels = (rng.random((rows, 3)) < 0.3).astype(int)
        return labels, np.clip(rng.normal(0.3 + 0.3 * labels, 0.25), 0, 1), kind
    classes = 2 if kind == "binary" else 3
    labels = rng.choice(classes, rows, p=[0.8, 0.2] if classes == 2 else [0.6, 0.3, 0.1])
    return labels, np.round(softmax_of(rng, labels, classes), 2), SINGLE  # rounded: with ties


FITTING = [
    (metric, kind)
    for metric, kinds in CELL_METRICS.items()
    for kind in (SINGLE, "binary", MULTI, REGRESSION)
    if kind in kinds or (kind == "binary" and SINGLE in kinds)
]


@pytest.mark.parametrize(("metric", "kind"), FITTING)
def test_bootstrap_values_agree_with_scikit_learn_on_all_rows_and_on_a_resample(metric, kind):
    labels, probabilities, problem_type = problem(kind)
    names = {i: str(i) for i in range(probabilities.shape[1])}
    drawn = np.random.default_rng(7).integers(0, len(labels), len(labels))
    cells = cells_of(metric, labels, probabilities, problem_type)
    for rows in (np.arange(len(labels)), drawn):
        expected = scores_for(problem_type, labels[rows], probabilities[rows], names)[metric]
        counts = np.bincount(cells.cells[rows], minlength=cells.num_cells)[None].astype(float)
        assert cells.score(counts)[0] == pytest.approx(expected)


def test_interval_of_accuracy_matches_the_binomial():
    labels = np.zeros(400, int)
    probabilities = np.eye(2)[[0] * 300 + [1] * 100]
    interval = bootstrap_interval("accuracy", labels, probabilities, SINGLE, num_resamples=4000)
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert interval.value == 0.75
    assert (interval.low, interval.high) == pytest.approx((0.75 - half, 0.75 + half), abs=0.004)
    assert str(interval).startswith("0.750 (0.7")


def test_interval_of_average_precision_matches_a_plain_loop():
    labels, probabilities, _ = problem("binary")
    rng = np.random.default_rng(3)
    plain = []
    for _ in range(600):
        rows = rng.integers(0, len(labels), len(labels))
        plain.append(average_precision_score(labels[rows], probabilities[rows, 1]))
    interval = bootstrap_interval("average_precision", labels, probabilities, SINGLE, num_resamples=2000)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=0.02)


def test_resampling_whole_groups_widens_the_interval_of_rows_that_repeat():
    labels = np.zeros(1000, int)
    users = np.repeat(np.arange(20), 50)
    probabilities = np.eye(2)[(users % 2)]  # a user is always right or always wrong: 20 facts, not 1000
    by_row = bootstrap_interval("accuracy", labels, probabilities, SINGLE)
    by_user = bootstrap_interval("accuracy", labels, probabilities, SINGLE, groups=users)
    ratio = (by_user.high - by_user.low) / (by_row.high - by_row.low)
    assert ratio == pytest.approx(np.sqrt(50), rel=0.15)


def test_groups_of_one_row_agree_with_rows():
    labels, probabilities, _ = problem("binary")
    rows = bootstrap_interval("roc_auc", labels, probabilities, SINGLE, num_resamples=3000)
    groups = bootstrap_interval(
        "roc_auc", labels, probabilities, SINGLE, groups=np.arange(len(labels)), num_resamples=3000
    )
    assert (groups.low, groups.high) == pytest.approx((rows.low, rows.high), abs=0.01)
    assert groups.value == pytest.approx(roc_auc_score(labels, probabilities[:, 1]))


def test_paired_difference_of_a_model_with_itself_is_exactly_zero():
    labels, probabilities, _ = problem(SINGLE)
    found = paired_bootstrap("macro_f1", labels, probabilities, probabilities.copy(), SINGLE)
    assert (found.difference, found.low, found.high, found.share_above_zero) == (0, 0, 0, 0)


def test_paired_interval_is_narrower_than_the_two_intervals_apart():
    labels, probabilities, _ = problem(SINGLE, rows=1000)
    other = probabilities.copy()
    other[:40] = 1 / 3  # the same model, but for 40 rows
    single = bootstrap_interval("accuracy", labels, probabilities, SINGLE)
    paired = paired_bootstrap("accuracy", labels, probabilities, other, SINGLE)
    right = (probabilities.argmax(1) == labels).mean() - (other.argmax(1) == labels).mean()
    assert paired.difference == pytest.approx(right)
    assert paired.high - paired.low < 0.6 * (single.high - single.low)
    assert f"{paired.difference:+.3f} (" in str(paired)


def test_several_seeds_are_averaged_on_the_same_resamples():
    labels, good, _ = problem("binary")
    bad = good[::-1].copy()
    both = bootstrap_interval("average_precision", labels, [good, bad], SINGLE)
    each = [bootstrap_interval("average_precision", labels, p, SINGLE).value for p in (good, bad)]
    assert both.value == pytest.approx(np.mean(each))
    found = paired_bootstrap("f1", labels, [good, good], [bad], SINGLE, thresholds=[[0.5], [0.5]])
    assert found.low > 0 and found.share_above_zero == 1.0


def test_resamples_without_a_positive_are_counted_not_scored():
    labels = np.array([1] + [0] * 9)
    interval = bootstrap_interval("average_precision", labels, np.eye(2)[labels], SINGLE)
    assert interval.undefined_resamples == pytest.approx(1000 * 0.9**10, rel=0.2)
    assert (interval.value, interval.low, interval.high) == (1.0, 1.0, 1.0)


def test_bootstrap_is_repeatable_and_its_block_size_does_not_matter(monkeypatch):
    labels, probabilities, _ = problem(MULTI)
    first = bootstrap_interval("micro_f1", labels, probabilities, MULTI)
    assert first == bootstrap_interval("micro_f1", labels, probabilities, MULTI)
    monkeypatch.setattr("hf_mmtab.metrics.bootstrap._CHUNK", 1000)
    assert first == bootstrap_interval("micro_f1", labels, probabilities, MULTI)


def test_bootstrap_messages_name_what_was_expected():
    labels, probabilities, _ = problem(SINGLE)
    with pytest.raises(ValueError, match=r"No bootstrap of 'rmse' for single_label.*one of \['accuracy'"):
        bootstrap_interval("rmse", labels, probabilities, SINGLE)
    with pytest.raises(ValueError, match="as many labels as predictions and at least one, found 300 and 299"):
        bootstrap_interval("accuracy", labels, probabilities[:-1], SINGLE)
    with pytest.raises(ValueError, match="one group id for each of 300 rows, found 2"):
        bootstrap_interval("accuracy", labels, probabilities, SINGLE, groups=np.array([1, 2]))
    with pytest.raises(ValueError, match="thresholds for each of 2 seeds, found 1"):
        bootstrap_interval("f1", labels % 2, [probabilities[:, :2]] * 2, SINGLE, thresholds=[[0.5]])


def test_half_a_million_rows_are_quick():
    rng = np.random.default_rng(0)
    labels = (rng.random(500_000) < 0.002).astype(int)
    scores = 1 / (1 + np.exp(-rng.normal(3.0 * labels, 1)))
    probabilities = np.stack([1 - scores, scores], axis=1)
    start = time.process_time()
    tune_thresholds(scores, labels)
    users = rng.integers(0, 200, len(labels))
    bootstrap_interval("average_precision", labels, probabilities, SINGLE)
    bootstrap_interval("average_precision", labels, probabilities, SINGLE, groups=users)
    assert time.process_time() - start < 15


def test_the_interval_of_few_rows_of_rare_classes_holds_the_value():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(12), [40, *[1] * 11])
    one, other = rng.dirichlet(np.ones(12), len(labels)), rng.dirichlet(np.ones(12), len(labels))
    for metric in ("macro_f1", "macro_average_precision"):
        found = bootstrap_interval(metric, labels, one, "single_label_classification", num_resamples=200)
        assert found.low <= found.value <= found.high
        paired = paired_bootstrap(metric, labels, one, other, "single_label_classification", num_resamples=200)
        assert paired.low <= paired.difference <= paired.high

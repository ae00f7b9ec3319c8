"""Metrics, decisions, thresholds and uncertainty. Everything here works offline, over scikit-learn and numpy."""

from .bootstrap import BOOTSTRAP_METRICS, Interval, PairedDifference, bootstrap_interval, paired_bootstrap
from .calibration import brier_score, calibration_bins, expected_calibration_error
from .decisions import decide, probabilities_from_logits, tune_thresholds
from .evaluate_metrics import BinaryMetric, MultiLabelMetric, RegressionMetric, SingleLabelMetric
from .for_trainer import compute_metrics_for
from .priors import effective_prior, prior_log_ratios
from .scores import (
    binary_scores,
    metric_names,
    multi_label_scores,
    per_class_table,
    possible_metric_names,
    recalls_at_false_positive_rates,
    regression_scores,
    scores_for,
    single_label_scores,
)
from .thresholds import Thresholds, cross_fitted_thresholds

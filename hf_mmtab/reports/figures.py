"""Which figures belong to the predictions of a run."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..evaluation.episodes import episodes
from ..metrics import per_class_table
from .facts import RunFacts, SplitPredictions
from .plots_alerts import alert_curves, alert_sentence, alerts_a_day, episode_sentences, episodes_found
from .plots_classes import (
    binary_precision_recall,
    confused_pairs,
    confusion_counts,
    confusion_matrix,
    label_bars,
    precision_recall,
)
from .plots_scores import calibration, predicted_against_true, score_histogram, score_over_time

CALIBRATION = "Predicted probability against observed share"


@dataclass
class ResultFigures:
    """Name → (what it shows, plotting function, its arguments); and what the matrix says in words."""

    figures: dict[str, tuple] = field(default_factory=dict)
    confused_pairs: list[dict[str, Any]] = field(default_factory=list)
    num_wrong: int | None = None
    episodes: list[str] = field(default_factory=list)  # sentences
    alerts: str = ""  # in words


def result_figures(facts: RunFacts) -> ResultFigures:
    """The figures of the headline's split; none without labelled predictions."""
    predictions = facts.main_predictions
    if predictions is None:
        return ResultFigures()
    if facts.problem_type == "regression":
        names = [facts.id2label[i] for i in sorted(facts.id2label)]
        labels, values = predictions.labels, predictions.probabilities
        scatter = ("Predicted against true values", predicted_against_true, labels, values, names)
        return ResultFigures({"regression": scatter})
    if facts.problem_type == "multi_label_classification":
        return _multi_label(facts, predictions)
    return _single_label(facts, predictions)


def _single_label(facts: RunFacts, predictions: SplitPredictions) -> ResultFigures:
    labels, probabilities = predictions.truth, predictions.probabilities
    decided = facts.decisions(predictions)
    counts = confusion_counts(labels, decided, len(facts.id2label))
    found = ResultFigures(num_wrong=int((decided != labels).sum()))
    right = f"True class against predicted class; {int(counts.trace()):,} of {int(counts.sum()):,} rows are right"
    matrix = (right, confusion_matrix, counts, facts.id2label)
    found.figures["confusion"] = matrix
    if facts.is_binary:
        _add_binary(found, facts, predictions)
        return found
    found.confused_pairs = confused_pairs(counts, facts.id2label)
    table = per_class_table(labels, decided, probabilities, facts.id2label)
    truth = labels[:, None] == np.arange(len(facts.id2label))
    curves = ("Precision over recall per class", precision_recall, truth, probabilities, table)
    found.figures["precision_recall"] = curves
    confidence, right = probabilities.max(axis=1), (decided == labels).astype(np.int64)
    axes = ("probability of the predicted class", "share that is right")
    found.figures["calibration"] = (CALIBRATION, calibration, confidence, right, *axes)
    return found


def _add_binary(found: ResultFigures, facts: RunFacts, predictions: SplitPredictions) -> None:
    labels, scores, positive = predictions.truth, predictions.probabilities[:, 1], facts.id2label[1]
    if 0 < labels.sum() < len(labels):
        others = {name: other[:, 1] for name, other in predictions.others.items()}
        rank = facts.scores.get("average_precision", float("nan"))
        curve = (
            f"Precision over recall; average precision {rank:.3f}",
            binary_precision_recall,
            labels,
            scores,
            facts.binary_cut,
            others,
        )
        found.figures["precision_recall"] = curve
        classes = [f"{facts.id2label[one]} (mean {scores[labels == one].mean():.3f})" for one in (0, 1)]
        histogram = (f"Scores of the rows of {' and '.join(classes)}", score_histogram)
        found.figures["scores"] = (*histogram, labels, scores, facts.binary_cut, facts.id2label)
    axes = (f"predicted probability of {positive}", f"observed share of {positive}")
    found.figures["calibration"] = (CALIBRATION, calibration, scores, labels, *axes)
    if predictions.times is not None:
        over_time = ("Mean score and observed share over time", score_over_time)
        found.figures["score_over_time"] = (*over_time, predictions.times, labels, scores, positive)
        curves = alert_curves(predictions.times, labels, scores, predictions.amounts)
        if curves is not None:
            found.alerts = alert_sentence(curves, facts.binary_cut, positive)
            alt = f"Alerts a day against what they find. {found.alerts}"
            found.figures["alerts"] = (alt, alerts_a_day, curves, facts.binary_cut, positive)
        if predictions.groups is not None and facts.results.window_label != "any":  # which judges no single rows
            _add_episodes(found, predictions, scores >= facts.binary_cut, positive)


def _add_episodes(found: ResultFigures, predictions: SplitPredictions, called: np.ndarray, positive: str) -> None:
    rows: Any = (predictions.groups, predictions.times, predictions.labels, called, predictions.amounts)
    if (gathered := episodes(*rows)) is not None:
        found.episodes = episode_sentences(gathered, positive)
        alt = "Share of episodes that are found, over the rows since each began"
        found.figures["episodes"] = (alt, episodes_found, gathered, positive)


def _multi_label(facts: RunFacts, predictions: SplitPredictions) -> ResultFigures:
    labels, probabilities = predictions.truth, predictions.probabilities
    decided = facts.decisions(predictions)
    table = per_class_table(labels, decided, probabilities, facts.id2label)
    found = ResultFigures(num_wrong=int((decided != labels).any(axis=1).sum()))
    found.figures["labels"] = ("F1 and average precision per label", label_bars, table)
    curves = ("Precision over recall per label", precision_recall, labels, probabilities, table)
    found.figures["precision_recall"] = curves
    axes = ("predicted probability, all labels", "observed share")
    found.figures["calibration"] = (CALIBRATION, calibration, probabilities.ravel(), labels.ravel(), *axes)
    return found

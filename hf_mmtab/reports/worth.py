"""Whether a model is worth anything: its scores beside those of the best constant answer."""

from dataclasses import dataclass

import numpy as np

from ..metrics import scores_for
from ..metrics.names import lower_is_better, metric_name
from .facts import RunFacts


@dataclass(frozen=True)
class ConstantAnswer:
    """The best answer that is the same for every row of the headline's split.

    Args:
        words: what it answers.
        scores: metric → value.
    """

    words: str
    scores: dict[str, float]


def constant_answer(facts: RunFacts) -> ConstantAnswer | None:
    """Return the constant answer and its scores; None without labelled predictions.

    Of classes it knows how often each occurs in these rows, of targets their mean, of several labels which set of them
    has the highest micro-F1: more than any model is told.
    """
    predictions = facts.main_predictions
    if predictions is None:
        return None
    labels = np.asarray(predictions.labels)
    if facts.problem_type == "single_label_classification":
        shares = np.bincount(labels, minlength=len(facts.id2label)) / len(labels)
        words = f"always {facts.id2label[int(shares.argmax())]}"
    elif facts.problem_type == "regression":
        shares, words = np.nanmean(labels.reshape(len(labels), -1), axis=0), "always the mean"
    else:
        often = labels.mean(axis=0)
        chosen = _best_set(often)
        shares = np.where(chosen, np.maximum(often, 0.5), np.minimum(often, 0.49))  # decided at .5
        words = f"always {', '.join(facts.id2label[int(place)] for place in np.flatnonzero(chosen))}"
    constant = np.broadcast_to(shares, (len(labels), len(shares)))
    return ConstantAnswer(words, scores_for(facts.problem_type, labels, constant, facts.id2label))


def _best_set(often: np.ndarray) -> np.ndarray:
    """Return which labels the set that is best for all rows holds, by micro-F1, `(labels,)`.

    Args:
        often: `(labels,)` share of the rows that have each.
    """
    order = np.argsort(-often, kind="stable")
    f1 = 2 * np.cumsum(often[order]) / (np.arange(1, len(often) + 1) + often.sum())
    chosen = np.zeros(len(often), dtype=bool)
    chosen[order[: int(f1.argmax()) + 1]] = True
    return chosen


def warnings_of_worth(facts: RunFacts, constant: ConstantAnswer | None) -> list[str]:
    """Return what a reader must know before anything else: the model is no better than a constant, or is one."""
    predictions, metric = facts.main_predictions, str(facts.main_metric)
    if constant is None or predictions is None:
        return []
    found = []
    decided = np.asarray(facts.decisions(predictions))
    if len(decided) > 1 and (decided == decided[0]).all():
        answer = "the same values" if facts.problem_type == "regression" else "one answer"
        if decided.ndim == 1 and facts.problem_type != "regression":
            answer = f"one answer, {facts.id2label[int(decided[0])]},"
        found.append(f"The model gives {answer} for all {len(decided):,} rows.")
    if facts.is_binary:
        found += _nothing_found(facts, np.asarray(predictions.labels), decided)
    own, other = facts.scores.get(metric), constant.scores.get(metric)
    if own is None or other is None:
        return found
    sign = -1 if lower_is_better(metric) else 1
    told = f"{metric_name(metric)} {own:.3f} against {other:.3f} of the best constant answer ({constant.words})"
    interval = facts.intervals.get(metric)
    worst = own if interval is None else interval.high if lower_is_better(metric) else interval.low
    if sign * (own - other) <= 0:
        found.append(f"The model is no better than a constant: {told}. It is not worth using.")
    elif sign * (worst - other) <= 0:
        found.append(f"The model is not told apart from a constant: {told}, which lies within its interval.")
    return found


def _nothing_found(facts: RunFacts, labels: np.ndarray, decided: np.ndarray) -> list[str]:
    """Say that no row of class 1 lies above the threshold, which its average precision may hide; [] if one does."""
    name, positives = facts.id2label[1], int((labels == 1).sum())
    if not positives or ((labels == 1) & (decided == 1)).any():
        return []
    alerts = int((decided == 1).sum())
    told = f"none of the {positives:,} rows of {name} is called {name}"
    told += f", and all {alerts:,} alerts are wrong" if alerts else ", and there is no alert"
    return [
        f"At the chosen threshold ({facts.binary_cut:.3g}) nothing is found: {told}. Precision, recall and F1 are 0."
    ]


def harmful_inputs(facts: RunFacts) -> list[str]:
    """Return a sentence for each input without which a metric is better than the interval of all inputs."""
    worse: dict[str, str] = {}
    ways = {"blank": "left blank", "shuffle": "of another row"}
    for row in facts.results.ablation:
        interval, name = facts.intervals.get(row.metric), row.modality
        if interval is None or name in worse:
            continue
        if not (row.value < interval.low if lower_is_better(row.metric) else row.value > interval.high):
            continue
        worse[name] = (
            f"The model is better without its {name}: {metric_name(row.metric)} {row.value:.3f} with the {name} "
            f"{ways.get(row.how, row.how)}, {row.intact:.3f} with all inputs (95 % interval {interval.low:.3f} to "
            f"{interval.high:.3f}). It has learned something wrong from the {name}, or the {name} of these rows is "
            f"unlike that of training. Look at the learning curves, and train a model without the {name} beside it."
        )
    return list(worse.values())

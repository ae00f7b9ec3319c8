"""Reasons in a report: beside the errors that it shows, and for the alerts with the highest scores."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from .examples import Example, as_percent, identity_of
from .facts import RunFacts, SplitPredictions

SECONDS = 30.0  # for all reasons of a page; what has none by then is shown without
EXPLAINED = 8  # errors, and as many alerts


@dataclass
class Alert:
    """One of the rows with the highest scores."""

    row: int
    score: str
    true: str
    is_right: bool
    identity: str
    amount: float | None = None
    label: int = 1  # whose score the reasons are of: the positive one's
    reasons: list[str] = field(default_factory=list)


def highest_alerts(facts: RunFacts, predictions: SplitPredictions) -> list[Alert]:
    """Return the rows of a table that are called positive with the highest scores; none of other predictions."""
    if not facts.is_binary or predictions.times is None or predictions.labels is None:
        return []
    scores, labels, amounts = predictions.probabilities[:, 1], predictions.labels, predictions.amounts
    order = np.argsort(-scores, kind="stable")[:EXPLAINED]
    return [
        Alert(
            int(i),
            as_percent(float(scores[i])),
            facts.id2label[int(labels[i])],
            labels[i] == 1,
            identity_of(predictions, int(i)),
            None if amounts is None else float(amounts[i]),
        )
        for i in order[scores[order] >= facts.binary_cut]
    ]


def add_reasons(predictions: SplitPredictions, shown: Iterable[Example | Alert], seconds: float = SECONDS) -> str:
    """Give rows their reasons, as far as time allows; return what the page says about those without.

    Args:
        predictions: whose `explain` is asked.
        shown: in the order of importance.
        seconds: after which no further row is explained.
    """
    if predictions.explain is None:
        return ""
    stop = time.monotonic() + seconds
    left = 0
    for one in shown:
        if time.monotonic() > stop:
            left += 1
            continue
        try:
            one.reasons = predictions.explain(one.row, one.label)
        except ImportError as error:  # Captum, of an extra
            return f"Reasons are not shown. {error}"
    return f"{left} rows have no reasons: explaining them would take longer than {seconds:.0f} s." if left else ""

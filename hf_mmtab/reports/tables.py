"""Facts → rows of the page's tables."""

from typing import Any

import numpy as np

from ..evaluation.comparison import in_words, lead_sentences
from ..evaluation.row_evaluation import HEADLINE
from ..metrics import PairedDifference, per_class_table
from ..metrics.names import metric_name
from .facts import MASKED_LM, RunFacts
from .worth import ConstantAnswer

_SECOND: dict[str, tuple[str, ...]] = {**HEADLINE, MASKED_LM: ("accuracy", "masked_loss")}
_SECOND["regression"] += ("r2",)
_BINARY: tuple[str, ...] = (
    "average_precision",
    "roc_auc",
    "f1",
    "precision",
    "recall",
    "recall_at_fpr_0.001",
    "recall_at_fpr_0.01",
)
_BINARY += ("accuracy", "macro_f1", "brier", "calibration_error")
_BINARY_HEAD = ("average_precision", "roc_auc", "f1", "recall_at_fpr_0.001", "accuracy")
_BESIDES = ("loss", "mean_score", "positive_rate", "threshold", "classes_without_positive")


def headline(facts: RunFacts) -> list[dict[str, Any]]:
    """The few numbers of the page's head: the main metric with its interval first, then its companions."""
    scores = facts.scores
    intervals = facts.intervals
    companions = _BINARY_HEAD if facts.is_binary else _SECOND[facts.problem_type]
    wanted = [str(facts.main_metric), *companions]
    names = [name for name in dict.fromkeys(wanted) if name in scores]
    return [{"name": metric_name(n), "value": scores[n], "interval": intervals.get(n)} for n in names[:4]]


def split_table(facts: RunFacts, constant: ConstantAnswer | None = None) -> dict[str, Any]:
    """All metrics but those per class: one row per metric, one column per split, and one of the constant answer."""
    counts = ("classes_without_positive",)
    order = [str(facts.main_metric), *_BINARY, *_SECOND[facts.problem_type]]
    found = list(dict.fromkeys(n for scores in facts.results.metrics.values() for n in scores))
    per_class = facts.problem_type != "regression"
    # Micro F1 equals accuracy there.
    skipped = {"micro_f1"} if facts.problem_type == "single_label_classification" else set()
    if not any(scores.get("classes_without_positive") for scores in facts.results.metrics.values()):
        skipped.add("classes_without_positive")
    if facts.is_binary:  # means over both classes tell nothing beside the numbers of the positive class
        skipped |= {"macro_average_precision", "weighted_f1"}
    found = [n for n in found if not (per_class and "/" in n)]
    names = [n for n in found if n not in skipped or n == facts.main_metric]
    names.sort(key=lambda n: (order.index(n) if n in order else len(order), n in _BESIDES))
    rows = [
        {
            "name": metric_name(n),
            "metric": n,
            "constant": None if constant is None or n in _BESIDES else constant.scores.get(n),
            "cells": [
                {
                    "split": split,
                    "value": int(s[n]) if n in counts and n in s else s.get(n),
                    "interval": facts.results.intervals.get(split, {}).get(n),
                }
                for split, s in facts.results.metrics.items()
            ],
        }
        for n in names
    ]
    has_intervals = {split: bool(facts.results.intervals.get(split)) for split in facts.results.metrics}
    return {"splits": list(facts.results.metrics), "rows": rows, "has_intervals": has_intervals}


def comparison_rows(facts: RunFacts) -> dict[str, Any]:
    """One row per model: mean and spread over seeds for each metric, and the paired difference of the main one."""
    if not facts.comparison:
        return {}
    metrics = list(dict.fromkeys(m for model in facts.comparison for m in model.scores))
    metrics.sort(key=lambda m: m != facts.main_metric)
    rows: list[dict[str, Any]] = []
    seeds: list[int] = []
    own = next((model.name for model in facts.comparison if model.is_own), "this run")
    for model in facts.comparison:
        cells = []
        for m in metrics:
            values = np.asarray(model.scores.get(m, ()), dtype=float)
            spread = float(values.std(ddof=1)) if len(values) > 1 else None
            cells.append({"mean": float(values.mean()) if len(values) else None, "spread": spread})
        difference: PairedDifference | None = model.differences.get(str(facts.main_metric))
        seeds.append(max((len(v) for v in model.scores.values()), default=0))
        words = "" if difference is None else in_words(difference, str(facts.main_metric))
        words = f"{own} {words}" if words in ("better", "worse") else words  # it stands in the other model's line
        line = {
            "model": model,
            "name": model.name,
            "cells": cells,
            "difference": difference,
            "words": words,
            "seeds": seeds[-1],
        }
        rows.append(line)
    shows = {
        "difference": any(row["difference"] is not None for row in rows),
        "seconds": any(model.seconds is not None for model in facts.comparison),
        "seeds": max(seeds) > 1,
    }
    sentences = lead_sentences(facts.comparison, str(facts.main_metric)) if shows["difference"] else []
    return {"metrics": metrics, "rows": rows, "shows": shows, "own": own, "sentences": sentences}


def class_rows(facts: RunFacts) -> list[dict[str, Any]]:
    """The per-class table of the headline's split, with thresholds for several labels."""
    predictions = facts.main_predictions
    if predictions is None or facts.problem_type == "regression":
        return []
    decided = facts.decisions(predictions)
    table = per_class_table(predictions.truth, decided, predictions.probabilities, facts.id2label)
    if facts.problem_type == "multi_label_classification" and facts.results.thresholds is not None:
        cuts = np.broadcast_to(np.asarray(facts.results.thresholds, dtype=float), (len(table),))
        for row, cut in zip(table, cuts, strict=True):
            row["threshold"] = float(cut)
    return table

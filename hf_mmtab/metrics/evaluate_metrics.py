"""`evaluate.Metric` classes, instantiated directly: `evaluate.load` would ask the network.

    >>> metric = SingleLabelMetric()
    >>> metric.add_batch(predictions=[[0.9, 0.1], [0.2, 0.8]], references=[0, 1])
    >>> metric.compute()["accuracy"]
    1.0

Class names are `0`, `1`, … unless `compute(id2label=...)` gives them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from .scores import binary_scores, multi_label_scores, regression_scores, single_label_scores

_FLOATS = datasets.Sequence(datasets.Value("float64"))
_CITATION = "Pedregosa et al., Scikit-learn: Machine Learning in Python, JMLR 12, 2011."


def _info(description: str, predictions: object, references: object) -> evaluate.MetricInfo:
    features = datasets.Features({"predictions": predictions, "references": references})
    return evaluate.MetricInfo(description=description, citation=_CITATION, features=features)


class SingleLabelMetric(evaluate.Metric):
    """Predictions: probabilities per class; references: class ids. See `single_label_scores`."""

    _scores = staticmethod(single_label_scores)

    def _info(self) -> evaluate.MetricInfo:
        described = "Accuracy, F1 and average precision of one label per row."
        return _info(described, _FLOATS, datasets.Value("int64"))

    def _compute(
        self,
        predictions: list[list[float]],
        references: list[Any],
        id2label: Mapping[int, str] | None = None,
        thresholds: Sequence[float] | None = None,
        per_class: bool = False,
    ) -> dict[str, float]:
        probabilities = np.asarray(predictions)
        names = id2label or {i: str(i) for i in range(probabilities.shape[1])}
        return self._scores(np.asarray(references), probabilities, names, thresholds, per_class)


class MultiLabelMetric(SingleLabelMetric):
    """Predictions: a probability per label; references: 0 or 1 per label. See `multi_label_scores`."""

    _scores = staticmethod(multi_label_scores)

    def _info(self) -> evaluate.MetricInfo:
        labels = datasets.Sequence(datasets.Value("int64"))
        return _info("F1 and average precision of several labels per row.", _FLOATS, labels)


class BinaryMetric(evaluate.Metric):
    """Predictions: the score of class 1; references: 0 or 1. See `binary_scores`."""

    def _info(self) -> evaluate.MetricInfo:
        description = "Average precision, ROC-AUC, F1 at a threshold, recall at fixed false positive rates."
        return _info(description, datasets.Value("float64"), datasets.Value("int64"))

    def _compute(
        self, predictions: list[float], references: list[int], threshold: float = 0.5
    ) -> dict[str, float]:
        return binary_scores(np.asarray(references), np.asarray(predictions), threshold)


class RegressionMetric(evaluate.Metric):
    """Predictions and references: one value per target; NaN references are left out. See
    `regression_scores`.
    """

    def _info(self) -> evaluate.MetricInfo:
        return _info("RMSE, MAE and R² of one or several targets.", _FLOATS, _FLOATS)

    def _compute(
        self,
        predictions: list[list[float]],
        references: list[list[float]],
        id2label: Mapping[int, str] | None = None,
    ) -> dict[str, float]:
        return regression_scores(np.asarray(references), np.asarray(predictions), id2label)

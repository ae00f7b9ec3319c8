"""`evaluate.Metric` classes, instantiated directly: `evaluate.load` would ask the network.

    >>> metric = SingleLabelMetric()
    >>> metric.add_batch(predictions=[[0.9, 0.1], [0.2, 0.8]], references=[0, 1])
    >>> metric.compute()["accuracy"]
    1.0

`compute` takes the settings of the function of `scores` that the class names, by keyword.
"""

from collections.abc import Callable, Mapping
from typing import Any

import datasets
import evaluate
import numpy as np

from .scores import binary_scores, multi_label_scores, regression_scores, single_label_scores

_FLOAT, _INTEGER = datasets.Value("float64"), datasets.Value("int64")
_CITATION = "Pedregosa et al., Scikit-learn: Machine Learning in Python, JMLR 12, 2011."


class _ScoresMetric(evaluate.Metric):
    """A function of `scores`, what it gives, and the features of its predictions and references."""

    scores: Callable[..., dict[str, float]]
    about: str
    columns: tuple[Any, Any]

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features(dict(zip(("predictions", "references"), self.columns, strict=True)))
        return evaluate.MetricInfo(description=self.about, citation=_CITATION, features=features)

    def _compute(self, predictions: list, references: list, **settings: Any) -> dict[str, float]:
        return self.scores(np.asarray(references), np.asarray(predictions), **settings)


class SingleLabelMetric(_ScoresMetric):
    """Predictions: probabilities per class; references: class ids. See `single_label_scores`.

    Class names are `0`, `1`, … unless `compute(id2label=...)` gives them.
    """

    scores = staticmethod(single_label_scores)
    about = "Accuracy, F1 and average precision of one label per row."
    columns = (datasets.Sequence(_FLOAT), _INTEGER)

    def _compute(
        self, predictions: list, references: list, id2label: Mapping[int, str] | None = None, **settings: Any
    ) -> dict[str, float]:
        names = id2label or {i: str(i) for i in range(len(predictions[0]))}
        return super()._compute(predictions, references, id2label=names, **settings)


class MultiLabelMetric(SingleLabelMetric):
    """Predictions: a probability per label; references: 0 or 1 per label. See `multi_label_scores`."""

    scores = staticmethod(multi_label_scores)
    about = "F1 and average precision of several labels per row."
    columns = (datasets.Sequence(_FLOAT), datasets.Sequence(_INTEGER))


class BinaryMetric(_ScoresMetric):
    """Predictions: the score of class 1; references: 0 or 1. See `binary_scores`."""

    scores = staticmethod(binary_scores)
    about = "Average precision, ROC-AUC, F1 at a threshold, recall at fixed false positive rates."
    columns = (_FLOAT, _INTEGER)


class RegressionMetric(_ScoresMetric):
    """Predictions and references: one value per target; NaN references are left out. See `regression_scores`."""

    scores = staticmethod(regression_scores)
    about = "RMSE, MAE and R² of one or several targets."
    columns = (datasets.Sequence(_FLOAT), datasets.Sequence(_FLOAT))

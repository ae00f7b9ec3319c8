"""Logistic regression whose regularisation is chosen on validation, for one label or several."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ..evaluation.combining import log_loss

# `C` of scikit-learn, from much regularisation to little.
STRENGTHS = tuple(np.logspace(-4.5, 0.5, 11).tolist())
MOST_STEPS = 200
DEAD = 1e-4  # of the median spread: MiniLM has a state that varies by 1e-30
RAREST = 1e-3  # probability that stands for 0 in a network, where weights go on from it


@dataclass(frozen=True)
class Split:
    """Features and labels of some rows.

    Args:
        features: `(rows, size)`.
        labels: `(rows,)` classes, or `(rows, num_labels)` of 0 and 1.
    """

    features: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Fitted:
    """A regression with the strength that validation likes best.

    Args:
        scaler: of the features.
        models: one of all classes, or one of each label; a number is a label's share, where training knows one value.
        num_labels: classes or labels.
        several: whether a row may have several labels.
        strength: `C` of scikit-learn.
        loss: mean negative log likelihood of a validation label.
    """

    scaler: StandardScaler
    models: list[Any]
    num_labels: int
    several: bool
    strength: float
    loss: float

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return probabilities, `(rows, num_labels)`."""
        return _predict(self.models, self.scaler.transform(features), self.num_labels, self.several)

    def as_linear(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the same regression as weights `(num_labels, size)` and biases `(num_labels,)` of raw features.

        A label of which training knows one value alone has no weights and the bias of `RAREST`, or of 1 - `RAREST`; a
        class without a training row likewise.
        """
        weights = np.zeros((self.num_labels, self.scaler.n_features_in_))
        never = np.log(RAREST / (1 - RAREST))
        biases = np.full(self.num_labels, never)
        if self.several:
            for label, model in enumerate(self.models):
                if isinstance(model, float):
                    biases[label] = -never if model else never
                else:
                    weights[label], biases[label] = model.coef_[0], model.intercept_[0]
        elif isinstance(self.models[0], float):
            biases[int(self.models[0])] = -never
        else:
            model, classes = self.models[0], self.models[0].classes_
            two = len(classes) == 2  # scikit-learn holds the difference of both
            weights[classes] = np.vstack([-model.coef_, model.coef_]) / 2 if two else model.coef_
            biases[classes] = np.hstack([-model.intercept_, model.intercept_]) / 2 if two else model.intercept_
        weights /= self.scaler.scale_
        return weights, biases - weights @ self.scaler.mean_


def fit_logistic(train: Split, validation: Split, num_labels: int) -> Fitted:
    """Fit with more and more freedom until validation likes it less.

    Args:
        train: rows to fit on.
        validation: rows to choose the strength on.
        num_labels: classes or labels.
    """
    scaler = standardiser(train.features)
    inner, outer = scaler.transform(train.features), scaler.transform(validation.features)
    several = train.labels.ndim > 1
    targets = list(train.labels.T) if several else [train.labels]
    best: Fitted | None = None
    starts: list[Any] = [None] * len(targets)
    for strength in STRENGTHS:
        models = [_fit(inner, one, strength, start) for one, start in zip(targets, starts, strict=True)]
        loss = log_loss(_predict(models, outer, num_labels, several), validation.labels)
        if best is not None and loss >= best.loss:
            break
        best, starts = Fitted(scaler, models, num_labels, several, strength, loss), models
    assert best is not None
    return best


def fit_splits(features: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], num_labels: int) -> Fitted:
    """Fit on the split "train" and choose on "validation", see `fit_logistic`."""
    train, validation = (Split(features[one], labels[one]) for one in ("train", "validation"))
    return fit_logistic(train, validation, num_labels)


def standardiser(features: np.ndarray) -> StandardScaler:
    """Return the scaler of features `(rows, size)`; a dead one stays as it is: scaled, its noise would be as large."""
    scaler = StandardScaler().fit(features)
    scaler.scale_[scaler.scale_ < DEAD * np.median(scaler.scale_)] = 1.0
    return scaler


def _fit(features: np.ndarray, labels: np.ndarray, strength: float, start: Any) -> Any:
    """Fit one regression, from the weights of a stronger one; return a share where there is one class only."""
    if len(np.unique(labels)) == 1:
        return float(labels[0])
    model = LogisticRegression(C=strength, max_iter=MOST_STEPS, tol=1e-3, warm_start=True)
    if start is not None:
        model.coef_, model.intercept_ = start.coef_.copy(), start.intercept_.copy()
        model.classes_ = start.classes_
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the validation loss decides which fit is kept
        return model.fit(features, labels)


def _predict(models: list[Any], features: np.ndarray, num_labels: int, several: bool) -> np.ndarray:
    probabilities = np.zeros((len(features), num_labels))
    if several:
        for column, model in enumerate(models):
            one = isinstance(model, float)
            probabilities[:, column] = model if one else model.predict_proba(features)[:, 1]
    elif isinstance(models[0], float):
        probabilities[:, int(models[0])] = 1.0
    else:
        probabilities[:, models[0].classes_] = models[0].predict_proba(features)
    return probabilities

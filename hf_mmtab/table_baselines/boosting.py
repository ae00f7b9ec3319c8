"""Gradient-boosted trees (LightGBM, the optional extra `boosting`) on features of rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit
from transformers.utils import logging

from ..models.tabbert.tree_files import import_lightgbm

logger = logging.get_logger(__name__)

ROUNDS, PATIENCE = 2000, 100
READ_AT_ONCE = 16_384  # rows of a block that LightGBM reads
PARAMETERS = {
    "learning_rate": 0.03,
    "num_leaves": 31,
    "min_data_in_leaf": 20,
    "min_sum_hessian_in_leaf": 1e-3,
    "feature_fraction": 0.3,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "cat_smooth": 50.0,
    "max_bin": 255,
    "verbosity": -1,
    "deterministic": True,
    "force_row_wise": True,
}
# Of few positive rows those of validation say little of when to stop, and 31 leaves fit single ones: a second booster
# of smaller trees, stopped by log loss, errs otherwise, and the mean of both is near the better one.
FEW_POSITIVES = 5_000
SMALLER = {"num_leaves": 8, "metric": "binary_logloss"}


@dataclass(frozen=True)
class Features:
    """Features of some rows.

    Args:
        names: of the columns.
        values: `(rows, features)` float32, NaN where missing; may lie on disk.
        categorical: columns whose values are codes.
        chosen: places of the rows among those of `values`; None: all.
    """

    names: list[str]
    values: np.ndarray
    categorical: list[int]
    chosen: np.ndarray | None = None

    def select(self, chosen: np.ndarray) -> "Features":
        """Return some of the rows, by place or mask; their values stay where they are until they are read."""
        places = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        return replace(self, chosen=places if self.chosen is None else self.chosen[places])

    def __len__(self) -> int:
        return len(self.values) if self.chosen is None else len(self.chosen)

    def read(self, first: int = 0, end: int | None = None) -> np.ndarray:
        """Return the values of some rows, in memory."""
        return np.array(self.values[first:end] if self.chosen is None else self.values[self.chosen[first:end]])


@dataclass
class BoostedTrees:
    """A fitted model.

    Attributes:
        boosters: LightGBM's: of two classes those whose log odds are averaged, else one, or one a target.
        names: of the features.
        rounds: trees of each booster.
    """

    boosters: list[Any]
    names: list[str]
    rounds: list[int]

    def predict(self, features: Features) -> np.ndarray:
        """Return probabilities `(rows,)` of class 1, `(rows, classes)`, or values `(rows, targets)`."""
        objective = self.boosters[0].params["objective"]
        if objective == "binary":
            return expit(self.log_odds(features))
        found = [booster.predict(features.read()) for booster in self.boosters]
        return np.stack(found, axis=1) if objective == "regression" else found[0]

    def log_odds(self, features: Features) -> np.ndarray:
        """Return log odds `(rows,)` of class 1, of two classes."""
        values = features.read()
        return np.mean([booster.predict(values, raw_score=True) for booster in self.boosters], axis=0)

    def summary(self, seed: int) -> str:
        """Return how many trees there are and what they use, as a sentence."""
        used = ", ".join(f"{feature} {share:.0%}" for feature, share in self.most_used())
        trees = "1 tree" if sum(self.rounds) == 1 else f"{sum(self.rounds)} trees"
        return f"{trees} on {len(self.names)} numbers, seed {seed}; share of the gain: {used or 'nothing is used'}."

    def most_used(self, count: int = 10) -> list[tuple[str, float]]:
        """Return the features that are used by their share of the whole gain, the greatest first."""
        gains = sum(booster.feature_importance("gain") for booster in self.boosters)
        order = [i for i in np.argsort(-gains)[:count] if gains[i] > 0]
        return [(self.names[i], float(gains[i] / gains.sum())) for i in order]


def fit_trees(
    train: Features,
    labels: np.ndarray,
    validation: tuple[Features, np.ndarray] | Sequence[int],
    num_classes: int,
    seed: int = 0,
    threads: int | None = None,
    weights: np.ndarray | None = None,
) -> BoostedTrees:
    """Fit trees, as many as do best on validation.

    Args:
        train: of rows with a label.
        labels: `(rows,)` classes, or `(rows, targets)` floats, NaN unknown.
        validation: rows with a label, and their labels: trees stop by average precision (two classes), log loss or
            squared error. With two classes and few positive rows a second booster of smaller trees stops by log loss.
            Numbers: so many trees of each booster, whatever validation says.
        num_classes: 0 for numbers.
        seed: of the sampling of rows and features.
        threads: None: all cores.
        weights: `(rows,)` of the training rows, where they stand for more rows than themselves.

    Raises:
        ImportError: without LightGBM.
        ValueError: if training has fewer than two classes.
    """
    lightgbm = import_lightgbm()
    settings: dict[str, Any] = {**PARAMETERS, "seed": seed, "num_threads": threads or 0}
    fits: list[tuple[np.ndarray, dict[str, Any]]]  # a booster each: its targets, and settings of its own
    if num_classes:
        met = np.unique(labels)
        if len(met) < 2:
            raise ValueError(
                f"Expected training rows of at least two classes, found only class {met.tolist()} in {len(labels)} "
                "rows. Choose other split_fractions, or a label that varies."
            )
        if num_classes > 2:
            settings |= {"objective": "multiclass", "metric": "multi_logloss", "num_class": num_classes}
            fits = [(labels, {})]
        else:
            settings |= {"objective": "binary", "metric": "binary_logloss"}
            if isinstance(validation, tuple):
                settings["metric"] = _binary_metric(validation[1])
                several = (labels == 1).sum() < FEW_POSITIVES
            else:
                several = len(validation) > 1
            fits = [(labels, {}), (labels, SMALLER)] if several else [(labels, {})]
    else:
        settings |= {"objective": "regression", "metric": "l2"}
        fits = [(target, {}) for target in labels.T.copy()]
    boosters: list[Any] = []
    data = stops = None
    for number, (own, changes) in enumerate(fits):
        if number == 0 or own is not labels:  # boosters of the same targets share the data
            data = _dataset(lightgbm, train, own, np.isfinite(own), None, weights)
            if isinstance(validation, tuple):
                judged = validation[1].T[number] if validation[1].ndim > 1 else validation[1]
                stops = _dataset(lightgbm, validation[0], judged, np.isfinite(judged), data)
        more: dict[str, Any] = {}
        if isinstance(validation, tuple):
            patience = lightgbm.early_stopping(PATIENCE, verbose=False)
            more = {"num_boost_round": ROUNDS, "valid_sets": [stops], "callbacks": [patience]}
        else:
            more = {"num_boost_round": validation[number]}
        boosters.append(lightgbm.train({**settings, **changes}, data, **more))
    grown = [booster.best_iteration or booster.num_trees() for booster in boosters]
    return BoostedTrees(boosters, train.names, grown)


def _binary_metric(labels: np.ndarray) -> str:
    if 0 < (labels == 1).sum() < len(labels):
        return "average_precision"
    logger.warning("Validation rows are all of one class: trees are stopped by log loss, not by average precision.")
    return "binary_logloss"


def _dataset(
    lightgbm: Any,
    features: Features,
    labels: np.ndarray,
    known: np.ndarray,
    reference: Any,
    weights: np.ndarray | None = None,
) -> Any:
    class Rows(lightgbm.Sequence):
        """Rows that LightGBM reads block by block; it keeps a byte of each value, a table in memory has four."""

        batch_size = READ_AT_ONCE

        def __len__(self) -> int:
            return len(kept)

        def __getitem__(self, wanted: Any) -> np.ndarray:
            if isinstance(wanted, slice):
                return kept.read(wanted.start, wanted.stop).astype(np.float64)
            return kept.select(np.atleast_1d(wanted)).read().astype(np.float64).reshape(*np.shape(wanted), -1)

    kept = features if known.all() else features.select(known)
    return lightgbm.Dataset(
        Rows(),
        label=labels[known],
        weight=None if weights is None else weights[known],
        reference=reference,
        categorical_feature=features.categorical,  # by number: names may hold what LightGBM refuses
        free_raw_data=True,
        params={"max_bin": PARAMETERS["max_bin"], "verbosity": -1},
    )

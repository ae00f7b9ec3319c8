"""LP-FT (arXiv:2202.10054): fine-tuning starts from a linear probe of the frozen model, not from random weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import Ridge
from torch import nn

from ..data.encoded import EncodedDataset
from ..models.mmbt.configuration_baselines import MMBTBaselineConfig
from ..models.mmbt.picture_and_text_parts import PictureAndTextParts
from ..training import MMTabTrainer
from .frozen_linear import read_pictures
from .logistic import fit_splits, standardiser

BASELINE = MMBTBaselineConfig.model_type
_PENALTIES = tuple(np.logspace(2, 6, 9).tolist())  # of scikit-learn's Ridge, on standardised features


@dataclass(frozen=True)
class Probe:
    """A logistic regression as a linear layer, and its log loss on validation."""

    loss: float
    weights: np.ndarray
    biases: np.ndarray


@dataclass(frozen=True)
class LinearStart:
    """What the frozen model says of the ways to start it, each by the log loss of a regression on validation.

    Args:
        pooling: `cls` or `mean`, the better.
        tried: what was tried → log loss.
        probe: the best regression.
        is_classifier: whether the classifier starts from it.
        is_aligned: whether the image projection starts from a regression too.
    """

    pooling: str
    tried: dict[str, float]
    probe: Probe
    is_classifier: bool
    is_aligned: bool

    def __str__(self) -> str:
        losses = ", ".join(f"{name} {loss:.3f}" for name, loss in self.tried.items())
        said = [f"text_pooling: {self.pooling}"]
        if self.is_classifier:
            said.append("the classifier starts from a logistic regression on the model as it starts")
        if self.is_aligned:
            said.append("the image projection from a ridge regression of word vectors on pictures")
        return (
            f"{'; '.join(said)}. Log loss on validation of a logistic regression on the model as it starts: {losses}."
        )


class LinearStarter:
    """Chooses how a model starts, by regressions on what it gives for its training rows.

    Args:
        trainer: holds the model as it starts.
        encoded: "train" and "validation" → rows as the model's inputs.
        labels: the same → `(rows,)` or `(rows, num_labels)`.
    """

    def __init__(
        self, trainer: MMTabTrainer, encoded: Mapping[str, EncodedDataset], labels: Mapping[str, np.ndarray]
    ) -> None:
        self.trainer, self.encoded, self.labels = trainer, encoded, labels
        self.model: Any = trainer.model
        self.classifier = str(_last_linear(self.model, "classifier"))

    def start(self, poolings: tuple[str, ...], with_classifier: bool) -> LinearStart:
        """Set pooling and, if asked to, image projection and classifier.

        Args:
            poolings: to choose from.
            with_classifier: start the classifier from the probe, and the image projection of MMBT from a regression
                where the probe is better on it.
        """
        tried = {}
        for pooling in poolings:
            self.model.config.text_pooling = pooling
            tried[pooling] = self._probe()
        pooling = min(tried, key=lambda one: tried[one].loss)
        self.model.config.text_pooling = pooling
        if pooling == "mean":
            pool_by_mean(self.model)
        probe, is_aligned = tried[pooling], False
        path = _last_linear(self.model, "image_projection")
        if with_classifier and path is not None:
            projection = self.model.get_submodule(path)
            before = {name: value.clone() for name, value in projection.state_dict().items()}
            self._align(projection)
            tried["with an aligned projection"] = aligned = self._probe()
            is_aligned = aligned.loss < probe.loss
            if is_aligned:
                probe = aligned
            else:
                projection.load_state_dict(before)
        if with_classifier:
            _copy_linear(self.model.get_submodule(self.classifier), probe.weights, probe.biases)
        losses = {name: one.loss for name, one in tried.items()}
        return LinearStart(pooling, losses, probe, with_classifier, is_aligned)

    def _probe(self) -> Probe:
        """Fit a logistic regression on what the classifier reads.

        Of a classifier that reads regions one after another, one on the mean of the regions is tried too: it has a
        part of the weights, and is a linear layer of the regions as well.
        """
        read = {one: self._read(one) for one in ("train", "validation")}
        config, width = self.model.config, read["train"].shape[1]
        regions, size = getattr(config, "num_image_embeds", 1), getattr(config, "image_hidden_size", None) or 0
        before = width - regions * size  # of the text
        fitted = fit_splits(read, self.labels, config.num_labels)
        if config.model_type != BASELINE or config.image_config is None or config.hidden_sizes or regions == 1:
            return Probe(fitted.loss, *fitted.as_linear())
        averaged = {
            one: np.hstack([found[:, :before], found[:, before:].reshape(-1, regions, size).mean(axis=1)])
            for one, found in read.items()
        }
        mean = fit_splits(averaged, self.labels, config.num_labels)
        if fitted.loss <= mean.loss:
            return Probe(fitted.loss, *fitted.as_linear())
        weights, biases = mean.as_linear()
        return Probe(
            mean.loss, np.hstack([weights[:, :before], np.tile(weights[:, before:] / regions, regions)]), biases
        )

    def _read(self, split: str) -> np.ndarray:
        """Return what the classifier reads of each row, `(rows, size)`, gathered over all processes."""
        classifier = self.model.get_submodule(self.classifier)
        self.model.set_submodule(self.classifier, nn.Identity())
        try:
            output = self.trainer.predict(self.encoded[split].without({"labels"}))  # type: ignore[arg-type]
        finally:
            self.model.set_submodule(self.classifier, classifier)
        found = output.predictions[0] if isinstance(output.predictions, tuple) else output.predictions
        return np.asarray(found, dtype=np.float64)

    def _align(self, projection: nn.Linear) -> None:
        """Let a picture's token start as the mean word vector of its text, as far as a ridge regression knows it.

        What the regression tells of single pictures is enlarged to the spread of the word vectors: a text model
        normalises its inputs, so that tokens near their mean would all read alike.
        """
        splits = [self._pictures_and_words(one) for one in ("train", "validation")]
        (pictures, words), (others, other_words) = splits
        scaler = standardiser(pictures)
        inner, outer = scaler.transform(pictures), scaler.transform(others)
        fitted = [Ridge(alpha=one).fit(inner, words) for one in _PENALTIES]
        ridge = max(fitted, key=lambda one: one.score(outer, other_words))
        spread = ridge.predict(inner).var(axis=0).sum()
        weights = ridge.coef_ / scaler.scale_ * np.sqrt(words.var(axis=0).sum() / max(spread, 1e-12))
        _copy_linear(projection, weights, words.mean(axis=0) - weights @ scaler.mean_)

    def _pictures_and_words(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return picture features and mean word vectors of the rows that have both."""
        rows = self.encoded[split].without({"pixel_values", "labels"})
        table = self.model.get_input_embeddings().weight.detach().float().cpu().numpy()
        texts = [(row["input_ids"][:-1], np.any(row["image_mask"])) for row in map(rows.__getitem__, range(len(rows)))]
        known = np.array([bool(ids) and bool(has_image) for ids, has_image in texts])  # the last id is [SEP]
        words = [table[ids].mean(axis=0) for (ids, _), both in zip(texts, known, strict=True) if both]
        return read_pictures(self.trainer, self.encoded[split])[known], np.stack(words)


def pool_by_mean(model: nn.Module) -> None:
    """Let MMBT or a baseline of it, with adapters or without, read the mean of the states."""
    next(one for one in model.modules() if isinstance(one, PictureAndTextParts)).pool_by_mean()


def _last_linear(model: nn.Module, part: str) -> str | None:
    """Return the path of the last linear layer of a part, None if the model has no such part."""
    linear = [name for name, one in model.named_modules() if isinstance(one, nn.Linear)]
    return next((name for name in reversed(linear) if part in name.split(".")), None)


@torch.no_grad()
def _copy_linear(layer: Any, weights: np.ndarray, biases: np.ndarray) -> None:
    layer.weight.copy_(torch.as_tensor(weights))
    layer.bias.copy_(torch.as_tensor(biases))

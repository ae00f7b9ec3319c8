"""`frozen_linear`: logistic regression on what the pretrained text and image models give for a row, as they are."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import datasets
import numpy as np
import torch
from transformers.utils import logging

from ..arguments import ENSEMBLE
from ..data.encoded import EncodedDataset
from ..evaluation.scored_rows import ScoredRows
from ..models.mmbt.beside_columns import encode_columns
from ..models.mmbt.text_parts import max_positions, takes
from ..training import MMTabTrainer
from .logistic import Fitted, fit_splits

logger = logging.get_logger(__name__)

FROZEN_LINEAR, OF_TEXT, OF_IMAGE = "frozen_linear", "frozen_linear_text", "frozen_linear_image"
BASELINES = (FROZEN_LINEAR, OF_TEXT, OF_IMAGE)
DESCRIPTIONS = {
    FROZEN_LINEAR: "logistic regression on frozen features of all inputs, its regularisation chosen on validation",
    OF_TEXT: "the same of the text alone",
    OF_IMAGE: "the same of the picture alone",
}
_TEXTS = 32  # of a batch
_PICTURES = 8
_BOTH = ("text", "image")
_INPUTS = {"mmbt": _BOTH, "concatbert": _BOTH, ENSEMBLE: _BOTH, "bert": ("text",), "img": ("image",)}


def inputs_of(name: str, architecture: str) -> tuple[str, ...]:
    """Return the inputs that a baseline reads beside an architecture.

    Args:
        name: one of `BASELINES`.
        architecture: whose pretrained models give the features.

    Raises:
        ValueError: if the architecture has no pretrained model of such an input.
    """
    given = _INPUTS.get(architecture, ())
    wanted = {OF_TEXT: ("text",), OF_IMAGE: ("image",)}.get(name, given)
    if not wanted or not set(wanted) <= set(given):
        raise ValueError(
            f"Expected an architecture with a pretrained model for the inputs of {name}, found {architecture}, which "
            f"has {' and '.join(given) or 'none'}. Leave {name} out of `compare`, or put mmbt first."
        )
    return wanted


class FrozenLinear:
    """Regressions on frozen features of the splits of one run.

    The features of pictures are those of the feature cache that the models of a comparison share, averaged over the
    regions. Those of a text are the mean of its last states, or its first state: whichever tells more on validation.

    Args:
        trainer: holds the model as it starts, with its collator and cache folder.
        processor: of the model.
        splits: split → rows, with "train" and "validation".
        encoded: the same as the model's inputs.
        labels: split → labels, `(rows,)` or `(rows, num_labels)`.
    """

    def __init__(
        self,
        trainer: MMTabTrainer,
        processor: Any,
        splits: Mapping[str, datasets.Dataset],
        encoded: Mapping[str, EncodedDataset],
        labels: Mapping[str, np.ndarray],
    ) -> None:
        self.trainer, self.processor = trainer, processor
        self.splits, self.encoded, self.labels = splits, encoded, labels
        self.num_labels: int = trainer.model.config.num_labels

    def run(self, name: str, architecture: str) -> dict[str, ScoredRows]:
        """Fit one of `BASELINES` and return the scores of every split but that of training."""
        inputs = inputs_of(name, architecture)
        columns = name == FROZEN_LINEAR and bool(self.processor.columns)
        if inputs == ("text",) and not columns:
            features, fitted = self.text_features
        else:
            read = {"text": lambda: self.text_features[0], "image": lambda: self.image_features}
            parts = [read[one]() for one in inputs] + ([self.column_features] if columns else [])
            features = {split: np.hstack([part[split] for part in parts]) for split in self.splits}
            fitted = fit_splits(features, self.labels, self.num_labels)
        logger.info(f"{name}: C = {fitted.strength:.2g}, log loss on validation {fitted.loss:.3f}.")
        return {
            split: ScoredRows(fitted.predict(features[split]), self.labels[split])
            for split in self.splits
            if split != "train"
        }

    @cached_property
    def text_features(self) -> tuple[dict[str, np.ndarray], Fitted]:
        """Split → features `(rows, hidden)` of the better pooling, and the regression on them."""
        both = {split: self._read_texts(rows) for split, rows in self.splits.items()}
        tried = []
        for place, pooling in enumerate(("mean", "first token")):
            features = {split: found[place] for split, found in both.items()}
            tried.append((pooling, features, fit_splits(features, self.labels, self.num_labels)))
        pooling, features, fitted = min(tried, key=lambda one: one[2].loss)
        losses = ", ".join(f"{name} {one.loss:.3f}" for name, _, one in tried)
        logger.info(f"Frozen features of texts: {pooling}, by the log loss on validation ({losses}).")
        return features, fitted

    @torch.no_grad()
    def _read_texts(self, rows: datasets.Dataset) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and first state of each text, `(rows, hidden)` each."""
        text_model = getattr(self.trainer.model, "model", self.trainer.model).text_model.eval()
        tokenizer, device = self.processor.tokenizer, next(text_model.parameters()).device
        columns = ["sentence1", "sentence2"] if "sentence2" in rows.column_names else ["text"]
        texts = [rows[name][:] for name in columns]
        limit = min(self.processor.max_length + 2, max_positions(text_model) or self.processor.max_length + 2)
        order = np.argsort(self.processor.text_lengths(rows), kind="stable")
        means, firsts = (np.zeros((len(rows), text_model.config.hidden_size)) for _ in range(2))
        for start in range(0, len(rows), _TEXTS):
            chosen = order[start : start + _TEXTS]
            batch = tokenizer(
                *([column[i] for i in chosen] for column in texts),
                truncation=True, max_length=limit, padding=True, return_tensors="pt",
            )  # fmt: skip
            batch = {name: value.to(device) for name, value in batch.items() if takes(text_model, name)}
            states = text_model(**batch).last_hidden_state.float()  # (batch, seq, hidden)
            mask = batch["attention_mask"][..., None]
            means[chosen] = ((states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)).cpu().numpy()
            firsts[chosen] = states[:, 0].cpu().numpy()
        return means, firsts

    @cached_property
    def image_features(self) -> dict[str, np.ndarray]:
        """Split → features of the pictures `(rows, image_hidden)`."""
        return {split: read_pictures(self.trainer, encoded) for split, encoded in self.encoded.items()}

    @property
    def column_features(self) -> dict[str, np.ndarray]:
        """Split → columns beside picture and text: of a number its place and whether it is missing, of a category a
        mark for each value, `(rows, size)`.
        """
        columns = self.processor.columns
        values = [np.eye(len(one["values"]) + 2) for _, one in sorted(columns.items()) if "values" in one]
        found = {}
        for split, rows in self.splits.items():
            encoded = [encode_columns(columns, row) for row in rows.select_columns(list(columns))]
            numbers = np.array([row.get("column_numbers", []) for row in encoded]).reshape(len(encoded), -1)
            ids = np.array([row.get("column_categories", []) for row in encoded], dtype=int)
            found[split] = np.hstack([numbers, *(one[ids[:, place]] for place, one in enumerate(values))])
        return found


@torch.no_grad()
def read_pictures(trainer: MMTabTrainer, encoded: EncodedDataset) -> np.ndarray:
    """Return the features of the pictures of all rows, averaged over pictures and regions, `(rows, image_hidden)`."""
    store = trainer.frozen_features(encoded, "image_encoder")
    if store is not None:
        return np.stack([store[row].float().mean(dim=0).numpy() for row in range(len(encoded))])
    model: Any = trainer.model.eval()
    found = []
    for start in range(0, len(encoded), _PICTURES):
        rows = [encoded[row] for row in range(start, min(start + _PICTURES, len(encoded)))]
        pixels = trainer.data_collator(rows)["pixel_values"]
        regions = model.get_image_features(pixels.to(trainer.args.device)).float().cpu()
        for one, row in zip(regions, rows, strict=True):  # padded where another row has more pictures
            share = np.size(row["image_mask"]) / (pixels.shape[1] if pixels.dim() == 5 else 1)
            found.append(one[: round(len(one) * share)].mean(dim=0).numpy())
    return np.stack(found)

"""What training must know of the labels of windows: whether there are enough, how often each is drawn, and weighed."""

from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import torch
from transformers.utils import logging

from ..arguments import TableRunArguments
from ..data.reading.column_names import near_names
from ..data.windows.cutting import IGNORED, WindowDataset
from ..data.windows.encoded_rows import SPLITS, EncodedRows
from ..metrics.priors import effective_prior, prior_log_ratios
from ..training.sampling import ImbalanceSampler

FEWEST_HISTORIES = 50  # of which a share is drawn; of fewer, days are
FEW_LABELS = 10  # of one of several classes in training: it may be a typing error
MICROSECONDS_OF_DAY = 86_400_000_000

logger = logging.get_logger(__name__)


def require_label(dataset: datasets.Dataset, label: list[str]) -> None:
    """Raise a ValueError unless there are label columns, and the table has them."""
    if not label:
        raise ValueError(
            f"Expected a label column, found none in the column plan. Name it: `label_columns: [...]`, of the table's "
            f"columns {', '.join(dataset.column_names)}."
        )
    if absent := [name for name in label if name not in dataset.column_names]:
        near = near_names(absent, dataset.column_names)
        raise ValueError(
            f"Expected the label columns {', '.join(label)} in the table, found no {', '.join(absent)} among "
            f"{', '.join(dataset.column_names)}.{near} Name others with `label_columns`, or "
            "use `predict`, which needs none."
        )


def check_labels(windows: dict[str, WindowDataset]) -> None:
    """Refuse training or validation windows of one class alone; warn where class 1 is not the rare one.

    Raises:
        ValueError: with how many there are of each class.
    """
    names = windows["train"].rows.label_names
    if not names:
        return
    for split in ("train", "validation"):
        counts = windows[split].class_counts().sum(axis=0)
        if (counts > 0).sum() < 2:
            told = ", ".join(f"{int(n)} of {name!r}" for name, n in zip(names, counts, strict=True))
            raise ValueError(
                f"Expected labels of at least two classes in the {len(windows[split])} {split} windows, found {told}. "
                "Choose other split_fractions, another window_label, or a table with more of them."
            )
        if split == "train" and len(names) > 2 and counts.min() < FEW_LABELS:
            told = ", ".join(f"{name!r} {int(n):,}" for name, n in zip(names, counts, strict=True))
            logger.warning(
                f"The label has {len(names)} classes, some of them hardly ever in training ({told}). A value that is a "
                "mistake is a class too: correct it, or leave the cell empty."
            )
        if split == "train" and len(names) == 2 and counts[1] > counts[0]:
            logger.warning(
                f"{names[1]!r} is taken for the positive class, and is the more frequent one. If you look for "
                f"{names[0]!r}, rename the labels: of two, the later one in sorted order is positive."
            )


def with_labels(windows: dict[str, WindowDataset]) -> dict[str, WindowDataset]:
    """Return the windows that have a label; say how many labels are missing.

    Raises:
        ValueError: if no window of a split has one.
    """
    kept, told = {}, []
    for split, found in windows.items():
        known, wanted = found.known_labels()
        if not known.any():
            raise ValueError(
                f"Expected labels in the {split} split, found none in its {len(found):,} windows. Fill the label "
                "column, or choose other split_fractions."
            )
        kept[split] = found if known.all() else found.select(known > 0)
        if missing := int((wanted - known).sum()):
            told.append(f"{missing:,} of {int(wanted.sum()):,} {split}")
    if told:
        logger.warning(
            f"Labels are missing: {', '.join(told)}. Nothing is learned from them and nothing judged by them; windows "
            "without any label are left out."
        )
    return kept


def share_of_labels(rows: EncodedRows, share: float, seed: int) -> EncodedRows:
    """Return the same rows with a share of the training labels; the others are unknown.

    Whole histories keep their labels, or days where there are fewer than 50 training histories. Of two classes,
    histories with a positive label and those without are drawn apart, at least one of each; a smaller share of the same
    seed lies within a larger one.

    Args:
        rows: with labels.
        share: above 0 and at most 1.
        seed: of the draw.
    """
    assert rows.labels is not None
    labels = np.array(rows.labels)
    training = np.flatnonzero(np.asarray(rows.split) == SPLITS.index("train"))
    group = rows.entity_of(training)
    if len(np.unique(group)) < FEWEST_HISTORIES:
        group = np.asarray(rows.time[training]) // MICROSECONDS_OF_DAY
    _, group = np.unique(group, return_inverse=True)
    positive = np.zeros(group.max() + 1, dtype=bool)
    if len(rows.label_names) == 2:
        positive[group[labels[training] == 1]] = True
    order = np.random.default_rng(seed).permutation(len(positive))
    kept = np.zeros(len(positive), dtype=bool)
    for stratum in (order[positive[order]], order[~positive[order]]):
        kept[stratum[: int(np.ceil(share * len(stratum)))]] = True
    labels[training[~kept[group]]] = np.nan if labels.ndim > 1 else IGNORED
    return rows.relabelled(labels)


def count_positive(windows: WindowDataset) -> int | None:
    """Return how many windows have a positive label; None unless there are two classes."""
    if len(windows.rows.label_names) != 2:
        return None
    return int((windows.class_counts()[:, 1] > 0).sum())


def epoch_sampler(
    run: TableRunArguments, train: WindowDataset, seed: int, known: bool = False
) -> ImbalanceSampler | None:
    """Return the sampler that a recipe asks for; a window is positive if a label of it is.

    Args:
        run: how it samples.
        train: the windows.
        seed: of the draws.
        known: draw only windows that have a label.

    Raises:
        ValueError: unless there are two classes.
    """
    if run.upsample_positives is None and run.negatives_per_epoch == 1 and not known:
        return None
    if len(train.rows.label_names) != 2:
        found = "numbers"
        if train.rows.label_names:
            counts = train.class_counts().sum(axis=0).tolist()
            told = (f"{name!r} ({int(n):,})" for name, n in zip(train.rows.label_names, counts, strict=True))
            found = f"{len(counts)}, with as many training labels: {', '.join(told)}"
        raise ValueError(
            f"Expected two classes beside upsample_positives and negatives_per_epoch, found {found}. Correct the label "
            "in the table if one of them is a slip, or else remove these keys."
        )
    positive = train.class_counts()[:, 1] > 0
    among = train.known_labels()[0] > 0 if known else None
    return ImbalanceSampler(positive, run.upsample_positives, run.negatives_per_epoch, seed, among)


@dataclass(frozen=True)
class ClassShares:
    """How often training meets each class, `(classes,)` shares that sum to 1.

    Args:
        actual: in the training windows.
        trained: after sampling and class weights.
        corrected: whether the classifier's bias was brought back.
    """

    actual: np.ndarray
    trained: np.ndarray
    corrected: bool = False

    @property
    def differ(self) -> bool:
        """Whether training meets classes more or less often than they occur."""
        return not np.allclose(self.actual, self.trained, rtol=1e-3)

    def note(self, name: str) -> str:
        """What sampling and weights did to the probabilities, as a sentence.

        Args:
            name: of the last class.
        """
        verb = (
            "the prior was brought back to"
            if self.corrected
            else "probabilities are too high by the same odds: not brought back to"
        )
        return (
            f"Training met {name!r} as if it were {self.trained[-1]:.2%} of the labels; {verb} the "
            f"{self.actual[-1]:.2%} that it is."
        )


def class_shares(
    train: WindowDataset, sampler: ImbalanceSampler | None, class_weights: list[float] | None
) -> ClassShares | None:
    """Return how often each class occurs and how often training meets it; None for numbers."""
    if not train.rows.label_names:
        return None
    counts = train.class_counts()  # (windows, classes)
    times = np.ones(len(counts))
    if sampler is not None:
        times = np.where(counts[:, 1] > 0, sampler.draws[1], sampler.draws[0])
    drawn = times @ counts
    actual = counts.sum(axis=0) / counts.sum()
    trained = np.asarray(effective_prior(actual, class_weights, drawn / drawn.sum()))
    return ClassShares(actual, trained)


def start_bias(classifier: Any, shares: ClassShares) -> None:
    """Let a new classifier start from how often training meets each class, in place (Lin et al. 2017, section 3.3).

    From equal chances it takes a head several epochs to learn that one payment in 500 is a fraud, and it ends worse.
    """
    with torch.no_grad():
        classifier.bias.copy_(classifier.bias.new_tensor(np.log(np.maximum(shares.trained, 1e-6))))


def correct_bias(classifier: Any, shares: ClassShares) -> ClassShares:
    """Bring a classifier that was trained with other class shares back to the actual ones, in place.

    Adding log(actual / trained) to the logit of each class corrects its probabilities (Saerens et al. 2002; for two
    classes King & Zeng 2001). It goes into the bias, so that whoever loads the model gets corrected probabilities.

    Args:
        classifier: the last linear layer, with one output per class.
        shares: of the classes.
    """
    with torch.no_grad():
        shift = prior_log_ratios(shares.trained, shares.actual)
        classifier.bias += classifier.bias.new_tensor(np.asarray(shift))
    return ClassShares(shares.actual, shares.trained, corrected=True)

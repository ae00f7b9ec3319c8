"""In which order training meets its rows: rare positives more often, or rows of one length together."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class ImbalanceSampler(Sampler[int]):
    """Shuffles examples, repeats positives and draws other negatives in each epoch.

    An epoch depends on seed and epoch number alone, so that a resumed run draws the same. Positives are repeated
    equally often, except for a remainder that is drawn at random.

    Args:
        positive: shape `(examples,)`, bool.
        positive_share: share of positives in an epoch, in (0, 1), if they are rarer than that; None: each positive
            once.
        negative_share: share of the negatives that an epoch draws, in (0, 1].
        seed: of the draws.
        among: shape `(examples,)`, bool: the examples that may be drawn; None: all.

    Example:
        >>> sampler = ImbalanceSampler(np.array([True, False, False, False]), positive_share=0.5)
        >>> sorted(sampler)
        [0, 0, 0, 1, 2, 3]
    """

    def __init__(
        self,
        positive: np.ndarray,
        positive_share: float | None = None,
        negative_share: float = 1.0,
        seed: int = 0,
        among: np.ndarray | None = None,
    ):
        among = np.ones(len(positive), dtype=bool) if among is None else among
        self.positives, self.negatives = np.flatnonzero(positive & among), np.flatnonzero(~positive & among)
        if positive_share is not None and not len(self.positives):
            raise ValueError(
                f"Expected positive examples to repeat, found none among {len(positive)}. Leave the sampling out, or "
                "train on data that has some."
            )
        self.seed, self.epoch = seed, 0
        self.drawn_negatives = max(min(1, len(self.negatives)), round(negative_share * len(self.negatives)))
        share = positive_share or 0.0
        wanted = self.drawn_negatives * share / (1 - share)
        self.drawn_positives = max(len(self.positives), round(wanted))

    @property
    def draws(self) -> tuple[float, float]:
        """How often an epoch draws a negative and a positive example, on average."""
        negatives, positives = max(1, len(self.negatives)), max(1, len(self.positives))
        return self.drawn_negatives / negatives, self.drawn_positives / positives

    def set_epoch(self, epoch: int) -> None:
        """Choose the draws of this epoch; the loader calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.drawn_negatives + self.drawn_positives

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        negatives = random.choice(self.negatives, self.drawn_negatives, replace=False)
        rounds, rest = divmod(self.drawn_positives, max(1, len(self.positives)))
        more = random.choice(self.positives, rest, replace=False)
        epoch = np.concatenate([negatives, np.tile(self.positives, rounds), more])
        yield from random.permutation(epoch).tolist()


# Batches that are sorted together. Of the titles of openclipart, 16 a batch, 79 % is padding without sorting, 24 % in
# pools of 16 batches, 12 % in pools of 32, 15 % in pools of 50; a smaller pool leaves more of a batch to chance.
POOL = 32


class LengthSampler(Sampler[int]):
    """Shuffles examples, sorts pools of 32 batches by length, and shuffles the batches.

    transformers' `LengthGroupedSampler` gives each pool from its longest batch to its shortest, which training then
    feels, and draws from the global random state. Here an epoch depends on seed and epoch number alone, so that a
    resumed run draws the same.

    Args:
        lengths: shape `(examples,)`.
        batch_size: examples of one forward pass.
        seed: of the shuffling.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int = 0):
        self.lengths, self.batch_size, self.seed, self.epoch = np.asarray(lengths), batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch; the loader calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        order, pool = random.permutation(len(self.lengths)), POOL * self.batch_size
        for start in range(0, len(order), pool):
            rows = order[start : start + pool]
            order[start : start + pool] = rows[np.argsort(self.lengths[rows], kind="stable")]
        whole = len(order) // self.batch_size * self.batch_size
        batches = order[:whole].reshape(-1, self.batch_size)
        yield from random.permutation(batches).ravel().tolist()
        yield from order[whole:].tolist()  # the batch that is not full stays the last

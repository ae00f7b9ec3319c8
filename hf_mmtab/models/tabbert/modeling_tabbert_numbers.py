"""Statistics of rows as inputs of a neural head: on one scale, with marks where they are missing."""

import math

import numpy as np
import torch
from torch import nn

from .configuration_tabbert import TabBertConfig

POINTS, FARTHEST = 65, 3.5  # quantiles of each number, at normal scores from -3.5 to 3.5
FREQUENCIES, EMBEDDING_SIZE = 8, 4  # of the periodic embedding of each number


class TabBertRowNumbers(nn.Module):
    """Puts numbers on the scale of a normal distribution by quantiles of training, and maps them to a vector."""

    quantiles: torch.Tensor  # (numbers, POINTS), not decreasing

    def __init__(self, config: TabBertConfig):
        super().__init__()
        self.places = config.numbers_read
        count = len(self.places)
        self.register_buffer("quantiles", torch.zeros(count, POINTS))
        width = 1
        if config.statistics_embedding == "periodic":
            self.embedding, width = TabBertPeriodicNumbers(count), EMBEDDING_SIZE
        self.projection = nn.Linear((width + 1) * count, config.statistics_hidden_size)
        self.LayerNorm = nn.LayerNorm(config.statistics_hidden_size)

    @torch.no_grad()
    def learn_quantiles(self, values: torch.Tensor) -> None:
        """Take the quantiles of training rows, `(rows, statistics)`; see `normal_quantiles`."""
        self.quantiles.copy_(normal_quantiles(values[:, self.places]))

    def scores(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return the place of each number and a mark where it is missing, `(batch, rows, 2 × numbers)`."""
        numbers = numbers[..., self.places]
        missing = (~numbers.isfinite()).to(self.projection.weight.dtype)
        return torch.cat([normal_scores(numbers, self.quantiles).to(missing.dtype), missing], dim=-1)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return one vector for the statistics of each row, shape `(batch, rows, statistics_hidden_size)`."""
        return self.project(self.scores(numbers))

    def project(self, scores: torch.Tensor) -> torch.Tensor:
        """Return one vector for what `scores` gave of each row."""
        if hasattr(self, "embedding"):
            numbers, missing = scores.chunk(2, dim=-1)  # (batch, rows, numbers) each
            scores = torch.cat([self.embedding(numbers), missing], dim=-1)
        return self.LayerNorm(self.projection(scores))


class TabBertPeriodicNumbers(nn.Module):
    """Embeds each number by cosines and sines of learned frequencies, a linear layer of its own and ReLU.

    This is PLR of Gorishniy et al. 2022 (arXiv:2203.05556); weights are drawn by the model's `_init_weights`.
    """

    def __init__(self, count: int):
        super().__init__()
        self.frequencies = nn.Parameter(torch.empty(count, FREQUENCIES))  # periods per unit of the normal scale
        self.weight = nn.Parameter(torch.empty(count, 2 * FREQUENCIES, EMBEDDING_SIZE))
        self.bias = nn.Parameter(torch.empty(count, EMBEDDING_SIZE))

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return embeddings side by side, `(batch, rows, numbers × EMBEDDING_SIZE)`, of `(batch, rows, numbers)`."""
        phases = 2 * math.pi * self.frequencies * numbers[..., None]  # (batch, rows, numbers, FREQUENCIES)
        waves = torch.cat([phases.cos(), phases.sin()], dim=-1)
        return (torch.einsum("brnf,nfe->brne", waves, self.weight) + self.bias).relu().flatten(-2)


class TabBertCellNumbers(nn.Module):
    """Gives the bins of a number, and the parts of a calendar, vectors that are functions of their numbers.

    The functions are linear in sines and cosines: of learned frequencies for bins, whose numbers are places on the
    scale of a normal distribution, and of the cycle's first harmonics for calendar parts, so that 23 h and 0 h are
    neighbours. Source: Gorishniy et al. 2022, arXiv:2203.05556, there without bins.
    NOTE[DIFF] Numbers enter at the resolution of their bins (`num_bins` of the plan): ids remain the only input.
    """

    def __init__(self, config: TabBertConfig):
        super().__init__()
        self.alone = config.numeric == "embedding"
        places, ranges, of_cycle = config.bin_numbers or {}, config.numeric_ranges or {}, config.cycle_ranges or {}
        # In the order of the columns: that of the keys is lost when a configuration is saved.
        bins = [name for name in config.fields if name in places]
        cycles = [of_cycle[name] for name in config.fields if name in of_cycle]
        self.ranges = [*(ranges[name] for name in bins), *cycles]
        turns = [[k / (end - start) for k in range(end - start)] for start, end in cycles]
        self.numbers = [*(places[name] for name in bins), *turns]  # of each range's ids
        self.frequencies = nn.Parameter(torch.empty(len(bins), FREQUENCIES))  # periods per unit
        self.weight = nn.Parameter(torch.empty(len(self.ranges), 2 * FREQUENCIES, config.cell_hidden_size))

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """Return the vectors of all ids, shape `(vocab, cell_hidden)`, from those that each id has of its own."""
        vectors = words.clone()
        harmonics = torch.arange(1, FREQUENCIES + 1, device=words.device)
        frequencies = [*self.frequencies.float(), *[harmonics] * (len(self.ranges) - len(self.frequencies))]
        for (start, end), numbers, own, weight in zip(self.ranges, self.numbers, frequencies, self.weight, strict=True):
            phases = 2 * math.pi * torch.tensor(numbers, device=words.device)[:, None] * own  # (ids, FREQUENCIES)
            of_number = torch.cat([phases.cos(), phases.sin()], dim=-1).to(weight.dtype) @ weight
            vectors[start:end] = of_number if self.alone else words[start:end] + of_number
        return vectors


def normal_quantiles(values: torch.Tensor) -> torch.Tensor:
    """Return quantiles at even steps of the normal distribution, fine in the tails, shape `(numbers, POINTS)`.

    Args:
        values: shape `(rows, numbers)`, NaN where missing; a number without any value counts as 0.
    """
    levels = torch.special.ndtr(torch.linspace(-FARTHEST, FARTHEST, POINTS, dtype=torch.float64))
    known = values.T.where(values.T.isfinite(), torch.nan)
    found = [np.nanquantile(one, levels) if np.isfinite(one).any() else np.zeros(POINTS) for one in known.numpy()]
    return torch.tensor(np.array(found), dtype=torch.float32).reshape(-1, POINTS)


def normal_scores(numbers: torch.Tensor, quantiles: torch.Tensor) -> torch.Tensor:
    """Return where numbers lie on the scale of a normal distribution, shape `(..., numbers)`; 0 where missing.

    Equal quantiles share their middle, and beyond the last ones numbers are cut off.

    Args:
        numbers: shape `(..., numbers)`.
        quantiles: of each, see `normal_quantiles`.
    """
    flat = numbers.reshape(-1, numbers.shape[-1]).T.contiguous().float()  # (numbers, n)
    if torch.compiler.is_exporting():  # ONNX has no search
        each, own = quantiles[:, None], flat[..., None]  # (numbers, 1, POINTS), (numbers, n, 1)
        left, right = (each < own).sum(-1), (each <= own).sum(-1)
    else:
        left, right = torch.searchsorted(quantiles, flat), torch.searchsorted(quantiles, flat, right=True)
    upper = left.clamp(1, POINTS - 1)
    low, high = quantiles.gather(1, upper - 1), quantiles.gather(1, upper)
    between = upper - 1 + ((flat - low) / (high - low).clamp(min=1e-30)).clamp(0, 1)
    place = torch.where(right > left, (left + right - 1) / 2, between)
    scores = (place / (POINTS - 1) * 2 - 1) * FARTHEST
    return scores.where(flat.isfinite(), 0.0).T.reshape(numbers.shape)

"""Scores of masked cells: each over its own field's ids, and only where a cell is masked."""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers.activations import ACT2FN

from .configuration_tabbert import TabBertConfig

IGNORED = -100  # label of a cell that is not masked


@dataclass
class MaskedCells:
    """Where the masked cells are, ordered by field.

    `field`, `example`, `row` and `label` (global ids) have shape `(masked,)`; `counts` are cells per field.
    """

    field: torch.Tensor
    example: torch.Tensor
    row: torch.Tensor
    label: torch.Tensor
    counts: list[int]


@dataclass
class MaskedCellLoss:
    """`loss` is a scalar; `losses` (float32 nats) and `correct` have shape `(masked,)`, as `MaskedCells`."""

    loss: torch.Tensor
    losses: torch.Tensor
    correct: torch.Tensor


def select_masked_cells(labels: torch.Tensor, config: TabBertConfig) -> MaskedCells:
    """Find the masked cells.

    Args:
        labels: shape `(batch, rows, fields)`, global ids, -100 where the cell is not masked.
        config: for the id range of each field.

    Raises:
        ValueError: if a label lies outside its field's range.
    """
    masked = labels.ne(IGNORED)
    field, example, row = masked.permute(2, 0, 1).nonzero(as_tuple=True)  # ordered by field
    label = labels[example, row, field]
    bounds = torch.tensor(config.field_ranges, device=labels.device)  # (fields, 2)
    outside = (label < bounds[field, 0]) | (label >= bounds[field, 1])
    # One transfer, so that the device is waited for once.
    *counts, wrong = torch.cat([masked.sum(dim=(0, 1)), outside.sum()[None]]).tolist()
    if wrong:
        where = int(field[outside][0])
        raise ValueError(
            f"Expected labels of column {config.fields[where]!r} in {config.field_ranges[where]}, found "
            f"{int(label[outside][0])}. Were these rows encoded by the processor saved with this checkpoint?"
        )
    return MaskedCells(field, example, row, label, counts)


def cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return nats, shape `(n,)`, of logits `(n, classes)`."""
    if torch.compiler.is_compiling():  # torch.onnx takes `F.cross_entropy` for a mean
        return -F.log_softmax(logits, dim=-1).gather(1, target[:, None]).squeeze(1)
    return F.cross_entropy(logits, target, reduction="none")


def smoothed_cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, smoothing: float, bins: tuple[int, int]
) -> torch.Tensor:
    """Cross entropy that gives a share of the target to the two adjacent bins (to the only one at an end).

    Args:
        logits: shape `(n, classes)`.
        target: shape `(n,)`; targets outside `bins` are not smoothed.
        smoothing: share in `[0, 1)` that leaves the target.
        bins: `[start, end)` of the classes that are ordered.

    Returns:
        Loss in nats, shape `(n,)`.
    """
    log_probs = F.log_softmax(logits, dim=-1)
    start, end = bins
    ordered = (target >= start) & (target < end)
    lower, upper = target - 1, target + 1
    has_lower, has_upper = ordered & (lower >= start), ordered & (upper < end)
    neighbors = (has_lower.long() + has_upper.long()).to(log_probs.dtype)
    share = smoothing * neighbors.clamp(max=1)  # a field with one bin has no neighbours to share with
    each = share / neighbors.clamp(min=1)

    def pick(index: torch.Tensor) -> torch.Tensor:
        return log_probs.gather(1, index.clamp(0, logits.shape[1] - 1)[:, None]).squeeze(1)

    spread = each * (has_lower * pick(lower) + has_upper * pick(upper))
    return -((1 - share) * pick(target) + spread)


class TabBertCellTransform(nn.Module):
    """Dense layer, activation and layer norm between a cell's state and its scores."""

    def __init__(self, config: TabBertConfig):
        super().__init__()
        self.dense = nn.Linear(config.cell_hidden_size, config.decoder_hidden_size)
        self.activation = ACT2FN[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(config.decoder_hidden_size, eps=config.layer_norm_eps)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.activation(self.dense(states)))  # (..., decoder_hidden)


def cell_projection(config: TabBertConfig) -> nn.Linear | None:
    """Return what makes one vector per cell of a row's state; None: the state holds them side by side."""
    if config.flatten or config.cell_states == "slice":
        return None
    return nn.Linear(config.hidden_size, config.num_fields * config.field_hidden_size)


class TabBertMaskedCellHead(nn.Module):
    """Scores masked cells over the ids of their own field.

    Cost grows with masked cells × ids of their field, not with all cells × all ids. Every parameter takes
    part in every step, also when no cell of its field is masked, so that several processes never wait for a
    missing gradient.
    """

    def __init__(self, config: TabBertConfig):
        super().__init__()
        self.config = config
        self.sizes = [end - start for start, end in config.field_ranges]
        self.transform = TabBertCellTransform(config)
        # One matrix per field: each slice of one matrix would write a gradient as large as the whole.
        self.decoder = nn.ModuleDict()
        if config.mlm_loss == "vocab" and not config.tie_word_embeddings:
            self.decoder["vocab"] = nn.Linear(config.decoder_hidden_size, config.vocab_size)
        if config.mlm_loss == "field":
            for field, size in enumerate(self.sizes):
                if self._is_adaptive(size):
                    self.decoder[str(field)] = nn.AdaptiveLogSoftmaxWithLoss(
                        config.decoder_hidden_size,
                        size,
                        cutoffs=self._cutoffs(size),
                        div_value=config.adaptive_softmax_div_value,
                    )
                elif not config.tie_word_embeddings:
                    self.decoder[str(field)] = nn.Linear(config.decoder_hidden_size, size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size)) if config.tie_word_embeddings else None

    def _is_adaptive(self, size: int) -> bool:
        threshold = self.config.adaptive_softmax_threshold
        return threshold is not None and size > max(threshold, 2)

    def _cutoffs(self, size: int) -> list[int]:
        chosen = self.config.adaptive_softmax_cutoffs
        if chosen is None:
            chosen = [math.ceil(0.02 * size), math.ceil(0.2 * size)]
        return sorted({cutoff for cutoff in chosen if 0 < cutoff < size}) or [1]

    def _tied(self, embeddings: torch.Tensor) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        """Cut embeddings `(vocab, hidden)` and bias into fields, with one split whose gradient is one cat."""
        if self.bias is None:
            return {}
        ranges = self.config.field_ranges
        bounds = sorted({0, self.config.vocab_size, *itertools.chain.from_iterable(ranges)})
        sizes = [after - before for before, after in itertools.pairwise(bounds)]
        weights, biases = embeddings.split(sizes), self.bias.split(sizes)
        piece = {start: place for place, start in enumerate(bounds[:-1])}
        return {field: (weights[piece[start]], biases[piece[start]]) for field, (start, _) in enumerate(ranges)}

    def _decoder(self, field: int) -> nn.Module | None:
        return self.decoder[str(field)] if str(field) in self.decoder else None  # noqa: SIM401, no get() there

    def _vocab_logits(self, states: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        if "vocab" in self.decoder:
            return self.decoder["vocab"](states)
        return F.linear(states, embeddings, self.bias)  # (..., vocab)

    def field_logits(self, cell_states: torch.Tensor, embeddings: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Score every cell, masked or not: for evaluation and for small tables.

        Args:
            cell_states: shape `(batch, rows, fields, cell_hidden)`.
            embeddings: shape `(vocab, cell_hidden)`.

        Returns:
            One tensor `(batch, rows, ids of the field)` per field; log-probabilities for adaptive fields.
        """
        states = self.transform(cell_states)  # (batch, rows, fields, decoder_hidden)
        if self.config.mlm_loss == "vocab":
            logits = self._vocab_logits(states, embeddings)
            return tuple(logits[:, :, i, a:b] for i, (a, b) in enumerate(self.config.field_ranges))
        tied = self._tied(embeddings)
        scores = []
        for field in range(len(self.sizes)):
            cells, decoder = states[:, :, field], self._decoder(field)
            if isinstance(decoder, nn.AdaptiveLogSoftmaxWithLoss):
                with torch.autocast(cells.device.type, enabled=False):
                    flat = cells.reshape(-1, cells.shape[-1]).to(decoder.head.weight.dtype)
                    scores.append(decoder.log_prob(flat).view(*cells.shape[:2], -1))
            else:
                scores.append(decoder(cells) if decoder is not None else F.linear(cells, *tied[field]))
        return tuple(scores)

    # Shapes depend on the data here; the encoder is what gains from compilation.
    @torch.compiler.disable
    def forward(self, cell_states: torch.Tensor, cells: MaskedCells, embeddings: torch.Tensor) -> MaskedCellLoss:
        """Return the loss of the masked cells.

        Args:
            cell_states: shape `(batch, rows, fields, cell_hidden)`.
            cells: the masked ones.
            embeddings: cell embeddings, shape `(vocab, cell_hidden)`, used when tied.
        """
        picked = cell_states[cells.example, cells.row, cells.field]  # (masked, cell_hidden)
        states = self.transform(picked)  # (masked, decoder_hidden)
        if self.config.mlm_loss == "vocab":
            logits = self._vocab_logits(states, embeddings).float()  # (masked, vocab)
            losses = F.cross_entropy(logits, cells.label, reduction="none")
            mean = losses.sum() / max(len(losses), 1)
            return MaskedCellLoss(mean, losses, logits.argmax(-1) == cells.label)

        tied = self._tied(embeddings)
        total = states.new_zeros((), dtype=torch.float32)
        losses_of: list[torch.Tensor] = []
        correct_of: list[torch.Tensor] = []
        pieces = zip(states.split(cells.counts), cells.label.split(cells.counts), strict=True)
        for field, (own_states, label) in enumerate(pieces):
            decoder = self._decoder(field)
            target = label - self.config.field_ranges[field][0]
            if isinstance(decoder, nn.AdaptiveLogSoftmaxWithLoss):
                losses, correct = self._adaptive(decoder, own_states, target)
                total = total + 0.0 * sum(parameter.sum() for parameter in decoder.parameters())
            else:
                logits = decoder(own_states) if decoder is not None else F.linear(own_states, *tied[field])
                logits = logits.float()  # (masked of field, ids of field)
                losses, correct = self._losses(field, logits, target), logits.argmax(-1) == target
            # A field without masked cells adds a sum over nothing: zero, where a mean would be NaN.
            total = total + losses.sum() / max(len(target), 1)
            losses_of.append(losses)
            correct_of.append(correct)
        return MaskedCellLoss(total, torch.cat(losses_of), torch.cat(correct_of))

    def losses_of_all(
        self, cell_states: torch.Tensor, input_ids: torch.Tensor, embeddings: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of every cell, masked or not: shapes depend on no data, so it compiles and exports.

        Args:
            cell_states: shape `(batch, rows, fields, cell_hidden)`.
            input_ids: shape `(batch, rows, fields)`; where an id is not of its field the loss means nothing.
            embeddings: shape `(vocab, cell_hidden)`, used when tied.

        Returns:
            Nats in float32, shape `(batch, rows, fields)`.
        """
        states = self.transform(cell_states).flatten(0, 1)  # (batch × rows, fields, decoder_hidden)
        ids = input_ids.flatten(0, 1)
        if self.config.mlm_loss == "vocab":
            logits = self._vocab_logits(states, embeddings).float()  # (batch × rows, fields, vocab)
            return cross_entropy(logits.flatten(0, 1), ids.flatten()).view(input_ids.shape)
        tied = self._tied(embeddings)
        losses = []
        for field, (start, end) in enumerate(self.config.field_ranges):
            decoder, own = self._decoder(field), states[:, field]
            target = (ids[:, field] - start).clamp(0, end - start - 1)
            if isinstance(decoder, nn.AdaptiveLogSoftmaxWithLoss):
                losses.append(self._adaptive(decoder, own, target)[0])
            else:
                logits = decoder(own) if decoder is not None else F.linear(own, *tied[field])
                losses.append(self._losses(field, logits.float(), target))
        return torch.stack(losses, dim=-1).view(input_ids.shape)

    def _losses(self, field: int, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        bins = (self.config.numeric_ranges or {}).get(self.config.fields[field])
        if bins is None or not self.config.neighbor_smoothing:
            return cross_entropy(logits, target)
        start = self.config.field_ranges[field][0]
        ordered = (bins[0] - start, bins[1] - start)
        return smoothed_cross_entropy(logits, target, self.config.neighbor_smoothing, ordered)

    def _adaptive(
        self, decoder: nn.AdaptiveLogSoftmaxWithLoss, states: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not torch.compiler.is_compiling() and not len(target):
            return states.new_zeros(0, dtype=torch.float32), target.bool()
        with torch.autocast(states.device.type, enabled=False):  # its index_copy_ refuses mixed types
            states = states.to(decoder.head.weight.dtype)
            if torch.compiler.is_compiling():  # its forward picks rows cluster by cluster
                log_probs = decoder.log_prob(states)  # (n, ids of the field)
                losses = -log_probs.gather(1, target[:, None]).squeeze(1)
                return losses.float(), log_probs.argmax(1) == target
            losses = -decoder(states, target).output
            with torch.no_grad():
                correct = decoder.predict(states) == target
        return losses.float(), correct

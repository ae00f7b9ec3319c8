"""How unexpected a row is to an encoder that was pretrained to predict the next row."""

import torch
from torch import nn
from torch.nn import functional as F

from .configuration_tabbert import TabBertConfig
from .head_settings import STRETCH_ROWS, STRETCHES
from .modeling_tabbert_heads import TabBertMaskedCellHead, cell_projection

LAGS = (1, 8)  # rows: the second does not get used to a run of unusual rows while it lasts
SCALE = 0.5  # most surprises are below ten nats: about the size that an LSTM is made for


def rows_before(states: torch.Tensor, lag: int = 1) -> torch.Tensor:
    """Give each row the state of the row `lag` before it, the first ones zeros: what is expected without a history.

    Args:
        states: shape `(batch, rows, hidden)`.
    """
    return F.pad(states, (0, 0, lag, 0))[:, : states.shape[1]]


def surprise_names(config: TabBertConfig) -> list[str]:
    """Return what each of the `surprise_width` numbers says, in their order, for reports."""
    names = [f"surprise of {field}, {lag} before" for lag in LAGS for field in config.fields]
    names += [f"rarity of {field}" for field in config.fields]
    return [*names, *(f"rank of {field}" for field in config.numeric_ranges or {})]


def windowed_names(config: TabBertConfig) -> list[str]:
    """Return what each number of `TabBertSurprise.windowed` says."""
    stretches = [*STRETCHES, *(f"{rows} rows" for rows in STRETCH_ROWS)]
    return [f"surprise of {field}, last {one}" for one in stretches for field in [*config.fields, "all"]]


class TabBertSurprise(nn.Module):
    """Scores the cells of each row from rows before, with the weights that pretraining learned for that."""

    rarity: torch.Tensor  # (vocab,), -log of the value's share in its field

    def __init__(self, config: TabBertConfig):
        super().__init__()
        self.config = config
        self.cell_projection = cell_projection(config)
        self.head = TabBertMaskedCellHead(config)
        self.register_buffer("rarity", torch.zeros(config.vocab_size))

    @torch.no_grad()
    def learn_rarity(self, counts: torch.Tensor) -> None:
        """Note how rare each value is in its field, whoever it belongs to.

        Args:
            counts: shape `(vocab,)`, how often each id occurs in the training rows.
        """
        for start, end in self.config.field_ranges:
            share = counts[start:end].float() + 0.5  # a value that never occurred counts as half a one
            self.rarity[start:end] = -(share / share.sum()).log()

    def forward(self, states: torch.Tensor, input_ids: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """Return how unexpected each row was, shape `(batch, rows, surprise_width)`; zeros in padding.

        For each lag and field the surprise -log p of the cell, then for each field how rare the value is in the whole
        table, then for each binned field where the value lies among all: the logit of its bin's rank, so that small
        time gaps differ as much as they should; all in `SCALE`.

        Args:
            states: last hidden states of the encoder, shape `(batch, rows, hidden)`.
            input_ids: shape `(batch, rows, fields)`.
            embeddings: of the cells, shape `(vocab, cell_hidden)`, used when tied.
        """
        bounds = torch.tensor(self.config.field_ranges, device=input_ids.device)  # (fields, 2)
        valid = (input_ids >= bounds[:, 0]) & (input_ids < bounds[:, 1])
        parts = []
        for lag in LAGS:
            earlier = rows_before(states, lag)
            cell_states = earlier if self.cell_projection is None else self.cell_projection(earlier)
            cell_states = cell_states.unflatten(-1, (self.config.num_fields, -1))
            parts.append(self.head.losses_of_all(cell_states, input_ids, embeddings).where(valid, 0.0))
        parts.append(self.rarity[input_ids].where(valid, 0.0))
        for name, bins in (self.config.numeric_ranges or {}).items():
            parts.append(self._rank(input_ids[:, :, self.config.fields.index(name)], *bins))
        return SCALE * torch.cat([part.unsqueeze(-1) if part.dim() == 2 else part for part in parts], dim=-1)

    def _rank(self, ids: torch.Tensor, start: int, end: int) -> torch.Tensor:
        rank = (ids - start + 0.5) / (end - start)
        inside = (ids >= start) & (ids < end)  # the rest is missing, unknown or padding
        return rank.where(inside, 0.5).logit()

    @staticmethod
    def _since(times: torch.Tensor, moments: torch.Tensor) -> torch.Tensor:
        """Return how many of the rows before each row, `(batch, rows)`, lie at its moment or before it."""
        if torch.compiler.is_exporting():  # ONNX has no search
            return (times[:, None, :] <= moments[:, :, None]).sum(-1)
        return torch.searchsorted(times.contiguous(), moments, right=True)

    def windowed(self, surprise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """Return the surprise of each row's last hour, day, 3 and 10 rows, itself included, as logarithms.

        Args:
            surprise: of the rows, shape `(batch, rows, surprise_width)`.
            times: of the rows in microseconds, shape `(batch, rows)`, not decreasing.

        Returns:
            Shape `(batch, rows, 4 × (fields + 1))`: for each stretch the sum of each field, and of all of them.
        """
        # The first columns are the surprises of lag 1.
        cells = surprise[..., : self.config.num_fields].float()
        sums = torch.cat([cells, cells.sum(dim=-1, keepdim=True)], dim=-1).cumsum(dim=1)
        sums = F.pad(sums, (0, 0, 1, 0))  # (batch, 1 + rows, fields + 1)
        here = torch.arange(times.shape[1], device=times.device).expand_as(times)
        starts = [self._since(times, times - seconds * 1_000_000) for seconds in STRETCHES.values()]
        starts += [(here - rows + 1).clamp(min=0) for rows in STRETCH_ROWS]
        parts = []
        for start in starts:
            before = sums.gather(1, torch.minimum(start, here)[..., None].expand(-1, -1, sums.shape[-1]))
            parts.append((sums[:, 1:] - before).clamp(min=0).log1p())
        return torch.cat(parts, dim=-1)

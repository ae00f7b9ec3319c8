"""How unexpected each cell of a row is to an encoder that was pretrained to predict the next row."""

import torch
from torch import nn
from torch.nn import functional as F

from .configuration_tabbert import TabBertConfig
from .modeling_tabbert_heads import IGNORED, TabBertMaskedCellHead, select_masked_cells


def rows_before(states: torch.Tensor) -> torch.Tensor:
    """Give each row the state of the row before it, the first one zeros: what is expected without a history.

    Args:
        states: shape `(batch, rows, hidden)`.
    """
    return F.pad(states[:, :-1], (0, 0, 1, 0))


class TabBertSurprise(nn.Module):
    """Scores the cells of each row from the row before, with the weights that pretraining learned for that."""

    def __init__(self, config: TabBertConfig):
        super().__init__()
        self.config = config
        sliced = config.cell_states == "slice"
        self.cell_projection = (
            None if sliced else nn.Linear(config.hidden_size, config.num_fields * config.field_hidden_size)
        )
        self.head = TabBertMaskedCellHead(config)

    def forward(
        self, states: torch.Tensor, input_ids: torch.Tensor, embeddings: torch.Tensor
    ) -> torch.Tensor:
        """Return each cell's surprise, shape `(batch, rows, fields)`: -log p of its value in units of a blind guess.

        It is 1 where the value is as likely as one drawn blindly from the ids of its field, 0 where it was certain,
        and 0 in padding.

        Args:
            states: last hidden states of the encoder, shape `(batch, rows, hidden)`.
            input_ids: shape `(batch, rows, fields)`.
            embeddings: of the cells, shape `(vocab, cell_hidden)`, used when tied.
        """
        states = (
            rows_before(states) if self.cell_projection is None else self.cell_projection(rows_before(states))
        )
        bounds = torch.tensor(self.config.field_ranges, device=input_ids.device)  # (fields, 2)
        valid = (input_ids >= bounds[:, 0]) & (input_ids < bounds[:, 1])
        cells = select_masked_cells(input_ids.where(valid, IGNORED), self.config)
        losses = self.head(states.unflatten(-1, (self.config.num_fields, -1)), cells, embeddings).losses
        surprise = torch.zeros(input_ids.shape, device=losses.device).index_put(
            (cells.example, cells.row, cells.field), losses
        )
        return surprise / (bounds[:, 1] - bounds[:, 0]).clamp(min=2).log()

"""Boosted trees on statistics of the past, alone or together with a sequence model."""

from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from .boosted_trees import BoostedTreesMixin, is_binary
from .checked_trees import fusion_problem
from .configuration_tabbert import TabBertConfig
from .head_settings import OF_SURPRISE
from .modeling_tabbert_lstm import TabBertLstmForSequenceClassification, num_outputs
from .modeling_tabbert_numbers import normal_scores
from .modeling_tabbert_windows import TabBertWindowModel, last_real_row, required

STATISTICS, FUSED = "statistics", "fused"  # the trees on statistics alone, and on all that a fusion knows
# How a fusion scores two classes: by one of its halves, by both as ranks or as log odds, or by trees on all inputs.
CANDIDATES = ("boosted", "sequence", "rank_average", "stack", "trees")
OF_NUMBERS = ("boosted", "sequence", "average")  # how it predicts numbers


class TabBertBoostedForSequenceClassification(BoostedTreesMixin, TabBertWindowModel):
    """LightGBM on statistics of the past (the extra `boosting`): no encoder, no gradients; it runs on the CPU.

    A row is judged by its own statistics alone, so that the window around it does not matter.
    """

    def __init__(self, config: TabBertConfig):
        super().__init__(config)
        # Added to the trees' scores; it gives the model a device, and a place where its prior can be corrected.
        self.bias = nn.Parameter(torch.zeros(num_outputs(config)), requires_grad=False)
        self.post_init()

    @property
    def freezable_modules(self) -> dict[str, str]:
        """None: nothing trains by gradients."""
        return {}

    def encode(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None, **kwargs: Unpack[TransformersKwargs]
    ) -> BaseModelOutput:
        return BaseModelOutput(self.bias.new_zeros(*input_ids.shape[:2], 0))  # (batch, rows, 0)

    def read(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return at_judged(states, attention_mask, self.config)

    def score(
        self, states: torch.Tensor, attention_mask: torch.Tensor, statistics: torch.Tensor | None
    ) -> torch.Tensor:
        numbers = at_judged(required(statistics, self.config), attention_mask, self.config)
        scores = run_trees(self, STATISTICS, numbers)  # (..., outputs)
        return (as_two_classes(scores[..., 0]) if is_binary(self.config) else scores) + self.bias


class TabBertFusionForSequenceClassification(BoostedTreesMixin, TabBertLstmForSequenceClassification):
    """An LSTM on an encoder and LightGBM on statistics of the past, joined as `config.fusion` says.

    While `config.fusion` is empty it is the LSTM head alone: so it trains, and the halves are joined afterwards.
    """

    kinds_of_trees = (STATISTICS, FUSED)

    def config_problem(self) -> str | None:
        ways = CANDIDATES if is_binary(self.config) else OF_NUMBERS
        return super().config_problem() or fusion_problem(self.config, ways)

    def tree_inputs(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        row_states: torch.Tensor | None = None,
        times: torch.Tensor | None = None,
        statistics: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return what the fusion adds to the statistics of judged rows: the LSTM's log odds and the row's surprises.

        Of a regression it is what the LSTM predicts.

        Args are those of `forward`.

        Returns:
            Shape `(batch, rows, numbers)` with a label for each row, else `(batch, numbers)`.
        """
        if row_states is None:
            assert input_ids is not None
            attention_mask = self.row_mask(input_ids) if attention_mask is None else attention_mask
            row_states = self.encode(input_ids, attention_mask, times).last_hidden_state
        assert row_states is not None and attention_mask is not None
        logits = super().score(row_states, attention_mask, statistics)
        if not is_binary(self.config):
            return logits.float()
        found = self.parts(row_states)
        surprise = [at_judged(found[p], attention_mask, self.config) for p in found if p in OF_SURPRISE]
        odds = (logits[..., 1] - logits[..., 0])[..., None]
        return torch.cat([odds, *surprise], dim=-1).float()

    def score(
        self, states: torch.Tensor, attention_mask: torch.Tensor, statistics: torch.Tensor | None
    ) -> torch.Tensor:
        if not self.config.fusion:
            return super().score(states, attention_mask, statistics)
        numbers = at_judged(required(statistics, self.config), attention_mask, self.config)
        inputs = self.tree_inputs(attention_mask=attention_mask, row_states=states, statistics=statistics)
        found = self.fuse(self.config.fusion["chosen"], numbers, inputs)
        return as_two_classes(found[..., 0]) if is_binary(self.config) else found

    def fuse(self, name: str, statistics: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return log odds of class 1, shape `(..., 1)`, or values, shape `(..., targets)`.

        Args:
            name: one of `CANDIDATES`, or of `OF_NUMBERS`.
            statistics: of the rows, shape `(..., statistics)`.
            inputs: what `tree_inputs` gave for them, shape `(..., numbers)`.
        """
        if name == "trees":
            return run_trees(self, FUSED, torch.cat([statistics, inputs], dim=-1))
        sequence = inputs[..., :1] if is_binary(self.config) else inputs
        if name == "sequence":
            return sequence
        boosted = run_trees(self, STATISTICS, statistics)
        return boosted if name == "boosted" else self.join(name, sequence, boosted)

    def join(self, name: str, sequence: torch.Tensor, boosted: torch.Tensor) -> torch.Tensor:
        """Return what `fuse` does where it asks both halves, from the scores of each, shape `(..., outputs)`."""
        fusion: dict[str, Any] = self.config.fusion or {}
        both = torch.stack([sequence, boosted], dim=-1)  # (..., outputs, 2)
        if name == "rank_average":
            both = normal_scores(both, both.new_tensor(fusion["quantiles"]))
        *weights, bias = fusion["weights"][name]
        return both @ both.new_tensor(weights) + bias


def at_judged(rows: torch.Tensor, attention_mask: torch.Tensor, config: TabBertConfig) -> torch.Tensor:
    """Return `(batch, rows, width)` as it is with a label for each row, else the last real row, `(batch, width)`."""
    return rows if config.label_level == "row" else last_real_row(rows, attention_mask)


def run_trees(model: BoostedTreesMixin, name: str, numbers: torch.Tensor) -> torch.Tensor:
    """Return the trees' raw scores, shape `(..., outputs)`, for numbers of shape `(..., numbers)`."""
    flat = numbers.detach().float().cpu().reshape(-1, numbers.shape[-1]).numpy()
    scores = torch.from_numpy(model.tree_scores(name, flat))
    return scores.reshape(*numbers.shape[:-1], -1).to(numbers.device)


def as_two_classes(log_odds: torch.Tensor) -> torch.Tensor:
    """Return logits of shape `(..., 2)` whose softmax has these log odds."""
    return torch.stack([torch.zeros_like(log_odds), log_odds], dim=-1)

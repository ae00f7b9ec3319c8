"""TabBERT: a BERT over the rows of a table, hierarchical or flat, and its pretraining by masked cells.

Padhi et al. 2021, "Tabular Transformers for Modeling Multivariate Time Series", arXiv:2011.01843.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import BertModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bert.modeling_bert import eager_attention_forward
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple

from ..checked_loading import CheckedLoadingMixin
from .checked_windows import check_options, check_shapes
from .configuration_tabbert import TabBertConfig
from .head_settings import OF_SURPRISE
from .modeling_tabbert_heads import MaskedCells, TabBertMaskedCellHead, cell_projection, select_masked_cells
from .modeling_tabbert_numbers import FREQUENCIES, TabBertCellNumbers, TabBertPeriodicNumbers
from .modeling_tabbert_surprise import TabBertSurprise, rows_before


@dataclass
class TabBertMaskedLMOutput(ModelOutput):
    """Output of [`TabBertForMaskedLM`].

    Args:
        loss: scalar; with `mlm_loss="field"` the sum over fields of the mean over that field's masked cells.
        field_loss_sums: shape `(batch, fields)`, float32, loss in nats summed over the masked cells.
        field_correct: shape `(batch, fields)`, masked cells whose best scored id is the label.
        field_counts: shape `(batch, fields)`, masked cells.
        field_logits: one tensor `(batch, rows, ids of the field)` per field, if asked for.
        hidden_states: one tensor per layer of the sequence encoder, if asked for.
        attentions: one tensor per layer of the sequence encoder, if asked for.
    """

    loss: torch.Tensor | None = None
    field_loss_sums: torch.Tensor | None = None
    field_correct: torch.Tensor | None = None
    field_counts: torch.Tensor | None = None
    field_logits: tuple[torch.Tensor, ...] | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None

    @property
    def field_losses(self) -> torch.Tensor:
        """Mean loss of each field over its masked cells, shape `(fields,)`; zero where no cell is masked."""
        assert self.field_loss_sums is not None and self.field_counts is not None
        return self.field_loss_sums.sum(0) / self.field_counts.sum(0).clamp(min=1)


class TabBertFieldLayer(GradientCheckpointingLayer):
    """One post-norm transformer layer with ReLU over the cells of a row, as `nn.TransformerEncoderLayer`."""

    def __init__(self, config: TabBertConfig):
        super().__init__()
        width = config.field_hidden_size
        inner = config.field_intermediate_size or width
        self.config = config  # for its attention implementation
        self.is_causal = False
        self.num_heads = config.field_num_heads
        self.scaling = (width // config.field_num_heads) ** -0.5
        self.dropout_prob = float(config.field_dropout_prob)
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)
        self.output_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.field_dropout_prob)

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        count, fields, width = cells.shape
        query, key, value = self.qkv(cells).view(count, fields, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        dropout = self.dropout_prob if self.training else 0.0
        mixed, _ = attend(self, query, key, value, None, dropout=dropout, scaling=self.scaling)
        mixed = self.output(mixed.reshape(count, fields, width))
        cells = self.attention_norm(cells + self.dropout(mixed))
        inner = self.dropout(F.relu(self.up(cells)))
        return self.output_norm(cells + self.dropout(self.down(inner)))  # (rows, fields, field_hidden)


class TabBertFieldEncoder(nn.Module):
    """Turns the cells of each row into one row vector: attention over fields, concatenation, linear map."""

    def __init__(self, config: TabBertConfig):
        super().__init__()
        self.layer = nn.ModuleList([TabBertFieldLayer(config) for _ in range(config.field_num_layers)])
        self.projection = nn.Linear(config.num_fields * config.field_hidden_size, config.hidden_size)

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        batch, rows, fields, width = cells.shape
        cells = cells.view(batch * rows, fields, width)
        for layer in self.layer:
            cells = layer(cells)
        return self.projection(cells.reshape(batch, rows, fields * width))  # (batch, rows, hidden)


class TabBertEmbeddings(nn.Module):
    """One vector per id; positions and their layer norm belong to the sequence encoder."""

    def __init__(self, config: TabBertConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.cell_hidden_size, padding_idx=config.pad_token_id)
        if config.numeric != "bins":
            self.numbers = TabBertCellNumbers(config)

    @property
    def vectors(self) -> torch.Tensor:
        """The vectors of all ids, `(vocab, cell_hidden)`: of cells, and of the ids that a tied head scores."""
        words = self.word_embeddings.weight
        return self.numbers(words) if hasattr(self, "numbers") else words

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        if not hasattr(self, "numbers"):
            return self.word_embeddings(input_ids)  # (batch, rows, fields, cell_hidden)
        return F.embedding(input_ids, self.vectors, self.word_embeddings.padding_idx)


class TabBertPreTrainedModel(CheckedLoadingMixin, PreTrainedModel):
    """What all TabBERT models share: strict loading, initialisation, the check of the processor."""

    config: TabBertConfig
    _builder = "from_pretrained_encoder"
    _input_embed_layer = "word_embeddings"  # where transformers looks for the input embeddings
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["TabBertFieldLayer", "TabBertEmbeddings"]
    accepts_loss_kwargs = False  # the loss is a mean over this batch

    def __init__(self, config: TabBertConfig):
        if not config.fields:
            raise ValueError(
                "Expected a TabBertConfig with fields and field_ranges, found none. "
                "Take them from the fitted processor of the table."
            )
        super().__init__(config)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, TabBertMaskedCellHead) and module.bias is not None:
            init.zeros_(module.bias)
        if isinstance(module, TabBertCellNumbers):
            # from a slope over the whole scale, seven units, to a quarter of a unit
            init.copy_(module.frequencies, (2.0 ** torch.arange(-5, FREQUENCIES - 5)).expand_as(module.frequencies))
            init.normal_(module.weight, std=self.config.initializer_range / FREQUENCIES**0.5)  # as large as words
        if isinstance(module, TabBertPeriodicNumbers):  # as the authors' rtdl_num_embeddings 0.0.12
            init.trunc_normal_(module.frequencies, std=0.1, a=-0.3, b=0.3)
            bound = module.weight.shape[1] ** -0.5
            init.uniform_(module.weight, -bound, bound)
            init.uniform_(module.bias, -bound, bound)

    def row_mask(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Mark real rows, shape `(batch, rows)`: a row of nothing but padding is not real."""
        if self.config.pad_token_id is None:
            return input_ids.new_ones(input_ids.shape[:2])
        return input_ids.ne(self.config.pad_token_id).any(dim=-1).long()

    def check_processor(self, fingerprint: str) -> None:
        """Refuse a processor whose ids are not the ones that the weights were trained with.

        Raises:
            ValueError: if the config names another fingerprint.
        """
        expected = self.config.processor_fingerprint
        if expected is not None and fingerprint != expected:
            raise ValueError(
                f"Expected the processor with fingerprint {expected} that belongs to these weights, found "
                f"{fingerprint}: its ids mean other values. Load the processor from the checkpoint's folder."
            )


class TabBertRowEncoder(BertModel):
    """BERT over rows (over cells when flat), whose position embeddings have a size of their own at the start."""

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self.embeddings.position_embeddings:
            init.normal_(module.weight, mean=0.0, std=self.config.position_initializer_range)


class TabBertModel(TabBertPreTrainedModel):
    """Encodes windows of rows.

    Hierarchical: cells → attention over the fields of a row → one vector per row → BERT over rows.
    Flat: cells → BERT over all cells of the window.

    Example:

    ```python
    >>> import torch
    >>> from hf_mmtab.models.tabbert import TabBertConfig, TabBertModel
    >>> config = TabBertConfig(fields=["city", "amount"], field_ranges=[[4, 9], [9, 19]], vocab_size=19)
    >>> TabBertModel(config)(torch.tensor([[[4, 9], [5, 12], [4, 18]]])).last_hidden_state.shape
    torch.Size([1, 3, 256])
    ```
    """

    # A pretraining or fine-tuned checkpoint gives its encoder; the heads of this package are not foreign.
    _head_prefixes = ("head.", "cell_projection.", "lstm.", "mlp.", "classifier.", "numbers.")

    def __init__(self, config: TabBertConfig):
        super().__init__(config)
        self.embeddings = TabBertEmbeddings(config)
        if not config.flatten:
            self.field_encoder = TabBertFieldEncoder(config)
        self.row_encoder = TabBertRowEncoder(
            config.sequence_config(attn_implementation=config._attn_implementation), add_pooling_layer=False
        )
        self.row_encoder.set_input_embeddings(nn.Identity())  # it is fed with embeddings
        if OF_SURPRISE & config.encoded_widths.keys():
            self.surprise = TabBertSurprise(config)
        self.post_init()

    @property
    def freezable_modules(self) -> dict[str, str]:
        """Part name → module path."""
        parts = {"embeddings": "embeddings", "row_encoder": "row_encoder.encoder.layer"}
        return parts if self.config.flatten else {**parts, "field_encoder": "field_encoder"}

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutput:
        """Encode windows.

        Args:
            input_ids: shape `(batch, rows, fields)`, global ids; real rows first, then padding.
            attention_mask: shape `(batch, rows)`, 1 for a real row; taken from the padding id if left out.
            inputs_embeds: embedded cells in place of `input_ids`, shape `(batch, rows, fields, cell_hidden)`.
            kwargs: of the BERT over rows, such as `output_hidden_states`.

        Returns:
            `last_hidden_state` of shape `(batch, rows, hidden)`, flat `(batch, rows × fields, hidden)`.

        Raises:
            ValueError: if both or none of ids and embeddings are given, the shape does not fit the columns or the other
                inputs, or the window is too long.
        """
        fields = self.config.num_fields
        check_options(kwargs, "input_ids", "attention_mask", "inputs_embeds")
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Expected exactly one of input_ids and inputs_embeds.")
        read: Any = {"inputs_embeds": inputs_embeds} if input_ids is None else {"input_ids": input_ids}
        check_shapes(self.config, read, attention_mask=attention_mask)
        of_steps = {name: kwargs.get(name) for name in ("token_type_ids", "position_ids")}
        check_shapes(self.config, read, steps=self.config.flatten, **of_steps)
        # (batch, rows, fields, cell_hidden)
        cells: Any = inputs_embeds if input_ids is None else self.embeddings(input_ids)
        batch, rows = cells.shape[:2]
        length = rows * fields if self.config.flatten else rows
        if length > self.config.max_position_embeddings:
            unit = "cells" if self.config.flatten else "rows"
            raise ValueError(
                f"Expected at most max_position_embeddings={self.config.max_position_embeddings} {unit} in a "
                f"window, found {length}. Cut shorter windows, or train with more positions."
            )
        if attention_mask is None:
            attention_mask = cells.new_ones((batch, rows)) if input_ids is None else self.row_mask(input_ids)
        if self.config.flatten:
            sequence = cells.view(batch, rows * fields, -1)  # (batch, rows × fields, hidden)
            attention_mask = attention_mask.repeat_interleave(fields, dim=1)  # (batch, rows × fields)
        else:
            sequence = self.field_encoder(cells)  # (batch, rows, hidden)
        for name in ("output_attentions", "output_hidden_states"):  # the BERT has a configuration of its own
            if kwargs.get(name) is None:
                kwargs[name] = getattr(self.config, name)  # type: ignore[literal-required]
        outputs = self.row_encoder(inputs_embeds=sequence, attention_mask=attention_mask, return_dict=True, **kwargs)
        return BaseModelOutput(
            last_hidden_state=outputs.last_hidden_state,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class TabBertForMaskedLM(TabBertPreTrainedModel):
    """Pretraining: recover masked cells, or the cells of the next row, each among its own field's ids."""

    def __init__(self, config: TabBertConfig):
        super().__init__(config)
        self.model = TabBertModel(config)
        self.cell_projection = cell_projection(config)
        self.head = TabBertMaskedCellHead(config)
        self.post_init()

    @property
    def freezable_modules(self) -> dict[str, str]:
        """Part name → module path."""
        parts = {name: f"model.{path}" for name, path in self.model.freezable_modules.items()}
        return {"encoder": "model", **parts}

    def cell_states(self, last_hidden_state: torch.Tensor) -> torch.Tensor:
        """Return one vector per cell, shape `(batch, rows, fields, cell_hidden)`."""
        states = last_hidden_state if self.cell_projection is None else self.cell_projection(last_hidden_state)
        return states.view(states.shape[0], -1, self.config.num_fields, self.config.cell_hidden_size)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        return_field_logits: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TabBertMaskedLMOutput:
        """Score masked cells; with `next_row` the cells of each row from the rows before it, none of them masked.

        Args:
            input_ids: shape `(batch, rows, fields)`, global ids.
            attention_mask: shape `(batch, rows)`, 1 for a real row.
            labels: shape `(batch, rows, fields)`, global ids, -100 where the cell is not masked.
            return_field_logits: also score every cell; the default is to do so only without labels.

        Raises:
            ValueError: if shapes do not fit together.
        """
        check_shapes(self.config, {"input_ids": input_ids}, labels=labels)
        outputs = self.model(input_ids, attention_mask=attention_mask, return_dict=True, **kwargs)
        rows = outputs.last_hidden_state
        states = self.cell_states(rows_before(rows) if self.config.next_row else rows)
        embeddings = self.model.embeddings.vectors  # (vocab, cell_hidden)
        loss = sums = correct = counts = field_logits = None
        if labels is not None:
            cells = select_masked_cells(labels, self.config)
            scored = self.head(states, cells, embeddings)
            loss = scored.loss
            sums = self._per_example(scored.losses.detach(), cells, len(labels))
            correct = self._per_example(scored.correct, cells, len(labels))
            counts = self._per_example(torch.ones_like(scored.correct), cells, len(labels))
        if return_field_logits or (labels is None and return_field_logits is None):
            field_logits = self.head.field_logits(states, embeddings)
        return TabBertMaskedLMOutput(
            loss=loss,
            field_loss_sums=sums,
            field_correct=correct,
            field_counts=counts,
            field_logits=field_logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _per_example(self, values: torch.Tensor, cells: MaskedCells, batch: int) -> torch.Tensor:
        """Sum over the masked cells of each window and field, shape `(batch, fields)`, float32."""
        totals = torch.zeros(batch, self.config.num_fields, device=values.device)
        return totals.index_put_((cells.example, cells.field), values.float(), accumulate=True)

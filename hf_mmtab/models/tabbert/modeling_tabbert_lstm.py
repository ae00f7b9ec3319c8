"""Heads over windows of rows: LSTM, MLP and linear on a TabBERT encoder, and an LSTM on raw cells."""

import itertools
from abc import abstractmethod
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .checked_loading import without_report
from .configuration_tabbert import HEAD_SETTINGS, TabBertConfig
from .lstm_tabbert import LstmLayer
from .modeling_tabbert import TabBertEmbeddings, TabBertForMaskedLM, TabBertModel, TabBertPreTrainedModel
from .modeling_tabbert_losses import window_loss

# From here on the products outweigh the calls of a step (10 steps, hidden 768: 65 ms in place of 110, one core).
LARGE_HIDDEN_SIZE = 512


def num_outputs(config: TabBertConfig) -> int:
    """Return the number of classes, or of regression targets."""
    assert config.num_labels is not None
    return config.num_labels


def last_real_row(rows: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Read each window at its last real row; a window of padding alone is read at its first row.

    Args:
        rows: shape `(batch, rows, width)`.
        attention_mask: shape `(batch, rows)`, real rows first.

    Returns:
        Shape `(batch, width)`.
    """
    last = attention_mask.long().sum(dim=1).sub(1).clamp(min=0)
    return rows.gather(1, last[:, None, None].expand(-1, 1, rows.shape[-1])).squeeze(1)


class TabBertLstm(nn.LSTM):
    """An LSTM over rows (over cells when flat) whose padding never reaches a read-out."""

    def __init__(self, config: TabBertConfig, input_size: int):
        super().__init__(
            input_size,
            config.lstm_hidden_size or config.hidden_size,
            num_layers=config.lstm_num_layers,
            dropout=float(config.lstm_dropout) if config.lstm_num_layers > 1 else 0.0,
            bidirectional=config.lstm_bidirectional,
            batch_first=True,
        )

    @property
    def output_size(self) -> int:
        """Width of the read-out."""
        return self.hidden_size * (2 if self.bidirectional else 1)

    def run(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return outputs of shape `(batch, steps, output_size)` for `attention_mask` `(batch, steps)`."""
        if self._trains_on_cpu(states):
            bias: Any = self.bias_ih_l0 + self.bias_hh_l0  # type: ignore[operator]
            return LstmLayer.apply(states, self.weight_ih_l0, self.weight_hh_l0, bias)
        if not self.bidirectional:
            return self(states)[0]  # padding comes after all real steps: it cannot reach them
        # The way back would start in the padding.
        lengths = attention_mask.long().sum(dim=1).clamp(min=1).cpu()
        packed = pack_padded_sequence(states, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self(packed)[0], batch_first=True, total_length=states.shape[1])[0]

    def _trains_on_cpu(self, states: torch.Tensor) -> bool:
        """Tell whether `LstmLayer` computes the same in less time than torch's own layer."""
        simple = self.num_layers == 1 and not self.bidirectional and states.device.type == "cpu"
        simple = simple and self.hidden_size >= LARGE_HIDDEN_SIZE
        traced = torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu")
        return simple and torch.is_grad_enabled() and not traced

    def read_window(self, outputs: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return what each direction knows after its last step, shape `(batch, output_size)`."""
        last = last_real_row(outputs, attention_mask)
        if not self.bidirectional:
            return last
        return torch.cat([last[:, : self.hidden_size], outputs[:, 0, self.hidden_size :]], dim=-1)


class TabBertWindowModel(TabBertPreTrainedModel):
    """What the heads share. A head turns states into one vector per window, or per row."""

    classifier: nn.Linear

    def __init__(self, config: TabBertConfig):
        super().__init__(config)
        self.dropout = nn.Dropout(config.classifier_dropout)

    @abstractmethod
    def encode(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutput:
        """Return states of shape `(batch, rows, width)`; when flat, the cells of a row side by side."""

    @abstractmethod
    def read(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return vectors of shape `(batch, width)`, or `(batch, rows, width)` with one label per row."""

    def in_units(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return outputs `(..., labels)` in the units of the targets, where the config knows their spread."""
        if self.config.target_mean is None or self.config.target_std is None:
            return outputs
        mean, std = (outputs.new_tensor(v) for v in (self.config.target_mean, self.config.target_std))
        return outputs * std + mean

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        row_states: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutput:
        """Classify windows or rows.

        Args:
            input_ids: shape `(batch, rows, fields)`, global ids; real rows first, then padding.
            attention_mask: shape `(batch, rows)`, 1 for a real row; taken from the padding id if left out.
            labels: shape `(batch,)`, `(batch, rows)` with one label per row, or targets of the logits' shape.
            row_states: what `get_row_states` returned for these windows, in place of `input_ids`.
            kwargs: of the encoder, such as `output_hidden_states`.

        Returns:
            `loss` if there are labels, `logits` of shape `(batch, labels)` or `(batch, rows, labels)`.

        Raises:
            ValueError: unless exactly one of `input_ids` and `row_states` is given.
        """
        if (input_ids is None) == (row_states is None):
            raise ValueError(
                "Expected either input_ids or row_states (from get_row_states), found both or none."
            )
        outputs: Any = BaseModelOutput(last_hidden_state=row_states)
        if input_ids is not None:
            attention_mask = self.row_mask(input_ids) if attention_mask is None else attention_mask
            outputs = self.encode(input_ids, attention_mask, **kwargs)
        states = outputs.last_hidden_state  # (batch, rows, width)
        if attention_mask is None:
            attention_mask = states.new_ones(states.shape[:2])
        logits = self.in_units(self.classifier(self.dropout(self.read(states, attention_mask))))
        return SequenceClassifierOutput(
            loss=None if labels is None else window_loss(logits, labels, self.config),
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    @property
    def steps_per_row(self) -> int:
        """States per row: 1, or one per cell when flat."""
        return self.config.num_fields if self.config.flatten else 1


class TabBertEncoderWindowModel(TabBertWindowModel):
    """A head on a TabBERT encoder, which is meant to stay frozen: `default_frozen_parts`."""

    default_frozen_parts = ("encoder",)

    def __init__(self, config: TabBertConfig):
        super().__init__(config)
        self.model = TabBertModel(config)

    @classmethod
    def from_pretrained_encoder(
        cls, checkpoint: str, processor_fingerprint: str | None = None, **head_settings: Any
    ) -> "TabBertEncoderWindowModel":
        """Put a new head on the encoder of a checkpoint; every weight of the encoder comes from it.

        Args:
            checkpoint: folder or Hub name of a pretraining (or fine-tuned) checkpoint.
            processor_fingerprint: of the processor that encodes the windows, checked against the config's.
            head_settings: `num_labels`, `id2label`, `lstm_hidden_size`, … (`HEAD_SETTINGS`).

        Raises:
            ValueError: if a setting is not one of a head, the processor is another one, or encoder weights are missing.

        Example:

        ```python
        model = TabBertLstmForSequenceClassification.from_pretrained_encoder("out/pretrain", num_labels=2)
        ```
        """
        foreign = sorted(set(head_settings) - set(HEAD_SETTINGS))
        if foreign:
            raise ValueError(f"Expected settings of a head {sorted(HEAD_SETTINGS)}, found {foreign}.")
        with without_report():  # the pretraining head is left out
            encoder: Any = TabBertModel.from_pretrained(checkpoint)
        if processor_fingerprint is not None:
            encoder.check_processor(processor_fingerprint)
        settings = encoder.config.to_dict()
        if {"num_labels", "id2label", "label2id"} & set(head_settings):
            for name in ("id2label", "label2id"):
                settings.pop(name, None)
        model = cls(TabBertConfig.from_dict({**settings, **head_settings})).to(encoder.dtype)
        weights = encoder.state_dict()
        if model.config.row_inputs == "states":
            weights = {name: value for name, value in weights.items() if not name.startswith("surprise.")}
        elif encoder.config.row_inputs == "states":
            pretrained = TabBertForMaskedLM.from_pretrained(checkpoint).state_dict()
            learned = {name: value for name, value in pretrained.items() if not name.startswith("model.")}
            weights.update({f"surprise.{name}": value for name, value in learned.items()})
            weights["surprise.rarity"] = model.model.surprise.rarity  # to be set by `learn_rarity`
        model.model.load_state_dict(weights, strict=True)
        return model

    @property
    def freezable_modules(self) -> dict[str, str]:
        """Part name → module path."""
        parts = {name: f"model.{path}" for name, path in self.model.freezable_modules.items()}
        return {"encoder": "model", **parts}

    @property
    def cacheable_features(self) -> dict[str, dict[str, Any]]:
        """While the encoder is frozen, what it gives for a window never changes; heads share what is stored."""
        own = {"states": "", "surprise": "surprise."}  # prefix of weights that no other piece depends on
        widths = self.config.encoded_widths
        return {
            "encoder": {
                "inputs": ["input_ids"],
                "mask": "attention_mask",
                "output": "row_states",
                "method": "get_row_states",
                "computed_by": "TabBertModel",  # so heads share what the same encoder gave
                "independent_of": list(HEAD_SETTINGS),
                "pieces": {name: (width * self.steps_per_row, own[name]) for name, width in widths.items()},
            }
        }

    def encode(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutput:
        outputs = self.model(input_ids, attention_mask=attention_mask, return_dict=True, **kwargs)
        states = outputs.last_hidden_state
        if self.config.row_inputs != "states":
            embeddings = self.model.embeddings.word_embeddings.weight
            surprise = self.model.surprise(states, input_ids, embeddings).to(states.dtype)
            only = self.config.row_inputs == "surprise"
            states = surprise if only else torch.cat([states, surprise], dim=-1)
        outputs.last_hidden_state = states.reshape(*input_ids.shape[:2], -1)
        return outputs

    def get_row_states(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return what the head reads of each row, `(batch, rows, hidden)`, flat `(batch, rows, fields × hidden)`.

        That is the encoder's states. With `row_inputs="surprise"` it is numbers that measure how unexpected the row
        was, `(batch, rows, surprise_width)`, with "both" they follow the states: a head learns from these where a
        hundred positives are too few for whole states.
        """
        return self.encode(input_ids, attention_mask).last_hidden_state  # type: ignore[return-value]

    def row_vectors(self, states: torch.Tensor) -> torch.Tensor:
        """Return one vector per row, shape `(batch, rows, hidden)`: when flat, the mean of its cells."""
        if not self.config.flatten:
            return states
        return states.unflatten(-1, (self.config.num_fields, -1)).mean(dim=2)

    def pool(self, rows: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return one vector per window, or all rows with one label per row."""
        if self.config.label_level == "row":
            return rows
        if self.config.pooling == "last":
            return last_real_row(rows, attention_mask)
        weights = attention_mask.to(rows.dtype)[:, :, None]
        return (rows * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


class TabBertLstmForSequenceClassification(TabBertEncoderWindowModel):
    """Encoder → LSTM over rows (over cells when flat) → read at the last real row → linear.

    With `problem_type="regression"` it has one output per target (`num_labels`), with `label_level="row"` one
    prediction per row.

    Example:

    ```python
    >>> import torch
    >>> from hf_mmtab.models.tabbert import TabBertConfig, TabBertLstmForSequenceClassification
    >>> config = TabBertConfig(fields=["city", "amount"], field_ranges=[[4, 9], [9, 19]], vocab_size=19)
    >>> model = TabBertLstmForSequenceClassification(config)
    >>> model(torch.tensor([[[4, 9], [5, 12], [0, 0]]]), labels=torch.tensor([1])).logits.shape
    torch.Size([1, 2])
    ```
    """

    def __init__(self, config: TabBertConfig):
        super().__init__(config)
        self.lstm = TabBertLstm(config, config.row_width)
        self.classifier = nn.Linear(self.lstm.output_size, num_outputs(config))
        self.post_init()

    def read(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return read_lstm(self.lstm, states, attention_mask, self.steps_per_row, self.config.label_level)


class TabBertMlpForSequenceClassification(TabBertEncoderWindowModel):
    """Encoder → last real row or mean of the rows (`pooling`) → hidden layers → linear."""

    def __init__(self, config: TabBertConfig):
        super().__init__(config)
        sizes = [config.row_width, *(config.mlp_hidden_sizes or [config.hidden_size])]
        layers: list[nn.Module] = []
        activation, dropout = ACT2FN[config.hidden_act], config.classifier_dropout
        for width, next_width in itertools.pairwise(sizes):
            layers += [nn.Linear(width, next_width), activation, nn.Dropout(dropout)]
        self.mlp = nn.Sequential(*layers)
        self.classifier = nn.Linear(sizes[-1], num_outputs(config))
        self.post_init()

    def read(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.mlp(self.pool(self.row_vectors(states), attention_mask))


class TabBertPooledForSequenceClassification(TabBertEncoderWindowModel):
    """Encoder → last real row or mean of the rows (`pooling`) → linear."""

    def __init__(self, config: TabBertConfig):
        super().__init__(config)
        self.classifier = nn.Linear(config.row_width, num_outputs(config))
        self.post_init()

    def read(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.pool(self.row_vectors(states), attention_mask)


class TabBertRawLstmForSequenceClassification(TabBertWindowModel):
    """The paper's baseline: embedded cells of a row, concatenated → LSTM → linear. Nothing is pretrained."""

    supports_gradient_checkpointing = False  # there are no layers

    def __init__(self, config: TabBertConfig):
        super().__init__(config)
        self.embeddings = TabBertEmbeddings(config)
        self.lstm = TabBertLstm(config, config.num_fields * config.cell_hidden_size)
        self.classifier = nn.Linear(self.lstm.output_size, num_outputs(config))
        self.post_init()

    @property
    def freezable_modules(self) -> dict[str, str]:
        """Part name → module path."""
        return {"embeddings": "embeddings"}

    @property
    def steps_per_row(self) -> int:
        return 1

    def encode(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutput:
        return BaseModelOutput(self.embeddings(input_ids).flatten(2))  # (batch, rows, fields × cell_hidden)

    def read(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return read_lstm(self.lstm, states, attention_mask, 1, self.config.label_level)


def read_lstm(
    lstm: TabBertLstm,
    states: torch.Tensor,
    attention_mask: torch.Tensor,
    steps_per_row: int,
    label_level: str,
) -> torch.Tensor:
    """Run the LSTM and read it after the last step of each row, or after the last real row.

    Args:
        states: shape `(batch, rows, steps_per_row × width)`.
        attention_mask: shape `(batch, rows)`.

    Returns:
        Shape `(batch, rows, output)` for `label_level="row"`, else `(batch, output)`.
    """
    states = states.reshape(states.shape[0], states.shape[1] * steps_per_row, -1)  # (batch, steps, width)
    step_mask = attention_mask.repeat_interleave(steps_per_row, dim=1)
    outputs = lstm.run(states, step_mask)  # (batch, steps, output)
    if label_level == "row":
        return outputs[:, steps_per_row - 1 :: steps_per_row]
    return lstm.read_window(outputs, step_mask)

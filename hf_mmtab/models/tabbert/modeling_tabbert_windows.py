"""Windows of rows in, one vector per window or per row out: what heads on TabBERT and on raw cells share."""

from abc import abstractmethod
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from ..checked_loading import without_report
from .checked_windows import check_options, check_shapes
from .configuration_tabbert import TabBertConfig
from .head_settings import HEAD_SETTINGS, OF_ANOTHER_HEAD, OF_SURPRISE
from .modeling_tabbert import TabBertForMaskedLM, TabBertModel, TabBertPreTrainedModel
from .modeling_tabbert_losses import window_loss
from .modeling_tabbert_numbers import TabBertRowNumbers
from .modeling_tabbert_surprise import SCALE


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


def required(statistics: torch.Tensor | None, config: TabBertConfig) -> torch.Tensor:
    """Return statistics as they came.

    Raises:
        ValueError: if there are none, or others than the config names.
    """
    count = len(config.statistics or [])
    if statistics is None or statistics.shape[-1] != count:
        found = "none" if statistics is None else f"shape {tuple(statistics.shape)}"
        raise ValueError(
            f"Expected statistics of shape (batch, rows, {count}), found {found}. Compute them with the RowStatistics "
            "that were saved with the model; `predict`, `eval_checkpoint` and the pipeline do."
        )
    return statistics


class TabBertWindowModel(TabBertPreTrainedModel):
    """What the heads share. A head turns states into one vector per window, or per row."""

    classifier: nn.Linear

    def __init__(self, config: TabBertConfig):
        super().__init__(config)
        self.dropout = nn.Dropout(config.classifier_dropout)

    @abstractmethod
    def encode(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None, **kwargs: Unpack[TransformersKwargs]
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
        times: torch.Tensor | None = None,
        statistics: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutput:
        """Classify windows or rows.

        Args:
            input_ids: shape `(batch, rows, fields)`, global ids; real rows first, then padding.
            attention_mask: shape `(batch, rows)`, 1 for a real row; taken from the padding id if left out.
            labels: shape `(batch,)`, `(batch, rows)` with one label per row, or targets of the logits' shape.
            row_states: what `get_row_states` returned for these windows, in place of `input_ids`.
            times: of the rows in microseconds, shape `(batch, rows)`; for `windowed_surprise`.
            statistics: numbers about each row and its past, shape `(batch, rows, statistics)`, NaN where missing; of
                models whose config names them.
            kwargs: of the encoder, such as `output_hidden_states`.

        Returns:
            `loss` if there are labels (in training with the config's auxiliary loss, if the encoder runs), `logits` of
            shape `(batch, labels)` or `(batch, rows, labels)`.

        Raises:
            ValueError: unless exactly one of `input_ids` and `row_states` is given, or if times or statistics that the
                model reads are absent, or shapes do not fit together.
        """
        check_options(kwargs, "input_ids", "attention_mask", "labels", "row_states", "times", "statistics")
        if (input_ids is None) == (row_states is None):
            raise ValueError("Expected either input_ids or row_states (from get_row_states), found both or none.")
        read: Any = {"row_states": row_states} if input_ids is None else {"input_ids": input_ids}
        known = statistics if self.config.statistics else None  # a model that reads none is given those of another
        check_shapes(self.config, read, attention_mask=attention_mask, times=times, statistics=known)
        outputs: Any = BaseModelOutput(last_hidden_state=row_states)
        if input_ids is not None:
            attention_mask = self.row_mask(input_ids) if attention_mask is None else attention_mask
            own = {} if times is None else {"times": times}
            outputs = self.encode(input_ids, attention_mask, **own, **kwargs)
        states = outputs.last_hidden_state  # (batch, rows, width)
        if attention_mask is None:
            attention_mask = states.new_ones(states.shape[:2])
        logits = self.score(states, attention_mask, statistics)
        loss = None if labels is None else window_loss(logits, labels, self.config)
        if loss is not None and self.training and input_ids is not None and self.config.auxiliary_next_row:
            loss = loss + self.config.auxiliary_next_row * self.next_row_loss(states, attention_mask)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

    def score(
        self, states: torch.Tensor, attention_mask: torch.Tensor, statistics: torch.Tensor | None
    ) -> torch.Tensor:
        """Return logits, or values in the units of the targets, for states of shape `(batch, rows, width)`."""
        return self.in_units(self.classify(self.head_inputs(states, statistics), attention_mask))

    def classify(self, inputs: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return logits for what the head reads of each row, shape `(batch, rows, width)`."""
        return self.classifier(self.dropout(self.read(inputs, attention_mask)))

    def head_inputs(self, states: torch.Tensor, statistics: torch.Tensor | None) -> torch.Tensor:
        """Return what the head reads of each row, from what `encode` gave and the row's statistics."""
        return states

    def next_row_loss(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of predicting each cell of the real rows from the rows before, nats, a scalar.

        Args:
            states: what `encode` gave, shape `(batch, rows, width)`.
            attention_mask: shape `(batch, rows)`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no encoder that predicts rows.")

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
        if "statistics" in config.row_parts:
            self.numbers = TabBertRowNumbers(config)

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
        from hf_mmtab import TabBertLstmForSequenceClassification

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
        of_another_head = dict.fromkeys(OF_ANOTHER_HEAD) | {"auxiliary_next_row": 0.0, "statistics_embedding": "linear"}
        settings = {**encoder.config.to_dict(), **of_another_head}
        if {"num_labels", "id2label", "label2id"} & set(head_settings):
            for name in ("id2label", "label2id"):
                settings.pop(name, None)
        model = cls(TabBertConfig.from_dict({**settings, **head_settings})).to(encoder.dtype)
        weights = encoder.state_dict()
        if not hasattr(model.model, "surprise"):
            weights = {name: value for name, value in weights.items() if not name.startswith("surprise.")}
        elif not hasattr(encoder, "surprise"):
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
        """While the encoder is frozen, what it gives for a window never changes; heads share what is stored of it.

        `attention_mask` stays beside `row_states`; `get_row_states` finds its own in the padding ids. A piece has a
        width and the prefix of weights that states do not depend on.
        """
        prefixes = {"states": ""} | dict.fromkeys(OF_SURPRISE, "surprise.")
        widths = {name: width * self.steps_per_row for name, width in self.config.encoded_widths.items()}
        if not widths:
            return {}  # the head reads statistics alone
        return {
            "encoder": {
                "inputs": ["input_ids", *(["times"] if self.reads_times else [])],
                "mask": "attention_mask",
                "output": "row_states",
                "method": "get_row_states",
                "computed_by": "TabBertModel",  # so that all heads on one encoder share its cached outputs
                "independent_of": list(HEAD_SETTINGS),
                "pieces": {name: (width, prefixes[name]) for name, width in widths.items()},
            }
        }

    @property
    def reads_times(self) -> bool:
        """Whether `encode` needs the times of the rows."""
        return "windowed_surprise" in self.config.encoded_widths

    def encode(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        times: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutput:
        wanted = self.config.encoded_widths
        if not wanted:
            weight = self.model.embeddings.word_embeddings.weight
            return BaseModelOutput(weight.new_zeros((*input_ids.shape[:2], 0)))  # type: ignore[arg-type]
        outputs = self.model(input_ids, attention_mask=attention_mask, return_dict=True, **kwargs)
        states = outputs.last_hidden_state
        found = {"states": states}
        if hasattr(self.model, "surprise"):
            embeddings = self.model.embeddings.vectors
            found["surprise"] = self.model.surprise(states, input_ids, embeddings).to(states.dtype)
        if self.reads_times:
            if times is None:
                raise ValueError("Expected the times of the rows for windowed_surprise, found none. Pass `times`.")
            found["windowed_surprise"] = self.model.surprise.windowed(found["surprise"], times).to(states.dtype)
        states = torch.cat([found[part] for part in wanted], dim=-1)
        if self.config.flatten:
            states = states.reshape(*input_ids.shape[:2], -1)
        outputs.last_hidden_state = states
        return outputs

    def parts(self, states: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what `encode` put side by side, by name."""
        widths = self.config.encoded_widths
        return dict(zip(widths, states.split([*widths.values()], dim=-1), strict=True)) if widths else {}

    def head_inputs(self, states: torch.Tensor, statistics: torch.Tensor | None) -> torch.Tensor:
        own = self.config.row_parts
        if set(own) == self.config.encoded_widths.keys():
            return states
        found = self.parts(states)
        if "statistics" in own:
            found["statistics"] = self.numbers(required(statistics, self.config)).to(states.dtype)
        return torch.cat([found[part] for part in own], dim=-1)

    def get_row_states(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, times: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return what the encoder gives for each row, `(batch, rows, hidden)`, flat `(batch, rows, fields × hidden)`.

        That is the encoder's states. With `row_inputs="surprise"` it is numbers that measure how unexpected the row
        was, `(batch, rows, surprise_width)`, with "both" they follow the states: a head learns from these where a
        hundred positives are too few for whole states. "windowed_surprise" is summed over the last hour, day and rows.
        """
        check_shapes(self.config, {"input_ids": input_ids}, attention_mask=attention_mask, times=times)
        return self.encode(input_ids, attention_mask, times).last_hidden_state  # type: ignore[return-value]

    def next_row_loss(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        # The first columns of surprise are those losses, zeros in padding.
        cells = self.parts(states)["surprise"][..., : self.config.num_fields].float()
        return cells.sum() / (SCALE * self.config.num_fields * attention_mask.sum().clamp(min=1))

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

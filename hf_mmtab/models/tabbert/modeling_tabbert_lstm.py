"""Heads over windows of rows: LSTM, MLP and linear on a TabBERT encoder, and an LSTM on raw cells."""

import copy
import itertools
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from .configuration_tabbert import TabBertConfig
from .lstm_tabbert import LstmLayer
from .modeling_tabbert import TabBertEmbeddings
from .modeling_tabbert_windows import TabBertEncoderWindowModel, TabBertWindowModel, last_real_row

# What all members of a head have in common.
OF_MEMBERS = (
    *("num_labels", "id2label", "problem_type", "label_level", "window_label", "target_mean", "target_std"),
    *("row_parts", "statistics", "network_statistics", "statistics_hidden_size", "statistics_embedding"),
    *("lstm_hidden_size", "lstm_num_layers", "lstm_bidirectional"),
)

# From here on the products outweigh the calls of a step (10 steps, hidden 768: 65 ms in place of 110, one core).
LARGE_HIDDEN_SIZE = 512


def num_outputs(config: TabBertConfig) -> int:
    """Return the number of classes, or of regression targets."""
    assert config.num_labels is not None
    return config.num_labels


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
        if _lacks_half_precision(states):
            with torch.autocast("cpu", enabled=False):
                return self.run(states.float(), attention_mask)
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


def _lacks_half_precision(states: torch.Tensor) -> bool:
    """Tell whether autocast asks for a number format that oneDNN's LSTM lacks on this processor (AVX2 alone)."""
    if states.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return False
    bfloat16 = torch.get_autocast_dtype("cpu") == torch.bfloat16
    of_onednn = torch.ops.mkldnn
    return not (of_onednn._is_mkldnn_bf16_supported() if bfloat16 else of_onednn._is_mkldnn_fp16_supported())


class TabBertLstmForSequenceClassification(TabBertEncoderWindowModel):
    """Encoder → LSTM over rows (over cells when flat) → read at the last real row → linear.

    With `problem_type="regression"` it has one output per target (`num_labels`), with `label_level="row"` one
    prediction per row. With `lstm_members` above 1 so many heads read what one encoder gives, and the mean of their
    logits scores; see `add_members`.

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
        self.members = nn.ModuleList([_head_alone(config) for _ in range(config.lstm_members - 1)])
        self.post_init()

    def add_members(self, *others: "TabBertLstmForSequenceClassification") -> None:
        """Let the mean of this head's logits and of others' score: less a matter of chance where positives are few.

        Source: deep ensembles, Lakshminarayanan et al. 2017 (arXiv:1612.01474), here on one encoder.

        Args:
            others: trained from other seeds on the same frozen encoder and the same statistics; copied, without the
                encoder.

        Raises:
            ValueError: if one is no such head, has members itself, another encoder, other settings or labels. Nothing
                is added then.
        """
        members = [self._as_member(other) for other in others]
        self.members.extend(members)
        self.config.lstm_members = 1 + len(self.members)

    def _as_member(self, other: Any) -> "TabBertLstmForSequenceClassification":
        """Return a copy of another head without its encoder, see `add_members`."""
        found = None
        if not isinstance(other, TabBertLstmForSequenceClassification):
            found = f"a {type(other).__name__}"
        elif other is self or other.members:
            found = "itself" if other is self else f"one of {other.config.lstm_members}"
        if found is not None:
            raise ValueError(
                f"Expected other LSTM heads without members, each by itself, found {found}. Name them one by one: "
                "model.add_members(second, third)."
            )
        own, weights = self.state_dict(), other.state_dict()
        differing = [name for name in OF_MEMBERS if getattr(self.config, name) != getattr(other.config, name)]
        fixed = [name for name in own if name.startswith("model.") or name == "numbers.quantiles"]
        differing += [n for n in fixed if n not in weights or not torch.equal(own[n], weights[n].to(own[n]))]
        if differing:
            raise ValueError(
                f"Expected a head of the same settings and labels on the same encoder, found {differing[0]} that "
                "differs. Train all members on one table, from one recipe, with the encoder frozen."
            )
        member: Any = _head_alone(other.config).to(self.classifier.weight)  # type: ignore[arg-type]
        member.load_state_dict({name: value for name, value in weights.items() if not name.startswith("model.")})
        return member.train(self.training)

    def read(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return read_lstm(self.lstm, states, attention_mask, self.steps_per_row, self.config.label_level)

    def score(
        self, states: torch.Tensor, attention_mask: torch.Tensor, statistics: torch.Tensor | None
    ) -> torch.Tensor:
        own = super().score(states, attention_mask, statistics)
        members: Any = self.members
        others = [member.score(states, attention_mask, statistics) for member in members]
        return torch.stack([own, *others]).mean(dim=0) if others else own

    @property
    def freezable_modules(self) -> dict[str, str]:
        """Part name → module path, or a pattern of those of all members."""
        members = {"lstm": "*lstm", "classifier": "*classifier"} if self.members else {}
        return super().freezable_modules | members


def _head_alone(config: TabBertConfig) -> TabBertLstmForSequenceClassification:
    """Return a head without its encoder, as the member of another."""
    alone = copy.deepcopy(config)
    alone.lstm_members = 1
    head = TabBertLstmForSequenceClassification(alone)
    del head.model
    return head


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
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None, **kwargs: Unpack[TransformersKwargs]
    ) -> BaseModelOutput:
        return BaseModelOutput(self.embeddings(input_ids).flatten(2))  # (batch, rows, fields × cell_hidden)

    def read(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return read_lstm(self.lstm, states, attention_mask, 1, self.config.label_level)


def read_lstm(
    lstm: TabBertLstm, states: torch.Tensor, attention_mask: torch.Tensor, steps_per_row: int, label_level: str
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

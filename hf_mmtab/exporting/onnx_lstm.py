"""The LSTM of the heads as ONNX's own operator: torch.export would unroll it over the steps of its example."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..models.tabbert.modeling_tabbert_lstm import TabBertLstm

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@torch.library.custom_op("hf_mmtab::lstm_layer", mutates_args=())
def lstm_layer(
    states: torch.Tensor, weight_ih: torch.Tensor, weight_hh: torch.Tensor, bias_ih: torch.Tensor, bias_hh: torch.Tensor
) -> torch.Tensor:
    """Run one layer forward over states `(batch, steps, width)`; returns `(batch, steps, hidden)`."""
    start = states.new_zeros(1, states.shape[0], weight_hh.shape[1])
    weights = [weight_ih, weight_hh, bias_ih, bias_hh]
    return torch.lstm(states, (start, start), weights, True, 1, 0.0, False, False, True)[0].contiguous()


@lstm_layer.register_fake
def _(states: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any) -> torch.Tensor:
    return states.new_empty(states.shape[0], states.shape[1], weight_hh.shape[1])


def onnx_lstm_layer(states: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any) -> Any:
    """Write `lstm_layer` as an ONNX graph; torch orders the gates input, forget, cell, output, ONNX i, o, f, c."""
    import onnxscript

    op: Any = onnxscript.opset18

    def reordered(value: Any) -> Any:
        inner, forget, cell, out = op.Split(value, num_outputs=4, axis=0)
        return op.Concat(inner, out, forget, cell, axis=0)

    first = op.Constant(value_ints=[0])
    biases = op.Concat(reordered(bias_ih), reordered(bias_hh), axis=0)
    weights = [op.Unsqueeze(one, first) for one in (reordered(weight_ih), reordered(weight_hh), biases)]
    steps = op.Transpose(states, perm=[1, 0, 2])  # (steps, batch, width)
    outputs, _, _ = op.LSTM(steps, *weights, hidden_size=weight_hh.shape[1])  # (steps, 1, batch, hidden)
    return op.Transpose(op.Squeeze(outputs, op.Constant(value_ints=[1])), perm=[1, 0, 2])


class ExportedLstm(TabBertLstm):
    """Computes in evaluation what `TabBertLstm` does, layer by layer with `lstm_layer`."""

    def run(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return outputs of shape `(batch, steps, output_size)` for `attention_mask` `(batch, steps)`.

        The way back is a way forward through the real steps in reverse order.
        """
        length = attention_mask.long().sum(dim=1, keepdim=True).clamp(min=1)  # (batch, 1)
        steps = torch.arange(states.shape[1], device=states.device)[None]
        order = torch.where(steps < length, length - 1 - steps, steps)[..., None]  # (batch, steps, 1)
        for layer in range(self.num_layers):
            ways = [lstm_layer(states, *self._weights(f"_l{layer}"))]
            if self.bidirectional:
                turned = states.gather(1, order.expand(-1, -1, states.shape[2]))
                back = lstm_layer(turned, *self._weights(f"_l{layer}_reverse"))
                ways.append(back.gather(1, order.expand(-1, -1, back.shape[2])))
            states = torch.cat(ways, dim=-1)  # (batch, steps, output_size)
        return states

    def _weights(self, suffix: str) -> list[torch.Tensor]:
        return [getattr(self, name + suffix) for name in WEIGHTS]


@contextmanager
def lstm_as_operator(model: nn.Module) -> Iterator[dict[Any, Any]]:
    """Let the LSTMs of a model use `lstm_layer`; yields how torch.onnx is to translate it."""
    found = [module for module in model.modules() if type(module) is TabBertLstm]
    for module in found:
        module.__class__ = ExportedLstm
    try:
        yield {torch.ops.hf_mmtab.lstm_layer.default: onnx_lstm_layer}
    finally:
        for module in found:
            module.__class__ = TabBertLstm

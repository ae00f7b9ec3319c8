"""One layer of an LSTM whose backward pass multiplies once for each weight instead of once for each step."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class LstmLayer(torch.autograd.Function):
    """The formulas of `nn.LSTM` (one layer, one direction, zero start), forward and backward.

    On a CPU torch goes back through the layer step by step, and at each step adds a small product to the gradient of
    each weight: with ten or a hundred steps that is most of the time. Here the gradients of the gates are kept, and
    one large product at the end gives each weight's.
    """

    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, weight_ih: torch.Tensor, weight_hh: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        """Return the outputs of all steps, `(batch, steps, hidden)`.

        Args:
            ctx: of autograd.
            states: `(batch, steps, width)`.
            weight_ih: `(4 × hidden, width)`; gates in torch's order: input, forget, cell, output.
            weight_hh: `(4 × hidden, hidden)`.
            bias: `(4 × hidden,)`, the sum of torch's two.
        """
        steps = states.transpose(0, 1).contiguous()  # (steps, batch, width)
        gates = F.linear(steps, weight_ih, bias)  # (steps, batch, 4 × hidden), activated below in place
        hidden = gates.new_zeros(gates.shape[1], weight_hh.shape[1])
        cell = torch.zeros_like(hidden)
        outputs = gates.new_empty(len(gates), *hidden.shape)
        cells = torch.empty_like(outputs)
        back = weight_hh.t()
        for step in range(len(gates)):
            now = gates[step]
            if step:
                now.addmm_(hidden, back)
            inner, forget, fresh, out = now.chunk(4, dim=1)
            inner.sigmoid_()
            forget.sigmoid_()
            fresh.tanh_()
            out.sigmoid_()
            cell = torch.addcmul(inner * fresh, forget, cell, out=cells[step])
            hidden = torch.mul(out, cell.tanh(), out=outputs[step])
        ctx.save_for_backward(steps, weight_ih, weight_hh, gates, cells, outputs)
        return outputs.transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of `states` (None if not asked for) and of the weights."""
        steps, weight_ih, weight_hh, gates, cells, outputs = ctx.saved_tensors
        grad_outputs = grad_outputs.transpose(0, 1)
        grad_gates = torch.empty_like(gates)
        grad_cell = torch.zeros_like(cells[0])
        grad_hidden = torch.zeros_like(outputs[0])
        for step in reversed(range(len(gates))):
            inner, forget, fresh, out = gates[step].chunk(4, dim=1)
            d_inner, d_forget, d_fresh, d_out = grad_gates[step].chunk(4, dim=1)
            grad_hidden = grad_hidden + grad_outputs[step]
            tanh = cells[step].tanh()
            torch.mul(grad_hidden * tanh, out * (1 - out), out=d_out)
            grad_cell = torch.addcmul(grad_cell, grad_hidden * out, 1 - tanh * tanh)
            torch.mul(grad_cell * fresh, inner * (1 - inner), out=d_inner)
            torch.mul(grad_cell * inner, 1 - fresh * fresh, out=d_fresh)
            if step:
                torch.mul(grad_cell * cells[step - 1], forget * (1 - forget), out=d_forget)
                grad_hidden = grad_gates[step] @ weight_hh
                grad_cell = grad_cell * forget
            else:
                d_forget.zero_()  # the cell before the first step is zero
        flat = grad_gates.flatten(0, 1)  # (steps × batch, 4 × hidden)
        grad_ih = flat.t() @ steps.flatten(0, 1)
        grad_hh = grad_gates[1:].flatten(0, 1).t() @ outputs[:-1].flatten(0, 1)
        grad_states = (grad_gates @ weight_ih).transpose(0, 1) if ctx.needs_input_grad[0] else None
        return grad_states, grad_ih, grad_hh, flat.sum(dim=0)

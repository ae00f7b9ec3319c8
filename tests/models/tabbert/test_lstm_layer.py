"""Our LSTM layer gives torch's numbers, forward and backward."""

import pytest
import torch
from torch import nn

from hf_mmtab.models.tabbert import TabBertConfig, modeling_tabbert_lstm
from hf_mmtab.models.tabbert.lstm_tabbert import LstmLayer
from hf_mmtab.models.tabbert.modeling_tabbert_lstm import TabBertLstm


@pytest.mark.parametrize(("batch", "steps", "width", "hidden"), [(3, 7, 5, 4), (1, 1, 2, 3), (2, 2, 4, 4)])
def test_outputs_and_gradients_are_those_of_torch(batch, steps, width, hidden):
    torch.manual_seed(0)
    reference = nn.LSTM(width, hidden, batch_first=True).double()
    states = torch.randn(batch, steps, width, dtype=torch.double, requires_grad=True)
    weights = torch.randn(batch, steps, hidden, dtype=torch.double)
    found = []
    for ours in (False, True):
        outputs = reference(states)[0]
        if ours:
            bias = reference.bias_ih_l0 + reference.bias_hh_l0
            outputs = LstmLayer.apply(states, reference.weight_ih_l0, reference.weight_hh_l0, bias)
        found.append([outputs, *torch.autograd.grad((outputs * weights).sum(), [states, *reference.parameters()])])
    for theirs, mine in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


def test_states_that_need_no_gradient_cost_none():
    layer = nn.LSTM(3, 2, batch_first=True)
    states = torch.randn(2, 4, 3)
    outputs = LstmLayer.apply(states, layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0)
    outputs[:, -1].sum().backward()
    assert states.grad is None and layer.weight_hh_l0.grad.abs().sum() > 0


def test_training_and_prediction_read_a_window_alike(monkeypatch):
    monkeypatch.setattr(modeling_tabbert_lstm, "LARGE_HIDDEN_SIZE", 6)
    torch.manual_seed(0)
    config = TabBertConfig(fields=["a"], field_ranges=[[4, 9]], vocab_size=9, hidden_size=8, lstm_hidden_size=6)
    lstm = TabBertLstm(config, 8)
    states, mask = torch.randn(2, 5, 8), torch.tensor([[1, 1, 1, 0, 0], [1] * 5])
    trained = lstm.read_window(lstm.run(states, mask), mask)
    with torch.no_grad():
        predicted = lstm.read_window(lstm.run(states, mask), mask)
    assert "LstmLayer" in type(lstm.run(states, mask).grad_fn).__name__
    torch.testing.assert_close(trained, predicted)

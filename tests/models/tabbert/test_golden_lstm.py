"""The published fine-tuning model (BertModel + LSTM + Linear): logits, loss, gradients, optimizer steps."""

import json

import pytest
import torch
from golden_tabbert import GOLDEN_FIELDS, GOLDEN_SPECIAL, OldAdamW
from safetensors.torch import load_file

from hf_mmtab.converting.tabformer_config import convert_config
from hf_mmtab.converting.tabformer_weights import convert_state_dict
from hf_mmtab.models.tabbert import TabBertLstmForSequenceClassification


@pytest.fixture
def case(tabformer, golden_ranges, golden_expected):
    folder = tabformer / "output_pretraining_flat" / "checkpoint-500"
    original = json.loads((folder / "config.json").read_text())
    tensors = torch.load(tabformer / "common_model" / "model.bin", weights_only=True)
    config = convert_config(original, GOLDEN_FIELDS, golden_ranges, **GOLDEN_SPECIAL)
    config.classification_loss = "rmse_one_hot"
    config.lstm_hidden_size = tensors["lstm.weight_hh_l0"].shape[1]
    model = TabBertLstmForSequenceClassification(config)
    ours, fates = convert_state_dict(tensors, config)
    model.load_state_dict(ours, strict=True)
    assert {fate.original for fate in fates} == set(tensors)
    model.model.requires_grad_(False)
    io = load_file(tabformer / "common_model" / "io.safetensors")
    inputs = {"input_ids": io["input_ids"].view(8, 10, 12), "labels": io["label"].argmax(-1)}
    return model.eval(), inputs, io, golden_expected["common_model"]


def test_logits_loss_and_gradients_are_the_originals(case):
    model, inputs, io, expected = case
    outputs = model(**inputs)
    torch.testing.assert_close(outputs.logits, io["logits"], rtol=0, atol=1e-5)
    assert outputs.loss.item() == pytest.approx(expected["loss"], abs=1e-5)
    outputs.loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name, norm in expected["grad_norm"].items():
        ours = gradients[name.replace("regressor", "classifier")]
        assert ours.norm().item() == pytest.approx(norm, rel=1e-5, abs=1e-5), name


def test_states_of_the_frozen_encoder_are_the_originals_and_serve_in_place_of_the_ids(case):
    model, inputs, io, _ = case
    with torch.no_grad():
        states = model.get_row_states(inputs["input_ids"])
        cells = io["bert_last_hidden"].view(8, 10, -1)  # the cells of a row side by side
        torch.testing.assert_close(states, cells, rtol=0, atol=1e-5)
        torch.testing.assert_close(model(row_states=states).logits, model(inputs["input_ids"]).logits)


def test_five_adamw_steps_are_the_originals(case):
    model, inputs, _, expected = case
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = OldAdamW(trainable, lr=1e-3, weight_decay=0.01)
    losses = []
    for _ in range(5):
        loss = model(**inputs).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses == pytest.approx(expected["five_adamw_steps_lr1e3_wd001_eval"], abs=1e-5)

"""Numbers of IBM/TabFormer at ebb7cd6 (`golden/README.md`): logits, losses, gradients, optimizer steps."""

import json

import pytest
import torch
from golden_tabbert import GOLDEN_FIELDS, GOLDEN_SPECIAL, OldAdamW, convert

from hf_mmtab.converting.tabformer_config import convert_config
from hf_mmtab.converting.tabformer_weights import convert_state_dict, revert_state_dict
from hf_mmtab.models.tabbert.modeling_tabbert import TabBertForMaskedLM

MODELS = ["hier", "flat_field_ce", "flat_vanilla"]


@pytest.fixture(params=MODELS)
def case(request, golden_original, golden_ranges, golden_expected):
    original, tensors, io = golden_original(request.param)
    model = convert(original, tensors, golden_ranges, request.param)
    io = {name: value.view(2, 10, 12) if value.dim() == 2 else value for name, value in io.items()}
    return request.param, model, io, golden_expected[request.param]


def test_row_embeddings_are_the_originals(golden_original, golden_ranges):
    original, tensors, io = golden_original("hier")
    model = convert(original, tensors, golden_ranges, "hier")
    with torch.no_grad():
        rows = model.model.field_encoder(model.model.embeddings(io["input_ids"]))
    torch.testing.assert_close(rows, io["row_embeddings"], rtol=0, atol=1e-5)


def test_logits_of_each_field_are_the_originals(case):
    _, model, io, _ = case
    with torch.no_grad():
        outputs = model(io["input_ids"], return_field_logits=True)
    full = io["logits"].view(2, 10, 12, -1)
    for field, (start, end) in enumerate(model.config.field_ranges):
        torch.testing.assert_close(outputs.field_logits[field], full[:, :, field, start:end], rtol=0, atol=1e-5)


@pytest.mark.parametrize("which", ["labels", "sparse_labels"])
def test_losses_are_the_originals(case, which):
    name, model, io, expected = case
    expected = expected if which == "labels" else expected["sparse"]
    with torch.no_grad():
        outputs = model(io["input_ids"], labels=io[which])
    assert outputs.loss.item() == pytest.approx(expected["loss"], abs=1e-5)
    assert outputs.field_counts.sum() == (io[which] != -100).sum()
    if name != "flat_vanilla":
        losses = [field["loss"] for field in expected["field_losses"]]
        torch.testing.assert_close(outputs.field_losses, torch.tensor(losses), rtol=0, atol=1e-5)
        counts = [field["n_masked"] for field in expected["field_losses"]]
        assert outputs.field_counts.sum(0).tolist() == counts


def test_gradients_are_the_originals(case):
    _, model, io, expected = case
    model(io["input_ids"], labels=io["labels"]).loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    # Gradients take the way back that weights take. Norms are compared in the float32 and the shape they were
    # recorded in: of 124,416 numbers, float32 summation alone is 1e-5 away from float64.
    original = revert_state_dict(gradients, model.config)
    for name, norm in expected["grad_norm"].items():
        if norm is not None:
            assert original[name].norm().item() == pytest.approx(norm, rel=1e-5, abs=1e-5), name
    recorded = {name for name, norm in expected["grad_norm"].items() if norm is not None}
    untold = {name for name in original if original[name].any()} - recorded
    assert all("decoder" in name or "position_ids" in name for name in untold), untold


def test_five_adamw_steps_are_the_originals(case):
    _, model, io, expected = case
    optimizer = OldAdamW(model.parameters(), lr=1e-3)
    losses = []
    for step in range(6):
        loss = model(io["input_ids"], labels=io["labels"]).loss
        losses.append(loss.item())
        if step < 5:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert losses == pytest.approx(expected["five_adamw_steps_lr1e-3_dropout_off"], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(("name", "io_of"), [("hier", "hier"), ("flat", "flat_vanilla")])
def test_checkpoint_of_the_originals_trainer_gives_its_loss(
    name, io_of, tabformer, golden_original, golden_ranges, golden_expected
):
    folder = tabformer / f"output_pretraining_{name}" / "checkpoint-500"
    original = json.loads((folder / "config.json").read_text())
    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    config = convert_config(original, GOLDEN_FIELDS, golden_ranges, **GOLDEN_SPECIAL)
    model = TabBertForMaskedLM(config).eval()
    model.load_state_dict(convert_state_dict(tensors, config)[0], strict=True)
    _, _, io = golden_original(io_of)
    with torch.no_grad():
        loss = model(io["input_ids"].view(2, 10, 12), labels=io["labels"].view(2, 10, 12)).loss
    assert loss.item() == pytest.approx(golden_expected[f"ck_{name}"]["loss_on_io_batch"], abs=1e-5)

"""Attention implementations, bfloat16, checkpointing of activations, compilation."""

import pytest
import torch
from tiny_backbones import TEXT_CONFIGS, tiny_batch, tiny_mmbt
from torch.testing import assert_close
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput

WITHOUT_SDPA = ("deberta-v2", "mpnet")


@pytest.mark.parametrize("text", [text for text in TEXT_CONFIGS if text not in WITHOUT_SDPA])
def test_sdpa_equals_eager(text):
    batch = tiny_batch()
    batch["attention_mask"][1, 4:] = 0
    absent = torch.tensor([0, 1])
    eager, sdpa = tiny_mmbt(text, attn_implementation="eager"), tiny_mmbt(text, attn_implementation="sdpa")
    sdpa.load_state_dict(eager.state_dict())
    assert sdpa.model.text_model.config._attn_implementation == "sdpa"
    with torch.no_grad():
        assert_close(sdpa(**batch, image_mask=absent).logits, eager(**batch, image_mask=absent).logits)


def test_sdpa_is_the_default():
    assert tiny_mmbt().model.text_model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("text", TEXT_CONFIGS)
def test_attentions_and_hidden_states_are_given_on_request(text):
    model, batch = tiny_mmbt(text, attn_implementation="eager"), tiny_batch()
    with torch.no_grad():
        plain = model(**batch)
        full = model(**batch, output_attentions=True, output_hidden_states=True)
    assert plain.attentions is None and plain.hidden_states is None
    assert len(full.hidden_states) == 3 and full.hidden_states[-1].shape == (2, 12, 32)
    assert len(full.attentions) == 2 and full.attentions[0].shape == (2, 4, 12, 12)
    assert_close(full.logits, plain.logits)


def test_outputs_are_named_or_a_tuple():
    model, batch = tiny_mmbt(), tiny_batch()
    with torch.no_grad():
        output = model(**batch, labels=torch.tensor([0, 1]))
        assert isinstance(output, SequenceClassifierOutput)
        loss, logits = model(**batch, labels=torch.tensor([0, 1]), return_dict=False)
        assert torch.equal(logits, output.logits) and torch.equal(loss, output.loss)
        base = model.model(**batch)
    assert isinstance(base, BaseModelOutputWithPooling)
    assert base.last_hidden_state.shape == (2, 3 + 2 + 7, 32) and base.pooler_output.shape == (2, 32)


@pytest.mark.parametrize("image", ["resnet", "vit", "convnext"])
def test_bfloat16_is_close_to_float32(image):
    model, batch = tiny_mmbt(image=image), tiny_batch()
    with torch.no_grad():
        expected = model(**batch).logits
        autocast = torch.autocast("cpu", dtype=torch.bfloat16)
        with autocast:
            assert_close(model(**batch).logits.float(), expected, rtol=0.05, atol=0.02)
        half = model.to(torch.bfloat16)
        output = half(**batch, labels=torch.tensor([0, 1]))
    assert output.logits.dtype == torch.bfloat16 and output.loss.dtype == torch.float32
    assert_close(output.logits.float(), expected, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("text", [text for text in TEXT_CONFIGS if text not in ("mpnet", "albert")])
def test_gradient_checkpointing_gives_the_same_gradients(text):
    batch, labels = tiny_batch(), torch.tensor([0, 1])
    plain, checkpointed = tiny_mmbt(text), tiny_mmbt(text)
    checkpointed.load_state_dict(plain.state_dict())
    checkpointed.gradient_checkpointing_enable()
    assert checkpointed.is_gradient_checkpointing
    for model in (plain, checkpointed):
        for module in model.train().modules():  # dropout would draw in another order
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if hasattr(module, "dropout_prob"):
                module.dropout_prob = 0.0
        model.model.text_model.eval() if text == "deberta-v2" else None
        model(**batch, labels=labels).loss.backward()
    for (name, one), (_, other) in zip(plain.named_parameters(), checkpointed.named_parameters(), strict=True):
        if one.grad is not None:
            assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-6, msg=name)


# Inductor, whose C++ takes a compiler a minute and more, is run on TabBERT in CI.
INDUCTOR = pytest.param("bert", "resnet", "inductor", marks=pytest.mark.nightly)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "image", "backend"), [("bert", "resnet", "aot_eager"), ("modernbert", "vit", "aot_eager"), INDUCTOR]
)
def test_compiled_model_has_no_graph_break_and_the_same_loss(text, image, backend):
    torch._dynamo.reset()
    model, batch = tiny_mmbt(text, image, modal_dropout=0.0), tiny_batch()
    batch["attention_mask"][1, 4:] = 0
    labels, present = torch.tensor([0, 1]), torch.tensor([1, 0])
    expected = model(**batch, image_mask=present, labels=labels)
    expected.loss.backward()
    gradient = model.model.image_projection.weight.grad.clone()
    model.zero_grad()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    output = compiled(**batch, image_mask=present, labels=labels)
    output.loss.backward()
    assert_close(output.logits, expected.logits, rtol=1e-4, atol=1e-5)
    assert_close(model.model.image_projection.weight.grad, gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_the_training_step_with_modality_dropout_compiles_without_graph_break():
    torch._dynamo.reset()
    model = tiny_mmbt(modal_dropout=0.5, modal_dropout_text=0.5, pos_weight=[1.0, 2.0, 3.0]).train()
    labels = torch.tensor([[0.0, 1, 1], [1, 0, 0]])
    explained = torch._dynamo.explain(model)(**tiny_batch(), labels=labels)
    assert explained.graph_break_count == 0, explained.break_reasons


@pytest.mark.slow
def test_the_model_exports_with_any_batch_and_length():
    model, batch = tiny_mmbt(), tiny_batch(batch=3, seq=9)
    batch_size, length = torch.export.Dim("batch", min=2, max=64), torch.export.Dim("seq", min=2, max=100)
    shapes = {name: {0: batch_size, 1: length} for name in ("input_ids", "attention_mask", "token_type_ids")}
    shapes["pixel_values"] = {0: batch_size}
    program = torch.export.export(model, (), kwargs=batch, dynamic_shapes=shapes, strict=False)
    other = tiny_batch(batch=2, seq=5)
    with torch.no_grad():
        assert_close(program.module()(**other).logits, model(**other).logits)

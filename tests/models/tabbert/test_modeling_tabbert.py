"""The encoder and the masked-cell heads on a small table of our own."""

import math

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

from hf_mmtab.models.tabbert import TabBertConfig, TabBertForMaskedLM, TabBertModel
from hf_mmtab.models.tabbert.modeling_tabbert_heads import smoothed_cross_entropy

SHAPES = {
    "hierarchical": {},
    "flat": {"flatten": True},
    "untied": {"tie_word_embeddings": False, "head_hidden_size": 12},
    "slice": {"cell_states": "slice", "hidden_size": 24},
    "vocab": {"flatten": True, "mlm_loss": "vocab"},
    "vocab_untied": {"mlm_loss": "vocab", "tie_word_embeddings": False},
    "adaptive": {
        "adaptive_softmax_threshold": 15,
        "adaptive_softmax_cutoffs": [4, 10],
        "adaptive_softmax_div_value": 2,
    },
    "smoothed": {"neighbor_smoothing": 0.2, "numeric_ranges": {"amount": [11, 19]}},
}


@pytest.fixture(params=SHAPES)
def model(request, small_config):
    torch.manual_seed(0)
    return TabBertForMaskedLM(small_config(**SHAPES[request.param])).eval()


@pytest.mark.parametrize("flatten", [False, True])
def test_untrained_scores_cost_about_the_logarithm_of_each_fields_size(small_config, small_batch, flatten):
    model = TabBertForMaskedLM(small_config(flatten=flatten)).eval()
    with torch.no_grad():
        model.head.transform.LayerNorm.weight.zero_()  # zero logits
        outputs = model(**small_batch)
    expected = [0.0, math.log(10), math.log(20)]  # no cell of the first column is masked
    assert outputs.field_losses.tolist() == pytest.approx(expected, abs=1e-6)
    assert outputs.loss.item() == pytest.approx(sum(expected), abs=1e-6)
    assert outputs.field_counts.tolist() == [[0, 1, 1], [0, 1, 1]]


def test_masked_heads_equal_cross_entropy_over_all_logits(model, small_batch):
    with torch.no_grad():
        outputs = model(**small_batch, return_field_logits=True)
    labels, config = small_batch["labels"], model.config
    if config.mlm_loss == "vocab" or config.neighbor_smoothing:
        assert outputs.loss.isfinite()
        return
    total, correct = 0.0, []
    for field, (start, _) in enumerate(config.field_ranges):
        masked = labels[:, :, field] != -100
        logits, target = outputs.field_logits[field][masked], labels[:, :, field][masked] - start
        total += F.cross_entropy(logits, target).item() if len(target) else 0.0
        correct.append((logits.argmax(-1) == target).sum().item())
    assert outputs.loss.item() == pytest.approx(total, rel=1e-5)
    assert outputs.field_correct.sum(0).tolist() == correct


def test_padding_changes_nothing_for_real_rows(model, small_batch):
    short = {name: value[1:, :3] for name, value in small_batch.items()}
    with torch.no_grad():
        alone = model(**short, return_field_logits=True)
        padded = model(**{name: value[1:] for name, value in small_batch.items()}, return_field_logits=True)
    assert padded.loss.item() == pytest.approx(alone.loss.item(), rel=1e-5)
    for with_padding, without in zip(padded.field_logits, alone.field_logits, strict=True):
        torch.testing.assert_close(with_padding[:, :3], without, rtol=1e-5, atol=1e-5)


def test_mask_is_found_in_the_padding_ids(model, small_batch):
    with torch.no_grad():
        given = model(small_batch["input_ids"], small_batch["attention_mask"]).field_logits
        found = model(small_batch["input_ids"]).field_logits
    assert all(torch.equal(a, b) for a, b in zip(given, found, strict=True))


def test_window_of_padding_and_no_masked_cell_give_zero_loss_and_finite_gradients(model, small_batch):
    model.train()
    ids, mask = small_batch["input_ids"].clone(), small_batch["attention_mask"].clone()
    ids[1], mask[1] = 0, 0
    outputs = model(ids, mask, labels=torch.full_like(ids, -100))
    outputs.loss.backward()
    assert outputs.loss.item() == 0.0
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_every_parameter_takes_part_in_every_step(model, small_batch):
    model(**small_batch).loss.backward()
    unused = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert unused == []


def test_batch_of_one(model, small_batch):
    single = {name: value[:1, :1] for name, value in small_batch.items()}
    assert model(**single).loss.isfinite()


def test_saved_and_loaded_model_is_bit_equal(model, small_batch, tmp_path):
    model.save_pretrained(tmp_path)
    for loaded in (TabBertForMaskedLM.from_pretrained(tmp_path), AutoModelForMaskedLM.from_pretrained(tmp_path)):
        assert type(loaded) is TabBertForMaskedLM
        for (name, ours), theirs in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
            assert torch.equal(ours, theirs), name
        with torch.no_grad():
            assert torch.equal(model(**small_batch).loss, loaded.eval()(**small_batch).loss)
    assert AutoConfig.from_pretrained(tmp_path).to_dict() == loaded.config.to_dict()


def test_encoder_of_a_pretraining_checkpoint_loads_whole(model, small_batch, tmp_path):
    model.save_pretrained(tmp_path)
    encoder = AutoModel.from_pretrained(tmp_path)
    assert type(encoder) is TabBertModel
    with torch.no_grad():
        ours = model.model(small_batch["input_ids"]).last_hidden_state
        assert torch.equal(ours, encoder.eval()(small_batch["input_ids"]).last_hidden_state)


def test_missing_weights_are_an_error_that_lists_them(small_config, tmp_path):
    TabBertModel(small_config()).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"keys are missing from the checkpoint.*cell_projection\.bias"):
        TabBertForMaskedLM.from_pretrained(tmp_path)
    assert TabBertForMaskedLM.from_pretrained(tmp_path, allow_missing_keys=True)


def test_foreign_weights_are_an_error_that_lists_them(small_config, tmp_path):
    from safetensors.torch import load_file, save_file

    TabBertModel(small_config()).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, "extra.weight": torch.zeros(1)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"keys of the checkpoint belong to nothing in the model: extra\.weight"):
        TabBertModel.from_pretrained(tmp_path)


def test_another_processor_is_refused(small_config):
    model = TabBertModel(small_config(processor_fingerprint="abc"))
    model.check_processor("abc")
    with pytest.raises(ValueError, match=r"Expected the processor with fingerprint abc .* found xyz: its ids mean"):
        model.check_processor("xyz")
    TabBertModel(small_config()).check_processor("anything")


def test_config_without_columns_is_refused():
    with pytest.raises(ValueError, match="Expected a TabBertConfig with fields and field_ranges, found none"):
        TabBertModel(TabBertConfig())


def test_wrong_number_of_columns_is_refused(small_config):
    with pytest.raises(ValueError, match=r"shape \(batch, rows, 3\).*'city'.*found \(2, 5, 4\)"):
        TabBertModel(small_config())(torch.ones(2, 5, 4, dtype=torch.long))


@pytest.mark.parametrize(("flatten", "unit"), [(False, "rows"), (True, "cells")])
def test_window_longer_than_the_positions_is_refused(small_config, flatten, unit):
    model = TabBertModel(small_config(flatten=flatten))
    with pytest.raises(ValueError, match=f"max_position_embeddings=32 {unit} in a window, found"):
        model(torch.ones(1, 33, 3, dtype=torch.long))


def test_label_of_another_field_is_refused(small_config, small_batch):
    model = TabBertForMaskedLM(small_config())
    small_batch["labels"][0, 1, 1] = 4
    with pytest.raises(ValueError, match=r"labels of column 'amount' in \[9, 19\], found 4"):
        model(**small_batch)


def test_smoothing_follows_the_closed_form():
    logits = torch.tensor([[0.5, -1.0, 2.0, 0.0, 1.0]])
    log_probs = logits.log_softmax(-1)[0]

    def loss(target):
        return smoothed_cross_entropy(logits, torch.tensor([target]), 0.2, (1, 4)).item()

    assert loss(0) == pytest.approx(-log_probs[0].item())  # not a bin
    assert loss(4) == pytest.approx(-log_probs[4].item())
    inner = 0.8 * log_probs[2] + 0.1 * log_probs[1] + 0.1 * log_probs[3]
    assert loss(2) == pytest.approx(-inner.item())
    assert loss(1) == pytest.approx(-(0.8 * log_probs[1] + 0.2 * log_probs[2]).item())  # the lowest bin


def test_eager_and_sdpa_agree(small_config, small_batch, tmp_path):
    TabBertForMaskedLM(small_config()).save_pretrained(tmp_path)
    losses = []
    for attention in ("sdpa", "eager"):
        model = TabBertForMaskedLM.from_pretrained(tmp_path, attn_implementation=attention).eval()
        assert model.model.row_encoder.config._attn_implementation == attention
        with torch.no_grad():
            losses.append(model(**small_batch).loss)
    torch.testing.assert_close(*losses)
    outputs = model(**small_batch, output_attentions=True, output_hidden_states=True)
    assert [a.shape for a in outputs.attentions] == [(2, 2, 5, 5)] * 2
    assert [h.shape for h in outputs.hidden_states] == [(2, 5, 16)] * 3


def test_bfloat16_is_close_to_float32(model, small_batch):
    with torch.no_grad():
        expected = model(**small_batch).loss
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = model(**small_batch).loss
        assert mixed.dtype == torch.float32
        whole = model.to(torch.bfloat16)(**small_batch).loss
    torch.testing.assert_close(mixed, expected, rtol=0.03, atol=0.03)
    torch.testing.assert_close(whole.float(), expected, rtol=0.03, atol=0.03)


def test_gradient_checkpointing_changes_no_gradient(small_config, small_batch):
    no_dropout = {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0, "field_dropout_prob": 0}
    model = TabBertForMaskedLM(small_config(**no_dropout)).train()
    model(**small_batch).loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    model.gradient_checkpointing_enable()
    layers = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False)]
    assert {type(layer).__name__ for layer in layers} >= {"BertLayer", "TabBertFieldLayer"}
    model(**small_batch).loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], msg=name)


def test_dropout_of_the_fields_acts_in_training_only(small_config, small_batch):
    model = TabBertModel(small_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    ids = small_batch["input_ids"]
    with torch.no_grad():
        assert torch.equal(model.eval()(ids).last_hidden_state, model(ids).last_hidden_state)
        model.train()
        assert not torch.equal(model(ids).last_hidden_state, model(ids).last_hidden_state)


def test_parts_are_modules(small_config):
    model = TabBertForMaskedLM(small_config())
    parts = {name: type(model.get_submodule(path)).__name__ for name, path in model.freezable_modules.items()}
    assert parts == {
        "encoder": "TabBertModel",
        "embeddings": "TabBertEmbeddings",
        "field_encoder": "TabBertFieldEncoder",
        "row_encoder": "ModuleList",
    }
    assert "field_encoder" not in TabBertForMaskedLM(small_config(flatten=True)).freezable_modules


def test_new_weights_are_drawn_as_bert_draws_them(small_config):
    model = TabBertForMaskedLM(
        small_config(hidden_size=128, vocab_size=3000, field_ranges=[[4, 9], [9, 19], [19, 3000]])
    )
    words = model.model.embeddings.word_embeddings.weight
    assert words[0].eq(0).all() and words[1:].std().item() == pytest.approx(0.02, rel=0.05)
    assert model.head.bias.eq(0).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flatten", "backend"),
    [(False, "aot_eager"), (True, "aot_eager"), pytest.param(False, "inductor", marks=pytest.mark.nightly)],
)
def test_compiled_model_gives_the_same_loss_and_gradients(small_config, small_batch, flatten, backend):
    torch._dynamo.reset()
    model = TabBertForMaskedLM(small_config(flatten=flatten, num_hidden_layers=1)).eval()
    loss = model(**small_batch).loss
    loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    with torch._inductor.config.patch(compile_threads=1):  # no processes that import torch first
        again = torch.compile(model, backend=backend)(**small_batch).loss
        again.backward()
    torch.testing.assert_close(again, loss)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-5, msg=name)


def test_positions_start_as_large_as_the_rows_that_they_are_added_to(tmp_path):
    torch.manual_seed(0)
    columns = {"fields": ["a", "b"], "field_ranges": [[4, 104], [104, 204]], "vocab_size": 204}
    config = TabBertConfig(**columns, field_hidden_size=128)
    model = TabBertForMaskedLM(config)
    positions = model.model.row_encoder.embeddings.position_embeddings.weight
    assert config.position_std == 0.02 * 16 and positions.std().item() == pytest.approx(0.32, rel=0.02)
    rows = model.model.field_encoder(model.model.embeddings(torch.randint(4, 104, (50, 10, 1)).repeat(1, 1, 2)))
    assert rows.std().item() == pytest.approx(positions.std().item(), rel=0.25)

    for paper in (TabBertConfig.paper(**columns), TabBertConfig(**columns, flatten=True)):
        assert paper.position_std == 0.02

    model.save_pretrained(tmp_path)
    loaded = TabBertForMaskedLM.from_pretrained(tmp_path)
    assert torch.equal(loaded.model.row_encoder.embeddings.position_embeddings.weight, positions)


def test_next_row_is_scored_from_the_rows_before_it(small_config, small_batch):
    torch.manual_seed(0)
    model = TabBertForMaskedLM(small_config(next_row=True)).eval()
    ids = small_batch["input_ids"]
    changed = ids.clone()
    changed[0, 2] = torch.tensor([4, 11, 20])
    assert not torch.equal(changed[0, 2], ids[0, 2])
    with torch.no_grad():
        before, after = model(ids).field_logits, model(changed).field_logits
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new[0, :3], old[0, :3])  # the row itself tells nothing of its own cells
        assert not torch.allclose(new[0, 3], old[0, 3])
        torch.testing.assert_close(old[0, 0], old[1, 0])  # without a history all expect the same

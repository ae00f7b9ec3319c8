"""Absent pictures and texts, modality dropout, and losses of MMBT."""

import math

import pytest
import torch
from tiny_backbones import TEXT_CONFIGS, tiny_batch, tiny_config, tiny_mmbt
from torch.testing import assert_close

from hf_mmtab.models.mmbt.modality_dropout import drop_modalities, drop_words
from hf_mmtab.models.mmbt.modeling_mmbt import MMBTForClassification


@pytest.mark.parametrize("null_image", ["mask", "learned"])
def test_pixels_of_an_absent_picture_do_not_matter(null_image):
    model, batch = tiny_mmbt(null_image=null_image), tiny_batch()
    absent = torch.tensor([1, 0])
    with torch.no_grad():
        first = model(**batch, image_mask=absent).logits
        batch["pixel_values"][1] = torch.randn(3, 32, 32)
        assert_close(model(**batch, image_mask=absent).logits, first, rtol=0, atol=0)
        assert not torch.equal(model(**batch).logits[1], first[1])
        assert_close(model(**batch).logits[0], first[0], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("null_image", ["mask", "learned"])
def test_a_batch_without_pixels_equals_one_whose_pictures_are_absent(null_image):
    model, batch = tiny_mmbt(null_image=null_image), tiny_batch()
    with torch.no_grad():
        absent = model(**batch, image_mask=torch.zeros(2)).logits
        del batch["pixel_values"]
        assert_close(model(**batch).logits, absent, rtol=0, atol=0)


def test_tokens_of_an_absent_picture_are_hidden_from_attention():
    model = tiny_mmbt(attn_implementation="eager")
    batch = tiny_batch(batch=1)
    with torch.no_grad():
        output = model(**batch, image_mask=torch.zeros(1, dtype=torch.bool), output_attentions=True)
    assert output.attentions[0][..., 1:4].abs().max() == 0
    assert output.attentions[0][..., 0].min() > 0  # [CLS] and [SEP] of the image part stay


def test_the_learned_null_image_trains_only_where_pictures_are_absent():
    model, batch = tiny_mmbt(null_image="learned"), tiny_batch()
    assert model.model.null_image.abs().sum() > 0
    model(**batch, labels=torch.tensor([0, 1])).loss.backward()
    assert model.model.null_image.grad.abs().sum() == 0
    model(**batch, image_mask=torch.tensor([1, 0]), labels=torch.tensor([0, 1])).loss.backward()
    assert model.model.null_image.grad.abs().sum() > 0


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("text", TEXT_CONFIGS)
def test_an_example_with_neither_words_nor_picture_is_finite(text, attention):
    if text in ("deberta-v2", "mpnet") and attention == "sdpa":
        pytest.skip(f"{text} has no SDPA in transformers")
    model = tiny_mmbt(text, attn_implementation=attention)
    batch = tiny_batch()
    batch["attention_mask"][1] = 0
    output = model.train()(**batch, image_mask=torch.tensor([1, 0]), labels=torch.tensor([0, 1]))
    output.loss.backward()
    assert torch.isfinite(output.logits).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_words_of_an_absent_text_do_not_matter():
    model, batch = tiny_mmbt(), tiny_batch()
    batch["attention_mask"][1] = 0
    with torch.no_grad():
        first = model(**batch).logits
        batch["input_ids"][1] = 42
        assert_close(model(**batch).logits, first, rtol=0, atol=0)


def test_no_words_at_all_equal_hidden_words():
    model, batch = tiny_mmbt(), tiny_batch(seq=1)
    with torch.no_grad():
        hidden = model(**{**batch, "attention_mask": torch.zeros(2, 1).long()}).logits
        none = {name: value[:, :0] for name, value in batch.items() if name != "pixel_values"}
        assert_close(model(**none, pixel_values=batch["pixel_values"]).logits, hidden, rtol=1e-5, atol=1e-6)


def test_regions_of_another_pooling_are_refused():
    model, batch = tiny_mmbt(), tiny_batch()
    batch["image_regions"] = tiny_mmbt(num_image_embeds=4).get_image_features(batch.pop("pixel_values"))
    with pytest.raises(ValueError, match=r"Expected image_regions of shape \(batch, 3, 24\), found \(2, 4, 24\)"):
        model(**batch)


def test_a_batch_of_one_equals_its_row_in_a_batch():
    model, batch = tiny_mmbt(), tiny_batch()
    with torch.no_grad():
        one = model(**{name: value[1:] for name, value in batch.items()}).logits
        assert_close(one[0], model(**batch).logits[1], rtol=1e-5, atol=1e-6)


def test_modality_dropout_never_takes_both_or_the_last_one():
    image_mask = torch.tensor([[1], [1], [0]] * 100)
    attention_mask = torch.ones(300, 4, dtype=torch.long)
    attention_mask[1::3] = 0
    image, text = drop_modalities(image_mask, attention_mask, 1.0, 1.0)
    assert image.reshape(-1, 3).unique(dim=0).tolist() == [[0, 1, 0]]  # only where there are words
    assert text.any(dim=1).reshape(-1, 3).unique(dim=0).tolist() == [[True, False, True]]


def test_modality_dropout_drops_at_its_rate():
    ones = torch.ones(10_000, 1, dtype=torch.long), torch.ones(10_000, 2, dtype=torch.long)
    image, text = drop_modalities(*ones, 0.3, 0.5)
    assert (image == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert (~text.bool().any(dim=1)).float().mean().item() == pytest.approx(0.7 * 0.5, abs=0.02)
    image, text = drop_modalities(*ones, 0.0, 0.0)
    assert image.all() and text.all()


def test_modality_dropout_acts_in_training_only():
    model = tiny_mmbt(modal_dropout=1.0, modal_dropout_text=1.0)
    for module in model.modules():  # no other dropout, so that only this one could make a difference
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.model.image_model.eval()
    batch = tiny_batch()
    with torch.no_grad():
        evaluated = model(**batch).logits
        absent = model(**batch, image_mask=torch.zeros(2)).logits
        model.train()
        model.model.image_model.eval()
        for layer in model.model.text_model.encoder.layer:
            layer.attention.self.dropout.p = 0.0
        assert_close(model(**batch).logits, absent, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(evaluated, absent, atol=1e-6)


def test_words_are_hidden_at_their_rate_and_never_all_of_a_text():
    torch.manual_seed(0)
    mask = torch.ones(5_000, 6, dtype=torch.long)
    mask[:, 5] = 0  # padding
    kept = drop_words(mask, 0.3)
    assert (kept[:, :5] == 0).float().mean().item() == pytest.approx(0.3, abs=0.01) and not kept[:, 5].any()
    assert drop_words(mask, 1.0).equal(mask) and drop_words(mask, 0.0).equal(mask)
    first_kept = drop_words(mask, 0.9, keep_first=True)
    assert first_kept[:, 0].all() and (first_kept[:, :5].sum(dim=1) > 1).all()


def test_word_dropout_acts_in_training_only():
    model, plain, batch = tiny_mmbt(word_dropout=0.5), tiny_mmbt(), tiny_batch()
    with torch.no_grad():
        evaluated = model(**batch).logits
        for each in (model, plain):  # of all that is random in training only this
            each.model.training = True
        assert_close(plain(**batch).logits, evaluated, rtol=0, atol=0)
        assert not torch.allclose(model(**batch).logits, evaluated, atol=1e-6)


def test_zero_logits_give_log_of_the_classes():
    model, another, batch = tiny_mmbt(), tiny_mmbt(), tiny_batch()
    torch.nn.init.zeros_(model.classifier.weight)
    torch.nn.init.zeros_(another.classifier.weight)
    one = model(**batch, labels=torch.tensor([0, 1])).loss
    several = another(**batch, labels=torch.tensor([[0.0, 1, 1], [0, 0, 1]])).loss
    assert one.item() == pytest.approx(math.log(3))
    assert several.item() == pytest.approx(math.log(2))


def test_positive_weights_weigh_the_positives():
    """At logit 0 every positive of weight w costs w log 2."""
    model, batch = tiny_mmbt(pos_weight=[1.0, 2.0, 5.0]), tiny_batch()
    torch.nn.init.zeros_(model.classifier.weight)
    loss = model(**batch, labels=torch.tensor([[0.0, 1, 1], [0, 0, 1]])).loss
    assert loss.item() == pytest.approx((1 + 2 + 5 + 1 + 1 + 5) / 6 * math.log(2))


def test_integer_labels_of_several_classes_are_taken_with_the_problem_type():
    model, batch = tiny_mmbt(problem_type="multi_label_classification"), tiny_batch()
    assert torch.isfinite(model(**batch, labels=torch.tensor([[0, 1, 1], [0, 0, 1]])).loss)


def test_labels_of_the_wrong_shape_are_refused():
    model, batch = tiny_mmbt(problem_type="multi_label_classification"), tiny_batch()
    with pytest.raises(ValueError, match=r"Expected labels of shape \(2, 3\) for multi_label.*found \(2,\)"):
        model(**batch, labels=torch.tensor([0, 1]))


def test_classifier_dropout_is_zero_by_default_and_acts_when_set():
    assert tiny_mmbt().dropout.p == 0
    assert tiny_mmbt(classifier_dropout=0.5).dropout.p == 0.5


def test_words_must_be_given_once():
    model, batch = tiny_mmbt(), tiny_batch()
    words = model.get_input_embeddings()(batch["input_ids"])
    with pytest.raises(ValueError, match="Expected exactly one of input_ids and inputs_embeds"):
        model(**batch, inputs_embeds=words)
    with pytest.raises(ValueError, match="Expected exactly one of input_ids and inputs_embeds"):
        model(pixel_values=batch["pixel_values"])
    with torch.no_grad():
        given = model(inputs_embeds=words, pixel_values=batch["pixel_values"]).logits
        assert_close(given, model(**batch).logits, rtol=0, atol=0)


def test_unpooled_patches_need_a_picture():
    model, batch = tiny_mmbt(image="vit", image_pooling="none"), tiny_batch()
    del batch["pixel_values"]
    with pytest.raises(ValueError, match='with image_pooling "none" the number of tokens depends on the picture'):
        model(**batch)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_image_embeds": 10}, "num_image_embeds must be between 1 and 9, got 10"),
        ({"num_segments": 1}, "num_segments must be at least 2"),
        ({"text_position_start": -1}, "text_position_start must be at least 0, got -1"),
        ({"word_dropout": -0.1}, "word_dropout must be a probability between 0 and 1, got -0.1"),
        ({"modal_dropout": 1.5}, "modal_dropout must be a probability between 0 and 1, got 1.5"),
        ({"classifier_dropout": -0.1}, "classifier_dropout must be a probability"),
        ({"pos_weight": [1.0, 2.0]}, r"pos_weight needs one value per label \(3\), got 2"),
        ({"thresholds": [0.5]}, r"thresholds needs one value per label \(3\), got 1"),
        ({"pos_weight": [1.0, float("inf"), 1.0]}, "pos_weight must be positive and finite"),
        ({"problem_type": "regression"}, '"regression" has no loss here'),
        ({"image_pooling": "sum"}, "image_pooling"),
        ({"null_image": "grey"}, "null_image"),
    ],
)
def test_values_out_of_range_are_refused(kwargs, message):
    with pytest.raises(Exception, match=message):
        tiny_config(**kwargs)


def test_a_frozen_text_model_passes_gradient_to_the_projection():
    model, batch = tiny_mmbt(), tiny_batch()
    model.get_submodule(model.freezable_modules["text_encoder"]).requires_grad_(False)
    model(**batch, labels=torch.tensor([0, 1])).loss.backward()
    assert model.model.image_projection.weight.grad.abs().sum() > 0
    assert model.model.text_model.encoder.layer[0].output.dense.weight.grad is None


def test_cached_regions_stand_in_for_pixels():
    model, batch = tiny_mmbt(), tiny_batch()
    feature = model.cacheable_features["image_encoder"]
    with torch.no_grad():
        expected = model(**batch).logits
        given = {name: batch.pop(name) for name in feature["inputs"]}
        batch[feature["output"]] = getattr(model, feature["method"])(**given)
        assert_close(model(**batch).logits, expected, rtol=0, atol=0)


def test_trainer_divides_the_loss_by_accumulation():
    assert MMBTForClassification.accepts_loss_kwargs is False

"""MMBT against numbers of the original code (facebookresearch/mmbt at ad71e9c)."""

import pytest
import torch
from golden_mmbt import check_gradients
from safetensors.torch import load_file
from torch.testing import assert_close

from hf_mmtab.converting.mmbt_weights import from_original, to_original

EXACT = {"rtol": 1e-5, "atol": 1e-5}


def test_logits_and_pooled_state_equal_the_original(mmbt_golden):
    model, batch = mmbt_golden.mmbt(), mmbt_golden.mmbt_batch()
    with torch.no_grad():
        assert_close(model(**batch).logits, mmbt_golden.outputs["mmbt.logits"], **EXACT)
        assert_close(model.model(**batch).pooler_output, mmbt_golden.outputs["mmbt.pooled"], **EXACT)


@pytest.mark.parametrize("image_pooling", ["avg", "max"])
@pytest.mark.parametrize("num_image_embeds", range(1, 10))
def test_every_number_of_image_tokens_equals_the_original(mmbt_golden, num_image_embeds, image_pooling):
    model = mmbt_golden.mmbt(num_image_embeds=num_image_embeds, image_pooling=image_pooling)
    name = f"n{num_image_embeds}.{image_pooling}"
    batch = mmbt_golden.mmbt_batch()
    large = {key: value[:1] for key, value in batch.items()}
    large["pixel_values"] = mmbt_golden.pixels("image224_uint8")
    with torch.no_grad():
        assert_close(model(**batch).logits, mmbt_golden.outputs[f"mmbt.logits.{name}"], **EXACT)
        assert_close(model(**large).logits, mmbt_golden.outputs[f"mmbt.logits224.{name}"], **EXACT)


@pytest.mark.parametrize("num_image_embeds", range(1, 10))
def test_order_of_image_tokens_equals_the_original(mmbt_golden, num_image_embeds):
    model = mmbt_golden.mmbt(num_image_embeds=num_image_embeds)
    with torch.no_grad():
        regions = model.get_image_features(mmbt_golden.pixels("image224_uint8"))
    assert_close(regions, mmbt_golden.outputs[f"mmbt.img_encoder224.n{num_image_embeds}"], **EXACT)


def test_sentence_pairs_with_three_segments_equal_the_original(mmbt_golden):
    state_dict = mmbt_golden.init("mmbt")
    table = load_file(mmbt_golden.folder / "mmbt_vsnli_token_type.safetensors")["token_type_embeddings"]
    for part in ("txt", "img"):
        state_dict[f"enc.{part}_embeddings.token_type_embeddings.weight"] = table
    model = mmbt_golden.mmbt(state_dict)
    assert model.config.num_segments == 3
    with torch.no_grad():
        logits = model(**mmbt_golden.mmbt_batch("segment_vsnli")).logits
    assert_close(logits, mmbt_golden.outputs["mmbt.logits.vsnli"], **EXACT)


@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 9])
def test_weighted_loss_and_gradients_equal_the_original(mmbt_golden, tokens):
    expected = mmbt_golden.expected["mmbt"] if tokens == 3 else mmbt_golden.expected["mmbt"][f"n{tokens}"]
    model = mmbt_golden.mmbt(
        num_image_embeds=tokens, problem_type="multi_label_classification", pos_weight=mmbt_golden.pos_weight
    )
    loss = model(**mmbt_golden.mmbt_batch(), labels=mmbt_golden.inputs["target_multilabel"]).loss
    assert loss.item() == pytest.approx(expected["loss_bce"], rel=1e-5)
    loss.backward()
    check_gradients("mmbt", model, expected["grad_norm_bce"])


def test_cross_entropy_and_gradients_equal_the_original(mmbt_golden):
    expected = mmbt_golden.expected["mmbt"]
    model = mmbt_golden.mmbt(problem_type="single_label_classification")
    loss = model(**mmbt_golden.mmbt_batch(), labels=mmbt_golden.inputs["target_class"]).loss
    assert loss.item() == pytest.approx(expected["loss_ce"], rel=1e-5)
    loss.backward()
    check_gradients("mmbt", model, expected["grad_norm_ce"])


def test_unweighted_loss_equals_the_original(mmbt_golden):
    model = mmbt_golden.mmbt()  # problem_type None: float labels of two dimensions are several labels
    loss = model(**mmbt_golden.mmbt_batch(), labels=mmbt_golden.inputs["target_multilabel"]).loss
    assert loss.item() == pytest.approx(mmbt_golden.expected["mmbt"]["loss_bce_unweighted"], rel=1e-5)


def test_first_training_loss_equals_the_original(mmbt_golden):
    model = mmbt_golden.mmbt(pos_weight=mmbt_golden.pos_weight).train()
    loss = model(**mmbt_golden.mmbt_batch(), labels=mmbt_golden.inputs["target_multilabel"]).loss
    assert loss.item() == pytest.approx(mmbt_golden.expected["mmbt"]["train0_losses_5steps"][0], rel=1e-5)


def test_batch_norm_statistics_after_a_training_step_equal_the_original(mmbt_golden):
    """BertAdam's first step has learning rate 0, so only the statistics of batch normalisation move."""
    model = mmbt_golden.mmbt().train()
    model(**mmbt_golden.mmbt_batch())
    ours = to_original("mmbt", model.state_dict())
    for key, value in load_file(mmbt_golden.folder / "mmbt_step1_changed.safetensors").items():
        assert_close(ours[key], value, **EXACT)


def test_every_tensor_of_the_original_is_accounted_for_and_comes_back(mmbt_golden):
    original = mmbt_golden.init("mmbt")
    ours, fates = from_original("mmbt", original)
    assert {fate.original for fate in fates} == set(original)
    assert {fate.original for fate in fates if fate.ours is None} == {"enc.clf.weight", "enc.clf.bias"}
    back = to_original("mmbt", ours)
    assert set(back) == set(original)
    for key, value in original.items():
        assert torch.equal(back[key], value) or key.startswith("enc.clf.")

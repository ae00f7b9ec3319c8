"""The five baselines against numbers of the original code (facebookresearch/mmbt at ad71e9c)."""

import pytest
import torch
from golden_mmbt import check_gradients
from torch.testing import assert_close

from hf_mmtab.converting.mmbt_weights import from_original, to_original
from hf_mmtab.models.mmbt.glove_mmbt import load_word_vectors

EXACT = {"rtol": 1e-5, "atol": 1e-5}
BASELINES = ["bow", "img", "bert", "concatbow", "concatbert"]


@pytest.mark.parametrize("kind", BASELINES)
def test_logits_and_names_equal_the_original(mmbt_golden, kind):
    model = mmbt_golden.baseline(kind)
    assert model.config.baseline == kind
    with torch.no_grad():
        logits = model(**mmbt_golden.baseline_batch(kind)).logits
    assert_close(logits, mmbt_golden.outputs[f"{kind}.logits"], **EXACT)


@pytest.mark.parametrize("kind", BASELINES)
def test_losses_and_gradients_equal_the_original(mmbt_golden, kind):
    expected, batch = mmbt_golden.expected[kind], mmbt_golden.baseline_batch(kind)
    several, one = mmbt_golden.inputs["target_multilabel"], mmbt_golden.inputs["target_class"]

    weighted = mmbt_golden.baseline(kind, pos_weight=mmbt_golden.pos_weight)
    loss = weighted(**batch, labels=several).loss
    assert loss.item() == pytest.approx(expected["loss_bce"], rel=1e-5)
    loss.backward()
    check_gradients(kind, weighted, expected["grad_norm_bce"])

    plain = mmbt_golden.baseline(kind)
    assert plain(**batch, labels=several).loss.item() == pytest.approx(expected["loss_bce_unweighted"], rel=1e-5)
    single = mmbt_golden.baseline(kind)  # the first labels that a model sees say of which kind they are
    loss = single(**batch, labels=one).loss
    assert loss.item() == pytest.approx(expected["loss_ce"], rel=1e-5)
    loss.backward()
    check_gradients(kind, single, expected["grad_norm_ce"])


@pytest.mark.parametrize("kind", BASELINES)
def test_first_training_loss_equals_the_original(mmbt_golden, kind):
    model = mmbt_golden.baseline(kind, pos_weight=mmbt_golden.pos_weight).train()
    loss = model(**mmbt_golden.baseline_batch(kind), labels=mmbt_golden.inputs["target_multilabel"]).loss
    assert loss.item() == pytest.approx(mmbt_golden.expected[kind]["train0_losses_5steps"][0], rel=1e-5)


@pytest.mark.parametrize("kind", ["img", "concatbow", "bow"])
def test_five_steps_of_adam_equal_the_original(mmbt_golden, kind):
    """These three are trained by plain Adam with learning rate 5e-5; `train.py`, `get_optimizer`."""
    model = mmbt_golden.baseline(kind, pos_weight=mmbt_golden.pos_weight).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-5)
    losses = []
    for _ in range(5):
        loss = model(**mmbt_golden.baseline_batch(kind), labels=mmbt_golden.inputs["target_multilabel"]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == pytest.approx(mmbt_golden.expected[kind]["train0_losses_5steps"], rel=1e-4)


@pytest.mark.parametrize("kind", BASELINES)
def test_every_tensor_comes_back(mmbt_golden, kind):
    original = mmbt_golden.init(kind)
    ours, fates = from_original(kind, original)
    assert [fate.reason for fate in fates] == ["kept"] * len(original)
    back = to_original(kind, ours)
    assert set(back) == set(original)
    assert all(torch.equal(back[key], value) for key, value in original.items())


def test_glove_file_becomes_the_original_table(mmbt_golden):
    """Specials are zero; a word that the file has twice keeps its first place and takes its last vector."""
    table = load_word_vectors(mmbt_golden.folder / "glove.txt")
    assert_close(table, mmbt_golden.init("bow")["enc.embed.weight"], rtol=0, atol=1e-6)

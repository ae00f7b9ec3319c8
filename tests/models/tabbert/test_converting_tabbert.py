"""Weights of the originals: every tensor accounted for, ids moved, and the way back."""

import pytest
import torch
from golden_tabbert import GOLDEN_FIELDS, GOLDEN_SPECIAL, convert

from hf_mmtab.converting.tabformer_config import convert_config
from hf_mmtab.converting.tabformer_weights import convert_state_dict, kind_of_state_dict, revert_state_dict
from hf_mmtab.models.tabbert import TabBertForMaskedLM

NAMES = ["hier", "flat_field_ce", "flat_vanilla"]


@pytest.mark.parametrize("name", NAMES)
def test_way_back_gives_the_originals_tensors(name, golden_original, golden_ranges):
    original, tensors, _ = golden_original(name)
    model = convert(original, tensors, golden_ranges, name)
    back = revert_state_dict(model.state_dict(), model.config)
    assert set(back) == set(tensors)
    held = torch.zeros(648, dtype=torch.bool)
    for start, end in golden_ranges:
        held[start:end] = True
    for key, tensor in tensors.items():
        if "pooler" in key:
            assert not back[key].any()  # never trained, never used
        elif name == "hier" and tensor.shape[0] == 648 and "tab_embeddings" not in key:
            assert torch.equal(back[key][held], tensor[held])  # no column can hold the other two ids
        else:
            assert torch.equal(back[key], tensor), key


@pytest.mark.parametrize("name", NAMES)
def test_ids_move_to_a_layout_with_unknown_and_missing_values(name, golden_original, golden_ranges):
    """Five specials of ours first, then each field with [UNK] and [MISSING] before its values."""
    original, tensors, io = golden_original(name)
    ranges, id_map, next_id = [], torch.full((648,), -1), 7
    id_map[:7] = torch.tensor([4, 2, 0, 1, 3, 5, 6])  # UNK SEP PAD CLS MASK BOS EOS
    for start, end in golden_ranges[:-1]:
        id_map[start:end] = torch.arange(next_id + 2, next_id + 2 + end - start)
        ranges.append([next_id, next_id + 2 + end - start])
        next_id = ranges[-1][1]
    ranges.append([0, 7])
    config = convert_config(
        original,
        GOLDEN_FIELDS,
        ranges,
        field_ce=None if name == "hier" else name == "flat_field_ce",
        vocab_size=next_id,
        pad_token_id=0,
        mask_token_id=3,
    )
    model = TabBertForMaskedLM(config).eval()
    model.load_state_dict(convert_state_dict(tensors, config, id_map)[0], strict=True)
    reference = convert(original, tensors, golden_ranges, name)
    ids, labels = io["input_ids"].view(2, 10, 12), io["labels"].view(2, 10, 12)
    moved = torch.where(labels == -100, labels, id_map[labels.clamp(min=0)])
    with torch.no_grad():
        loss, expected = model(id_map[ids], labels=moved).loss, reference(ids, labels=labels).loss
    if name == "flat_vanilla":  # its softmax runs over ids of "Is Fraud?" too, which no column can hold
        assert loss <= expected + 1e-5
    else:
        torch.testing.assert_close(loss, expected, rtol=0, atol=1e-5)
    words = model.model.embeddings.word_embeddings.weight
    start, end = ranges[0]
    torch.testing.assert_close(words[start], words[start + 2 : end].mean(0))


def test_report_names_the_fate_of_every_tensor(golden_original, golden_ranges):
    original, tensors, _ = golden_original("hier")
    config = convert_config(original, GOLDEN_FIELDS, golden_ranges, **GOLDEN_SPECIAL)
    fates = {fate.original: fate for fate in convert_state_dict(tensors, config)[1]}
    assert set(fates) == set(tensors)
    assert fates["tb_model.bert.pooler.dense.weight"].reason.startswith("dropped: pooler")
    assert fates["tb_model.cls.predictions.decoder.weight"].reason.endswith(
        "rows of 2 ids that no column can hold are dropped"
    )
    assert fates["tb_model.bert.embeddings.word_embeddings.weight"].reason.startswith("tied to")
    kept = "model.field_encoder.layer.0.qkv.weight"
    assert fates["tab_embeddings.transformer_encoder.layers.0.self_attn.in_proj_weight"].ours == kept


def test_foreign_tensors_are_refused(golden_original, golden_ranges):
    original, tensors, _ = golden_original("hier")
    config = convert_config(original, GOLDEN_FIELDS, golden_ranges, **GOLDEN_SPECIAL)
    with pytest.raises(ValueError, match=r"found tensors \['conv1.weight'\]"):
        kind_of_state_dict({"conv1.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"found 'tb_model.bert.extra': nothing was converted"):
        convert_state_dict({**tensors, "tb_model.bert.extra": torch.zeros(1)}, config)
    with pytest.raises(ValueError, match=r"found 'tb_model.cls.predictions.extra': nothing was converted"):
        convert_state_dict({**tensors, "tb_model.cls.predictions.extra": torch.zeros(1)}, config)
    name = "tb_model.bert.embeddings.word_embeddings.weight"
    with pytest.raises(ValueError, match="to be the same tensor, as the original ties them; they differ"):
        convert_state_dict({**tensors, name: tensors[name] + 1}, config)


def test_ids_that_do_not_fit_are_refused(golden_original, golden_ranges):
    original, tensors, _ = golden_original("hier")
    config = convert_config(original, GOLDEN_FIELDS, golden_ranges, **{**GOLDEN_SPECIAL, "vocab_size": 700})
    with pytest.raises(ValueError, match=r"Expected 700 ids .* found 648 in the checkpoint. Pass id_map"):
        convert_state_dict(tensors, config)
    with pytest.raises(ValueError, match=r"each of the 648 ids in the checkpoint .*, found 3 ids"):
        convert_state_dict(tensors, config, torch.arange(3))
    with pytest.raises(ValueError, match="id_map to give each id one place below 700"):
        convert_state_dict(tensors, config, torch.zeros(648, dtype=torch.long))


def test_config_that_does_not_tell_enough_is_refused(golden_original, golden_ranges):
    original, _, _ = golden_original("flat_field_ce")
    with pytest.raises(ValueError, match="Expected 12 columns"):
        convert_config(original, GOLDEN_FIELDS[:3], golden_ranges[:3])
    with pytest.raises(ValueError, match=r"does not tell its loss .*: pass --field_ce if .* field_ce=True"):
        convert_config(original, GOLDEN_FIELDS, golden_ranges)


def test_model_that_the_original_cannot_hold_is_refused(small_config):
    config = small_config()
    with pytest.raises(ValueError, match="Expected a hierarchical model as the original builds it"):
        revert_state_dict(TabBertForMaskedLM(config).state_dict(), config)
    config = small_config(flatten=True, adaptive_softmax_threshold=15, hidden_size=32)
    with pytest.raises(ValueError, match="Expected a model without adaptive softmax"):
        revert_state_dict(TabBertForMaskedLM(config).state_dict(), config)

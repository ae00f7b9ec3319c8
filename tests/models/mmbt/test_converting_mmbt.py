"""Renaming of the original's tensors: sizes read off shapes, and what is refused."""

import pytest
import torch

from hf_mmtab.converting.mmbt_weights import KINDS, config_from_original, from_original, to_original


def test_sizes_are_read_off_the_shapes(mmbt_golden):
    settings = mmbt_golden.settings
    found = config_from_original("mmbt", mmbt_golden.init("mmbt"), num_attention_heads=settings["heads"])
    text, image = found["text_config"], found["image_config"]
    sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "max_position_embeddings")
    assert [text[name] for name in sizes] == [200, 56, 2, 112, 64]
    assert text["hidden_dropout_prob"] == 0.1 and text["layer_norm_eps"] == 1e-12
    assert image["hidden_sizes"] == [8, 16, 32, 64] and image["depths"] == [1, 1, 1, 1]
    assert image["layer_type"] == "basic" and found["image_hidden_size"] == settings["img_hidden_sz"]
    assert (found["num_labels"], found["num_segments"]) == (5, 2)
    assert (found["cls_token_id"], found["sep_token_id"]) == (101, 102)


def test_heads_are_one_per_64_units_unless_told():
    hidden = {
        "enc.bert.embeddings.word_embeddings.weight": torch.zeros(9, 768),
        "enc.bert.embeddings.position_embeddings.weight": torch.zeros(9, 768),
        "enc.bert.embeddings.token_type_embeddings.weight": torch.zeros(2, 768),
        "enc.bert.encoder.layer.0.intermediate.dense.weight": torch.zeros(3072, 768),
        "clf.weight": torch.zeros(3, 768),
    }
    assert config_from_original("bert", hidden)["text_config"]["num_attention_heads"] == 12


def test_hidden_layers_of_concatbert_are_found(mmbt_golden):
    found = config_from_original("concatbert", mmbt_golden.init("concatbert"), dropout=0.3)
    assert (found["hidden_sizes"], found["batch_norm"], found["hidden_dropout"]) == ([32], True, 0.3)
    plain = {name: value for name, value in mmbt_golden.init("concatbert").items() if "clf.1." not in name}
    plain["clf.3.weight"] = plain.pop("clf.4.weight")
    found = config_from_original("concatbert", plain)
    assert (found["hidden_sizes"], found["batch_norm"], found["num_labels"]) == ([32], False, 5)


def test_names_of_labels_replace_their_number(mmbt_golden):
    names = dict(enumerate("abcde"))
    found = config_from_original("bow", mmbt_golden.init("bow"), id2label=names, image_pooling="max")
    assert found["id2label"] == names and "num_labels" not in found and found["image_pooling"] == "max"


@pytest.mark.parametrize("kind", KINDS)
def test_a_foreign_tensor_is_refused(kind):
    with pytest.raises(ValueError, match=f"Expected a tensor of the original '{kind}' model, found 'lm_head.weight'"):
        from_original(kind, {"lm_head.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=f"The original '{kind}' model has no place for 'segment_embeddings.weight'"):
        to_original(kind, {"segment_embeddings.weight": torch.zeros(1)})


def test_a_foreign_part_of_the_resnet_is_refused():
    with pytest.raises(ValueError, match=r"Expected a tensor of the original's ResNet, found '9.weight'"):
        from_original("img", {"img_encoder.model.9.weight": torch.zeros(1)})


def test_an_unknown_kind_is_refused():
    for convert in (from_original, to_original, config_from_original):
        with pytest.raises(
            ValueError, match="Expected one of mmbt, bert, img, bow, concatbow, concatbert, found 'gmu'"
        ):
            convert("gmu", {})


def test_shared_tables_that_differ_are_refused(mmbt_golden):
    state_dict = mmbt_golden.init("mmbt")
    key = "enc.img_embeddings.LayerNorm.weight"
    state_dict[key] = state_dict[key] + 1
    with pytest.raises(ValueError, match=f"Expected {key} to equal enc.txt_embeddings.LayerNorm.weight"):
        from_original("mmbt", state_dict)


def test_tied_tensors_say_what_they_are_tied_to(mmbt_golden):
    _, fates = from_original("mmbt", mmbt_golden.init("mmbt"))
    tied = {fate.original: fate for fate in fates if fate.reason.startswith("tied")}
    assert len(tied) == 5
    fate = tied["enc.img_embeddings.word_embeddings.weight"]
    assert fate.ours == "model.text_model.embeddings.word_embeddings.weight"
    assert fate.reason == "tied: the same tensor as enc.txt_embeddings.word_embeddings.weight"

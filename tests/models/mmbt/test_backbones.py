"""MMBT composed of many text and image models of transformers."""

import json
import re

import pytest
import torch
from tiny_backbones import IMAGE_CONFIGS, PICTURE, TEXT_CONFIGS, tiny_batch, tiny_config, tiny_mmbt
from torch.testing import assert_close
from transformers import (
    AutoModel,
    CLIPConfig,
    CLIPModel,
    FNetConfig,
    GPT2Config,
    MobileNetV2Config,
    T5Config,
    T5EncoderModel,
    ViTConfig,
)
from transformers.utils import logging

from hf_mmtab.models.mmbt.configuration_mmbt import MMBTConfig
from hf_mmtab.models.mmbt.image_regions import image_feature_map, patch_grid, pool_regions
from hf_mmtab.models.mmbt.modeling_mmbt import MMBTForClassification, MMBTModel
from hf_mmtab.models.mmbt.pretrained_parts import load_image_model, load_text_model


@pytest.mark.parametrize("text", TEXT_CONFIGS)
@pytest.mark.parametrize("num_segments", [2, 3])
def test_every_text_model_reads_pictures_and_words(text, num_segments):
    model, batch = tiny_mmbt(text, num_segments=num_segments), tiny_batch()
    batch["token_type_ids"][:, 4:] = num_segments - 1
    output = model.train()(**batch, labels=torch.tensor([0, 2]))
    output.loss.backward()
    assert output.logits.shape == (2, 3)
    assert torch.isfinite(output.logits).all()
    for parameter in (model.model.image_projection.weight, model.get_input_embeddings().weight):
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("text", TEXT_CONFIGS)
def test_padding_changes_nothing(text):
    model, batch = tiny_mmbt(text), tiny_batch()
    longer = {**batch, "input_ids": torch.nn.functional.pad(batch["input_ids"], (0, 9), value=0)}
    longer["attention_mask"] = torch.nn.functional.pad(batch["attention_mask"], (0, 9))
    longer["token_type_ids"] = torch.nn.functional.pad(batch["token_type_ids"], (0, 9))
    with torch.no_grad():
        assert_close(model(**longer).logits, model(**batch).logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("text", TEXT_CONFIGS)
def test_segments_of_the_words_matter(text):
    model, batch = tiny_mmbt(text, num_segments=3), tiny_batch()
    with torch.no_grad():
        first = model(**batch).logits
        batch["token_type_ids"][:, 3:] = 2
        assert not torch.allclose(first, model(**batch).logits, atol=1e-7)


@pytest.mark.parametrize("text", ["bert", "electra", "albert"])
def test_a_text_model_with_enough_segments_uses_its_own(text):
    assert tiny_mmbt(text).model.segment_embeddings is None


@pytest.mark.parametrize("text", ["roberta", "distilbert", "modernbert", "deberta-v2", "mpnet"])
def test_a_text_model_without_segments_gets_a_table(text):
    table = tiny_mmbt(text, num_segments=3).model.segment_embeddings
    assert table.weight.shape == (3, 32)
    assert table.weight.abs().sum() > 0


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("bert", "encoder.layer"),
        ("roberta", "encoder.layer"),
        ("distilbert", "transformer.layer"),
        ("electra", "encoder.layer"),
        ("modernbert", "layers"),
        ("deberta-v2", "encoder.layer"),
        ("mpnet", "encoder.layer"),
        ("albert", "encoder.albert_layer_groups"),
    ],
)
def test_the_text_encoder_part_is_the_list_of_layers(text, path):
    model = tiny_mmbt(text)
    parts = model.freezable_modules
    assert parts == {"text_encoder": f"model.text_model.{path}", "image_encoder": "model.image_model"}
    assert isinstance(model.get_submodule(parts["text_encoder"]), torch.nn.ModuleList)
    assert model.model.freezable_modules["text_encoder"] == f"text_model.{path}"


@pytest.mark.parametrize("text", TEXT_CONFIGS)
def test_positions_restart_for_the_words(text):
    """Given positions 0 … seq − 1 are the default; others change the result where the model has positions."""
    model, batch = tiny_mmbt(text), tiny_batch()
    with torch.no_grad():
        default = model(**batch).logits
        given = model(**batch, position_ids=torch.arange(7).expand(2, -1)).logits
        shifted = model(**batch, position_ids=torch.arange(5, 12).expand(2, -1)).logits
    assert torch.equal(default, given)
    assert torch.equal(default, shifted) == (text == "deberta-v2")  # relative positions only


def test_roberta_positions_start_behind_the_padding_index():
    """Words alone must get the rows that RobertaModel gives them itself: padding_idx + 1 onwards."""
    model = tiny_mmbt("roberta").model
    seen = []
    model.text_model.embeddings.position_embeddings.register_forward_hook(
        lambda module, args, output: seen.append(args[0])
    )
    with torch.no_grad():
        model(**tiny_batch(batch=1))
    assert seen[0][0].tolist() == [2, 3, 4, 5, 6, *range(2, 9)]
    assert model.max_part_length == 126


@pytest.mark.parametrize(("start", "words"), [(0, [0, 1, 2]), (1, [1, 2, 3])])
def test_bert_positions_start_at_zero_or_as_told(start, words):
    model = tiny_mmbt("bert", num_image_embeds=2, text_position_start=start).model
    seen = []
    model.text_model.embeddings.position_embeddings.register_forward_hook(
        lambda module, args, output: seen.append(args[0])
    )
    with torch.no_grad():
        model(**tiny_batch(batch=1, seq=3))
    assert seen[0][0].tolist() == [0, 1, 2, 3, *words]


@pytest.mark.parametrize(
    ("image", "image_pooling"),
    [(image, "avg") for image in IMAGE_CONFIGS]
    + [(image, other) for image in ("resnet", "siglip_vision_model", "swin") for other in ("max", "none")],
)
def test_every_image_model_gives_regions(image, image_pooling):
    model, batch = tiny_mmbt(image=image, image_pooling=image_pooling), tiny_batch(height=64, width=64)
    regions = model.get_image_features(batch["pixel_values"])
    if image_pooling != "none":
        assert regions.shape[1] == 3
    assert regions.shape[2] == model.config.image_hidden_size
    output = model(**batch, labels=torch.tensor([0, 2]))
    output.loss.backward()
    assert torch.isfinite(output.logits).all()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.model.image_model.parameters())
    with torch.no_grad():
        again = model(batch["input_ids"], image_regions=regions)
    assert torch.equal(again.logits, output.logits)


@pytest.mark.parametrize("image", IMAGE_CONFIGS)
def test_pictures_that_are_not_square_keep_their_grid(image):
    model = tiny_mmbt(image=image).model
    with torch.no_grad():
        feature_map = image_feature_map(model.image_model, torch.randn(2, 3, 64, 96))
    assert feature_map.dim() == 4
    assert feature_map.shape[1] == model.config.image_hidden_size
    assert 2 * feature_map.shape[3] == 3 * feature_map.shape[2]


def test_patch_tokens_come_in_rows_without_the_class_token():
    """A ViT's token behind the class token must lie at its row and column of the map."""
    model = tiny_mmbt(image="vit", image_pooling="none").model
    pixels = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        states = model.image_model(pixels, interpolate_pos_encoding=True).last_hidden_state  # (1, 1 + 4 * 6, 32)
        feature_map = image_feature_map(model.image_model, pixels)
        assert feature_map.shape == (1, 32, 4, 6)
        assert torch.equal(feature_map[0, :, 2, 5], states[0, 1 + 2 * 6 + 5])
        assert torch.equal(model.get_image_features(pixels), states[:, 1:])


def test_register_tokens_are_left_out():
    model = tiny_mmbt(image="dinov2_with_registers", image_pooling="none").model
    pixels = torch.randn(1, 3, PICTURE, PICTURE)
    with torch.no_grad():
        states = model.image_model(pixels).last_hidden_state
        assert states.shape[1] == 1 + 4 + 16
        assert torch.equal(model.get_image_features(pixels), states[:, 5:])


def test_pooling_follows_rows():
    feature_map = torch.arange(12.0).reshape(1, 1, 4, 3)
    assert pool_regions(feature_map, 2, "avg")[0, :, 0].tolist() == [2.5, 8.5]
    assert pool_regions(feature_map, 4, "max")[0, :, 0].tolist() == [4.0, 5.0, 10.0, 11.0]
    assert pool_regions(feature_map, 4, "none")[0, :, 0].tolist() == list(range(12))


def test_attention_may_be_chosen_though_a_resnet_has_none():
    assert tiny_mmbt(attn_implementation="sdpa").config.text_config._attn_implementation == "sdpa"
    both = tiny_mmbt(image="vit", attn_implementation="sdpa")
    assert both.config.image_config._attn_implementation == "sdpa"


def test_a_vit_has_no_pooler_left_that_gets_no_gradient():
    assert tiny_mmbt(image="vit").model.image_model.pooler is None


def test_tokens_that_are_no_grid_are_refused():
    with pytest.raises(ValueError, match=r"Expected a feature map or the patch tokens of a 32×32 picture .*found 11"):
        patch_grid(ViTConfig(patch_size=8), 11, 32, 32)


def test_channels_are_measured_where_the_configuration_does_not_say():
    config = tiny_config(image="mobilenet_v2")
    assert config.image_hidden_size is None
    MMBTModel(config)
    assert config.image_hidden_size == 1280  # MobileNetV2 narrows every layer but the last
    assert "hidden_size" not in MobileNetV2Config().to_dict()


@pytest.mark.parametrize(
    "text_config",
    [
        T5Config(vocab_size=99, d_model=32, num_layers=1, num_heads=2, d_ff=32, d_kv=8),
        GPT2Config(vocab_size=99, n_embd=32, n_layer=1, n_head=2),
        FNetConfig(vocab_size=99, hidden_size=32, num_hidden_layers=1, intermediate_size=32),
    ],
)
def test_text_models_that_do_not_read_both_ways_are_refused(text_config):
    config = MMBTConfig(
        text_config=text_config, image_config=tiny_config().image_config, cls_token_id=1, sep_token_id=2
    )
    with pytest.raises(ValueError, match="Expected a text encoder that takes inputs_embeds and attention_mask, found"):
        MMBTForClassification(config)


def test_the_encoder_of_an_encoder_decoder_is_named_and_not_its_missing_weights(tmp_path):
    T5EncoderModel(T5Config(vocab_size=99, d_model=32, num_layers=1, num_heads=2, d_ff=32, d_kv=8)).save_pretrained(
        tmp_path
    )
    with pytest.raises(
        ValueError, match=r"Expected a text encoder in .*, found an encoder–decoder \(model_type 't5'\)"
    ):
        load_text_model(str(tmp_path))


def test_the_other_tower_and_heads_are_left_out_in_silence_and_own_weights_are_told(tmp_path, caplog, capsys):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    towers = {
        "text_config": {**sizes, "vocab_size": 99},
        "vision_config": {**sizes, "image_size": 32, "patch_size": 16},
    }
    CLIPModel(CLIPConfig(**towers, projection_dim=8)).save_pretrained(tmp_path)
    logging.enable_propagation()
    assert load_image_model(str(tmp_path)).config.model_type == "clip_vision_model"
    found = caplog.text + "".join(capsys.readouterr())
    assert "LOAD REPORT" not in found and "text_model" not in found and "weights of" not in found

    written = json.loads((tmp_path / "config.json").read_text())
    written["vision_config"]["num_hidden_layers"] = 1
    (tmp_path / "config.json").write_text(json.dumps(written))
    load_image_model(str(tmp_path))
    logging.disable_propagation()
    assert re.search(
        r"holds 16 weights of CLIPVisionModel for which its config\.json has no place, .*layers\.1\.", caplog.text
    )


def test_missing_ids_of_the_special_words_are_refused():
    config = tiny_config(cls_token_id=None, sep_token_id=None)
    with pytest.raises(ValueError, match="Expected cls_token_id and sep_token_id in MMBTConfig, found None and"):
        MMBTModel(config)


def test_ids_of_the_special_words_come_from_the_text_config():
    config = tiny_config("roberta", cls_token_id=None, sep_token_id=None)
    assert (config.cls_token_id, config.sep_token_id) == (0, 2)
    config = tiny_config("modernbert", cls_token_id=None, sep_token_id=None)
    assert (config.cls_token_id, config.sep_token_id) == (1, 2)


def test_a_part_longer_than_the_position_table_is_refused():
    model = tiny_mmbt("roberta")
    with pytest.raises(ValueError, match=r"Expected at most 126 tokens in each part, .* found 5 .* and 127 in the"):
        model(**tiny_batch(seq=127))
    model(**tiny_batch(seq=126))
    with pytest.raises(ValueError, match=r"and 126 in the text part, which starts at position 1\."):
        tiny_mmbt("roberta", text_position_start=1)(**tiny_batch(seq=126))


def test_words_alone_equal_the_text_model_when_no_picture_is_looked_at():
    """With one segment and the image part hidden, the words see what BERT itself would give them."""
    model = tiny_mmbt("bert").model
    text = model.text_model
    assert isinstance(text, type(AutoModel.from_config(text.config)))
    batch = tiny_batch()
    words = text.get_input_embeddings()(batch["input_ids"])
    mask = torch.cat([torch.zeros(2, 5).long(), batch["attention_mask"]], dim=1)
    image_part = torch.randn(2, 5, 32)
    with torch.no_grad():
        alone = text(inputs_embeds=words).last_hidden_state
        positions = torch.cat([torch.arange(5), torch.arange(7)]).expand(2, -1)
        both = model._encode(torch.cat([image_part, words], 1), mask, positions, torch.zeros(2, 12).long())
    assert_close(both.last_hidden_state[:, 5:], alone, rtol=1e-5, atol=1e-6)

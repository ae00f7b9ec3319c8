"""A config.json that does not fit its weights gives one message with the key or the tensor, and nothing is built."""

import json
import re
import shutil

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, BertConfig, BertModel, ResNetConfig

from hf_mmtab import (
    MMBTBaselineConfig,
    MMBTBaselineForClassification,
    MMBTConfig,
    MMBTForClassification,
    TabBertConfig,
    TabBertLstmForSequenceClassification,
    TabGPT2Config,
)
from hf_mmtab.models.mmbt.pretrained_parts import load_text_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of tiny models."""
    root = tmp_path_factory.mktemp("saved")
    torch.manual_seed(0)
    text = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=40, cls_token_id=1, sep_token_id=2,
    )  # fmt: skip
    image = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    MMBTForClassification(MMBTConfig.from_text_image_configs(text, image)).save_pretrained(root / "mmbt")
    baseline = MMBTBaselineConfig.from_text_image_configs(text, image, hidden_sizes=[8])
    MMBTBaselineForClassification(baseline).save_pretrained(root / "baseline")
    table = TabBertConfig(
        fields=["a", "b"], field_ranges=[[6, 10], [10, 20]], vocab_size=20, hidden_size=16, field_hidden_size=8,
        field_num_heads=2, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
    )  # fmt: skip
    TabBertLstmForSequenceClassification(table).save_pretrained(root / "table")
    return root


# kind of model, key of its config, value, what the message names
IMPOSSIBLE = [
    ("mmbt", "text_config.num_attention_heads", 0, "text_config.num_attention_heads to be at least 1"),
    ("mmbt", "text_config.num_attention_heads", 3, "multiple of the number of attention heads"),
    ("mmbt", "text_config.hidden_size", 0, "text_config.hidden_size to be at least 1"),
    ("mmbt", "text_config.hidden_size", 17, "multiple of the number of attention heads"),
    ("mmbt", "text_config.intermediate_size", 10**12, "text_config.intermediate_size .* found 1000000000000"),
    ("mmbt", "text_config.hidden_act", "nix", "hidden_act to be one of gelu, .*, found 'nix'. Correct it"),
    ("mmbt", "image_config.hidden_act", "nix", "image_config.hidden_act to be one of gelu, .*, found 'nix'"),
    ("mmbt", "dtype", "nix", "Expected dtype to be a dtype of torch, such as float32, found 'nix'"),
    ("baseline", "text_config.dtype", "nix", "Expected text_config.dtype to be a dtype of torch"),
    ("table", "dtype", "nix", "Expected dtype to be a dtype of torch"),
    ("mmbt", "image_config.hidden_sizes", [], "config.json in .* that fits MMBTForClassification"),
    ("mmbt", "image_config.hidden_sizes", [0, 4], "image_config.hidden_sizes to be at least 1"),
    ("mmbt", "image_hidden_size", -1, "image_hidden_size to be at least 1"),
    ("mmbt", "num_segments", 10**12, "num_segments must be .* at most"),
    ("baseline", "text_config.vocab_size", 0, "text_config.vocab_size to be at least 1"),
    ("baseline", "hidden_sizes", [0], "hidden_sizes to be at least 1"),
    ("baseline", "num_labels", "x", "Expected num_labels"),
    ("table", "num_attention_heads", 0, "num_attention_heads to be at least 1"),
    ("table", "num_attention_heads", -1, "num_attention_heads to be at least 1"),
    ("table", "field_num_heads", 0, "field_num_heads to be at least 1"),
    ("table", "hidden_size", 15, "hidden_size must be a multiple of num_attention_heads"),
    ("table", "hidden_size", 10**12, "hidden_size to be at least 1 and at most"),
    ("table", "lstm_hidden_size", 0, "lstm_hidden_size to be at least 1"),
    ("table", "lstm_num_layers", 0, "lstm_num_layers to be at least 1"),
    ("table", "mlp_hidden_sizes", [0], "mlp_hidden_sizes to be at least 1"),
    ("table", "hidden_act", "nix", "hidden_act to be one of gelu, .*, found 'nix'. Correct it"),
]
# … the shape that the config asks for, and the one that the weights have
MISFITS = [
    ("mmbt", "text_config.intermediate_size", 64, r"shape \[64\].*intermediate_size: 64\), found \[32\]"),
    ("mmbt", "text_config.vocab_size", 60, r"word_embeddings.weight of shape \[60, 16\].*vocab_size: 60\)"),
    ("mmbt", "image_config.embedding_size", 12, r"embedding_size: 12\), found \[8, 3, 7, 7\].* more that differ"),
    ("mmbt", "image_hidden_size", 18, r"image_projection.weight of shape \[16, 18\].*image_hidden_size: 18\)"),
    ("baseline", "hidden_sizes", [9], r"hidden_sizes: 9\)"),
    ("baseline", "text_config.max_position_embeddings", 10**7, r"max_position_embeddings: 10000000\)"),
    ("table", "intermediate_size", 10**6, r"intermediate_size: 1000000\), found \[32\]"),
    ("table", "vocab_size", 30, r"vocab_size: 30\), found \[20, 8\]"),
    ("table", "max_position_embeddings", 5, r"max_position_embeddings: 5\), found \[512, 16\]"),
    ("table", "lstm_hidden_size", 3, r"lstm_hidden_size: 3\)"),
    ("table", "id2label", {"0": "a", "1": "b", "2": "c"}, r"classifier.* \(num_labels: 3\), found \[2"),
]


@pytest.mark.parametrize(("kind", "key", "value", "message"), IMPOSSIBLE + MISFITS)
def test_the_key_or_the_tensor_is_named(kind, key, value, message, saved, tmp_path, capfd):
    folder = shutil.copytree(saved / kind, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    place = config
    *path, last = key.split(".")
    for part in path:
        place = place[part]
    place[last] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(Exception, match=message) as caught:
        AutoModelForSequenceClassification.from_pretrained(folder)
    assert isinstance(caught.value, ValueError) or type(caught.value).__name__.startswith("StrictDataclass")
    assert "MISMATCH" not in "".join(capfd.readouterr())  # transformers' report beside the message


@pytest.mark.parametrize("kind", ["mmbt", "baseline", "table"])
def test_whole_models_load_and_may_be_told_to_ignore_shapes(kind, saved):
    model = AutoModelForSequenceClassification.from_pretrained(saved / kind)
    other = AutoModelForSequenceClassification.from_pretrained(saved / kind, num_labels=5, ignore_mismatched_sizes=True)
    assert model.config.num_labels == 2 and other.config.num_labels == 5


def test_a_name_in_the_config_of_a_start_is_told_with_its_folder(tmp_path):
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    BertModel(config).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"hidden_act": "nix"}))
    with pytest.raises(ValueError, match=rf"Expected a config.json in {tmp_path} that fits a text model, .*'nix'"):
        load_text_model(str(tmp_path))
    with pytest.raises(ValueError, match=r"Expected activation_function to be one of .*found 'nix'"):
        TabGPT2Config(activation_function="nix")


WRONG = [
    *[("table", key, value) for key in ("hidden_size", "lstm_members") for value in ("two", None, [1], {"a": 1}, 1e9)],
    ("table", "lstm_members", -1),
    ("table", "lstm_members", 10**9),
    ("table", "fields", 5),
    ("table", "architectures", 5),
    ("table", "architectures", [1]),
    ("table", "id2label", {"a": "yes"}),
    *[(kind, "id2label", {"0": "no", "1": value}) for kind in ("table", "mmbt") for value in (1, None, ["yes"], True)],
    *[("table", "auto_map", {"AutoModelForSequenceClassification": value}) for value in (None, 7, True)],
    ("baseline", "label2id", {"no": "0", "yes": "1"}),
    ("table", "dtype", [1]),
    ("mmbt", "num_image_embeds", "two"),
    ("mmbt", "max_images", None),
    ("mmbt", "thresholds", "high"),
    ("mmbt", "text_config", 7),
    ("baseline", "hidden_sizes", "wide"),
]


@pytest.mark.parametrize("load", [AutoConfig, AutoModelForSequenceClassification], ids=lambda one: one.__name__)
@pytest.mark.parametrize(("kind", "key", "value"), WRONG)
def test_a_value_of_another_type_is_told_with_its_key_and_file(kind, key, value, load, saved, tmp_path):
    folder = shutil.copytree(saved / kind, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(ValueError, match=re.escape(str(folder))) as caught:
        load.from_pretrained(folder)
    told = str(caught.value)
    assert key in told or "'a'" in told or "int" in told
    assert "\n" not in told
    with pytest.raises(ValueError, match=re.escape(str(folder))):  # without Auto classes
        type(AutoConfig.from_pretrained(saved / kind)).from_pretrained(folder)


@pytest.mark.parametrize(("members", "told"), [(1, "belong to nothing"), (3, "are missing")])
def test_weights_of_other_members_than_the_config_says_are_told_with_the_key(members, told, saved, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(saved / "table")
    model.add_members(AutoModelForSequenceClassification.from_pretrained(saved / "table"))
    model.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    assert json.loads(file.read_text())["lstm_members"] == 2
    file.write_text(json.dumps(json.loads(file.read_text()) | {"lstm_members": members}))
    with pytest.raises(ValueError, match=rf"{told}.* says .*lstm_members: {members}.*: correct it if one of them was"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path)

"""Round trips, checked loading, and the start from two pretrained checkpoints."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_backbones import IMAGE_CONFIGS, TEXT_CONFIGS, plain_batch, tiny_baseline, tiny_batch, tiny_mmbt
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    BertForMaskedLM,
    BertTokenizer,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
)

import hf_mmtab
from hf_mmtab.models.mmbt import MMBTConfig, MMBTForClassification, MMBTModel

IDS = {"cls_token_id": 1, "sep_token_id": 2}


@pytest.fixture
def saved_parts(tmp_path):
    """Return a function that saves a tiny text and image model and gives their folders."""

    def save(text: str = "bert", image: str = "resnet") -> tuple[str, str]:
        AutoModel.from_config(TEXT_CONFIGS[text]()).save_pretrained(tmp_path / "text")
        AutoModel.from_config(IMAGE_CONFIGS[image]()).save_pretrained(tmp_path / "image")
        return str(tmp_path / "text"), str(tmp_path / "image")

    return save


@pytest.mark.parametrize(("text", "image"), [*zip(TEXT_CONFIGS, reversed(IMAGE_CONFIGS), strict=False)])
def test_a_saved_model_comes_back_bit_for_bit(tmp_path, text, image):
    model, batch = (tiny_mmbt(text, image, null_image="learned", num_segments=3), tiny_batch(height=64, width=64))
    absent = torch.tensor([1, 0])
    model.save_pretrained(tmp_path)
    loaders = [MMBTForClassification, AutoModelForSequenceClassification]
    with torch.no_grad():
        expected = model(**batch, image_mask=absent).logits
        for loader in loaders:
            again = loader.from_pretrained(tmp_path)
            assert type(again) is MMBTForClassification
            assert not again.training
            assert torch.equal(again(**batch, image_mask=absent).logits, expected)
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is MMBTConfig
    for name in ("num_image_embeds", "num_segments", "null_image", "image_hidden_size", "id2label"):
        assert getattr(config, name) == getattr(model.config, name)


def test_batch_norm_statistics_come_back(tmp_path):
    model, batch = tiny_mmbt(), tiny_batch()
    model.train()(**batch)
    model.save_pretrained(tmp_path)
    again = MMBTForClassification.from_pretrained(tmp_path)
    for (name, buffer), (_, other) in zip(model.named_buffers(), again.named_buffers(), strict=True):
        assert torch.equal(buffer, other), name


def test_a_bfloat16_checkpoint_comes_back_in_bfloat16(tmp_path):
    model = tiny_mmbt("bert", "vit").to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert again.dtype == torch.bfloat16
    with torch.no_grad():
        assert torch.equal(again(**tiny_batch()).logits, model(**tiny_batch()).logits)
    assert MMBTForClassification.from_pretrained(tmp_path, dtype=torch.float32).dtype == torch.float32


def test_the_base_model_reads_the_checkpoint_of_the_classifier_and_says_so(tmp_path, caplog):
    model, batch = tiny_mmbt(), tiny_batch()
    model.save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        base = AutoModel.from_pretrained(tmp_path)
    assert type(base) is MMBTModel
    assert "left out the head's classifier.bias, classifier.weight" in caplog.text
    with torch.no_grad():
        assert torch.equal(base(**batch).pooler_output, model.model(**batch).pooler_output)


def test_a_new_head_on_a_base_model_must_be_asked_for(tmp_path, caplog):
    base, batch = tiny_mmbt().model, tiny_batch()
    base.save_pretrained(tmp_path)
    said = r"classifier.bias, classifier.weight. It holds a MMBTModel: train a head on it with .*allow_missing_keys"
    with pytest.raises(ValueError, match=rf"2 keys are missing .*: {said}"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path, allow_missing_keys=True)
    assert "initialised anew, as allowed: classifier.bias, classifier.weight" in caplog.text
    with torch.no_grad():
        assert torch.equal(model.model(**batch).pooler_output, base(**batch).pooler_output)


def test_a_checkpoint_with_a_missing_tensor_is_refused(tmp_path):
    tiny_mmbt().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.image_projection.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 keys are missing .* would be random: model.image_projection.weight"):
        MMBTForClassification.from_pretrained(tmp_path)


def test_a_checkpoint_with_a_foreign_tensor_is_refused(tmp_path, caplog):
    tiny_mmbt().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"] = torch.ones(2)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 keys of the checkpoint belong to nothing in the model: lm_head.weight"):
        MMBTForClassification.from_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        MMBTForClassification.from_pretrained(tmp_path, allow_unexpected_keys=True)
    assert "ignored, as allowed: lm_head.weight" in caplog.text


def test_another_number_of_labels_is_refused_unless_asked_for(tmp_path):
    tiny_mmbt().save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        MMBTForClassification.from_pretrained(tmp_path, num_labels=5)
    model = MMBTForClassification.from_pretrained(tmp_path, num_labels=5, ignore_mismatched_sizes=True)
    assert model.classifier.weight.shape[0] == 5


def test_a_checkpoint_of_another_kind_is_refused(saved_parts):
    text, _ = saved_parts()
    with pytest.raises(ValueError, match=r"Expected a checkpoint of model_type 'mmbt' in .*, found 'bert'"):
        MMBTForClassification.from_pretrained(text)


def test_loading_information_is_still_to_be_had(tmp_path):
    tiny_mmbt().save_pretrained(tmp_path)
    model, info = MMBTForClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(model, MMBTForClassification)
    assert not info["missing_keys"]


@pytest.mark.parametrize(
    ("text", "image"),
    [("bert", "resnet"), ("modernbert", "vit"), ("roberta", "clip_vision_model"), ("electra", "dinov2")],
)
def test_two_pretrained_checkpoints_become_one_model(saved_parts, text, image):
    text_folder, image_folder = saved_parts(text, image)
    model = MMBTForClassification.from_text_image_pretrained(text_folder, image_folder, num_labels=4, **IDS)
    for part, folder in ((model.model.text_model, text_folder), (model.model.image_model, image_folder)):
        original = AutoModel.from_pretrained(folder).state_dict()
        assert all(torch.equal(value, original[name]) for name, value in part.state_dict().items())
    assert model.config.num_labels == 4
    assert not model.training
    assert model.config.text_config._attn_implementation == "sdpa"
    assert model.model.image_projection.weight.std() > 0


def test_the_base_model_starts_from_two_checkpoints_too(saved_parts):
    assert isinstance(MMBTModel.from_text_image_pretrained(*saved_parts(), **IDS), MMBTModel)


def test_a_third_segment_is_the_mean_of_the_first_two(saved_parts):
    text, image = saved_parts()
    original = AutoModel.from_pretrained(text).embeddings.token_type_embeddings.weight
    model = MMBTForClassification.from_text_image_pretrained(text, image, num_segments=3, **IDS)
    table = model.model.text_model.embeddings.token_type_embeddings.weight
    assert torch.equal(table[:2], original)
    assert torch.equal(table[2], original.mean(dim=0))
    assert model.config.text_config.type_vocab_size == 3


@pytest.mark.parametrize("num_segments", [2, 3])
def test_segments_may_all_start_from_that_of_a_single_text(saved_parts, num_segments):
    text, image = saved_parts()
    original = AutoModel.from_pretrained(text).embeddings.token_type_embeddings.weight
    model = MMBTForClassification.from_text_image_pretrained(
        text, image, segment_start="first", num_segments=num_segments, **IDS
    )
    table = model.model.text_model.embeddings.token_type_embeddings.weight
    assert torch.equal(table, original[:1].expand(num_segments, -1))


def test_a_third_segment_of_the_added_table_is_the_mean_of_the_first_two(saved_parts):
    model = MMBTForClassification.from_text_image_pretrained(*saved_parts("roberta"), num_segments=3, **IDS)
    table = model.model.segment_embeddings.weight
    assert torch.equal(table[2], table[:2].mean(dim=0))
    assert model.config.text_config.type_vocab_size == 1


def test_special_word_ids_come_from_the_tokenizer(saved_parts):
    text, image = saved_parts()
    words = ["[PAD]", "[UNK]", "x", "[SEP]", "[MASK]", "[CLS]"]
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(text)
    model = MMBTForClassification.from_text_image_pretrained(text, image)
    assert (model.config.cls_token_id, model.config.sep_token_id) == (5, 3)
    model = MMBTForClassification.from_text_image_pretrained(text, image, **IDS)
    assert (model.config.cls_token_id, model.config.sep_token_id) == (1, 2)


def test_without_tokenizer_the_special_word_ids_must_be_given(saved_parts):
    with pytest.raises(ValueError, match="Expected cls_token_id and sep_token_id in MMBTConfig"):
        MMBTForClassification.from_text_image_pretrained(*saved_parts())


def test_attention_may_be_chosen_at_the_start(saved_parts):
    parts = saved_parts("bert", "vit")
    model = MMBTForClassification.from_text_image_pretrained(*parts, attn_implementation="eager", **IDS)
    assert model.model.text_model.config._attn_implementation == "eager"
    assert model.model.image_model.config._attn_implementation == "eager"


def test_a_misspelt_keyword_is_refused(saved_parts):
    with pytest.raises(TypeError, match=r"MMBTConfig has no field \['num_image_embed'\]. Known fields: "):
        MMBTForClassification.from_text_image_pretrained(*saved_parts(), num_image_embed=3, **IDS)


def test_a_text_checkpoint_without_its_layers_is_refused(saved_parts):
    text, image = saved_parts()
    tensors = load_file(Path(text) / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if "layer.1." not in name}
    save_file(kept, Path(text) / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"Expected all weights of BertModel in .*, found none for \['encoder.layer"):
        MMBTForClassification.from_text_image_pretrained(text, image, **IDS)


def test_a_text_checkpoint_without_pooler_gets_a_new_one_and_says_so(saved_parts, caplog):
    text, image = saved_parts()
    BertForMaskedLM(TEXT_CONFIGS["bert"]()).save_pretrained(text)
    with caplog.at_level(logging.WARNING):
        MMBTForClassification.from_text_image_pretrained(text, image, **IDS)
    assert "has no pooler: a new one is trained from random weights" in caplog.text


def test_the_vision_half_of_a_clip_checkpoint_serves(saved_parts, tmp_path):
    text, _ = saved_parts()
    clip = CLIPModel(
        CLIPConfig(
            text_config=CLIPTextConfig(
                vocab_size=99, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
            ).to_dict(),
            vision_config=IMAGE_CONFIGS["clip_vision_model"]().to_dict(),
        )
    )
    clip.save_pretrained(tmp_path / "clip")
    model = MMBTForClassification.from_text_image_pretrained(text, str(tmp_path / "clip"), **IDS)
    assert model.config.image_config.model_type == "clip_vision_model"
    original = clip.vision_model.state_dict()
    ours = model.model.image_model.state_dict()
    assert set(ours) == set(original)
    assert all(torch.equal(ours[name], value) for name, value in original.items())


def test_a_half_precision_checkpoint_starts_in_float32(saved_parts):
    text, image = saved_parts()
    AutoModel.from_pretrained(text).to(torch.float16).save_pretrained(text)
    model = MMBTForClassification.from_text_image_pretrained(text, image, **IDS)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_the_package_registers_with_the_auto_classes():
    assert hf_mmtab.__version__
    config = AutoConfig.for_model("mmbt")
    assert isinstance(config, MMBTConfig)
    assert (config.text_config.model_type, config.image_config.model_type) == ("bert", "resnet")
    assert (config.cls_token_id, config.sep_token_id) == (101, 102)


def test_local_folders_are_not_written_to_the_configuration(saved_parts, tmp_path):
    MMBTForClassification.from_text_image_pretrained(*saved_parts(), **IDS).save_pretrained(tmp_path / "m")
    assert str(tmp_path) not in (tmp_path / "m" / "config.json").read_text()


@pytest.mark.nightly
def test_a_checkpoint_carries_its_code(tmp_path, monkeypatch):
    """Loaded by `trust_remote_code` in a process that cannot import the package; others: `hub_session.py`, in CI."""
    model, batch = tiny_baseline("concatbow"), plain_batch()
    for part, auto in ((type(model.config), "AutoConfig"), (type(model), "AutoModelForSequenceClassification")):
        monkeypatch.setattr(type(model.config), "_stands_alone", False)  # forgotten afterwards
        part.register_for_auto_class(auto)
    model.save_pretrained(tmp_path / "model")
    with torch.no_grad():
        save_file({**batch, "logits": model(**batch).logits}, tmp_path / "io.safetensors")
    program = """
import sys
sys.modules["hf_mmtab"] = None  # importing it raises ImportError
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification
io = load_file("io.safetensors")
expected = io.pop("logits")
model = AutoModelForSequenceClassification.from_pretrained("model", trust_remote_code=True)
with torch.no_grad():
    assert torch.equal(model(**io).logits, expected)
print(type(model).__module__)
"""
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "transformers_modules" in done.stdout

"""The five baselines: parts, absent modalities, hidden layers, word vectors, saving."""

import logging
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_backbones import IMAGE_CONFIGS, TEXT_CONFIGS, WITH_IMAGE, plain_batch, tiny_baseline
from torch.testing import assert_close
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from hf_mmtab.models.mmbt import MMBTBaselineConfig, MMBTBaselineForClassification
from hf_mmtab.models.mmbt.glove_mmbt import load_word_vectors
from hf_mmtab.models.mmbt.modeling_baselines import BatchNormOfAnyBatch

BASELINES = ["bow", "img", "bert", "concatbow", "concatbert"]
WITH_TEXT = ["bow", "bert", "concatbow", "concatbert"]


@pytest.mark.parametrize("kind", ["bow", "bert", "concatbert"])
def test_word_dropout_of_baselines_acts_in_training_only(kind):
    model, plain, batch = tiny_baseline(kind, word_dropout=0.5), tiny_baseline(kind), plain_batch()
    with torch.no_grad():
        evaluated = model(**batch).logits
        for each in (model, plain):  # of all that is random in training only this
            each.training = True
        assert_close(plain(**batch).logits, evaluated, rtol=0, atol=0)
        assert not torch.allclose(model(**batch).logits, evaluated, atol=1e-6)


@pytest.mark.parametrize("kind", BASELINES)
def test_every_baseline_trains_and_comes_back_bit_for_bit(tmp_path, kind):
    model, batch = tiny_baseline(kind, hidden_sizes=[8]), plain_batch()
    model.train()(**batch, labels=torch.tensor([0, 2])).loss.backward()
    assert model.classifier[0].weight.grad.abs().sum() > 0
    assert model.config.baseline == kind
    model.eval().save_pretrained(tmp_path)
    with torch.no_grad():
        expected = model(**batch).logits
        for loader in (MMBTBaselineForClassification, AutoModelForSequenceClassification):
            again = loader.from_pretrained(tmp_path)
            assert type(again) is MMBTBaselineForClassification
            assert torch.equal(again(**batch).logits, expected)
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is MMBTBaselineConfig
    assert config.baseline == kind


@pytest.mark.parametrize("kind", BASELINES)
def test_parts_that_can_freeze_are_those_that_are_there(kind):
    model = tiny_baseline(kind)
    text = {"text_encoder": "text_model.encoder.layer"} if "bert" in kind else {}
    image = {"image_encoder": "image_model"} if kind in WITH_IMAGE else {}
    assert model.freezable_modules == text | image
    assert all(model.get_submodule(path) is not None for path in model.freezable_modules.values())
    assert set(model.cacheable_features) == set(image)


@pytest.mark.parametrize("kind", WITH_IMAGE)
def test_cached_regions_stand_in_for_pixels(kind):
    model, batch = tiny_baseline(kind), plain_batch()
    with torch.no_grad():
        expected = model(**batch).logits
        batch["image_regions"] = model.get_image_features(batch.pop("pixel_values"))
        assert_close(model(**batch).logits, expected, rtol=0, atol=0)


@pytest.mark.parametrize("kind", WITH_TEXT)
def test_padding_changes_nothing(kind):
    model, batch = tiny_baseline(kind), plain_batch()
    longer = dict(batch)
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        longer[name] = torch.nn.functional.pad(batch[name], (0, 5), value=7 if name == "input_ids" else 0)
    with torch.no_grad():
        assert_close(model(**longer).logits, model(**batch).logits, rtol=1e-5, atol=1e-6)


def test_a_bag_of_words_is_their_sum():
    model, batch = tiny_baseline("bow"), plain_batch()
    del batch["token_type_ids"], batch["pixel_values"], batch["attention_mask"]
    expected = model.classifier(model.word_vectors[batch["input_ids"]].sum(dim=1))
    assert_close(model(**batch).logits, expected)


def test_word_vectors_do_not_train_and_are_saved(tmp_path):
    model = tiny_baseline("bow")
    assert {name for name, _ in model.named_parameters()} == {"classifier.0.weight", "classifier.0.bias"}
    model.save_pretrained(tmp_path)
    assert torch.equal(load_file(tmp_path / "model.safetensors")["word_vectors"], model.word_vectors)


@pytest.mark.parametrize("kind", ["bert", "concatbert", "bow", "concatbow"])
def test_an_empty_text_has_the_feature_zero(kind):
    model, batch = tiny_baseline(kind), plain_batch()
    batch["attention_mask"][1] = 0
    features = model.get_text_features(*(batch[name] for name in ("input_ids", "attention_mask")))
    assert features[1].abs().sum() == 0 and features[0].abs().sum() > 0
    output = model.train()(**batch, labels=torch.tensor([0, 1]))
    output.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", WITH_IMAGE)
def test_pixels_of_an_absent_picture_do_not_matter(kind):
    model, batch = tiny_baseline(kind), plain_batch()
    with torch.no_grad():
        first = model(**batch, image_mask=torch.tensor([1, 0])).logits
        batch["pixel_values"][1] = float("inf")
        assert torch.equal(model(**batch, image_mask=torch.tensor([1, 0])).logits, first)


def test_modality_dropout_acts_in_training_only():
    model, batch = tiny_baseline("concatbow", modal_dropout=1.0), plain_batch()
    with torch.no_grad():
        present = model(**batch).logits
        absent = model(**batch, image_mask=torch.zeros(2)).logits
        assert_close(model.train()(**batch).logits, absent)
    assert not torch.allclose(present, absent)


@pytest.mark.parametrize("text", ["roberta", "distilbert", "modernbert", "deberta-v2", "mpnet"])
def test_text_models_without_segments_or_pooler_serve_too(text):
    model, batch = tiny_baseline("bert", text), plain_batch()
    batch["token_type_ids"][:, 3:] = 1
    output = model(**batch, labels=torch.tensor([0, 2]))
    output.loss.backward()
    assert torch.isfinite(output.logits).all()
    assert (model.pooler is None) == (text in ("roberta", "mpnet"))


def test_text_feature_is_the_text_models_own_pooled_state():
    model, batch = tiny_baseline("bert"), plain_batch()
    batch["token_type_ids"][:, 3:] = 1
    del batch["pixel_values"]
    with torch.no_grad():
        expected = model.text_model(**batch).pooler_output
        features = model.get_text_features(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
    assert torch.equal(features, expected)


def test_hidden_layers_are_linear_norm_relu_dropout():
    kinds = [type(layer).__name__ for layer in tiny_baseline("img", hidden_sizes=[8, 4]).classifier]
    one = ["Linear", "BatchNormOfAnyBatch", "ReLU", "Dropout"]
    assert kinds == [*one, *one, "Linear"]
    kinds = [type(m).__name__ for m in tiny_baseline("img", hidden_sizes=[8], batch_norm=False).classifier]
    assert kinds == ["Linear", "ReLU", "Dropout", "Linear"]


def test_a_training_batch_of_one_is_normalised_by_running_statistics():
    norm = BatchNormOfAnyBatch(4)
    norm(torch.randn(16, 4) * 3 + 1)
    one, statistics = torch.randn(1, 4), norm.running_mean.clone()
    trained = norm(one)
    assert torch.equal(norm.running_mean, statistics)
    assert torch.equal(trained, norm.eval()(one))
    model = tiny_baseline("concatbert", hidden_sizes=[8]).train()
    model(**plain_batch(batch=1, height=64, width=64), labels=torch.tensor([0])).loss.backward()


def test_zero_logits_give_log_of_the_classes():
    model, batch = tiny_baseline("bert"), plain_batch()
    torch.nn.init.zeros_(model.classifier[0].weight)
    assert model(**batch, labels=torch.tensor([0, 1])).loss.item() == pytest.approx(math.log(3))


def test_a_baseline_starts_from_pretrained_parts(tmp_path, mmbt_golden):
    AutoModel.from_config(TEXT_CONFIGS["bert"]()).save_pretrained(tmp_path / "text")
    AutoModel.from_config(IMAGE_CONFIGS["resnet"]()).save_pretrained(tmp_path / "image")
    text, image = str(tmp_path / "text"), str(tmp_path / "image")
    glove = mmbt_golden.folder / "glove.txt"
    start = MMBTBaselineForClassification.from_text_image_pretrained
    models = {
        "bert": start(text),
        "img": start(image=image),
        "concatbert": start(text, image, hidden_sizes=[4], num_labels=5),
        "bow": start(word_vectors=glove),
        "concatbow": start(image=image, word_vectors=load_word_vectors(glove)),
    }
    original_text = AutoModel.from_pretrained(text).state_dict()
    original_image = AutoModel.from_pretrained(image).state_dict()
    for kind, model in models.items():
        assert model.config.baseline == kind
        if "bert" in kind:
            assert all(torch.equal(v, original_text[k]) for k, v in model.text_model.state_dict().items())
        if kind in WITH_IMAGE:
            assert all(torch.equal(v, original_image[k]) for k, v in model.image_model.state_dict().items())
        if "bow" in kind:
            assert torch.equal(model.word_vectors, load_word_vectors(glove))
    assert models["concatbert"].config.num_labels == 5


def test_a_missing_tensor_is_refused_and_a_new_head_logged(tmp_path, caplog):
    tiny_baseline("bow").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["classifier.0.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 keys are missing .*: classifier.0.weight"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        MMBTBaselineForClassification.from_pretrained(tmp_path, allow_missing_keys=True)
    assert "initialised anew, as allowed: classifier.0.weight" in caplog.text


def test_missing_word_vectors_would_be_zero_not_garbage(tmp_path):
    tiny_baseline("bow").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["word_vectors"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 keys are missing .*: word_vectors"):
        MMBTBaselineForClassification.from_pretrained(tmp_path)
    model = MMBTBaselineForClassification.from_pretrained(tmp_path, allow_missing_keys=True)
    assert model.word_vectors.abs().sum() == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("the 0.1 0.2\ncat 0.3\n", "line 2: expected a word and 2 numbers, found 1 numbers. The file may be cut off"),
        ("the 0.1 0.2\ncat 0.3 x\n", "line 2: expected 2 numbers after the word .could not convert"),
        ("", "expected lines of a word and its numbers, found an empty file"),
        ("the\n", "line 1: expected a word and its numbers, found 0"),
    ],
)
def test_broken_glove_files_are_refused(tmp_path, content, message):
    (tmp_path / "glove.txt").write_text(content)
    with pytest.raises(ValueError, match=message):
        load_word_vectors(tmp_path / "glove.txt")


def test_rows_of_the_vectors_are_the_ids_of_the_glove_tokenizer(tmp_path):
    from hf_mmtab.models.mmbt.glove_mmbt import glove_tokenizer

    path = tmp_path / "glove.txt"
    path.write_text("the 1 2\ncat 3 4\nthe 5 6\ndog 7 8\n")
    table, tokenizer = load_word_vectors(path), glove_tokenizer(path)
    assert table.shape == (len(tokenizer), 2)
    assert table[tokenizer.convert_tokens_to_ids("dog")].tolist() == [7, 8]
    assert table[tokenizer.convert_tokens_to_ids("the")].tolist() == [5, 6]
    assert table[tokenizer.convert_tokens_to_ids("[UNK]")].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"hidden_dropout": 2}, "hidden_dropout must be a probability between 0 and 1, got 2"),
        ({"num_image_embeds": 0}, "num_image_embeds must be between 1 and 9, got 0"),
        ({"pos_weight": [1.0]}, r"pos_weight needs one value per label \(2\), got 1"),
        ({"bow_vocab_size": 5, "text_config": {"model_type": "bert"}}, "Expected text_config or bow_vocab_size"),
        ({"image_pooling": "none"}, "image_pooling"),
    ],
)
def test_values_out_of_range_are_refused(kwargs, message):
    with pytest.raises(Exception, match=message):
        MMBTBaselineConfig(**kwargs)


def test_a_baseline_without_parts_is_refused():
    with pytest.raises(ValueError, match="Expected a text or an image part in MMBTBaselineConfig, found none"):
        MMBTBaselineForClassification(MMBTBaselineConfig())


def test_a_misspelt_keyword_is_refused():
    with pytest.raises(TypeError, match=r"MMBTBaselineConfig has no field \['hidden'\]"):
        MMBTBaselineForClassification.from_text_image_pretrained("text", hidden=[4])


def test_a_part_without_input_is_refused():
    batch = plain_batch()
    with pytest.raises(ValueError, match="Expected input_ids for the baseline 'bow', found none"):
        tiny_baseline("bow")(pixel_values=batch["pixel_values"])
    with pytest.raises(ValueError, match="Expected pixel_values or image_regions for the baseline 'img'"):
        tiny_baseline("img")(input_ids=batch["input_ids"])


def test_a_baseline_without_text_encoder_has_no_embeddings_to_hand_out():
    with pytest.raises(ValueError, match="The baseline 'img' has no trained word embeddings"):
        tiny_baseline("img").get_input_embeddings()


@pytest.mark.parametrize("kind", ["bow", "concatbert"])
def test_a_bfloat16_checkpoint_comes_back_in_bfloat16(tmp_path, kind):
    model = tiny_baseline(kind, hidden_sizes=[4]).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert again.dtype == torch.bfloat16
    with torch.no_grad():
        assert torch.equal(again(**plain_batch()).logits, model(**plain_batch()).logits)


@pytest.mark.slow
def test_a_baseline_compiles_without_graph_break():
    torch._dynamo.reset()
    model, batch = tiny_baseline("concatbert", hidden_sizes=[4]), plain_batch()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert_close(compiled(**batch).logits, model(**batch).logits, rtol=1e-4, atol=1e-5)

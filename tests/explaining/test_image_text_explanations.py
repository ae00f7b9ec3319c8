"""Explanations of pictures with texts sum to the change of the score, and put words and regions together."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, ResNetConfig, ResNetModel, ViTImageProcessorPil

from hf_mmtab import MMBTForClassification, MMBTProcessor, TabBertProcessor
from hf_mmtab.commands import predict
from hf_mmtab.explaining import explain
from hf_mmtab.explaining.image_text import word_pieces
from hf_mmtab.models.mmbt import MMBTBaselineForClassification

pytest.importorskip("captum")

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "sea", "##side", "land", "a", "old"]
NAMES = {0: "calm", 1: "wild", 2: "dry"}
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))
EXAMPLE = {"image": PICTURE, "text": "a seaside old zebra"}


@pytest.fixture(scope="module")
def tokenizer():
    words = WordPiece({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]")
    made = Tokenizer(words)
    made.pre_tokenizer = WhitespaceSplit()
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **special)


@pytest.fixture(scope="module")
def parts(tmp_path_factory, tokenizer):
    """Folders of a random BERT and a random ResNet."""
    text, image = tmp_path_factory.mktemp("text"), tmp_path_factory.mktemp("image")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(VOCABULARY), **sizes)).save_pretrained(text)
    tokenizer.save_pretrained(text)
    stages = {"hidden_sizes": [8, 8, 16, 24], "depths": [1, 1, 1, 1]}
    ResNetModel(ResNetConfig(embedding_size=8, layer_type="basic", **stages)).save_pretrained(image)
    ViTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(image)
    return str(text), str(image)


def build(parts, kind="mmbt", several=False, **settings):
    text, image = parts
    torch.manual_seed(0)
    labels = {"id2label": NAMES, "label2id": {name: i for i, name in NAMES.items()}, "num_labels": 3}
    labels["problem_type"] = f"{'multi' if several else 'single'}_label_classification"
    if kind == "mmbt":
        model = MMBTForClassification.from_text_image_pretrained(text, image, **labels, **settings)
        return model.eval(), MMBTProcessor.from_text_image_pretrained(text, image)
    given = {"bert": (text, None), "img": (None, image), "concatbert": (text, image), "bow": (None, None)}[kind]
    vectors = torch.randn(len(VOCABULARY), 6) if kind == "bow" else None
    make = MMBTBaselineForClassification.from_text_image_pretrained
    model = make(given[0], given[1], vectors, **labels).eval()
    words = text if kind in ("bow", "bert", "concatbert") else None
    return model, MMBTProcessor.from_text_image_pretrained(words, given[1], leading_cls=kind != "mmbt")


def test_the_processor_of_another_family_is_refused(parts):
    model, _ = build(parts)
    for other in (None, TabBertProcessor({"fields": {"a": {}}})):
        with pytest.raises(ValueError, match="Expected the processor that the MMBTForClassification was trained with"):
            explain(model, other, EXAMPLE)


def test_a_model_without_a_head_is_refused(parts):
    model, processor = build(parts)
    with pytest.raises(ValueError, match=r"Expected a model with a head, found MMBTModel, which gives no scores\."):
        explain(model.base_model, processor, EXAMPLE)


@pytest.mark.parametrize("kind", ["mmbt", "bert", "img", "concatbert", "bow"])
def test_attributions_sum_to_the_change_of_the_score(kind, parts):
    model, processor = build(parts, kind)
    found = explain(model, processor, EXAMPLE, "wild")
    total = sum(reason.attribution for reason in found.reasons)
    assert found.error <= 0.01
    assert total == pytest.approx(found.score - found.baseline, abs=0.01 * max(abs(total), 0.1))
    names = [reason.name for reason in found.reasons]
    assert names.count("word") == (0 if kind == "img" else 4)
    assert names.count("picture") == (0 if kind in ("bert", "bow") else model.config.num_image_embeds)
    assert found.explains == "log odds of wild"


@pytest.mark.parametrize("settings", [{"num_image_embeds": 9}, {"num_image_embeds": 1}, {"image_pooling": "none"}])
def test_regions_say_where_they_lie(settings, parts):
    model, processor = build(parts, **settings)
    values = [r.value for r in explain(model, processor, EXAMPLE).reasons if r.name == "picture"]
    expected = {9: "row 1 of 3, column 1 of 3", 1: ""}.get(
        settings.get("num_image_embeds"), "row 1 of 2, column 1 of 2"
    )
    assert values[0] == expected


def test_the_score_is_that_of_the_pipeline(parts):
    for several in (False, True):
        model, processor = build(parts, several=several)
        with torch.no_grad():
            logits = model(**processor(PICTURE, EXAMPLE["text"])).logits[0]
        expected = logits[1] if several else logits[1] - torch.stack([logits[0], logits[2]]).logsumexp(0)
        assert explain(model, processor, EXAMPLE, 1).score == pytest.approx(float(expected), abs=1e-5)


def test_a_model_in_training_mode_is_explained_as_in_evaluation_and_left_as_it_was(parts):
    model, processor = build(parts)
    expected = explain(model, processor, EXAMPLE)
    model.train()
    model.model.get_submodule(model.model.freezable_modules["image_encoder"]).eval()
    modes = {name: module.training for name, module in model.named_modules()}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = explain(model, processor, EXAMPLE)
    assert (found.score, found.error) == pytest.approx((expected.score, expected.error), abs=1e-6)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert "rough" not in str(found) and "rough" in str(replace(found, error=0.3))


def test_an_absent_part_is_no_reason(parts):
    model, processor = build(parts)
    without_picture = explain(model, processor, {"image": None, "text": "a land"})
    assert {reason.name for reason in without_picture.reasons} == {"word"}
    without_words = explain(model, processor, {"image": PICTURE, "text": ""})
    assert {reason.name for reason in without_words.reasons} == {"picture"}
    assert explain(model, processor, {"image": None, "text": ""}).reasons == ()


def test_pieces_of_a_word_are_put_together_as_it_was_written(tokenizer):
    ids = tokenizer.convert_tokens_to_ids(["[CLS]", "a", "sea", "##side", "[UNK]", "[SEP]", "old", "[SEP]", "[PAD]"])
    assert word_pieces(tokenizer, ids, ["a seaside zebra", "old"]) == [
        ("a", [1]), ("seaside", [2, 3]), ("zebra", [4]), ("old", [6]),
    ]  # fmt: skip
    assert word_pieces(tokenizer, ids[1:4], ["a seaside zebra"]) == [("a", [0]), ("seaside", [1, 2])]  # cut


def test_predict_writes_the_strongest_reasons_beside_each_prediction(parts, tmp_path):
    model, processor = build(parts)
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    PICTURE.save(tmp_path / "a.png")
    rows = [{"image": "a.png", "text": "a seaside"}, {"image": "a.png", "text": "old land"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    predict.main([str(tmp_path / "model"), str(tmp_path / "in.jsonl"), str(tmp_path / "o.jsonl"), "--explain", "2"])
    written = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    for row, out in zip(rows, written, strict=True):
        example = {"image": str(tmp_path / "a.png"), "text": row["text"]}
        top = explain(model, processor, example, out["prediction"]).top(2)
        assert [out["reason_1"], out["reason_2"]][: len(top)] == [str(reason) for reason in top]
        assert out["reason_1_adds"] == pytest.approx(top[0].attribution, abs=1e-4)
        assert out["explained_label"] == out["prediction"]


def test_predict_explains_a_label_that_it_gives(parts, tmp_path):
    model, processor = build(parts, several=True)
    names, example = model.config.id2label, {"image": PICTURE, "text": "a seaside"}
    scores = [explain(model, processor, example, label).score for label in names]
    least = int(np.argmin(scores))  # the only one that is given: the likeliest is below its threshold
    model.config.thresholds = [0.0 if label == least else 1.0 for label in names]
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    PICTURE.save(tmp_path / "a.png")
    (tmp_path / "in.jsonl").write_text(json.dumps({"image": "a.png", "text": "a seaside"}) + "\n")
    predict.main([str(tmp_path / "model"), str(tmp_path / "in.jsonl"), str(tmp_path / "o.jsonl"), "--explain", "1"])
    out = json.loads((tmp_path / "o.jsonl").read_text())
    assert out["prediction"] == [names[least]] and out["explained_label"] == names[least]
    assert out["explained_score"] == pytest.approx(scores[least], abs=1e-4)

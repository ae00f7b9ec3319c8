"""What a user of transformers does out of habit: keywords, tuples, outputs, groups of processor settings."""

import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image
from transformers import BertConfig, BertTokenizer, ResNetConfig, ViTImageProcessor

from hf_mmtab import (
    MMBTBaselineConfig,
    MMBTBaselineForClassification,
    MMBTCollator,
    MMBTConfig,
    MMBTForClassification,
    MMBTProcessor,
)
from hf_mmtab.models.mmbt import MMBTModel
from hf_mmtab.models.mmbt.given_rows import columns_of_table

TEXT = BertConfig(
    vocab_size=30,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=40,
).to_dict()
IMAGE = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic").to_dict()


def models():
    torch.manual_seed(0)
    both = MMBTConfig(text_config=TEXT, image_config=IMAGE, cls_token_id=2, sep_token_id=3)
    return {
        "encoder": MMBTModel(both).eval(),
        "mmbt": MMBTForClassification(both).eval(),
        "bert": MMBTBaselineForClassification(MMBTBaselineConfig(text_config=TEXT)).eval(),
        "concatbert": MMBTBaselineForClassification(MMBTBaselineConfig(text_config=TEXT, image_config=IMAGE)).eval(),
        "img": MMBTBaselineForClassification(MMBTBaselineConfig(image_config=IMAGE)).eval(),
    }


@pytest.mark.parametrize("name", ["encoder", "mmbt", "bert", "concatbert", "img"])
def test_switches_of_call_and_config_agree(name):
    model = models()[name]
    batch = {"input_ids": torch.randint(5, 30, (2, 6)), "pixel_values": torch.randn(2, 3, 64, 64)}
    plain = model(**batch)
    with_cache = model(**batch, use_cache=False)
    torch.testing.assert_close(with_cache.to_tuple(), plain.to_tuple())
    layers = 0 if name == "img" else 3
    for asked in (model(**batch, output_hidden_states=True), _with(model, "output_hidden_states")(**batch)):
        assert len(asked.hidden_states or ()) == layers
    model.set_attn_implementation("eager")
    for asked in (model(**batch, output_attentions=True), _with(model, "output_attentions")(**batch)):
        assert len(asked.attentions or ()) == max(0, layers - 1)
    for answer in (model(**batch, return_dict=False), _with(model, "return_dict", False)(**batch)):
        assert isinstance(answer, tuple)
        torch.testing.assert_close(answer[0], plain[0], atol=1e-5, rtol=1e-4)


def _with(model, setting, value=True):
    def call(**batch):
        before = getattr(model.config, setting)
        setattr(model.config, setting, value)
        try:
            return model(**batch)
        finally:
            setattr(model.config, setting, before)

    return call


def test_processor_takes_settings_in_groups(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"]))
    processor = MMBTProcessor(
        ViTImageProcessor(size={"height": 8, "width": 8}), BertTokenizer(str(tmp_path / "vocab.txt")), max_length=4
    )
    picture, text = Image.new("RGB", (8, 8), (200, 10, 10)), "a b c a b c"
    flat = processor(picture, text, max_length=6)
    grouped = processor(picture, text, text_kwargs={"max_length": 6})
    assert grouped["input_ids"].tolist() == flat["input_ids"].tolist() and flat["input_ids"].shape == (1, 5)
    assert processor(picture, text, truncation=False)["input_ids"].shape == (1, 6)
    assert processor(picture, text, padding="max_length", truncation=False, max_length=9)["input_ids"].shape == (1, 9)
    raw = processor(picture, text, images_kwargs={"do_normalize": False, "do_rescale": False})["pixel_values"]
    assert raw.max() == 200 and processor(picture, text)["pixel_values"].max() < 2
    with pytest.raises(TypeError, match="found \\['stride'\\]"):
        processor(picture, text, text_kwargs={"stride": 2})


@pytest.fixture
def reader(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"]))
    return MMBTProcessor(None, BertTokenizer(str(tmp_path / "vocab.txt")), max_length=4)


def test_frames_are_batches_of_rows_too(reader):
    columns = {"text": ["a b", "c"]}
    expected = reader(columns)["input_ids"]
    for rows in (pl.DataFrame(columns), pl.LazyFrame(columns), pd.DataFrame(columns)):
        assert reader(rows)["input_ids"] == expected


def test_missing_cells_of_a_frame_are_none():
    columns = {"image": ["a.png", None], "text": [None, "b"], "price": [1.5, None], "images": [["a.png"], ["b", None]]}
    for rows in (pl.DataFrame(columns), pd.DataFrame(columns)):
        assert columns_of_table(rows) == columns


def test_a_batch_of_nothing_is_told(reader):
    with pytest.raises(ValueError, match="Expected at least one row to collate"):
        MMBTCollator(reader)([])


@pytest.mark.parametrize(("labels", "kind"), [([1, 0], "single_label"), ([[1.0, 0.0], [1.0, 1.0]], "multi_label")])
def test_the_kind_of_labels_that_a_model_learned_from_is_saved_with_it(labels, kind, tmp_path):
    model = models()["bert"]
    model(input_ids=torch.tensor([[2, 5, 3], [2, 6, 3]]), labels=torch.tensor(labels))
    model.save_pretrained(tmp_path)
    assert MMBTBaselineConfig.from_pretrained(tmp_path).problem_type == f"{kind}_classification"


def test_truncation_may_be_called_as_transformers_calls_it(reader):
    texts = ["a b c a b c", "a"]
    cut, named = (reader(text=texts, truncation=way)["input_ids"] for way in (True, "longest_first"))
    assert torch.equal(cut, named)
    with pytest.raises(ValueError, match="Expected truncation to be true or false, found 'only_second'"):
        reader(text=texts, truncation="only_second")

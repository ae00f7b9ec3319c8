"""MMBTProcessor: texts, pairs, pictures, missing ones, presets, other tokenizers, saving."""

import pickle
import re
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import ByteLevel, WhitespaceSplit
from transformers import (
    AutoProcessor,
    AutoTokenizer,
    BertTokenizer,
    ConvNextImageProcessor,
    ConvNextImageProcessorPil,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    ViTImageProcessor,
)

from hf_mmtab.models.mmbt import MMBTCollator, MMBTConfig, MMBTProcessor, register
from hf_mmtab.models.mmbt.glove_mmbt import glove_tokenizer, read_glove_words
from hf_mmtab.models.mmbt.image_processing_mmbt import LEGACY_MEAN, LEGACY_STD, MMBTImageProcessor

register()
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "cat", "dog", "sits"]
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


def bert_tokenizer() -> BertTokenizer:
    return BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)})


def vit_processor() -> ViTImageProcessor:
    return ViTImageProcessor(size={"height": 32, "width": 32})


def processor_of(**options) -> MMBTProcessor:
    return MMBTProcessor(vit_processor(), bert_tokenizer(), **options)


def test_one_picture_and_one_text():
    batch = processor_of()(images=PICTURE, text="a red cat")
    assert batch["input_ids"].tolist() == [[5, 6, 7]]
    assert batch["token_type_ids"].tolist() == [[1, 1, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1]]
    assert batch["pixel_values"].shape == (1, 3, 32, 32) and batch["pixel_values"].dtype == torch.float32
    assert batch["image_mask"].tolist() == [1]


def test_a_batch_is_padded_to_its_longest_text():
    batch = processor_of()(images=[PICTURE, None], text=["a red cat sits", "dog"])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 9], [8, 0, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]
    padded = processor_of(max_length=6)(images=[PICTURE], text=["dog"], padding="max_length")
    assert padded["input_ids"].shape == (1, 6)
    lists = processor_of()(text=["a red", "dog"], return_tensors=None, padding=False)
    assert lists["input_ids"] == [[5, 6], [8]]


def test_pairs_have_segments_one_and_two():
    batch = processor_of()(text="a cat", text_pair="dog")
    assert batch["input_ids"].tolist() == [[5, 7, 3, 8, 3]]
    assert batch["token_type_ids"].tolist() == [[1, 1, 1, 2, 2]]
    plain = processor_of(leading_cls=True, segment_offset=0)(text="a cat", text_pair="dog")
    assert plain["input_ids"].tolist() == [[2, 5, 7, 3, 8, 3]]
    assert plain["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1]]


def test_a_single_text_keeps_its_first_pieces():
    assert processor_of(max_length=4)(text="a red cat sits")["input_ids"].tolist() == [[5, 6, 7]]
    assert processor_of()(text="a red cat sits", max_length=4)["input_ids"].tolist() == [[5, 6, 7]]


def test_a_pair_loses_pieces_from_the_longer_side():
    batch = processor_of(max_length=7)(text="a red cat sits", text_pair="dog a red")
    assert batch["input_ids"].tolist() == [[5, 6, 3, 8, 5, 3]]  # 4 + 3 pieces -> 2 + 2 (the second when equal)


def test_a_missing_picture_is_masked_zeros_or_the_grey_picture():
    zeros = processor_of()(images=[None, PICTURE], text=["a", "dog"])
    assert zeros["image_mask"].tolist() == [0, 1] and zeros["pixel_values"][0].abs().max() == 0
    grey = processor_of(missing_image="grey")(images=None, text="a")
    assert grey["image_mask"].tolist() == [1]
    assert torch.allclose(grey["pixel_values"], torch.tensor(128 / 255 * 2 - 1))


def test_an_empty_text_leaves_one_masked_token():
    batch = processor_of()(images=[PICTURE], text=[""])
    assert batch["input_ids"].tolist() == [[0]] and batch["attention_mask"].tolist() == [[0]]


def test_rows_are_encoded_without_padding_and_without_what_is_skipped():
    processor = processor_of()
    row = {"image": PICTURE, "text": "a cat", "label": 3, "id": 7}
    assert processor.encode_row(row)["labels"] == 3
    assert set(processor.encode_row(row)) == {
        "input_ids", "attention_mask", "token_type_ids", "pixel_values", "image_mask", "labels"
    }  # fmt: skip
    unreadable = {"image": "/no/such.png", "sentence1": "a cat", "sentence2": "dog", "labels": [0, 2]}
    encoded = processor.encode_row(unreadable, frozenset({"pixel_values"}))
    assert encoded["input_ids"] == [5, 7, 3, 8, 3] and encoded["image_mask"] == 1
    assert "pixel_values" not in encoded and encoded["labels"] == [0, 2]
    assert set(processor.encode_row(row, frozenset({"input_ids", "labels"}))) == {"pixel_values", "image_mask"}


def test_datasets_are_encoded_by_map_and_with_transform():
    pictures = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")] + [None]
    table = {"image": pictures, "text": ["a b", "c", ""], "label": [0, 1, 0], "id": ["x", "y", "z"]}
    features = {"image": datasets.Image(), "text": datasets.Value("string"), "label": datasets.Value("int64")}
    rows = datasets.Dataset.from_dict(table, datasets.Features(**features, id=datasets.Value("string")))
    processor = processor_of()
    collator = MMBTCollator(processor)
    expected = collator([processor.encode_row(row) for row in rows])
    mapped = rows.map(processor, batched=True, remove_columns=rows.column_names)
    one_by_one = rows.map(processor, remove_columns=rows.column_names)
    for given in (rows.with_transform(processor), mapped, one_by_one, mapped.with_format("torch")):
        batch = collator([given[i] for i in range(3)])
        assert batch.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(batch[name], value, rtol=0, atol=0, msg=name)
    with pytest.raises(ValueError, match="Expected encoded rows with input_ids or pixel_values, found image, text"):
        collator(list(rows))
    with pytest.raises(ValueError, match=r"Expected columns of rows .* found label\. .* remove_unused_columns=False"):
        processor({"label": [0, 1]})


def test_a_row_without_text_is_an_error():
    with pytest.raises(ValueError, match=r"Expected a column text, or sentence1 and sentence2, found .*'title'\]"):
        processor_of().encode_row({"image": None, "title": "a"})


def test_the_processor_can_be_sent_to_workers():
    processor = processor_of(missing_image="grey")
    before = processor(images=[None], text="a")
    again = pickle.loads(pickle.dumps(processor))
    assert torch.equal(again(images=[None], text="a")["pixel_values"], before["pixel_values"])
    assert again.fingerprint == processor.fingerprint


def test_text_only_and_image_only_processors_give_their_half():
    text_only = MMBTProcessor(None, bert_tokenizer())
    assert set(text_only(text="a cat")) == set(text_only.model_input_names) == {
        "input_ids", "attention_mask", "token_type_ids"
    }  # fmt: skip
    image_only = MMBTProcessor(vit_processor())
    assert set(image_only(images=[PICTURE])) == set(image_only.model_input_names) == {"pixel_values", "image_mask"}
    assert set(image_only.encode_row({"image": None, "text": "a", "label": 0})) == {
        "pixel_values", "image_mask", "labels"
    }  # fmt: skip


@pytest.mark.parametrize(
    "image_processor",
    [None, MMBTImageProcessor(), ConvNextImageProcessor(), ConvNextImageProcessorPil()],
    ids=["none", "legacy", "torchvision", "pil"],
)
@pytest.mark.parametrize("with_text", [True, False])
def test_saved_and_reloaded_gives_bit_equal_inputs(tmp_path, image_processor, with_text):
    if image_processor is None and not with_text:
        return
    tokenizer = bert_tokenizer() if with_text else None
    options = {"max_length": 9, "leading_cls": True, "segment_offset": 0, "missing_image": "grey"}
    processor = MMBTProcessor(image_processor, tokenizer, transparency="drop", upright=False, **options)
    processor.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert type(again) is MMBTProcessor and type(again.image_processor) is type(image_processor)
    assert again.fingerprint == processor.fingerprint and again.to_dict() == processor.to_dict()
    inputs = {"images": [PICTURE, None]} if image_processor else {}
    inputs |= {"text": ["a cat", "dog"], "text_pair": ["dog", "a red red red red"]} if with_text else {}
    first, second = processor(**inputs), again(**inputs)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_fingerprint_follows_settings_and_vocabulary_but_not_calls():
    processor = processor_of()
    before = processor.fingerprint
    processor(text=["a", "red cat"])
    processor(images=[None], text="a")
    assert processor.fingerprint == before == processor_of().fingerprint
    others = [
        processor_of(max_length=9),
        MMBTProcessor(ViTImageProcessor(size={"height": 16, "width": 16}), bert_tokenizer()),
        MMBTProcessor(vit_processor(), BertTokenizer(vocab={w: i for i, w in enumerate([*WORDS, "x"])})),
    ]
    assert len({before, *(other.fingerprint for other in others)}) == 4


def test_presets(tmp_path):
    vit_processor().save_pretrained(tmp_path)
    bert_tokenizer().save_pretrained(tmp_path)
    source = str(tmp_path)
    own = MMBTProcessor.from_text_image_pretrained(source, source)
    assert own.image_processor.size["height"] == 32 and own.missing_image == "mask" and own.max_length == 512
    legacy = MMBTProcessor.from_text_image_pretrained(source, source, preset="legacy", max_length=64)
    assert list(legacy.image_processor.image_mean) == LEGACY_MEAN
    assert list(legacy.image_processor.image_std) == LEGACY_STD
    assert (legacy.missing_image, legacy.transparency, legacy.upright) == ("grey", "drop", False)
    imagenet = MMBTProcessor.from_text_image_pretrained(None, "torchvision:resnet152")
    assert list(imagenet.image_processor.image_mean) == [0.485, 0.456, 0.406] and imagenet.tokenizer is None
    with pytest.raises(ValueError, match=r"preset to be one of \['backbone', 'legacy'\], found 'mine'"):
        MMBTProcessor.from_text_image_pretrained(source, source, preset="mine")


def test_the_legacy_crop_is_where_torchvision_puts_it():
    from torchvision import transforms

    for size in [(300, 201), (223, 517), (259, 259), (640, 363)]:
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        wanted = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.PILToTensor()])
        ours = MMBTImageProcessor(do_normalize=False, do_rescale=False)(image, return_tensors="pt")["pixel_values"]
        assert torch.equal(ours[0].to(torch.uint8), wanted(image))


def word_tokenizer(*specials: str, **roles: str) -> PreTrainedTokenizerFast:
    words = [*specials, "a", "cat", "dog"]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token=specials[0]))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)


def test_tokenizers_with_bos_and_eos_serve():
    tokenizer = word_tokenizer(
        "<unk>", "<s>", "</s>", "<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    plain = MMBTProcessor(None, tokenizer, leading_cls=True, segment_offset=0)
    batch = plain(text=["a", "a cat"], text_pair=["dog", "dog"])
    assert batch["input_ids"].tolist() == [[1, 4, 2, 6, 2, 3], [1, 4, 5, 2, 6, 2]]  # pad 3, bos 1, eos 2
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 0], [1] * 6]


def test_byte_level_tokenizers_as_roberta_and_modernbert_have_serve(tmp_path):
    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4}
    vocabulary |= {letter: 5 + i for i, letter in enumerate(["a", "c", "t", "Ġ", "at", "cat"])}
    roberta = RobertaTokenizer(vocab=vocabulary, merges=[("a", "t"), ("c", "at")])
    assert MMBTProcessor(None, roberta)(text="cat a")["input_ids"].tolist() == [[10, 8, 5]]
    modern = Tokenizer(BPE({**vocabulary, "[CLS]": 11, "[SEP]": 12, "[PAD]": 13}, [("a", "t"), ("c", "at")]))
    modern.pre_tokenizer = ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(
        tokenizer_object=modern, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", padding_side="left"
    ).save_pretrained(tmp_path)
    batch = MMBTProcessor(None, AutoTokenizer.from_pretrained(tmp_path))(text=["cat", "a"], text_pair=["a", "a"])
    assert batch["input_ids"].tolist() == [[10, 12, 5, 12], [5, 12, 5, 12]]


def test_a_tokenizer_without_what_is_needed_is_refused():
    bare = word_tokenizer("<unk>", unk_token="<unk>")
    with pytest.raises(ValueError, match=r"Expected a tokenizer with a padding token, found none in .* Set one first"):
        MMBTProcessor(None, bare)
    padded = word_tokenizer("<unk>", unk_token="<unk>", pad_token="<unk>")
    with pytest.raises(ValueError, match="Expected the tokenizer to have a sep_token or eos_token, found neither"):
        MMBTProcessor(None, padded)(text="a", text_pair="dog")


def test_glove_words_are_a_whitespace_vocabulary(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("the 0.1 0.2\nécole 1 2\nthe 3 4\n", encoding="utf-8")
    assert read_glove_words(path) == ["the", "école"]
    processor = MMBTProcessor.from_text_image_pretrained(str(path), None, leading_cls=True, segment_offset=0)
    assert processor(text="the  école, école\nThe")["input_ids"].tolist() == [[2, 5, 1, 6, 1]]
    processor.save_pretrained(tmp_path / "saved")
    again = AutoProcessor.from_pretrained(tmp_path / "saved")
    assert again(text="the école")["input_ids"].tolist() == [[2, 5, 6]]
    assert len(glove_tokenizer(["a", "b", "a"])) == 7
    path.write_text("the 0.1\nalone\n")
    with pytest.raises(ValueError, match=r"a word and its vector, .* found 'alone\\n' in line 2 of .*glove.txt"):
        read_glove_words(path)


def test_a_text_of_100k_characters_takes_no_time():
    processor = processor_of()
    for text in ["cat " * 25_000, "x" * 100_000, "\u4e00" * 100_000]:
        start = time.process_time()
        assert processor(text=text)["input_ids"].shape[1] <= 511
        assert processor(text=text, text_pair=text)["input_ids"].shape[1] <= 511
        assert time.process_time() - start < 20  # of the processor, whatever else it does; quadratic takes minutes


def test_one_pixel_and_very_wide_pictures_give_the_usual_shape():
    processor = MMBTProcessor(MMBTImageProcessor())
    for size in [(1, 1), (20_000, 1), (1, 20_000), (20_000, 30)]:
        pixels = processor(images=[Image.new("RGB", size, (9, 9, 9))])["pixel_values"]
        assert pixels.shape == (1, 3, 224, 224) and pixels.isfinite().all()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "Expected as many pictures as texts, found neither."),
        ({"images": [None], "text": ["a", "b"]}, "Expected as many pictures as texts, found {'images': 1, 'text': 2}."),
        ({"images": [None]}, "Expected `text`, found None."),
        ({"text": ["a", 5]}, "Expected text to be a str, found 5 (int)."),
        ({"text": 5}, "Expected text to be a str or a list of str, found int."),
        ({"text": "a", "images": "/no/such.png"}, "Expected a picture file, found nothing at '/no/such.png'."),
    ],
)
def test_wrong_inputs_are_named(inputs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        processor_of()(**inputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 3}, "Expected max_length of at least 4 (a pair needs 3 special tokens), found 3."),
        ({"missing_image": "black"}, "Expected missing_image to be one of ['mask', 'grey'], found 'black'."),
        ({"transparency": "black"}, "Expected transparency to be one of ['white', 'drop'], found 'black'."),
    ],
)
def test_wrong_settings_are_named(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        processor_of(**options)
    with pytest.raises(ValueError, match="Expected an image processor, a tokenizer or both, found neither"):
        MMBTProcessor()


def test_the_processor_is_found_by_the_config_class(tmp_path: Path):
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    assert PROCESSOR_MAPPING[MMBTConfig] is MMBTProcessor

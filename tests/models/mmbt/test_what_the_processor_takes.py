"""What `MMBTProcessor` takes in place of lists, and what it refuses in a sentence."""

import re

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import BertTokenizer, PreTrainedTokenizerFast, ViTImageProcessor

from hf_mmtab.models.mmbt import MMBTProcessor
from hf_mmtab.models.mmbt.beside_columns import fit_columns

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "cat"]
PICTURE = Image.fromarray(np.full((20, 30, 3), 90, dtype=np.uint8))


def tokenizer() -> BertTokenizer:
    return BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)})


def pictures() -> ViTImageProcessor:
    return ViTImageProcessor(size={"height": 16, "width": 16})


def processor(**options) -> MMBTProcessor:
    return MMBTProcessor(pictures(), tokenizer(), **options)


@pytest.mark.parametrize("kind", [np.array, pd.Series, pl.Series, pa.array, tuple], ids=lambda kind: kind.__name__)
def test_texts_come_in_any_kind_of_list(kind):
    expected = processor()(images=[PICTURE, None], text=["a red cat", "a"])
    found = processor()(images=[PICTURE, None], text=kind(["a red cat", "a"]))
    assert found["input_ids"].equal(expected["input_ids"])


@pytest.mark.parametrize("kind", ["mapping", "rows", "dataset", "arrow", "polars"])
def test_rows_come_in_any_kind_of_table(kind, tmp_path):
    PICTURE.save(tmp_path / "a.png")
    columns = {"image": [str(tmp_path / "a.png"), None], "text": ["a red cat", "a"], "label": [1, 0]}
    table = {
        "mapping": lambda: columns,
        "rows": lambda: [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)],
        "dataset": lambda: datasets.Dataset.from_dict(columns),
        "arrow": lambda: pa.table(columns),
        "polars": lambda: pl.DataFrame(columns),
    }[kind]()
    found = processor()(table)
    assert (found["input_ids"], found["labels"]) == ([[5, 6, 7], [5]], [1, 0])
    assert found["image_mask"] == [1, 0]


@pytest.mark.parametrize("picture", [PICTURE, None])
def test_one_row_is_known_whatever_stands_in_it(picture):
    assert processor()({"image": picture, "text": "a"})["input_ids"] == [5]
    with pytest.raises(ValueError, match="Expected text to be a str, found None"):
        processor()({"image": picture, "text": None})
    assert processor()({"image": None, "text": ["a", "a red"]})["image_mask"] == [0, 0]
    assert MMBTProcessor(pictures())({"image": picture})["pixel_values"].shape == (3, 16, 16)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"images": [], "text": []}, "Expected at least one example, found empty lists (images, text)."),
        ({"images": {"image": [PICTURE], "text": ["a", "a"]}}, "Expected columns of one length, found {'image': 1,"),
        (
            {"images": {"image": [PICTURE] * 2, "text": ["a", "a"], "label": [None, 1]}},
            "Expected a label in every row or in none, found none in 1 of 2 rows (the first is row 0).",
        ),
        (
            {"images": {"image": [PICTURE] * 2, "text": ["a", "a"], "label": [1, None]}},
            "Expected a label in every row or in none, found none in 1 of 2 rows (the first is row 1).",
        ),
        (
            {"images": np.zeros((0, 20, 3), np.uint8), "text": "a"},
            "Expected an array of pixels, found one of shape (0,",
        ),
        ({"images": [PICTURE] * 2, "text": ["a", "a red"], "padding": False}, "found 1 to 2 pieces with padding=False"),
        ({"images": PICTURE, "text": "a", "columns": {"price": 1}}, "fitted with (none), found price."),
        ({"images": PICTURE, "text": b"a"}, "Expected text to be a str or a list of str, found bytes."),
        (
            {"text": "a", "max_length": -1},
            "Expected max_length of at least 4 (a pair needs 3 special tokens), found -1.",
        ),
        ({"text": "a", "max_length": 0}, "Expected max_length of at least 4 (a pair needs 3 special tokens), found 0."),
        (
            {"text": "a", "max_length": "7"},
            "Expected max_length of at least 4 (a pair needs 3 special tokens), found '7'",
        ),
        ({"text": "a", "text_kwargs": {"max_length": 4.5}}, "(a pair needs 3 special tokens), found 4.5."),
        ({"text": "a", "padding": "bogus"}, "Expected padding to be one of ['longest', 'max_length'], found 'bogus'."),
        ({"text": "a", "padding": None}, "Expected padding to be one of ['longest', 'max_length'], found None."),
        ({"text": "a", "truncation": "only_second"}, "Expected truncation to be true or false, found 'only_second'."),
        ({"images": PICTURE, "text": np.array([5])}, "Expected text to be a str, found 5 (int)."),
    ],
)
def test_inputs_that_make_no_batch_are_told(inputs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        processor()(**inputs)


def test_columns_that_were_not_fitted_are_told():
    columns = fit_columns(datasets.Dataset.from_dict({"price": [1.0, 2.0]}), ["price"], [])
    reader = processor(columns=columns)
    assert "column_numbers" in reader(images=PICTURE, text="a", columns={"price": 1.5})
    with pytest.raises(ValueError, match=r"fitted with \(price\), found prise\."):
        reader(images=PICTURE, text="a", columns={"price": 1.5, "prise": 1})


@pytest.mark.parametrize("row", [None, 5, "a", [PICTURE, "a"]])
def test_a_row_is_a_mapping(row):
    with pytest.raises(ValueError, match="Expected a row, a mapping with image and text, found"):
        processor().encode_row(row)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": "9"}, "Expected max_length of at least 4 (a pair needs 3 special tokens), found '9'."),
        ({"max_length": 5.5}, "Expected max_length of at least 4 (a pair needs 3 special tokens), found 5.5."),
        ({"max_images": "2"}, "Expected max_images of at least 1, found '2'."),
        ({"max_images": 1.5}, "Expected max_images of at least 1, found 1.5."),
        ({"max_images": True}, "Expected max_images of at least 1, found True."),
        ({"segment_offset": "1"}, "Expected segment_offset of at least 0, found '1'."),
        ({"leading_cls": "no"}, "Expected leading_cls to be true or false, found 'no'."),
        ({"upright": 1}, "Expected upright to be true or false, found 1."),
        ({"missing_image": ["mask"]}, "Expected missing_image to be one of ['mask', 'grey'], found ['mask']."),
        ({"columns": 5}, "Expected columns as fit_columns learns them"),
        ({"columns": ["price"]}, "Expected columns as fit_columns learns them"),
        ({"columns": {"price": {}}}, "Expected columns as fit_columns learns them"),
        ({"columns": {"price": {"quantiles": []}}}, "Expected columns as fit_columns learns them"),
    ],
)
def test_settings_of_another_type_are_told(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        processor(**options)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (lambda: (tokenizer(), pictures()), "Expected an image processor first, found BertTokenizer."),
        (lambda: (tokenizer(), None), "Expected an image processor first, found BertTokenizer."),
        (lambda: ("vit", tokenizer()), "Expected an image processor first, found str."),
        (lambda: (None, pictures()), "Expected a tokenizer of transformers, found ViTImageProcessor."),
        (lambda: (pictures(), "bert"), "Expected a tokenizer of transformers, found str."),
        (
            lambda: (None, PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0}, "a")))),
            "Expected a tokenizer with a padding token, found none",
        ),
    ],
)
def test_a_part_in_the_place_of_the_other_is_told(parts, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        MMBTProcessor(*parts())


@pytest.mark.parametrize("wrong", ["both", "text", "image"])
def test_folders_of_text_and_image_swapped_are_told(wrong, tmp_path):
    text, image = str(tmp_path / "text"), str(tmp_path / "image")
    tokenizer().save_pretrained(text)
    pictures().save_pretrained(image)
    given = {"both": (image, text), "text": (image, image), "image": (text, text)}[wrong]
    wanted, held = ("image processor", "tokenizer") if wrong == "image" else ("tokenizer", "image processor")
    with pytest.raises(ValueError, match=f"Expected {wanted} files in .*, found {held} files alone"):
        MMBTProcessor.from_text_image_pretrained(*given)
    with pytest.raises((OSError, ValueError), match="nowhere"):
        MMBTProcessor.from_text_image_pretrained(str(tmp_path / "nowhere"), image)


BESIDE = {"price": [1.0, 4.0], "age": [40.0, 10.0], "brand": ["a", "c"], "size": ["x", None]}
SWAPPED = {name: BESIDE[name] for name in reversed(BESIDE)}


def rows_of_columns(columns: dict) -> list[dict]:
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


@pytest.mark.parametrize(
    "table", [dict, pd.DataFrame, pl.DataFrame, pa.table, datasets.Dataset.from_dict, rows_of_columns]
)
def test_columns_beside_come_from_any_table_by_their_names(table):
    columns = fit_columns(datasets.Dataset.from_dict(BESIDE), ["price", "age"], ["brand", "size"])
    inputs = {"images": [None, None], "text": ["a", "a"]}
    expected = processor(columns=columns)(**inputs, columns=BESIDE)
    assert expected["column_categories"].tolist() == [[2, 2], [3, 0]]
    found = processor(columns=columns)(**inputs, columns=table(SWAPPED))
    assert found["column_categories"].equal(expected["column_categories"])
    assert found["column_numbers"].equal(expected["column_numbers"])


@pytest.mark.parametrize("kind", [np.array, pd.Series, pl.Series, pa.array, list, lambda values: values[0]])
def test_columns_beside_one_example_are_read_from_any_list(kind):
    columns = fit_columns(datasets.Dataset.from_dict(BESIDE), ["price"], ["brand"])
    given = {"brand": kind(["c"]), "price": kind([4.0])}
    assert processor(columns=columns)(images=None, text="a", columns=given)["column_categories"].tolist() == [[3]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([["a"], [1.0]], "Expected columns with their names (name → values, or a table), found list. Name them."),
        (pd.DataFrame([["a", "b"]], columns=["brand"] * 2), "columns with a name of their own, found 'brand' more"),
        ({"brand": ["a", "b"]}, "Expected 1 values in columns, as many as texts, found others in ['brand']."),
        ({"brand": [np.array(["a"])]}, "Expected single values in a column of categories, found array(['a']"),
        ({"brand": b"a"}, "Expected single values in a column of categories, found b'a'."),
    ],
)
def test_columns_without_names_or_of_other_lengths_are_refused(columns, message):
    learned = fit_columns(datasets.Dataset.from_dict(BESIDE), [], ["brand"])
    with pytest.raises(ValueError, match=re.escape(message)):
        processor(columns=learned)(images=None, text="a", columns=columns)

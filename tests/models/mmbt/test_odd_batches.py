"""Labels, rows and settings that are none, in the collator; keywords and pictures of all kinds, in the processor."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tiny_backbones import IMAGE_CONFIGS, TEXT_CONFIGS
from torch.testing import assert_close
from transformers import AutoModel, BertTokenizer, ViTImageProcessor, pipeline

from hf_mmtab.models.mmbt import (
    MMBTBaselineForClassification,
    MMBTCollator,
    MMBTForClassification,
    MMBTModel,
    MMBTProcessor,
)

WORDS = ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "[PAD]"]
NONE = float("nan")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> tuple[Path, Path]:
    """Folders of a text and an image model with what they are read with."""
    text, image = (tmp_path_factory.mktemp(name) for name in ("text", "image"))
    AutoModel.from_config(TEXT_CONFIGS["bert"]()).save_pretrained(text)
    BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)}).save_pretrained(text)
    AutoModel.from_config(IMAGE_CONFIGS["resnet"]()).save_pretrained(image)
    ViTImageProcessor(size={"height": 8, "width": 8}).save_pretrained(image)
    return text, image


@pytest.fixture(scope="module")
def processor(checkpoints) -> MMBTProcessor:
    return MMBTProcessor.from_text_image_pretrained(*checkpoints)


def row(label) -> dict:
    return {"input_ids": [4] * 3, "attention_mask": [1] * 3, "token_type_ids": [1] * 3, "labels": label}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, None], r"a label in every row or in none, found none in row 2 of the batch \(1 of 2\)"),
        ([None, [1]], r"found none in row 1 of the batch \(1 of 2\)"),
        ([1, NONE, NONE], r"found none in row 2 of the batch \(2 of 3\)"),
        (["a", 1], r"the number of a class from 0 to 2, found 'a' \(str\) in row 1"),
        (["1", 1], r"found '1' \(str\) in row 1"),
        ([1, 1.5], r"found 1\.5 \(float\) in row 2"),
        ([1, 3], r"a class from 0 to 2, found 3 \(int\) in row 2"),
        ([-1, 1], r"found -1 \(int\) in row 1"),
        ([{"a": 1}, 1], r"found \{'a': 1\} \(dict\) in row 1"),
        ([1, [0, 1]], r"one label in every row, .* found a list of labels, \[0, 1\], in row 2"),
        ([[0, 1], 1], r"a list of labels in every row, .* found one label, 1, in row 2"),
        ([[0], [3]], r"found 3 \(int\) in row 2"),
        ([[-1]], r"found -1 \(int\) in row 1"),  # was the last label
        ([[-100]], r"found -100 \(int\) in row 1"),
        ([["a"]], r"found 'a' \(str\) in row 1"),
        ([[[1]]], r"found \[1\] \(list\) in row 1"),
        ([[None]], r"found None \(NoneType\) in row 1"),
        ([[0, 1, 0]], r"each id of a label once, found \[0, 1, 0\] in row 1"),
        ([[0.0, 1.0]], r"3 values of 0\.0 and 1\.0, or the ids .* found \[0\.0, 1\.0\] in row 1"),
        ([[0.0, 0.5, 1.0]], r"3 values of 0\.0 and 1\.0"),
    ],
)
def test_a_label_that_is_none_is_named_with_its_row(processor, labels, message):
    with pytest.raises(ValueError, match=message):
        MMBTCollator(processor, num_labels=3)([row(one) for one in labels])


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([np.int64(1), torch.tensor(2)], [1, 2]),
        ([True, 0.0], [1, 0]),
        ([-100, 1], [-100, 1]),  # a row that no loss counts
        ([np.array([0, 2]), torch.tensor([1])], [[1, 0, 1], [0, 1, 0]]),
        ([{2}, ()], [[0, 0, 1], [0, 0, 0]]),
        ([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]], [[0, 1, 0], [1, 1, 0]]),  # were the labels 0 and 1
    ],
)
def test_labels_of_every_library_are_gathered(processor, labels, found):
    assert MMBTCollator(processor, num_labels=3)([row(one) for one in labels])["labels"].tolist() == found


def test_rows_without_labels_have_none_and_rows_must_have_the_same_inputs(processor):
    collate = MMBTCollator(processor)
    assert "labels" not in collate([row(None), row(None)])
    with pytest.raises(ValueError, match=r"Expected input_ids in every row .* found none in row 2 \(1 of 2\)"):
        collate([row(1), {"labels": 1}])
    with pytest.raises(ValueError, match=r"Expected pixel_values in every row .* found none in row 1 \(1 of 2\)"):
        collate([row(1), {**row(1), "pixel_values": torch.zeros(3, 8, 8)}])
    for rows, found in ((row(1), "one row"), ([[1], [2]], "a list of list")):
        with pytest.raises(ValueError, match=f"Expected a list of encoded rows, found {found}"):
            collate(rows)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_labels": "3"}, "num_labels of at least 1, found '3'"),
        ({"pad_to_multiple_of": 1.5}, "pad_to_multiple_of of at least 1, found 1.5"),
        ({"pad_to_multiple_of": -8}, "pad_to_multiple_of of at least 1, found -8"),
        ({"min_crop": "x"}, "min_crop above 0 and at most 1, found 'x'"),
        ({"processor": None}, "Expected an MMBTProcessor, found NoneType"),
    ],
)
def test_settings_of_the_collator_are_checked(processor, settings, message):
    with pytest.raises(ValueError, match=message):
        MMBTCollator(**{"processor": processor, **settings})


@pytest.mark.parametrize("name", ["max_lenght", "leading_clss", "missing_imag", "nonsense"])
def test_a_keyword_that_nothing_of_a_processor_reads_is_refused(checkpoints, name):
    with pytest.raises(TypeError, match=f"found '{name}', which none of them reads"):
        MMBTProcessor.from_text_image_pretrained(*checkpoints, **{name: 1})


def test_settings_of_a_processor_its_tokenizer_and_its_image_processor_are_read(checkpoints):
    given = {"missing_image": "grey", "max_images": 2, "transparency": "drop", "size": {"height": 6, "width": 6}}
    found = MMBTProcessor.from_text_image_pretrained(*checkpoints, **given, revision="main", padding_side="left")
    assert (found.missing_image, found.max_images, found.transparency, found.upright) == ("grey", 2, "drop", True)
    assert found.image_processor.size["height"] == 6 and found.tokenizer.padding_side == "left"
    legacy = MMBTProcessor.from_text_image_pretrained(*checkpoints, preset="legacy", upright=True)
    assert (legacy.missing_image, legacy.upright) == ("grey", True)


@pytest.mark.parametrize("kind", [MMBTForClassification, MMBTBaselineForClassification, MMBTModel])
def test_keywords_and_names_of_models_are_checked(checkpoints, kind):
    text, image = checkpoints
    with pytest.raises(TypeError, match=r"no field \['num_image_embed'\]\. .* Did you mean num_image_embeds\?"):
        kind.from_text_image_pretrained(text, image, num_image_embed=1)
    with pytest.raises(ValueError, match=r"folder or Hub name of the text model, found 3 \(int\)"):
        kind.from_text_image_pretrained(3, image)
    if kind is not MMBTBaselineForClassification:
        with pytest.raises(ValueError, match=r"name of the image model, found None .*MMBTBaselineForClassification"):
            kind.from_text_image_pretrained(text, None)
    assert kind.from_text_image_pretrained(text, image).config.image_config is not None  # paths are names too


def picture(level) -> Image.Image:
    return Image.fromarray(np.full((8, 8, 3), level, np.uint8))


def objects(*values) -> np.ndarray:
    found = np.empty(len(values), object)
    found[:] = values
    return found


def test_pictures_of_every_container_are_the_same(processor):
    expected = processor(images=[picture(10), picture(200)], text=["a", "a a"])
    stacked = np.stack([np.asarray(picture(level)) for level in (10, 200)])
    for images in (
        objects(picture(10), picture(200)),
        stacked,
        torch.from_numpy(stacked).permute(0, 3, 1, 2),
        pd.Series([picture(10), picture(200)], index=[7, 3]),
        (picture(10), picture(200)),
    ):
        found = processor(images=images, text=np.array(["a", "a a"]))
        for name, value in expected.items():
            assert_close(found[name], value)
        rows = processor({"image": images, "text": pd.Series(["a", "a a"]), "label": np.array([0, 1])})
        assert_close(torch.stack(rows["pixel_values"]), expected["pixel_values"])
        assert rows["labels"] == [0, 1]
    one = processor(images=stacked[0], text="a")
    assert_close(one["pixel_values"][0], expected["pixel_values"][0])


def test_several_pictures_of_a_row_may_be_arrays(checkpoints):
    several = MMBTProcessor.from_text_image_pretrained(*checkpoints, max_images=2)
    expected = several.encode_row({"images": [picture(10), picture(200)], "text": "a"})
    for images in (objects(picture(10), picture(200)), np.stack([np.asarray(picture(one)) for one in (10, 200)])):
        found = several.encode_row({"images": images, "text": "a"})
        assert_close(found["pixel_values"], expected["pixel_values"])
        assert found["image_mask"] == [1, 1]


def test_a_picture_beside_pictures_is_refused_everywhere(processor, checkpoints):
    told = re.escape("Expected the picture of a row under `image`, or its pictures under `images`, found both.")
    one = {"image": picture(10), "images": [None], "text": "a"}
    model = MMBTForClassification.from_text_image_pretrained(*checkpoints, num_labels=2)
    classify = pipeline("image-text-classification", model=model, processor=processor)
    for call in (processor, processor.encode_row, classify):
        with pytest.raises(ValueError, match=told):
            call(one)
    with pytest.raises(ValueError, match=told):
        processor({name: [value] for name, value in one.items()})

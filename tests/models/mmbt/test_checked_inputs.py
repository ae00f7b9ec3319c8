"""What MMBT's models and configurations refuse: shapes that do not fit, values outside of their choices."""

import re

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny_backbones import plain_batch, tiny_baseline, tiny_batch, tiny_config, tiny_mmbt

from hf_mmtab.models.mmbt import MMBTEnsembleForClassification, MMBTForClassification

SHAPES = [
    ({"pixel_values": torch.zeros(1, 3, 32, 32)}, "pixel_values of 4 or 5 axes and 2 rows"),
    ({"pixel_values": torch.zeros(3, 32, 32)}, "pixel_values of 4 or 5 axes and 2 rows"),
    ({"image_mask": torch.ones(1)}, "image_mask of 1 or 2 axes and 2 rows"),
    ({"image_mask": torch.ones(3)}, "image_mask of 1 or 2 axes and 2 rows"),
    ({"attention_mask": torch.ones(1, 7)}, "attention_mask of 2 axes, 2 rows of 7 words"),
    ({"attention_mask": torch.ones(2, 1)}, "attention_mask of 2 axes, 2 rows of 7 words"),
    ({"token_type_ids": torch.ones(2, 5).long()}, "token_type_ids of 2 axes, 2 rows of 7 words"),
    ({"input_ids": torch.ones(7).long()}, "input_ids of shape (batch, seq), found (7,)"),
    ({"image_regions": torch.zeros(1, 3, 24), "pixel_values": None}, "image_regions of 3 axes and 2 rows"),
]


@pytest.mark.parametrize("kind", ["mmbt", "bert", "img", "concatbow", "concatbert", "ensemble"])
@pytest.mark.parametrize(("changed", "message"), SHAPES)
def test_inputs_of_other_shapes_are_refused_before_torch_repeats_them(kind, changed, message):
    reads = {"bert": "words", "img": "pictures"}.get(kind, "both")
    of_words = bool({"input_ids", "attention_mask", "token_type_ids"} & set(changed))
    if reads == ("pictures" if of_words else "words"):
        pytest.skip("inputs of a part that a baseline has not are not looked at")
    if kind == "mmbt":
        model, batch = tiny_mmbt(), tiny_batch()
    else:
        model, batch = tiny_baseline("concatbert" if kind == "ensemble" else kind), plain_batch()
    if kind == "ensemble":
        model = MMBTEnsembleForClassification.from_members({"a": model}, {"a": 1.0})
    batch["image_mask"] = torch.ones(2)
    assert model(**batch).logits.shape == (2, 3)
    # Without words the first input that is given says how many rows there are.
    message = message if reads != "pictures" else r"of .* axes and \d rows, as the other inputs have"
    with pytest.raises(ValueError, match=message if reads == "pictures" else re.escape(f"Expected {message}")):
        model(**{**batch, **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"position_ids": torch.zeros(1, 7).long()}, "Expected position_ids of 2 axes, 2 rows of 7 words"),
        ({"token_type_ids": torch.full((2, 7), 2)}, "Expected token_type_ids from 0 to 1, found 2 to 2."),
        ({"token_type_ids": torch.full((2, 7), -1)}, "Expected token_type_ids from 0 to 1, found -1 to -1."),
        ({"column_numbers": torch.zeros(2, 1, 2)}, "Expected column_numbers of 0 and column_categories of 0 columns"),
        ({"labels": [0, 1]}, "Expected labels as a tensor, found list."),
        ({"labels": torch.tensor([0.0, 1.0])}, "Expected whole numbers as labels"),
    ],
)
def test_what_mmbt_cannot_read_is_told_and_leaves_the_configuration_as_it_was(changed, message):
    model, batch = tiny_mmbt(), tiny_batch()
    with pytest.raises(ValueError, match=re.escape(message)):
        model(**{**batch, **changed})
    assert model.config.problem_type is None
    assert model(**batch, labels=torch.tensor([0, 1], dtype=torch.int32)).loss.isfinite()


@pytest.mark.parametrize("text", ["distilbert", "bert"])
def test_the_second_text_of_a_pair_needs_a_third_segment(text):
    batch = tiny_batch()
    batch["token_type_ids"][:, 4:] = 2
    config = tiny_config(text, num_segments=3)
    assert MMBTForClassification(config).eval()(**batch).logits.isfinite().all()
    with pytest.raises(ValueError, match="A pair of texts needs a model with num_segments=3"):
        tiny_mmbt(text)(**batch)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_labels": 0}, "Expected num_labels of at least 1"),
        ({"num_labels": -1}, "Expected num_labels of at least 1"),
        ({"num_labels": True}, "Expected num_labels of at least 1"),
        ({"problem_type": "ordinal"}, 'problem_type "ordinal" has no loss here'),
        ({"problem_type": "regression"}, 'problem_type "regression" has no loss here'),
        ({"id2label": {0: "a", 1: "a"}, "num_labels": 2}, "id2label needs a name of its own for each label, got 'a'"),
        ({"id2label": {1: "a", 2: "b"}, "num_labels": 2}, "id2label needs the numbers 0 to one less"),
        (
            {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 1, "b": 0}, "num_labels": 2},
            "label2id needs the labels of id2label",
        ),
        ({"number_columns": ["a", "a"]}, "must name a column once, got 'a' again"),
        ({"number_columns": ["a"], "category_columns": {"a": 3}}, "must name a column once, got 'a' again"),
        ({"cls_token_id": 99}, "Expected cls_token_id and sep_token_id among the 99 words"),
        ({"sep_token_id": -1}, "Expected cls_token_id and sep_token_id among the 99 words"),
    ],
)
def test_a_configuration_that_names_no_model_is_refused(values, message):
    with pytest.raises((ValueError, StrictDataclassError), match=re.escape(message)):
        MMBTForClassification(tiny_config(**values))


def test_labels_named_by_label2id_alone_keep_their_names():
    config = tiny_config(label2id={"calm": 0, "wild": 1}, num_labels=2)
    assert config.id2label == {0: "calm", 1: "wild"}


def test_a_start_of_the_segment_table_that_there_is_not_is_refused(tmp_path):
    model = tiny_mmbt()
    model.model.text_model.save_pretrained(tmp_path / "text")
    model.model.image_model.save_pretrained(tmp_path / "image")
    folders = str(tmp_path / "text"), str(tmp_path / "image")
    for start in ("second", None):
        with pytest.raises(ValueError, match=r"Expected segment_start to be one of \['pretrained', 'first'\]"):
            MMBTForClassification.from_text_image_pretrained(*folders, segment_start=start)

"""An ensemble of MMBT and baselines: the weighted mean of their probabilities, saved as one model."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from tiny_backbones import plain_batch, tiny_baseline, tiny_mmbt
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging

from hf_mmtab.models.mmbt import MMBTEnsembleConfig, MMBTEnsembleForClassification

WEIGHTS = {"mmbt": 0.5, "concatbert": 0.3, "bert": 0.2}


def members(**kwargs):
    """The three start from one seed, so that mmbt and concatbert differ in their image models unless they are set."""
    found = {"mmbt": tiny_mmbt(**kwargs), "concatbert": tiny_baseline("concatbert", **kwargs)}
    found["bert"] = tiny_baseline("bert", **kwargs)
    found["concatbert"].image_model.load_state_dict(found["mmbt"].model.image_model.state_dict())
    return found


def mean_of(found, batch, several=False):
    words = {**batch, **{name: batch[name][:, 1:] for name in ("input_ids", "attention_mask")}}
    words["token_type_ids"] = batch["token_type_ids"][:, 1:] + 1
    with torch.no_grad():
        logits = {name: one(**(words if name == "mmbt" else batch)).logits for name, one in found.items()}
    return sum(WEIGHTS[name] * (one.sigmoid() if several else one.softmax(-1)) for name, one in logits.items())


@pytest.mark.parametrize("several", [False, True])
def test_its_probabilities_are_the_weighted_mean_of_its_members(several):
    kind = "multi_label_classification" if several else "single_label_classification"
    found = members(problem_type=kind)
    batch = plain_batch()
    batch["attention_mask"][1, 3:] = 0
    expected = mean_of(found, batch, several)
    logits = MMBTEnsembleForClassification.from_members(found, WEIGHTS)(**batch).logits
    torch.testing.assert_close(logits.sigmoid() if several else logits.softmax(-1), expected)


def test_one_image_model_is_kept_and_runs_once_and_other_ones_stay_with_their_members():
    found = members()
    batch = plain_batch()
    expected = mean_of(found, batch)
    shared = MMBTEnsembleForClassification.from_members(found, WEIGHTS)
    keys = [key for key in shared.state_dict() if "image_model" in key]
    assert keys and all(key.startswith("image_model.") for key in keys)
    regions = shared.get_image_features(batch["pixel_values"])
    served = {name: value for name, value in batch.items() if name != "pixel_values"}
    torch.testing.assert_close(shared(**served, image_regions=regions).logits.softmax(-1), expected)

    with torch.no_grad():
        next(found["concatbert"].image_model.parameters()).add_(0.1)
    apart = MMBTEnsembleForClassification.from_members(found, WEIGHTS)
    assert apart.config.image_config is None and apart.cacheable_features == {} == apart.freezable_modules
    torch.testing.assert_close(apart(**batch).logits.softmax(-1), mean_of(found, batch))


def test_it_is_saved_and_loaded_whole_without_its_members_folders(tmp_path):
    model = MMBTEnsembleForClassification.from_members(members(), WEIGHTS)
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(again) is MMBTEnsembleForClassification and again.config.weights == WEIGHTS
    assert again.config.baseline == "ensemble" and again.config.num_segments == 2
    torch.testing.assert_close(again(**plain_batch()).logits, model(**plain_batch()).logits)


def test_texts_and_pictures_may_be_absent():
    found = members()
    model = MMBTEnsembleForClassification.from_members(found, WEIGHTS)
    batch = {**plain_batch(seq=1), "image_mask": torch.tensor([1, 0])}
    with torch.no_grad():
        own = found["mmbt"](**{**batch, "attention_mask": torch.zeros(2, 1).long()}).logits.softmax(-1)
        others = {name: found[name](**batch).logits.softmax(-1) for name in ("concatbert", "bert")}
    expected = 0.5 * own + sum(WEIGHTS[name] * one for name, one in others.items())
    torch.testing.assert_close(model(**batch).logits.softmax(-1), expected)


def test_a_text_without_its_opening_is_refused_where_the_id_is_known(tmp_path, caplog):
    found = {"mmbt": tiny_mmbt(), "bert": tiny_baseline("bert")}
    halves = dict.fromkeys(found, 0.5)
    batch = plain_batch()
    opened = {**batch, "input_ids": batch["input_ids"].clone()}
    opened["input_ids"][:, 0] = 1
    MMBTEnsembleForClassification.from_members(found, halves, cls_token_id=1).save_pretrained(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert model.config.cls_token_id == 1
    expected = model(**opened).logits
    wrong = {**opened, "input_ids": opened["input_ids"].clone()}
    wrong["input_ids"][1, 0] = 7
    with pytest.raises(ValueError, match=r"with \[CLS\] \(id 1\), found 7 at the start of row 2: .* MMBTProcessor"):
        model(**wrong)
    wrong["attention_mask"] = torch.tensor([[1] * 7, [0] * 7])  # an empty text loses nothing
    torch.testing.assert_close(model(**wrong).logits[0], expected[0])
    logging.get_logger("transformers").warning_once.__func__.cache_clear()
    unknown = MMBTEnsembleForClassification.from_members(found, halves)
    with caplog.at_level("WARNING", "hf_mmtab"):
        unknown(**opened)
        assert "begin with" not in caplog.text
        unknown(**batch)
        assert "begin with [CLS] (id 1)" in caplog.text
    baselines = MMBTEnsembleForClassification.from_members({"bert": found["bert"]}, {"bert": 1.0}, cls_token_id=1)
    baselines(**batch)  # nothing is cut off
    with pytest.raises(ValueError, match="Expected input_ids, which members of the ensemble read, found none"):
        model(pixel_values=batch["pixel_values"])


@pytest.mark.parametrize(
    ("members", "weights", "message"),
    [
        (dict, {}, "at least one member, found none"),
        (lambda: [tiny_mmbt()], [1.0], r"members by name, .* found list"),
        (lambda: {"mmbt": tiny_mmbt()}, None, r"weights by name, .* found NoneType"),
        (lambda: {"mmbt": tiny_mmbt()}, {}, r"a weight for each member \(mmbt\), found none"),
        (lambda: {"mmbt": tiny_mmbt()}, {"mmbt": 0.5, "x": 0.5}, r"a weight for each member \(mmbt\), found mmbt, x"),
        (lambda: {"mmbt": tiny_mmbt()}, {"mmbt": "x"}, "a number as weight of 'mmbt', found 'x'"),
        (lambda: {"mmbt": None}, {"mmbt": 1.0}, "as member 'mmbt', found NoneType"),
        (lambda: {"mmbt": tiny_mmbt().model}, {"mmbt": 1.0}, "as member 'mmbt', found MMBTModel"),
        (lambda: {"a.b": tiny_mmbt()}, {"a.b": 1.0}, "names of members without dots, .* found 'a.b'"),
        (lambda: {"": tiny_mmbt()}, {"": 1.0}, "names of members .* found ''"),
        (lambda: {1: tiny_mmbt()}, {1: 1.0}, "names of members .* found 1"),
        (lambda: {"keys": tiny_mmbt()}, {"keys": 1.0}, "names of members .* found 'keys'"),
        (lambda: {"training": tiny_mmbt()}, {"training": 1.0}, "names of members .* found 'training'"),
    ],
)
def test_what_is_no_member_name_or_weight_is_told(members, weights, message):
    with pytest.raises(ValueError, match=message):
        MMBTEnsembleForClassification.from_members(members(), weights)
    with pytest.raises(ValueError, match="Expected members in MMBTEnsembleConfig, found none"):
        MMBTEnsembleForClassification(MMBTEnsembleConfig())


def test_members_must_know_the_same_labels_and_have_a_weight_each():
    others = {"mmbt": tiny_mmbt(), "bert": tiny_baseline("bert", num_labels=2)}
    with pytest.raises(ValueError, match="Expected members with the same labels, found bert with None of"):
        MMBTEnsembleForClassification.from_members(others, {"mmbt": 0.5, "bert": 0.5})
    with pytest.raises(
        StrictDataclassClassValidationError, match=r"Expected a weight for each member \(mmbt\), found bert"
    ):
        MMBTEnsembleConfig(members={"mmbt": tiny_mmbt().config.to_dict()}, weights={"bert": 1.0})
    with pytest.raises(
        StrictDataclassClassValidationError, match=r"Expected weights above 0 that sum to 1, found \{'mmbt': 0.5\}"
    ):
        MMBTEnsembleConfig(members={"mmbt": tiny_mmbt().config.to_dict()}, weights={"mmbt": 0.5})

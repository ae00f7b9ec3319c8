"""An ensemble of MMBT and baselines: the weighted mean of their probabilities, saved as one model."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from tiny_backbones import plain_batch, tiny_baseline, tiny_mmbt
from transformers import AutoModelForSequenceClassification

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

"""Boosted trees as a model of transformers."""

import pytest
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification

from hf_mmtab.models.tabbert.modeling_tabbert_boosted import TabBertBoostedForSequenceClassification


@pytest.fixture
def saved(small_config, tmp_path) -> str:
    TabBertBoostedForSequenceClassification(small_config()).save_pretrained(tmp_path)
    return str(tmp_path)


def test_trees_are_loaded_without_a_word(saved, capfd):
    model = AutoModelForSequenceClassification.from_pretrained(saved)
    assert isinstance(model, TabBertBoostedForSequenceClassification)
    told = capfd.readouterr()
    assert "missing" not in told.out + told.err and "newly initialized" not in told.out + told.err


@pytest.mark.parametrize(("kind", "name"), [(AutoModel, "TabBertModel"), (AutoModelForMaskedLM, "TabBertForMaskedLM")])
def test_trees_have_no_encoder_to_load(saved, kind, name, capfd):
    message = f"Expected weights of {name} in .*, found none: it holds a TabBertBoostedForSequenceClassification"
    with pytest.raises(ValueError, match=message):
        kind.from_pretrained(saved)
    assert "newly initialized" not in capfd.readouterr().err

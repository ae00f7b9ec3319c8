"""Boosted trees as a model of transformers."""

import json

import lightgbm
import numpy as np
import pytest
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification

from hf_mmtab.models.tabbert.checked_trees import fusion_problem
from hf_mmtab.models.tabbert.modeling_tabbert_boosted import (
    CANDIDATES,
    TabBertBoostedForSequenceClassification,
    TabBertFusionForSequenceClassification,
)


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


@pytest.fixture(scope="module")
def booster():
    """Trees that read three numbers."""
    rows = np.random.default_rng(0).normal(size=(60, 3))
    settings = {"objective": "binary", "verbosity": -1, "min_data_in_leaf": 5}
    return lightgbm.train(settings, lightgbm.Dataset(rows, rows[:, 0] > 0), 2)


@pytest.fixture
def fused(small_config, booster, tmp_path):
    """The folder of a fusion by the stack."""
    model = TabBertFusionForSequenceClassification(small_config(statistics=["a", "b", "c"]))
    model.config.fusion = {"chosen": "stack", "weights": {"stack": [0.5, 0.5, 0.0], "rank_average": [0.5, 0.5, 0.0]}}
    model.set_trees("statistics", [booster, booster])
    model.save_pretrained(tmp_path)
    return tmp_path


def changed(folder, **values):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key, value in values.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) and value else value
    path.write_text(json.dumps(config))


# what a stranger changes in config.json → what the message says
UNFIT = [
    ({"trees": {"statistics": 1}}, r"trees to count the files of trees_sha256 .*found {'statistics': 1}\. Copy config"),
    ({"trees": {"statistics": 10**9}}, "found {'statistics': 1000000000}"),
    ({"trees": {"statistics": -1}}, "found statistics: -1"),
    ({"trees": {"other": 2}}, "trees to count files of statistics and fused, found other: 2"),
    ({"trees": None}, "trees to count the files of trees_sha256"),
    ({"trees": {"statistics": 1}, "trees_sha256": {}}, "found {'statistics': 1}"),
    ({"trees": None, "trees_sha256": None}, "trees 'statistics' beside fusion.chosen 'stack', found None"),
    ({"fusion": None}, "fusion to say how both halves are joined, found None beside trees"),
    ({"fusion": {}}, "found {} beside trees"),
    ({"fusion": {"chosen": "nonsense"}}, "fusion.chosen among boosted, sequence, .* found 'nonsense'"),
    ({"fusion": {"chosen": None}}, "found None"),
    ({"fusion": {"chosen": ["stack"]}}, "fusion.chosen among"),
    ({"fusion": {"chosen": "average"}}, "fusion.chosen among"),  # which is one of numbers
    ({"fusion": {"chosen": "trees"}}, "trees 'fused' beside fusion.chosen 'trees'"),
    ({"fusion": {"chosen": "rank_average"}}, "65 rising quantiles of each half in fusion.quantiles, found None"),
    ({"fusion": {"chosen": "rank_average", "quantiles": [[0.0], [1.0]]}}, "65 rising quantiles of each half"),
    ({"fusion": {"chosen": "rank_average", "quantiles": [[*range(65)], [*range(65, 0, -1)]]}}, "65 rising quantiles"),
    ({"fusion": {"weights": {"stack": [0.5, 0.5]}}}, r"a bias in fusion.weights.stack, found \[0.5, 0.5\]"),
    ({"fusion": {"weights": {"stack": [0.5, 0.5, float("nan")]}}}, "two weights and a bias"),
    ({"fusion": {"weights": {"stack": "half"}}}, "found 'half'"),
    ({"fusion": {"weights": [0.5, 0.5, 0.0]}}, "two weights and a bias"),
    ({"fusion": {"weights": None}}, "found None"),
    ({"statistics": ["a", "b"]}, r"statistics that trees 'statistics' read \(3 numbers\), found 2"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "message"), UNFIT)
def test_a_config_that_does_not_fit_its_trees_is_refused_at_load(fused, values, message):
    assert AutoModelForSequenceClassification.from_pretrained(fused).config.trees == {"statistics": 2}
    changed(fused, **values)
    with pytest.raises(ValueError, match=f"Expected in config.json of .* {message}"):
        AutoModelForSequenceClassification.from_pretrained(fused)


def test_quantiles_of_both_halves_are_taken(fused):
    config = AutoModelForSequenceClassification.from_pretrained(fused).config
    config.fusion = {**config.fusion, "chosen": "rank_average", "quantiles": [[0.0] * 65] * 2}
    assert fusion_problem(config, CANDIDATES) is None


def test_trees_of_more_outputs_than_labels_are_refused(fused, booster):
    rows = np.random.default_rng(0).normal(size=(60, 3))
    settings = {"objective": "multiclass", "num_class": 3, "verbosity": -1, "min_data_in_leaf": 5}
    three = lightgbm.train(settings, lightgbm.Dataset(rows, np.arange(60) % 3), 2)
    model = AutoModelForSequenceClassification.from_pretrained(fused)
    model.set_trees("statistics", [three])
    model.save_pretrained(fused)
    with pytest.raises(ValueError, match=r"trees 'statistics' that fit 2 labels, found files of \[3\] outputs"):
        AutoModelForSequenceClassification.from_pretrained(fused)


@pytest.mark.parametrize("hashed", [True, False])
def test_an_absent_file_of_trees_is_named_with_a_remedy(fused, hashed):
    if not hashed:
        changed(fused, trees_sha256=None)
    (fused / "statistics_trees_1.txt").unlink()
    with pytest.raises(OSError, match=r"Expected boosted trees statistics_trees_1.txt in .* none. Copy the model"):
        AutoModelForSequenceClassification.from_pretrained(fused)

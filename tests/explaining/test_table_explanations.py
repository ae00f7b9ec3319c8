"""Explanations of tables sum to the change of the score, name what was read, and tell a planted cause."""

import numpy as np
import pytest
import torch

from hf_mmtab import TabBertConfig, TabBertProcessor
from hf_mmtab.explaining import explain
from hf_mmtab.explaining.explanation import COMPLETE
from hf_mmtab.explaining.gradients import integrated_gradients
from hf_mmtab.explaining.tables import explain_window
from hf_mmtab.explaining.trees import tree_reasons
from hf_mmtab.models.tabbert import (
    TabBertBoostedForSequenceClassification,
    TabBertFusionForSequenceClassification,
    TabBertLstmForSequenceClassification,
    TabBertMlpForSequenceClassification,
    TabBertPooledForSequenceClassification,
    TabBertRawLstmForSequenceClassification,
)

pytest.importorskip("captum")

SMALL = {"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 32}
SMALL |= {"field_hidden_size": 16, "field_num_heads": 2}
NEXT = {"next_row": True}
HEADS = {
    "lstm": (TabBertLstmForSequenceClassification, {"lstm_bidirectional": True, "lstm_num_layers": 2}),
    "surprise": (TabBertLstmForSequenceClassification, NEXT | {"row_inputs": "surprise"}),
    "both": (TabBertLstmForSequenceClassification, NEXT | {"row_inputs": "both", "label_level": "row"}),
    "flat": (TabBertLstmForSequenceClassification, {"flatten": True, "field_hidden_size": 24}),
    "members": (TabBertLstmForSequenceClassification, {"lstm_members": 2}),
    "three classes": (TabBertPooledForSequenceClassification, {"num_labels": 3}),
    "regression": (TabBertMlpForSequenceClassification, {"problem_type": "regression", "num_labels": 2}),
    "mean": (TabBertPooledForSequenceClassification, {"pooling": "mean"}),
    "raw_lstm": (TabBertRawLstmForSequenceClassification, {}),
}


@pytest.fixture(scope="module")
def table() -> dict:
    rng = np.random.default_rng(0)
    return {
        "who": [1] * 60,
        "amount": rng.normal(size=60).round(3).tolist(),
        "shop": [f"shop {n}" for n in rng.integers(0, 30, 60)],
    }


def build(table, make, **settings):
    plan = {"entity": "who", "fields": {"amount": {"kind": "numeric", "num_bins": 8}, "shop": {}}}
    processor = TabBertProcessor(plan).fit(table)
    torch.manual_seed(0)
    model = make(TabBertConfig(**processor.config_kwargs(), **SMALL | settings)).eval()
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.3)  # so that cells matter
    if hasattr(getattr(model, "model", None), "surprise"):
        model.model.surprise.learn_rarity(torch.arange(model.config.vocab_size))
    return model, processor


def first(table, rows):
    return {name: values[:rows] for name, values in table.items()}


@pytest.mark.parametrize("kind", HEADS)
def test_attributions_sum_to_the_change_of_the_score(kind, table):
    make, settings = HEADS[kind]
    model, processor = build(table, make, seq_len=6, **settings)
    found = explain(model, processor, first(table, 9))
    assert found.error <= 0.01
    total = sum(reason.attribution for reason in found.reasons)
    assert total == pytest.approx(found.score - found.baseline, abs=0.01 * max(abs(total), 0.1))
    assert abs(total) > 1e-3
    assert {reason.row for reason in found.reasons} == set(range(-5, 1))
    assert sum(found.of_rows().values()) == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize("embedding", ["linear", "periodic"])
def test_reasons_of_a_head_on_statistics_sum_to_its_score_however_it_embeds_them(embedding, table):
    model, processor = build(
        table, TabBertLstmForSequenceClassification, row_inputs=["states", "statistics"],
        statistics=["rows before", "shop: new"], statistics_embedding=embedding,
    )  # fmt: skip
    values = torch.randn(300, 2, generator=torch.Generator().manual_seed(1))
    model.numbers.learn_quantiles(values)
    inputs = dict(processor(first(table, 5), return_tensors="pt"))
    inputs["statistics"] = values[None, :5].clone()
    inputs["statistics"][0, 1, 0] = torch.nan
    found = explain_window(model, processor, inputs, label=1)
    logits = model(**inputs).logits[0].detach()
    assert found.score == pytest.approx(float(logits[1] - logits[0]), abs=1e-5)
    assert {"rows before", "shop: new"} <= {one.name for one in found.reasons}
    assert found.error <= 0.01


def test_the_score_is_the_log_odds_that_the_model_gives_this_row(table):
    model, processor = build(table, TabBertLstmForSequenceClassification, seq_len=6)
    history = first(table, 6)
    with torch.no_grad():
        logits = model(**processor(history, return_tensors="pt")).logits[0]
    for label in (0, 1, "LABEL_1"):
        expected = float(logits[0] - logits[1]) if label == 0 else float(logits[1] - logits[0])
        assert explain(model, processor, history, label).score == pytest.approx(expected, abs=1e-5)
    assert explain(model, processor, history).score >= 0  # of the predicted label


def test_reasons_show_cells_as_they_were_read_and_where_their_rows_lie(table):
    model, processor = build(table, TabBertPooledForSequenceClassification, seq_len=4)
    found = explain(model, processor, first(table, 4), 1)
    told = {(reason.row, reason.name): reason.value for reason in found.reasons}
    assert told[0, "amount"] == f"{table['amount'][3]:.6g}"
    assert told[-2, "shop"] == table["shop"][1]
    assert str(found).startswith("log odds of LABEL_1: ")
    strongest = found.top(3)
    assert [one.attribution for one in strongest] == sorted((one.attribution for one in strongest), reverse=True)
    assert min(one.attribution for one in strongest) > 0
    assert any("earlier" in str(reason) for reason in found.reasons)


def test_without_a_row_is_the_score_of_the_history_that_lacks_it(table):
    model, processor = build(table, TabBertLstmForSequenceClassification, seq_len=8)
    history = first(table, 5)
    found = explain(model, processor, history, 1)
    assert found.without_row.keys() == {-4, -3, -2, -1}
    for row, change in found.without_row.items():
        fewer = {name: [v for i, v in enumerate(values) if i != 4 + row] for name, values in history.items()}
        expected = explain(model, processor, fewer, 1).score - found.score
        assert change == pytest.approx(expected, abs=1e-4)


def test_a_planted_cause_is_the_strongest_reason(table):
    model, processor = build(
        table, TabBertPooledForSequenceClassification, seq_len=4, flatten=True, num_hidden_layers=0
    )
    with torch.no_grad():  # class 1 reads one direction, into which only shop 7 points
        model.classifier.weight.zero_()
        model.classifier.weight[1, 0] = 1.0
        place = processor.encode({"who": [1], "amount": [0.0], "shop": [table["shop"][0]]})["shop"][0].as_py()
        vectors = model.model.embeddings.word_embeddings.weight
        vectors.mul_(0.01)
        vectors[place, 0] = 50.0
    history = first(table, 1)
    strongest = explain(model, processor, history, 1).top(1)[0]
    assert (strongest.name, strongest.value, strongest.row) == ("shop", table["shop"][0], 0)


def test_another_label_than_the_models_is_refused(table):
    model, processor = build(table, TabBertLstmForSequenceClassification)
    with pytest.raises(ValueError, match=r"Expected a label of the model \(LABEL_0, LABEL_1\), found 'fraud'"):
        explain(model, processor, first(table, 3), "fraud")


def trees(numbers, labels, **settings):
    lightgbm = pytest.importorskip("lightgbm")
    options = {"verbose": -1, "min_data_in_leaf": 5, "num_threads": 1, "deterministic": True} | settings
    return lightgbm.train(options, lightgbm.Dataset(numbers, labels), num_boost_round=12)


@pytest.mark.parametrize(("classes", "label"), [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)])
def test_reasons_of_trees_sum_to_their_score(classes, label, table):
    rng = np.random.default_rng(1)
    numbers = rng.normal(size=(300, 4)).astype(np.float32)
    labels = (numbers[:, 2] > 0).astype(int) + (numbers[:, 0] > 1) * (classes - 2)
    objective = {"objective": "binary"} if classes == 2 else {"objective": "multiclass", "num_class": 3}
    names = ["rows before", "amount: mean", "shop: new", "gap"]
    model, _ = build(table, TabBertBoostedForSequenceClassification, statistics=names, num_labels=classes)
    model.set_trees("statistics", [trees(numbers, labels, **objective)])
    with torch.no_grad():
        model.bias.copy_(torch.arange(classes) * 0.3)
    row = torch.from_numpy(numbers[7])
    found, start = tree_reasons(model, "statistics", row, names, 5, label)
    scores = model.score(torch.zeros(1, 1, 0), torch.ones(1, 1), row[None, None])[0]
    expected = scores[label] - scores[1 - label] if classes == 2 else scores[label]
    assert start + sum(found.values()) == pytest.approx(float(expected), abs=1e-4)
    if label < 2:
        assert max(found, key=lambda key: abs(found[key])) == (5, "shop: new")


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("chosen", ["boosted", "sequence", "rank_average", "stack", "trees"])
def test_reasons_of_a_fusion_sum_to_its_score_whatever_it_chose(chosen, label, table):
    rng = np.random.default_rng(1)
    names = ["rows before", "shop: new"]
    numbers = rng.normal(size=(300, 2)).astype(np.float32)
    labels = (numbers[:, 1] > 0).astype(int)
    model, processor = build(
        table, TabBertFusionForSequenceClassification, statistics=names, row_inputs="surprise", next_row=True
    )
    scale = torch.linspace(-3, 3, 65).tolist()
    model.config.fusion = {
        "chosen": chosen, "quantiles": [scale, scale],
        "weights": {"rank_average": [0.5, 0.7, -0.2], "stack": [0.4, 1.1, 0.3]},
    }  # fmt: skip
    width = sum(model.config.encoded_widths.values())
    fused = np.concatenate([numbers, rng.normal(size=(300, 1 + width)).astype(np.float32)], axis=1)
    model.set_trees("statistics", [trees(numbers, labels, objective="binary")])
    model.set_trees("fused", [trees(fused, labels, objective="binary")])
    inputs = dict(processor(first(table, 5), return_tensors="pt"))
    inputs["times"] = torch.arange(5)[None] * 3_600_000_000
    inputs["statistics"] = torch.from_numpy(numbers[None, :5])
    found = explain_window(model, processor, inputs, label=label)
    logits = model(**inputs).logits[0]
    assert found.score == pytest.approx(float(logits[label] - logits[1 - label]), abs=1e-5)
    assert found.baseline + sum(one.attribution for one in found.reasons) == pytest.approx(
        found.score, abs=0.01 * max(abs(found.score - found.baseline), 0.1)
    )
    assert found.error <= 0.01


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("chosen", ["boosted", "sequence", "average"])
def test_reasons_of_a_fusion_of_numbers_sum_to_its_value(chosen, label, table):
    rng = np.random.default_rng(1)
    names = ["rows before", "shop: new"]
    numbers = rng.normal(size=(300, 2)).astype(np.float32)
    numbers_of = {"problem_type": "regression", "target_mean": [3.0, -50.0], "target_std": [2.0, 10.0]}
    model, processor = build(
        table, TabBertFusionForSequenceClassification, statistics=names, row_inputs="states", **numbers_of
    )
    model.config.fusion = {"chosen": chosen, "weights": {"average": [0.5, 0.5, 0.0]}}
    values = [numbers[:, 1] * 2 + 3, numbers[:, 0] * 9 - 50]
    model.set_trees("statistics", [trees(numbers, one, objective="regression") for one in values])
    inputs = dict(processor(first(table, 5), return_tensors="pt"))
    inputs["times"] = torch.arange(5)[None] * 3_600_000_000
    inputs["statistics"] = torch.from_numpy(numbers[None, :5])
    found = explain_window(model, processor, inputs, label=label)
    assert found.score == pytest.approx(float(model(**inputs).logits[0, label]), abs=1e-4)
    added = [one.attribution for one in found.reasons]  # by halves that may pull in opposite directions
    assert found.baseline + sum(added) == pytest.approx(found.score, abs=0.01 * sum(map(abs, added)))


def test_a_steep_score_is_followed_until_the_reasons_add_up():
    """A step at a place that no even grid meets: 32 steps over the whole way miss its height."""

    def score(parts):
        return (400.0 * (parts["x"].sum(dim=1) - 0.377)).tanh() * 3

    found = integrated_gradients(score, {"x": torch.tensor([[0.9, 0.1]])}, {"x": torch.zeros(1, 2)})
    assert found.error <= COMPLETE and found.score - found.baseline == pytest.approx(6.0)
    torch.testing.assert_close(found.parts["x"], torch.tensor([5.4, 0.6]), atol=0.06, rtol=0)


def test_reasons_of_trees_for_several_classes_add_up_to_what_is_explained(table):
    rng = np.random.default_rng(1)
    numbers = rng.normal(size=(300, 4)).astype(np.float32)
    labels = (numbers[:, 2] > 0).astype(int) + (numbers[:, 0] > 1)
    names = ["rows before", "amount: mean", "shop: new", "gap"]
    model, processor = build(table, TabBertBoostedForSequenceClassification, statistics=names, num_labels=3)
    model.set_trees("statistics", [trees(numbers, labels, objective="multiclass", num_class=3)])
    inputs = dict(processor(first(table, 6), return_tensors="pt")) | {"statistics": torch.from_numpy(numbers[None, :6])}
    told = explain_window(model, processor, inputs)
    assert told.error <= COMPLETE and told.explains.startswith("score of ")

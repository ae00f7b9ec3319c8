"""Columns of numbers and categories beside picture and text."""

import logging
import math

import datasets
import numpy as np
import pytest
import torch
from tiny_backbones import tiny_batch, tiny_mmbt

from hf_mmtab.models.mmbt.beside_columns import (
    MISSING,
    UNKNOWN,
    ColumnTokens,
    encode_columns,
    fit_columns,
    tell_unknown,
)

COLUMNS = {"price": {"quantiles": [0.0, 10.0, 100.0]}, "brand": {"values": ["b", "a"]}}


def test_quantiles_and_values_are_learned_and_empty_cells_are_not():
    rows = datasets.Dataset.from_dict(
        {
            "price": ["1", "", "3.5", None],
            "size": [3, 3, 3, 3],
            "brand": ["b", "a", "", "b"],
            "year": [2001, 7, None, 7],
        }
    )
    found = fit_columns(rows, ["price", "size"], ["brand", "year"])
    assert found["price"]["quantiles"][0] == 1 and found["price"]["quantiles"][-1] == 3.5
    assert found["size"] == {"quantiles": [3.0]}
    assert found["brand"] == {"values": ["b", "a"]} and found["year"] == {"values": ["7", "2001"]}


def test_places_among_quantiles_have_mean_0_and_deviation_1_whatever_the_tail():
    values = np.exp(np.random.default_rng(0).normal(size=2000) * 3)
    columns = fit_columns(datasets.Dataset.from_dict({"price": values}), ["price"], [])
    places = np.array([encode_columns(columns, {"price": value})["column_numbers"][0][0] for value in values])
    assert abs(places.mean()) < 0.02 and places.std() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    ("price", "brand", "number", "category"),
    [
        (10.0, "a", [0.0, 0.0], 3),
        ("1e9", "b", [3**0.5, 0.0], 2),  # beyond the largest of training
        (None, None, [0.0, 1.0], MISSING),
        (float("nan"), " ", [0.0, 1.0], MISSING),
        (-5, "never seen", [-(3**0.5), 0.0], UNKNOWN),
    ],
)
def test_one_row_is_encoded(price, brand, number, category):
    found = encode_columns(COLUMNS, {"price": price, "brand": brand})
    assert found["column_numbers"] == [pytest.approx(number)] and found["column_categories"] == [category]


def test_columns_are_read_in_the_order_of_their_names_which_saving_keeps():
    rows = datasets.Dataset.from_dict({"b": [1.0, 2.0], "a": [5.0, 9.0], "d": ["x", "y"], "c": [True, True]})
    columns = fit_columns(rows, ["b", "a"], ["d", "c"])
    found = encode_columns(columns, rows[1])
    assert list(columns) == ["a", "b", "c", "d"] and found["column_categories"][0] == 2
    shuffled = {name: columns[name] for name in "dbca"}
    assert encode_columns(shuffled, {**rows[1], "a": None})["column_numbers"] == [
        [0.0, 1.0],
        found["column_numbers"][1],
    ]


def test_cells_and_columns_that_do_not_fit_are_named():
    with pytest.raises(
        ValueError, match=r"Expected numbers .* in the column 'price', found 'cheap'. .*category_columns"
    ):
        encode_columns(COLUMNS, {"price": "cheap", "brand": "a"})
    for cell in (math.inf, -math.inf, "inf", 1e308, "1_000"):
        with pytest.raises(ValueError, match=r"Expected numbers up to 3.4e38 in the column 'price'"):
            encode_columns(COLUMNS, {"price": cell, "brand": "a"})
    for cell in (["a"], {"a": 1}):
        with pytest.raises(ValueError, match="Expected single values in a column of categories"):
            encode_columns(COLUMNS, {"price": 1.0, "brand": cell})
    with pytest.raises(ValueError, match=r"Expected the columns price, brand \(None .*found no brand"):
        encode_columns(COLUMNS, {"price": 1})
    rows = datasets.Dataset.from_dict({"price": [1.0], "empty": [""]})
    with pytest.raises(ValueError, match=r"Expected a column 'weight', as number_columns .*found \['price', 'empty'\]"):
        fit_columns(rows, ["weight"], [])
    with pytest.raises(ValueError, match="each column once in number_columns or category_columns, found 'price' twice"):
        fit_columns(rows, ["price"], ["price"])
    with pytest.raises(ValueError, match="Expected values in the column 'empty' of the training rows, found none"):
        fit_columns(rows, [], ["empty"])


def test_each_column_is_one_token_that_counts_without_a_picture_too():
    model = tiny_mmbt(number_columns=["price"], category_columns={"brand": 2}, num_image_embeds=2)
    batch = {**tiny_batch(), "image_mask": torch.tensor([1, 0])}
    numbers, categories = torch.tensor([[[0.5, 0.0]], [[0.5, 0.0]]]), torch.tensor([[2], [2]])
    first = model(**batch, column_numbers=numbers, column_categories=categories, output_hidden_states=True)
    assert first.hidden_states[-1].shape[1] == 2 + 2 + 2 + 7  # [CLS], 2 regions, 2 columns, [SEP], 7 words
    for changed in (
        {"column_numbers": numbers * 2, "column_categories": categories},
        {"column_numbers": numbers, "column_categories": categories + 1},
    ):
        assert ((model(**batch, **changed).logits - first.logits).abs().amax(dim=1) > 1e-6).all()
    with pytest.raises(
        ValueError, match="Expected column_numbers of 1 and column_categories of 1 columns, found 0 and 0"
    ):
        model(**batch)


def test_training_meets_unknown_values_and_evaluation_does_not(monkeypatch):
    tokens = ColumnTokens(0, [2], 4)
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.zeros(shape))  # every value is hidden
    ids = torch.tensor([[3]])
    unknown = tokens.categories[0].weight[UNKNOWN]
    torch.testing.assert_close(tokens.train()(None, ids)[0, 0], unknown)
    torch.testing.assert_close(tokens.eval()(None, ids)[0, 0], tokens.categories[0].weight[3])


SPELT = {True: [True, 1, 1.0, "true", "True", "TRUE", "1", "1.0"], False: [False, 0, 0.0, "false", "FALSE", "0", "0.0"]}


@pytest.mark.parametrize("training", [[True, False, True], ["true", "false", "true"], [1, 0, 1], ["1.0", "0.0", "1.0"]])
def test_truth_values_are_the_same_however_a_file_spells_them(training):
    columns = fit_columns(datasets.Dataset.from_dict({"flag": training}), [], ["flag"])
    for ids, cells in zip([[2], [3]], SPELT.values(), strict=True):
        assert {tuple(encode_columns(columns, {"flag": cell})["column_categories"]) for cell in cells} == {tuple(ids)}
    assert encode_columns(columns, {"flag": "yes"})["column_categories"] == [UNKNOWN]
    assert encode_columns(columns, {"flag": None})["column_categories"] == [MISSING]


def test_whole_numbers_are_the_same_with_and_without_decimals():
    for training in (["2", "2", "10"], ["2.0", "2.0", "10.00"]):
        columns = fit_columns(datasets.Dataset.from_dict({"floor": training}), [], ["floor"])
        for ids, cells in ((2, [2, 2.0, "2", "2.0"]), (3, [10, "10", "10.0"]), (UNKNOWN, ["20", "2.5", 1, "true"])):
            assert [encode_columns(columns, {"floor": cell})["column_categories"][0] for cell in cells] == [ids] * len(
                cells
            )


def test_categories_that_training_never_had_are_told(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("hf_mmtab"), "propagate", True)
    columns = fit_columns(datasets.Dataset.from_dict({"brand": ["a", "b"], "price": [1, 2]}), ["price"], ["brand"])
    tell_unknown(columns, datasets.Dataset.from_dict({"brand": ["a", "z", None, "y"], "price": [7, 7, 7, 7]}))
    assert "50.0% of the rows have a value in 'brand' that training never had, such as 'y', 'z'" in caplog.text

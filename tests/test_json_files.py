"""JSON that other readers take: no NaN, which Python alone knows."""

import json
import math

import pytest

from hf_mmtab.evaluation.run_results import RunResults
from hf_mmtab.files import json_text


def refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: {"a": [one]}, lambda one: [1, (2, {"b": one})]])
def test_numbers_that_are_none_are_null(number, wrap):
    found = json.loads(json_text(wrap(number)), parse_constant=refuse)
    assert found == json.loads(json.dumps(wrap(None)))
    assert json_text(wrap(0.1)) == json.dumps(wrap(0.1))


def test_results_keep_a_number_that_is_not_defined():
    results = RunResults("boosted", "t.csv", "time", metrics={"test": {"roc_auc": math.nan, "f1": 0.5}}, minutes=2.0)
    text = results.to_json()
    json.loads(text, parse_constant=refuse)
    again = RunResults.from_json(text)
    assert math.isnan(again.metrics["test"]["roc_auc"]) and again.metrics["test"]["f1"] == 0.5
    assert again.training_minutes is None and again.thresholds is None

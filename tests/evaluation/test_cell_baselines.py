"""Guesses without a model, and the counts of masked cells: closed forms and messages."""

import numpy as np
import pytest
import torch
from transformers import EvalPrediction

from hf_mmtab.evaluation.cell_baselines import FieldScore, field_scores, field_table
from hf_mmtab.metrics.masked_cells import MaskedCellMetrics

LOSSES, RIGHT, COUNTS = [[2.0, 0.0], [1.0, 3.0]], [[1.0, 0.0], [1.0, 0.0]], [[2.0, 0.0], [1.0, 2.0]]


def prediction(*rows: int) -> EvalPrediction:
    parts = tuple(torch.tensor(part)[list(rows)] for part in (LOSSES, RIGHT, COUNTS))
    return EvalPrediction(predictions=parts, label_ids=None)


def test_metrics_do_not_depend_on_batches():
    together, apart = MaskedCellMetrics(["a", "b"]), MaskedCellMetrics(["a", "b"])
    whole = together(prediction(0, 1))
    assert apart(prediction(0), compute_result=False) == {}
    assert apart(prediction(1), compute_result=True) == whole
    assert whole == pytest.approx(
        {
            "masked_loss": 3 / 3 + 3 / 2,
            "accuracy": 2 / 5,
            "loss/a": 1.0,
            "loss/b": 1.5,
            "accuracy/a": 2 / 3,
            "accuracy/b": 0.0,
        }
    )
    assert together.totals.tolist() == [[3.0, 3.0], [2.0, 0.0], [3.0, 2.0]]
    assert together(prediction(0, 1)) == whole  # the next evaluation begins at zero


def test_one_softmax_over_all_ids_has_one_mean():
    assert MaskedCellMetrics(["a", "b"], sum_over_fields=False)(prediction(0, 1))["masked_loss"] == 6 / 5


def test_a_field_without_masked_cells_is_left_out_and_none_at_all_is_an_error():
    assert set(MaskedCellMetrics(["a", "b"])(prediction(0))) == {"masked_loss", "accuracy", "loss/a", "accuracy/a"}
    nothing = EvalPrediction(predictions=(torch.zeros(1, 2),) * 3, label_ids=None)
    with pytest.raises(ValueError, match=r"Expected masked cells .* found none\. Raise mlm_prob"):
        MaskedCellMetrics(["a", "b"])(nothing)


def test_the_lead_is_over_the_better_guess():
    model = np.array([[4.0, 0.0], [3.0, 0.0], [4.0, 0.0]])
    (score,) = field_scores(["a", "b"], [[4, 9], [9, 11]], model, np.array([[1, 0], [2, 0], [4, 0]]))
    assert score == FieldScore("a", 5, 4, 1.0, 0.75, 0.25, 0.5) and score.lead == 0.25
    line = field_table([score, FieldScore("b", 2, 3, 0.1, 0.5, 0.5, 0.2)]).splitlines()
    assert "not beaten" not in line[1] and line[2].endswith("not beaten")


def test_other_cells_than_the_models_are_refused():
    with pytest.raises(ValueError, match=r"judge the same cells, found \[4, 0\] and \[5, 0\] cells per field"):
        field_scores(
            ["a", "b"], [[4, 9], [9, 11]], np.array([[0.0, 0]] * 2 + [[4, 0]]), np.array([[0, 0]] * 2 + [[5, 0]])
        )

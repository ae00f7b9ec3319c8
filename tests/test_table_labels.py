"""What training must know of the labels: how often it meets each class."""

import logging
from decimal import Decimal

import datasets
import numpy as np
import polars
import pyarrow as pa
import pytest
import torch
from torch import nn

from hf_mmtab.commands.finetune import main
from hf_mmtab.data.shards.preparing import prepare_rows, read_labels
from hf_mmtab.models.tabbert import TabBertProcessor
from hf_mmtab.models.tabbert.processing.column_plan import ColumnPlan
from hf_mmtab.tasks.table_labels import ClassShares, share_of_labels, start_bias


def test_a_new_classifier_starts_from_the_share_of_each_class_in_training():
    classifier = nn.Linear(3, 2)
    start_bias(classifier, ClassShares(actual=np.array([0.998, 0.002]), trained=np.array([0.9, 0.1])))
    torch.testing.assert_close(classifier(torch.zeros(3)).softmax(dim=-1), torch.tensor([0.9, 0.1]))


def test_a_class_that_never_occurs_has_a_finite_start():
    classifier = nn.Linear(3, 2)
    start_bias(classifier, ClassShares(actual=np.array([1.0, 0.0]), trained=np.array([1.0, 0.0])))
    assert classifier.bias.isfinite().all()


@pytest.fixture(scope="module", params=[200, 3])
def rows(request, tmp_path_factory):
    """Encoded rows of many or few histories over 100 days, the first 70 % of them for training."""
    rng = np.random.default_rng(0)
    count = 3000
    table = datasets.Dataset.from_dict(
        {
            "who": rng.integers(0, request.param, count),
            "when": np.sort(rng.integers(0, 100 * 86_400, count)).astype("datetime64[s]"),
            "shop": rng.integers(0, 5, count),
            "bad": rng.random(count) < 0.03,
        }
    )
    plan = {"entity": "who", "time": "when", "label": "bad", "fields": {"shop": {}}}
    processor = TabBertProcessor(ColumnPlan.from_dict(plan))
    return prepare_rows(table, processor, tmp_path_factory.mktemp("rows") / "rows", "time")


def test_a_share_of_the_labels_is_drawn_by_history_or_day_and_only_in_training(rows):
    training = np.asarray(rows.split) == 0
    group = rows.entity_of(np.arange(len(rows)))
    group = group if len(np.unique(group)) > 100 else np.asarray(rows.time) // 86_400_000_000
    groups = len(np.unique(group[training]))
    last = np.zeros(len(rows), dtype=bool)
    for share in (0.1, 0.3, 1.0):
        found = share_of_labels(rows, share, seed=3)
        known = found.labels >= 0
        assert (found.labels[known] == rows.labels[known]).all()
        assert known[~training].all()
        assert (known | ~last).all()  # a larger share has the labels of a smaller one
        assert not set(group[training & known]) & set(group[training & ~known])
        assert len(set(group[training & known])) == pytest.approx(share * groups, abs=2)
        assert (found.labels[training] == 1).any()
        assert found.label_sums[1][-1] == known.sum()
        last = known
    assert not (rows.labels < 0).any()  # the table itself is as it was
    other = share_of_labels(rows, 0.1, seed=4).labels
    assert ((other >= 0) != (share_of_labels(rows, 0.1, seed=3).labels >= 0)).any()


def test_a_run_learns_from_the_share_and_is_judged_on_all(tmp_path, caplog, monkeypatch):
    rng = np.random.default_rng(0)
    when = polars.datetime_range(polars.datetime(2024, 1, 1), polars.datetime(2024, 3, 1), "1h", eager=True)
    table = polars.DataFrame({"when": when, "who": rng.integers(0, 60, len(when)), "x": rng.integers(0, 9, len(when))})
    table.with_columns(bad=polars.col("x") > 7).write_csv(tmp_path / "t.csv", datetime_format="%Y-%m-%d %H:%M")
    plan = "{entity: who, time: when, label: bad, fields: {x: {kind: numeric}}}"
    (tmp_path / "r.yaml").write_text(
        f"task: table\ndata: {tmp_path / 't.csv'}\noutput_dir: {tmp_path / 'out'}\nplan: {plan}\n"
        "architecture: boosted\nwindow_label: every\nseq_len: 8\nreport_to: none\nbootstrap: 0\n"
    )
    with pytest.raises(ValueError, match="Expected no label_lag beside label_share"):
        main([str(tmp_path / "r.yaml"), "--label_share", "0.2", "--label_lag", "1 day"])
    with pytest.raises(ValueError, match="Expected label_share above 0 and at most 1, found 2"):
        main([str(tmp_path / "r.yaml"), "--label_share", "2.0"])
    monkeypatch.setattr(logging.getLogger("hf_mmtab"), "propagate", True)
    main([str(tmp_path / "r.yaml"), "--label_share", "0.2"])
    missing = next(record.message for record in caplog.records if record.message.startswith("Labels are missing"))
    assert " train" in missing and "test" not in missing


def labels_of(values, kind=None, **options):
    table = datasets.Dataset(pa.table({"late": pa.array(values, kind)}))
    return read_labels(table, ["late"], **options)


def test_zero_and_one_as_floats_are_classes_as_pandas_writes_them_beside_missing_labels(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("hf_mmtab"), "propagate", True)
    codes, names = labels_of([0.0, 1.0, None, float("nan"), 1.0])
    assert (codes.tolist(), names) == ([0, 1, -100, -100, 1], ["0", "1"])
    assert "'late' are 0.0 and 1.0 alone: they are read as two classes" in caplog.text
    assert "`types: {late: float}`" in caplog.text


@pytest.mark.parametrize("values", [[0.0, 1.0, 0.5], [0.0, 0.0, None], [1.0, 2.0], [0.0, 1.0, 2.0]])
def test_other_floats_are_numbers(values):
    codes, names = labels_of(values, pa.float64())
    assert names == []
    np.testing.assert_array_equal(codes[:, 0], np.array(values, dtype=np.float32))


def test_zero_and_one_are_numbers_where_the_recipe_says_float(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("hf_mmtab"), "propagate", True)
    codes, names = labels_of([0.0, 1.0], numbers=["late"])
    assert (codes.tolist(), names, caplog.text) == ([[0.0], [1.0]], [], "")


def test_decimals_are_numbers_and_an_empty_text_is_no_label():
    codes, names = labels_of([Decimal("0.25"), Decimal("2.50"), None], pa.decimal128(10, 2))
    np.testing.assert_array_equal(codes[:, 0], np.array([0.25, 2.5, np.nan], dtype=np.float32))
    assert names == []
    codes, names = labels_of(["no", "", "yes", None])
    assert (codes.tolist(), names) == ([0, -100, 1, -100], ["no", "yes"])


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), 1e300])
def test_a_label_beyond_float32_is_refused_before_any_training(value):
    with pytest.raises(ValueError, match=r"up to 3.4e38 in the label column 'late', found .* \(in 2 rows\). Correct"):
        labels_of([0.5, value, value, 2.0])


def test_labels_that_differ_by_spaces_or_case_only_are_told(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("hf_mmtab"), "propagate", True)
    assert labels_of(["yes", "Yes ", "no"])[1] == ["Yes ", "no", "yes"]
    assert "classes of their own (rows): 'Yes ' (1), 'yes' (1). If they are the same, write them alike" in caplog.text
    caplog.clear()
    labels_of(["yes", "no", "y", "n"])
    labels_of([True, False])
    labels_of([0, 1, 10])
    assert not caplog.text


def test_spellings_of_one_truth_value_are_told_with_their_rows(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("hf_mmtab"), "propagate", True)
    names = ["0", "1", "FALSE", "True", "false", "true"]
    assert labels_of(["true", "True", "1", "false", "FALSE", "0", "1"])[1] == names
    assert "'0' (1), 'FALSE' (1), 'false' (1); '1' (2), 'True' (1), 'true'" in caplog.text

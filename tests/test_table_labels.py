"""What training must know of the labels: how often it meets each class."""

import logging

import datasets
import numpy as np
import polars
import pytest
import torch
from torch import nn

from hf_mmtab.commands.finetune import main
from hf_mmtab.data.shards.preparing import prepare_rows
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
    with pytest.raises(ValueError, match="label_share must be above 0 and at most 1, got 2"):
        main([str(tmp_path / "r.yaml"), "--label_share", "2.0"])
    monkeypatch.setattr(logging.getLogger("hf_mmtab"), "propagate", True)
    main([str(tmp_path / "r.yaml"), "--label_share", "0.2"])
    missing = next(record.message for record in caplog.records if record.message.startswith("Labels are missing"))
    assert " train" in missing and "test" not in missing

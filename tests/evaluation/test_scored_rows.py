"""Scores of judged rows: which rows, whose, when; each once, from the window that knows most of its past."""

import datetime

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from hf_mmtab.commands.runs.table_notes import rows_before
from hf_mmtab.data.shards.preparing import prepare_rows
from hf_mmtab.data.windows.cutting import WindowDataset
from hf_mmtab.data.windows.splits import windows
from hf_mmtab.data.windows.window_index import WindowIndex
from hf_mmtab.evaluation.judging import closing_words, judge_splits
from hf_mmtab.evaluation.run_results import RunResults
from hf_mmtab.evaluation.scored_rows import ScoredRows, judged_rows, scored_rows
from hf_mmtab.models.tabbert import TabBertConfig, TabBertProcessor

START = datetime.datetime(2020, 1, 1)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Two histories of 5 and 3 rows; the label of row i is i % 2, the last one is missing."""
    table = datasets.Dataset.from_dict(
        {
            "user": [0, 0, 0, 0, 0, 7, 7, 7],
            "card": ["a", "a", "a", "a", "a", "b", "b", "b"],
            "when": [START + datetime.timedelta(days=i) for i in (0, 1, 2, 3, 4, 0, 1, 2)],
            "shop": list("xyxyxyxy"),
            "late": [0, 1, 0, 1, 0, 1, 0, None],
        }
    )
    plan = {"entity": ["user", "card"], "time": "when", "label": "late", "fields": {"shop": {}}}
    folder = tmp_path_factory.mktemp("rows") / "rows"
    return prepare_rows(table, TabBertProcessor(plan), folder, "paper")


def index_of(*windows):
    start, length, label_start = np.array(windows).T
    return WindowIndex(start, length.astype(np.int32), label_start.astype(np.int32))


def test_a_window_with_one_label_is_about_its_last_row(rows):
    found = WindowDataset(rows, index_of((0, 3, 0), (5, 2, 0)), "last")
    scored = scored_rows(found, np.log([[0.25, 0.75], [0.9, 0.1]]), "single_label_classification")
    assert scored.rows.tolist() == [2, 6]
    assert scored.scores == pytest.approx([0.75, 0.1])
    assert scored.labels.tolist() == [0, 0]
    assert scored.entities.tolist() == ["0/a", "7/b"]
    assert scored.times.tolist() == [START + datetime.timedelta(days=2), START + datetime.timedelta(days=1)]


def test_a_window_of_any_row_has_the_label_of_any_and_the_time_of_its_last(rows):
    found = WindowDataset(rows, index_of((0, 3, 0), (5, 3, 1)), "any")
    scored = scored_rows(found, np.zeros((2, 2)), "single_label_classification")
    assert scored.rows.tolist() == [2, 7]
    assert scored.labels.tolist() == [1, 0]  # row 1; of rows 6 and 7 only 6 has a label


def test_each_row_is_judged_once_by_the_window_that_shows_most_of_its_past(rows):
    found = WindowDataset(rows, index_of((2, 3, 0), (0, 4, 1), (5, 3, 2)), "every")
    judged = judged_rows(found)
    assert judged.row.tolist() == [1, 2, 3, 4, 7]
    assert judged.window.tolist() == [1, 1, 1, 0, 2]  # rows 2 and 3 have more rows before them in window 1
    assert judged.place.tolist() == [1, 2, 3, 2, 2]
    assert rows_before(found) == "2 earlier rows at the median, 1 or fewer for one row in ten"
    logits = np.zeros((3, 4, 2))
    logits[..., 1] = np.arange(12).reshape(3, 4)
    scored = scored_rows(found, logits, "single_label_classification")
    assert scored.scores == pytest.approx(1 / (1 + np.exp(-np.array([5.0, 6, 7, 2, 10]))))
    assert scored.labels.tolist() == [1, 0, 1, 0, -100]
    assert scored.labelled.rows.tolist() == [1, 2, 3, 4]


def test_windows_of_stride_1_judge_every_row_of_a_split_once(rows):
    cut = windows(rows, "train", seq_len=3, stride=1, label="every")
    judged = judged_rows(cut)
    assert len(np.unique(judged.row)) == len(judged.row)
    assert (cut.index.start[judged.window] + judged.place == judged.row).all()


def test_a_row_of_two_windows_is_learned_from_in_the_one_with_more_rows_before_it(tmp_path):
    days = [START + datetime.timedelta(days=i) for i in range(10)]
    table = datasets.Dataset.from_dict({"when": days, "shop": list("xyxyxyxyxy"), "late": [0, 1] * 5})
    processor = TabBertProcessor({"time": "when", "label": "late", "fields": {"shop": {}}})
    cut = windows(prepare_rows(table, processor, tmp_path / "rows", "time"), "train", 4, 2, label="every")
    judged = [cut.index.start[i] + np.flatnonzero(cut[i]["labels"] != -100) for i in range(len(cut))]
    assert [rows.tolist() for rows in judged] == [[0], [1, 2], [3, 4], [5, 6]]
    assert cut.index.start.tolist() == [0, 0, 1, 3]


def test_padding_of_shorter_windows_may_hold_anything(rows):
    found = WindowDataset(rows, index_of((0, 2, 0), (5, 3, 0)), "every")
    logits = np.zeros((2, 5, 2))
    logits[0, 2:] = np.nan
    logits[1, 3:] = -100
    assert scored_rows(found, logits, "single_label_classification").scores.tolist() == [0.5] * 5


def test_more_than_two_classes_and_several_targets_keep_their_columns(rows):
    found = WindowDataset(rows, index_of((0, 3, 0)), "last")
    several = scored_rows(found, np.zeros((1, 4)), "single_label_classification")
    assert several.scores.tolist() == [[0.25] * 4]
    assert several.probabilities is several.scores
    assert scored_rows(found, np.array([[3.0, 4.0]]), "regression").scores.tolist() == [[3.0, 4.0]]


def test_scores_come_back_from_a_file_as_they_were(rows, tmp_path):
    found = WindowDataset(rows, index_of((0, 3, 0), (5, 3, 0)), "last")
    for logits in (np.zeros((2, 2)), np.zeros((2, 3))):
        scored = scored_rows(found, logits, "single_label_classification")
        scored.save(tmp_path / "out" / "scores.parquet")
        again = ScoredRows.load(tmp_path / "out" / "scores.parquet")
        for name in ("scores", "labels", "rows", "entities", "times"):
            assert np.array_equal(getattr(again, name), getattr(scored, name)), name
            assert getattr(again, name).dtype.kind == getattr(scored, name).dtype.kind, name


def test_saved_rows_have_the_numbers_of_the_table_that_was_read(rows, tmp_path):
    found = WindowDataset(rows, index_of((0, 3, 0), (5, 3, 0)), "last")
    scored = scored_rows(found, np.zeros((2, 2)), "single_label_classification")
    scored.save(tmp_path / "scores.parquet", np.arange(len(rows))[::-1])
    saved = pq.read_table(tmp_path / "scores.parquet")
    assert saved["row"].to_pylist() == [len(rows) - 1 - place for place in scored.rows.tolist()]
    assert ScoredRows.load(tmp_path / "scores.parquet").rows.tolist() == scored.rows.tolist()


def test_a_table_without_labels_has_scores_and_nothing_to_judge_them_by(rows):
    scored = scored_rows(
        WindowDataset(rows, index_of((0, 3, 0))), np.zeros((1, 2)), "single_label_classification", "last"
    )
    unlabelled = ScoredRows(scored.scores, None, scored.rows, scored.entities, scored.times)
    with pytest.raises(ValueError, match=r"Expected labels to judge 1 scores by, found a table without a label"):
        _ = unlabelled.labelled


def test_wrong_shapes_and_broken_numbers_are_named(rows):
    last = WindowDataset(rows, index_of((0, 3, 0), (5, 3, 0)), "last")
    with pytest.raises(ValueError, match=r"Expected logits of shape \(2, num_labels\).*found \(3, 2\)"):
        scored_rows(last, np.zeros((3, 2)), "single_label_classification")
    every = WindowDataset(rows, index_of((0, 3, 0), (5, 3, 0)), "every")
    with pytest.raises(ValueError, match=r"at least 3 rows, as the longest window has, found 2"):
        scored_rows(every, np.zeros((2, 2, 2)), "single_label_classification")
    with pytest.raises(ValueError, match=r"found windows without labels. Say which rows"):
        judged_rows(WindowDataset(rows, index_of((0, 3, 0))))
    with pytest.raises(ValueError, match=r"Expected 2 times, one per score, found 1"):
        ScoredRows(np.zeros(2), None, np.arange(2), np.array(["a", "b"]), np.zeros(1, "datetime64[us]"))
    with pytest.raises(ValueError, match=r"found NaN or infinity in 1 of 2 rows.*row 1 of history 'b'"):
        ScoredRows(np.array([0, np.nan]), None, np.arange(2), np.array(["a", "b"]), np.zeros(2, "datetime64[us]"))
    with pytest.raises(ValueError, match=r"found 1 rows whose label is missing"):
        _ = scored_rows(
            WindowDataset(rows, index_of((7, 1, 0)), "last"), np.zeros((1, 2)), "single_label_classification"
        ).labelled


def test_rows_without_a_label_are_counted(rows):
    found = WindowDataset(rows, index_of((5, 3, 0)), "every")
    scored = scored_rows(found, np.zeros((1, 3, 2)), "single_label_classification")
    config = TabBertConfig(problem_type="single_label_classification", id2label={0: "no", 1: "yes"}, threshold=0.5)
    judged = judge_splits({"test": scored}, config, "test", 0, "row")
    assert judged["judged"] == {"test": {"rows": 2, "without_label": 1, "positives": 1}}
    assert (
        "(2 rows, 1 positive; 1 more without a label)"
        in closing_words(RunResults(**judged, data="x", architecture="lstm"))[0]
    )


def test_a_number_that_one_class_alone_does_not_define_is_said_to_be_so(rows):
    scored = ScoredRows(
        np.eye(3)[[0, 1]], np.array([2, 2]), np.arange(2), np.array(["a", "b"]), np.zeros(2, "datetime64[us]")
    )
    config = TabBertConfig(problem_type="single_label_classification", id2label={0: "a", 1: "b", 2: "c"})
    lines = closing_words(
        RunResults(**judge_splits({"test": scored}, config, "test", 9, "row"), data="x", architecture="mlp")
    )
    assert lines[1:] == [
        f"  {'accuracy':32} 0.000 (0.000–0.000)",
        f"  {'macro-F1':32} 0.000 (0.000–0.000)",
        f"  {'mean average precision':32} not defined: no class that some of the rows have and others have not",
    ]

"""`report RUN RUN --out FOLDER`: finished runs on one page, on the same rows or not at all."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_mmtab import MMBTBaselineConfig, TabBertConfig
from hf_mmtab.commands.report import compared_runs, main, read_scored
from hf_mmtab.evaluation.run_results import RunResults
from hf_mmtab.evaluation.scored_rows import ScoredRows
from hf_mmtab.locking import lock_folder
from hf_mmtab.metrics import scores_for

KIND = "single_label_classification"


def table_run(folder, noise, rows=range(200), names=("no", "yes"), seed=0):
    rng = np.random.default_rng(seed)
    numbers = np.array(rows)
    labels = (numbers % 4 == 0).astype(np.int64)
    scores = np.clip(labels * 0.6 + 0.2 + rng.normal(0, noise, len(numbers)), 0.01, 0.99)
    entities, times = np.array([f"w{i % 9}" for i in numbers]), np.datetime64("2024-01-01", "us") + numbers
    ScoredRows(scores, labels, numbers, entities, times).save(make(folder / "predictions") / "test.parquet")
    config = TabBertConfig(fields=["a"], field_ranges=[[4, 9]], vocab_size=9, problem_type=KIND)
    config.id2label = dict(enumerate(names))
    config.save_pretrained(folder)
    both = np.stack([1 - scores, scores], axis=1)
    finish(folder, scores_for(KIND, labels, both, config.id2label), ["average_precision", "roc_auc"], "entity")


def make(folder):
    folder.mkdir(parents=True)
    return folder


def finish(folder, scores, headline, drawn):
    results = RunResults(
        "lstm",
        "t.csv",
        "test",
        metrics={"test": scores},
        headline=headline,
        resampled_by=drawn,
        minutes=2.0,
        training_minutes=1.5,
    )
    (folder / "results.json").write_text(results.to_json())


@pytest.mark.figures
def test_runs_of_tables_stand_beside_each_other_with_their_seeds(tmp_path):
    for name, noise in (("good-seed1", 0.1), ("good-seed2", 0.12), ("poor-seed1", 0.4)):
        table_run(tmp_path / name, noise, seed=len(name))
    runs = [str(tmp_path / name) for name in ("good-seed1", "poor-seed1", "good-seed2")]
    main([*runs, "--out", str(tmp_path / "page"), "--bootstrap", "50"])
    html = (tmp_path / "page" / "report.html").read_text()
    assert "<h1>good beside poor</h1>" in html
    assert str(tmp_path) not in html
    facts = compared_runs([tmp_path / "good-seed1", tmp_path / "poor-seed1", tmp_path / "good-seed2"], 50)
    assert [(one.name, len(one.scores["average_precision"])) for one in facts.comparison] == [("good", 2), ("poor", 1)]
    assert facts.comparison[1].differences["average_precision"].low > 0
    assert facts.comparison[0].seconds == 120
    main([*runs, "--out", str(tmp_path / "page"), "--bootstrap", "0"])  # an earlier report is replaced


def test_one_process_at_a_time_writes_a_report(tmp_path):
    table_run(tmp_path / "run", 0.1)
    page = tmp_path / "page"
    with lock_folder(page, True), pytest.raises(BlockingIOError, match="another --out"):
        main([str(tmp_path / "run"), "--out", str(page), "--bootstrap", "0"])
    assert not (page / "report.html").exists()
    main([str(tmp_path / "run"), "--out", str(page), "--bootstrap", "0"])
    assert (page / "report.html").exists()


def test_a_report_of_no_run_makes_no_folder(tmp_path):
    with pytest.raises(ValueError, match="absent"):
        main([str(tmp_path / "absent"), "--out", str(tmp_path / "page")])
    assert not (tmp_path / "page").exists()


@pytest.mark.figures
def test_runs_of_pictures_are_read_from_their_prediction_tables(tmp_path):
    names = ["cat", "dog", "owl"]
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    for run, sure in (("mmbt", 4.0), ("bert", 1.0)):
        logits = np.eye(3)[labels] * sure + rng.normal(size=(60, 3))
        probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        config = MMBTBaselineConfig(bow_vocab_size=7, problem_type=KIND)
        config.id2label = dict(enumerate(names))
        config.save_pretrained(tmp_path / run)
        columns = {f"probability_{name}": probabilities[:, i] for i, name in enumerate(names)}
        columns["gold"] = [names[i] for i in labels]
        pq.write_table(pa.table(columns), make(tmp_path / run / "predictions") / "test.parquet")
        finish(
            tmp_path / run, scores_for(KIND, labels, probabilities, config.id2label), ["accuracy", "macro_f1"], "row"
        )
    facts = compared_runs([tmp_path / "mmbt", tmp_path / "bert"], 50)
    assert facts.comparison[0].scores["accuracy"][0] > facts.comparison[1].scores["accuracy"][0]
    scored = read_scored(tmp_path / "mmbt", "test", MMBTBaselineConfig.from_pretrained(tmp_path / "mmbt"))
    np.testing.assert_array_equal(scored.labels, labels)


def test_what_cannot_be_compared_is_told(tmp_path):
    table_run(tmp_path / "a", 0.1)
    with pytest.raises(ValueError, match=r"Expected each run once, found .*a .*a: it would count as two seeds"):
        compared_runs([tmp_path / "a", tmp_path / "a"], 50)
    table_run(tmp_path / "rows", 0.1, rows=range(100, 300))
    table_run(tmp_path / "labels", 0.1, names=("ok", "fraud"))
    with pytest.raises(ValueError, match="Expected rows to be judged on the 200 rows of a, found 200 rows, 100"):
        compared_runs([tmp_path / "a", tmp_path / "rows"], 0)
    with pytest.raises(ValueError, match=r"the labels of .*\(no, yes\), found ok, fraud. Compare runs of one task"):
        compared_runs([tmp_path / "a", tmp_path / "labels"], 0)
    with pytest.raises(ValueError, match=r"found no results.json of one. Folders in it that have one: a, labels, rows"):
        compared_runs([tmp_path], 0)
    finish(make(tmp_path / "pretrained"), {}, [], "row")
    with pytest.raises(ValueError, match="found a pretraining, whose own report is in its folder"):
        compared_runs([tmp_path / "a", tmp_path / "pretrained"], 0)


def test_a_folder_with_other_files_is_refused(tmp_path):
    table_run(tmp_path / "a", 0.1)
    (make(tmp_path / "mine") / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match=r"one of an earlier report, found letter.txt at"):
        main([str(tmp_path / "a"), "--out", str(tmp_path / "mine")])
    (tmp_path / "a" / "model.safetensors").touch()
    with pytest.raises(ValueError, match="Expected"):
        main([str(tmp_path / "a"), "--out", str(tmp_path / "a" / "page")])  # in a finished run
    assert json.loads((tmp_path / "a" / "results.json").read_text())["architecture"] == "lstm"

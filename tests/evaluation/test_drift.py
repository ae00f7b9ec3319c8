"""Drift: the index tells moved fields from chance, by name, in `predict` and on the page."""

import json

import datasets
import numpy as np
import polars
import pytest
from untrained_heads import save_pooled

from hf_mmtab import TabBertConfig, TabBertProcessor
from hf_mmtab.commands import drift, predict
from hf_mmtab.data.shards.preparing import prepare_rows
from hf_mmtab.data.windows.splits import Split
from hf_mmtab.evaluation.drift import FAR, MOVED, drift_notes, field_drift, score_drift, stability_index
from hf_mmtab.evaluation.unseen_values import missing_cells_note
from hf_mmtab.models.tabbert import TabBertPooledForSequenceClassification

PLAN = {
    "entity": "who", "time": "at", "label": "odd",
    "fields": {
        "amount": {"kind": "numeric", "num_bins": 8}, "shop": {},
        "at.month": {"kind": "time_part", "part": "month", "keep": "covered"},
    },
}  # fmt: skip


def rows(seed, amount=0.0, shops=("a", "b", "c"), count=2000):
    rng = np.random.default_rng(seed)
    table = polars.DataFrame(
        {
            "who": rng.integers(0, 20, count),
            "at": np.datetime64("2024-03-01", "ms") + np.sort(rng.integers(0, 86_400 * 20, count)) * 1000,
            "amount": rng.normal(amount, 1.0, count).round(3),
            "shop": rng.choice(shops, count),
        }
    )
    without = polars.int_range(polars.len()) % 50 == 0
    return table.with_columns(polars.when(without).then(None).otherwise("shop").alias("shop"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drift")
    processor = TabBertProcessor(PLAN).fit(rows(0))
    save_pooled(folder / "model", processor)
    return folder / "model"


def written(checkpoint, table, folder, *more):
    table.write_parquet(folder / "new.parquet")
    drift.main([str(checkpoint), str(folder / "new.parquet"), str(folder / "page.html"), *more])
    return (folder / "page.html").read_text()


def test_the_index_of_equal_samples_stays_below_what_chance_does():
    rng = np.random.default_rng(0)
    shares = np.full(10, 0.1)
    found = [stability_index(rng.multinomial(5000, shares), rng.multinomial(200, shares)) for _ in range(400)]
    above = np.mean([index > noise for index, noise in found])
    assert 0.02 < above < 0.09  # 5 %


def test_the_index_is_the_textbooks():
    before, after = np.array([60_000, 40_000]), np.array([40_000, 60_000])
    assert stability_index(before, after)[0] == pytest.approx(2 * 0.2 * np.log(1.5), rel=1e-3)


@pytest.mark.parametrize(
    ("changed", "moved"), [({}, []), ({"amount": 1.5}, ["amount"]), ({"shops": ("a", "b", "kiosk")}, ["shop"])]
)
def test_what_moved_is_named_and_nothing_else(checkpoint, changed, moved, tmp_path, capsys, caplog):
    page = written(checkpoint, rows(1, **changed), tmp_path)
    assert capsys.readouterr().out.startswith(f"{', '.join(moved) or 'No field'} moved.")
    assert page.count("moved far (") == len(moved)
    caplog.clear()
    predict.main([str(checkpoint), str(tmp_path / "new.parquet"), str(tmp_path / "out.parquet")])
    messages = [record.getMessage() for record in caplog.records]
    told = [text for text in messages if "differ from the training" in text or "are [UNK]" in text]
    assert len(told) == len(moved)
    assert all(name in text for name, text in zip(moved, told, strict=True))


def test_histories_that_begin_anew_are_no_rows_to_train_on(tmp_path):
    plan = {"entity": "who", "time": "at", "fields": {"shop": {}, "at.gap": {"kind": "time_gap"}}}
    processor, sorted_rows = TabBertProcessor(plan).fit(rows(0).sort("who", "at")), rows(1).sort("who", "at")
    one_each = sorted_rows.with_columns(who=polars.int_range(polars.len()) // 2)  # every second row is a first one
    table = datasets.Dataset.from_polars(one_each)
    encoded = prepare_rows(table, processor, tmp_path, Split("time", (1.0, 0.0, 0.0)), label=[])
    (note,) = drift_notes(field_drift(encoded, processor), encoded, processor, "new rows")
    assert note.startswith("50.0% of the new rows are the first of their history (1.0% in training), where at.gap is")
    assert note.endswith("Give the rows before, too, or let `predict` keep them (`--state`).")


def test_few_rows_are_no_drift(checkpoint, tmp_path, capsys):
    written(checkpoint, rows(3, count=12), tmp_path)
    assert capsys.readouterr().out.startswith("No field moved.")


def test_a_month_that_training_lacks_is_on_the_page_but_no_moved_value_of_others(checkpoint, tmp_path):
    later = rows(1).with_columns(polars.col("at").dt.offset_by("1mo"))
    page = written(checkpoint, later, tmp_path)
    assert "at.month" not in page  # training does not cover its cycle: the field is left out
    assert "as in training" in page


def test_scores_are_compared_with_those_of_the_runs_own_test_rows(checkpoint, tmp_path, capsys):
    rng = np.random.default_rng(0)
    (checkpoint / "predictions").mkdir(exist_ok=True)
    polars.DataFrame({"score": rng.beta(1, 20, 3000)}).write_parquet(checkpoint / "predictions" / "test.parquet")
    for name, scores in {"same": rng.beta(1, 20, 1000), "higher": rng.beta(3, 10, 1000)}.items():
        table = polars.DataFrame({"probability_no": 1 - scores, "probability_yes": scores})
        table.write_csv(tmp_path / f"{name}.csv")
        written(checkpoint, rows(1), tmp_path, "--scores", str(tmp_path / f"{name}.csv"))
        assert capsys.readouterr().out.startswith("No field" if name == "same" else "score moved")
    found = score_drift(rng.random(1000), rng.random(1000) ** 3)
    assert found.index > FAR > MOVED
    assert found.training == pytest.approx([0.1] * 10, abs=0.02)


def test_the_page_is_written_through_a_link(checkpoint, tmp_path):
    rows(1).write_parquet(tmp_path / "new.parquet")
    (tmp_path / "link.html").symlink_to(tmp_path / "real.html")
    for _ in range(2):
        drift.main([str(checkpoint), str(tmp_path / "new.parquet"), str(tmp_path / "link.html")])
        assert (tmp_path / "link.html").is_symlink() and drift.MARK in (tmp_path / "real.html").read_text()


def test_wrong_files_are_told(checkpoint, tmp_path):
    rows(1).write_parquet(tmp_path / "new.parquet")
    (tmp_path / "letter.html").write_text("dear")
    given = [str(checkpoint), str(tmp_path / "new.parquet")]
    with pytest.raises(ValueError, match="Expected a new page, or one of an earlier call, found another file"):
        drift.main([*given, str(tmp_path / "letter.html")])
    assert (tmp_path / "letter.html").read_text() == "dear"
    with pytest.raises(ValueError, match=r"Expected a page that ends in \.html"):
        drift.main([*given, str(tmp_path / "out.txt")])
    (tmp_path / "scores.jsonl").write_text(json.dumps({"value": 1}) + "\n")
    with pytest.raises(ValueError, match="Expected columns probability_NAME of two classes"):
        (checkpoint / "predictions").mkdir(exist_ok=True)
        polars.DataFrame({"score": [0.1]}).write_parquet(checkpoint / "predictions" / "test.parquet")
        drift.main([*given, str(tmp_path / "p.html"), "--scores", str(tmp_path / "scores.jsonl")])
    assert not (tmp_path / "p.html").exists()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_scores_of_another_table_are_refused(checkpoint, tmp_path, suffix):
    (checkpoint / "predictions").mkdir(exist_ok=True)
    polars.DataFrame({"score": [0.1, 0.2]}).write_parquet(checkpoint / "predictions" / "test.parquet")
    table, scores = rows(1, count=300), tmp_path / f"scores{suffix}"
    table.write_parquet(tmp_path / "new.parquet")
    predict.main([str(checkpoint), str(tmp_path / "new.parquet"), str(scores)])
    for other, said in ((rows(2, count=300), "another at in row"), (table.head(100), "row 299 of 100")):
        with pytest.raises(ValueError, match=f"found those of another table in .*: {said}"):
            written(checkpoint, other, tmp_path, "--scores", str(scores))
    assert "score" in written(checkpoint, table, tmp_path, "--scores", str(scores))


def test_cells_that_are_missing_more_often_than_in_training_are_told(tmp_path):
    processor = TabBertProcessor(PLAN).fit(rows(0))  # a fiftieth of the shops is missing
    empty = polars.int_range(polars.len()) % 5 == 0
    fewer = rows(1).with_columns(polars.when(empty).then(None).otherwise("amount").alias("amount"))
    whole = Split("time", (1.0, 0.0, 0.0))
    encoded = [
        prepare_rows(datasets.Dataset.from_polars(table), processor, tmp_path / name, whole, label=[])
        for name, table in {"same": rows(2), "fewer": fewer}.items()
    ]
    assert missing_cells_note(encoded[0], processor, slice(None), "test rows") == []
    (told,) = missing_cells_note(encoded[1], processor, slice(None), "test rows")
    assert "in the test rows more often" in told and "amount 20.0% (there 0.0%)." in told and "shop" not in told


def test_new_values_of_a_category_are_named(checkpoint, tmp_path):
    page = written(checkpoint, rows(1, shops=("a", "b", "vape", "zoo"), count=400), tmp_path)
    assert "New values in the first 400 rows, the most frequent ones: shop " in page
    told = page.partition("the most frequent ones: shop ")[2].partition(".")[0]
    assert sorted(one.split(" (")[0] for one in told.split(", ")) == ["vape", "zoo"]
    assert "New values" not in written(checkpoint, rows(2, count=400), tmp_path)


@pytest.mark.parametrize("time", ["seconds", "numbers"])
def test_scores_of_this_table_are_taken_whatever_its_times_are(tmp_path, time):
    moments = polars.col("at").dt.epoch("s") if time == "seconds" else polars.int_range(polars.len()) / 7
    table = rows(1, count=200).with_columns(moments.alias("at")).sort("who", "at")
    plan = {"entity": "who", "time": "at", "fields": {"shop": {}}, **({"time_unit": "s"} if time == "seconds" else {})}
    processor = TabBertProcessor(plan).fit(table)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16}
    config = TabBertConfig(**processor.config_kwargs(), **sizes, field_hidden_size=8, field_num_heads=2, seq_len=8)
    TabBertPooledForSequenceClassification(config).save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "predictions").mkdir()
    polars.DataFrame({"score": [0.1, 0.2]}).write_parquet(tmp_path / "model" / "predictions" / "test.parquet")
    table.write_parquet(tmp_path / "new.parquet")
    predict.main([str(tmp_path / "model"), str(tmp_path / "new.parquet"), str(tmp_path / "scores.csv")])
    assert "score" in written(tmp_path / "model", table, tmp_path, "--scores", str(tmp_path / "scores.csv"))
    with pytest.raises(ValueError, match="found those of another table"):
        later = table.with_columns(polars.col("at") + 1)
        written(tmp_path / "model", later, tmp_path, "--scores", str(tmp_path / "scores.csv"))

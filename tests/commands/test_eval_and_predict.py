"""A saved model is evaluated and used without the data that it was trained on."""

import csv
import json
import re
import shutil

import pyarrow.parquet as pq
import pytest
from transformers import BertConfig, BertModel

from hf_mmtab.commands import eval_checkpoint, predict
from hf_mmtab.data.pictures.files import find_sources
from hf_mmtab.training.features.cache import FeatureCache


@pytest.fixture
def run(finished_pictures):
    return finished_pictures


def test_evaluation_repeats_the_numbers_of_the_run(run, pictures, tmp_path):
    eval_checkpoint.main(
        [str(run), str(pictures), "--split", "test", "--out", str(tmp_path / "eval"), "--bootstrap", "50"]
    )
    of_run = json.loads((run / "results.json").read_text())["metrics"]["test"]
    found = json.loads((tmp_path / "eval" / "results.json").read_text())
    assert found["metrics"]["test"] == pytest.approx(of_run)
    assert len(found["ablation"]) > 0
    assert (tmp_path / "eval" / "report" / "report.html").exists()


def test_evaluations_may_share_what_the_image_model_gave(run, pictures, tmp_path, monkeypatch):
    store, given = (
        tmp_path / "store",
        ["--bootstrap", "0", "--no_reasons", "--feature_cache_dir", str(tmp_path / "store")],
    )
    eval_checkpoint.main([str(run), str(pictures), "--out", str(tmp_path / "first"), *given])
    assert any(store.iterdir())

    def refused(*_, **__):
        raise AssertionError("features are computed again")

    monkeypatch.setattr(FeatureCache, "_fill", refused)
    eval_checkpoint.main([str(run), str(pictures), "--out", str(tmp_path / "second"), *given])
    first, second = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("first", "second"))
    assert first["metrics"] == second["metrics"] and first["ablation"] == second["ablation"]
    assert first["details"] == {"computed in": "float32"}
    inside = ["--feature_cache_dir", str(run / "_feature_cache")]
    with pytest.raises(ValueError, match="Expected --feature_cache_dir outside of saved models and runs, found"):
        eval_checkpoint.main([str(run), str(pictures), "--out", str(tmp_path / "third"), *inside])


def test_predictions_share_the_store_of_evaluations(run, pictures, tmp_path, monkeypatch):
    kept = ["--feature_cache_dir", str(tmp_path / "store")]
    eval_checkpoint.main(
        [str(run), str(pictures), "--out", str(tmp_path / "eval"), "--bootstrap", "0", "--no_reasons", *kept]
    )
    new = str(pictures / "test.jsonl")
    predict.main([str(run), new, str(tmp_path / "plain.parquet")])

    def refused(*_, **__):
        raise AssertionError("features are computed again")

    monkeypatch.setattr(FeatureCache, "_fill", refused)
    predict.main([str(run), new, str(tmp_path / "stored.parquet"), "--batch_size", "5", *kept])
    plain, stored = (pq.read_table(tmp_path / f"{name}.parquet").to_pydict() for name in ("plain", "stored"))
    assert plain["prediction"] == stored["prediction"]
    assert stored["probability"] == pytest.approx(plain["probability"], abs=1e-5)


def test_a_store_is_in_float32_where_scores_are_in_bf16(run, pictures, tmp_path):
    given, store = [str(run), str(pictures / "test.jsonl")], tmp_path / "store"
    for name, kept in {"plain": [], "stored": ["--feature_cache_dir", str(store)]}.items():
        predict.main([*given, str(tmp_path / f"{name}.parquet"), "--precision", "bf16", *kept])
    assert {json.loads(meta.read_text())["computed"] for meta in store.glob("*/meta.json")} == {"float32"}
    plain, stored = (pq.read_table(tmp_path / f"{name}.parquet").to_pydict() for name in ("plain", "stored"))
    assert stored["probability"] == pytest.approx(plain["probability"], abs=0.01)  # as the flag's help says


def test_a_store_in_an_input_folder_is_refused_and_one_beside_pictures_is_no_data(run, pictures, tmp_path, caplog):
    shutil.copytree(pictures, tmp_path / "data")
    given = [str(run), str(tmp_path / "data" / "test.jsonl"), str(tmp_path / "out.csv")]
    with pytest.raises(ValueError, match=r"Expected --feature_cache_dir apart from '.*data', found '.*data/store'"):
        kept = ["--feature_cache_dir", str(tmp_path / "data" / "store")]
        eval_checkpoint.main([str(run), str(tmp_path / "data"), "--out", str(tmp_path / "eval"), *kept])
    predict.main([*given, "--feature_cache_dir", str(tmp_path / "data" / "img" / "store")])
    assert list((tmp_path / "data" / "img" / "store").glob("*/*.json"))
    assert len(find_sources(tmp_path / "data")) == 3 and "Not read" not in caplog.text


def test_a_first_prediction_makes_the_store_and_writes_nothing_else(run, pictures, tmp_path):
    out, store = tmp_path / "out" / "new.csv", tmp_path / "store"
    out.parent.mkdir()
    predict.main([str(run), str(pictures / "test.jsonl"), str(out), "--feature_cache_dir", str(store)])
    assert [path.name for path in tmp_path.iterdir() if path != store] == ["out"]
    assert [path.name for path in out.parent.iterdir()] == ["new.csv"] and any(store.iterdir())


@pytest.mark.parametrize(
    ("store", "told"),
    [
        ("file/below", "Expected a folder as --feature_cache_dir, found a file at "),
        ("{run}/features", "Expected --feature_cache_dir outside of saved models and runs, found "),
        ("/proc/features", "Expected a folder that can be written as --feature_cache_dir, found "),
        ("data", "Expected --feature_cache_dir apart from 'data/test.jsonl', found 'data'. Name a new folder"),
        ("data/test.jsonl", "Expected a folder as --feature_cache_dir, found a file at "),
        ("out", "Expected --feature_cache_dir apart from 'out', found 'out'. Name a new folder"),
        ("out/features", "Expected --feature_cache_dir apart from 'out', found 'out/features'. "),
        ("", "Expected a folder as --feature_cache_dir, found an empty name. Give a path."),
        (".", "Expected --feature_cache_dir apart from 'data/test.jsonl', found '.'. "),
    ],
)
@pytest.mark.parametrize("command", [predict, eval_checkpoint])
def test_a_store_that_clashes_is_refused_under_the_name_of_its_flag(
    run, pictures, tmp_path, monkeypatch, store, told, command
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pictures, "data")
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    kept = ["--feature_cache_dir", store.format(run=run)]
    given = ["data/test.jsonl", "out.csv"] if command is predict else ["data/test.jsonl", "--out", "out"]
    if command is predict and store.startswith("out"):
        given, told = ["data/test.jsonl", "out/new.csv"], "Expected --feature_cache_dir "
        kept = ["--feature_cache_dir", "out"]  # holds the output
    with pytest.raises(ValueError, match=re.escape(told)):
        command.main([str(run), *given, *kept])
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", [predict, eval_checkpoint])
def test_a_model_of_another_package_is_named(pictures, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    config = BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4)
    BertModel(config).save_pretrained(tmp_path / "bert")
    given = ["out.csv"] if command is predict else ["--out", "out"]
    told = (
        r"Expected a model of this package in '.*bert' .*, found one of model_type 'bert'\. Fine-tune first, from that"
    )
    with pytest.raises(ValueError, match=told):
        command.main([str(tmp_path / "bert"), str(pictures / "test.jsonl"), *given])


@pytest.mark.parametrize("flag", [["--state", "{out}/state"], ["--level", "row"]])
def test_flags_of_tables_are_refused_for_pictures(run, pictures, tmp_path, flag):
    given = [one.format(out=tmp_path) for one in flag]
    with pytest.raises(ValueError, match=f"for a model of pictures, found {flag[0]}, which only a model of a table"):
        predict.main([str(run), str(pictures / "test.jsonl"), str(tmp_path / "new.csv"), *given])


def test_evaluation_of_an_unknown_split_names_the_splits(run, pictures, tmp_path):
    with pytest.raises(
        ValueError, match=r"Expected --split to be one of \['train', 'validation', 'test', 'all'\], found 'hard'"
    ):
        eval_checkpoint.main([str(run), str(pictures), "--split", "hard", "--out", str(tmp_path / "eval")])


def test_a_test_file_alone_is_enough_and_unknown_labels_are_named(run, pictures, tmp_path):
    alone = pictures / "alone"
    alone.mkdir(exist_ok=True)
    text = (pictures / "test.jsonl").read_text().replace("img/", "../img/")
    (alone / "test.jsonl").write_text(text)
    of_run = json.loads((run / "results.json").read_text())["metrics"]["test"]
    for data, split in ((alone, "test"), (alone / "test.jsonl", "all")):
        out = tmp_path / split
        eval_checkpoint.main([str(run), str(data), "--split", split, "--out", str(out), "--no_ablation"])
        assert json.loads((out / "results.json").read_text())["metrics"][split] == pytest.approx(of_run)
    (alone / "test.jsonl").write_text(text.replace('"other"', '"else"'))
    with pytest.raises(ValueError, match=r"one of .*other.*same.* found 'else'"):
        eval_checkpoint.main([str(run), str(alone), "--out", str(tmp_path / "eval")])


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_predictions_stand_beside_the_columns_of_the_input(run, pictures, tmp_path, kind):
    lines = [json.loads(line) for line in (pictures / "test.jsonl").read_text().splitlines()]
    source = pictures / "new.csv"
    with open(source, "w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "text", "img"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(lines)
    out = tmp_path / f"out.{kind}"
    predict.main([str(run), str(source), str(out), "--batch_size", "5"])
    read = {
        "parquet": lambda: pq.read_table(out).to_pylist(),
        "jsonl": lambda: [json.loads(line) for line in out.read_text().splitlines()],
        "csv": lambda: list(csv.DictReader(out.open())),
    }
    rows = read[kind]()
    of_run = pq.read_table(run / "predictions" / "test.parquet").to_pylist()
    assert [row["id"] for row in rows] == [line["id"] for line in lines]
    for row, known in zip(rows, of_run, strict=True):
        assert row["prediction"] == known["prediction"]
        assert float(row["probability_same"]) == pytest.approx(known["probability_same"], abs=1e-5)
        assert list(row) == ["id", "text", "img", "prediction", "probability", *(c for c in row if "probability_" in c)]
    assert [path.name for path in tmp_path.glob(".out*")] == []


def test_predictions_keep_the_inputs_columns_under_their_names_whatever_these_are(run, pictures, tmp_path):
    lines = [json.loads(line) for line in (pictures / "test.jsonl").read_text().splitlines()][:4]
    renamed = [
        {"image": one["img"], "title": one["text"], "label": "mine", "prediction": i} for i, one in enumerate(lines)
    ]
    source, out = pictures / "renamed.jsonl", tmp_path / "out.parquet"
    source.write_text("".join(json.dumps(one) + "\n" for one in renamed))
    predict.main([str(run), str(source), str(out), "--image_column", "image", "--text_column", "title"])
    rows = pq.read_table(out).to_pylist()
    assert list(rows[0])[:6] == ["image", "title", "label", "input_prediction", "prediction", "probability"]
    assert [row["input_prediction"] for row in rows] == [0, 1, 2, 3]
    assert [(row["image"], row["title"], row["label"]) for row in rows] == [
        (one["img"], one["text"], "mine") for one in lines
    ]


def test_predictions_of_predictions_lose_no_column(run, pictures, tmp_path):
    pytest.importorskip("captum")
    lines = [json.loads(line) for line in (pictures / "test.jsonl").read_text().splitlines()][:2]
    own = {"prediction": "a", "input_prediction": "b", "label": "c", "input_label": "d", "reason_1": "e"}
    source, outs = pictures / "own.jsonl", [tmp_path / "one.parquet", tmp_path / "two.parquet"]
    source.write_text("".join(json.dumps({"img": one["img"], "text": one["text"], **own}) + "\n" for one in lines))
    for out in outs:
        predict.main([str(run), str(source), str(out), "--explain", "1"])
        source = pictures / "again.parquet"
        shutil.copy(out, source)
    kept = {"input_input_prediction": "a", "input_prediction": "b", "label": "c", "input_label": "d"}
    first, second = (pq.read_table(out).to_pylist()[0] for out in outs)
    assert first.items() >= (kept | {"input_reason_1": "e"}).items()
    assert {*kept.values(), "e", str(first["prediction"]), str(first["reason_1"])} <= set(map(str, second.values()))
    assert len(second) > len(first)


def test_an_output_of_an_unknown_kind_is_refused_before_any_work(run, pictures, tmp_path):
    with pytest.raises(
        ValueError, match=r"Expected the output to end in one of .parquet, .jsonl, .csv, found 'out.xlsx'"
    ):
        predict.main([str(run), str(pictures / "test.jsonl"), str(tmp_path / "out.xlsx")])


def test_pictures_are_not_scored_on_ray(run, tmp_path):
    with pytest.raises(ValueError, match=r"beside --engine ray, found a model of pictures and texts"):
        predict.main([str(run), "absent.jsonl", str(tmp_path / "out.parquet"), "--engine", "ray"])


def test_flags_of_pictures_are_refused_for_tables(runs, tmp_path):
    out, lstm = str(tmp_path / "out"), str(runs / "lstm")
    store = ["--feature_cache_dir", str(tmp_path / "store")]
    with pytest.raises(ValueError, match=r"a model of a table, found --feature_cache_dir, which only .* of pictures"):
        eval_checkpoint.main([lstm, str(tmp_path / "table.csv"), "--out", out, *store])
    with pytest.raises(ValueError, match="for a model of a table, found --image_column, --num_workers, which only"):
        predict.main([lstm, "table.csv", f"{out}.csv", "--image_column", "photo", "--num_workers", "1"])
    assert not (tmp_path / "out").exists()

"""Columns of the input that no model reads come out of `predict` as they came in, and do not decide on records."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from running import command

from hf_mmtab.commands import predict
from hf_mmtab.data.image_text import ImageText
from hf_mmtab.data.image_text_loading import read_image_text
from hf_mmtab.data.reading.records import BadRecord, many_left_out
from hf_mmtab.evaluation.judging import closing_words
from hf_mmtab.evaluation.run_results import RunResults


def test_columns_come_out_as_they_came_in(finished_pictures, pictures, tmp_path):
    first = str(pictures / "img" / "test-0.png")
    rows = [
        {"price": None, "image": first, "text": "the sea", "also": 1, "tags": ["a"]},
        {"price": 2.5, "image": [first], "text": None, "also": ["x"], "tags": []},
        {"price": 1.0, "image": [], "text": "the land", "also": '["x"]', "tags": None},
        {"price": 1.0, "image": None, "text": "", "also": {"k": 1}, "tags": ["b", "c"]},
    ]
    given = tmp_path / "new.jsonl"
    given.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for suffix in ("jsonl", "parquet", "csv"):
        out = tmp_path / f"out.{suffix}"
        command("predict", finished_pictures, given, out, "--allow_empty_text", "--image_column", "image")
        if suffix == "jsonl":
            found = [json.loads(line) for line in out.read_text().splitlines()]
            assert [dict(list(row.items())[:5]) for row in found] == rows
            assert list(found[0])[:6] == [*rows[0], "prediction"]
        elif suffix == "parquet":
            table = pq.read_table(out)
            assert table["image"].to_pylist() == [[first], [first], [], None]
            assert table["text"].to_pylist() == [row["text"] for row in rows]
            assert table["also"].to_pylist() == ["1", '["x"]', '["x"]', '{"k": 1}']
        else:
            assert out.read_text().splitlines()[2].startswith(f'2.5,"[""{first}""]",,')


def written(folder, kind, broken):
    """Three rows, of which the second has a text that is not UTF-8."""
    folder.mkdir()
    rows = [{"text": f"t{i}", "label": "xy"[i % 2], "brand": "b"} for i in range(3)]
    rows[1][broken] = "Caf?"
    if kind == "parquet":
        columns = {name: [row[name].encode() for row in rows] for name in rows[0]}
        columns[broken][1] = b"Caf\xe9"
        table = {name: pa.array(values, pa.binary()).view(pa.string()) for name, values in columns.items()}
        pq.write_table(pa.table(table), folder / "train.parquet")
        return folder
    lines = [",".join(row.values()) for row in rows] if kind == "csv" else [json.dumps(row) for row in rows]
    lines = ["text,label,brand", *lines] if kind == "csv" else lines
    (folder / f"train.{kind}").write_bytes("\n".join(lines).encode().replace(b"Caf?", b"Caf\xe9") + b"\n")
    return folder


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_only_columns_that_are_read_decide_on_a_record(kind, tmp_path):
    options = {"cache_dir": str(tmp_path / "cache"), "image_column": None, "split_fractions": (1.0, 0.0, 0.0)}
    folder = written(tmp_path / "own", kind, "brand")
    found = read_image_text(
        folder / f"train.{kind}", on_bad_record="skip", **{k: options[k] for k in ("cache_dir", "image_column")}
    )
    assert found.skipped == [] and found.rows["brand"][:] == ["b", "Caf\ufffd", "b"]
    with pytest.raises(ValueError, match=r"(?i)utf-8"):
        builder = ImageText(folder, category_columns=("brand",), **options)
        builder.download_and_prepare()
    with pytest.raises(ValueError, match=r"(?i)utf-8"):
        ImageText(written(tmp_path / "text", kind, "text"), **options).download_and_prepare()


def test_many_records_left_out_are_told_at_the_end():
    bad = [BadRecord("f", i, "brand" if i else None, "UTF-8 text", "x", "y") for i in range(4)]
    told = many_left_out(bad, {"test": 6})
    assert told.startswith("40% of the records were left out, 4 of 10: 3 for want of UTF-8 text in column 'brand'.")
    assert told.endswith("The numbers are of the others.")
    assert many_left_out(bad[:1], {"test": 9}) == many_left_out([], {"test": 0}) == ""
    of_train = [replace(one, split="train") for one in bad]  # few of all, many of a split
    assert many_left_out(of_train, {"train": 6, "test": 90}).endswith(
        " By split: train 40% (4 of 10), test 0% (0 of 90)."
    )
    some = many_left_out([*of_train, bad[0]], {"train": 6, "test": 9})
    assert some.endswith(" By split: train 40% (4 of 10), test 0% (0 of 9); 1 of no known split.")
    results = RunResults("mmbt", "d", "test", metrics={"test": {}}, judged={"test": {"rows": 6}}, left_out=told)
    assert closing_words(results)[-1] == told and RunResults.from_json(results.to_json()).left_out == told


def test_a_run_tells_that_many_records_were_left_out(recipe, pictures, tmp_path, capsys):
    (data := tmp_path / "data").mkdir()
    for split in ("train", "dev", "test"):
        rows = [json.loads(line) for line in (pictures / f"{split}.jsonl").read_text().splitlines()]
        for number, row in enumerate(rows):
            is_bad = split == "train" and number % 2
            row |= {"img": str(pictures / row["img"]), "text": "" if is_bad and number % 4 == 1 else row["text"]}
            row |= {"img": __file__} if is_bad and number % 4 == 3 else {}
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["--data", data, "--on_bad_record", "skip", "--num_train_epochs", "1", "--bootstrap", "0"]
    for store in (data, data / "store"):
        with pytest.raises(ValueError, match="Expected --feature_cache_dir apart from"):
            command("finetune", recipe, *given, "--feature_cache_dir", store)
    with pytest.raises(ValueError, match="Expected a folder as --feature_cache_dir, found an empty name"):
        command("finetune", recipe, *given, "--feature_cache_dir", " ")
    command("finetune", recipe, *given, "--max_rows", "8")
    read = {split: len((data / f"{split}.jsonl").read_text().splitlines()) for split in ("train", "dev", "test")}
    bad = read["train"] // 2
    shares = f"By split: train 50% ({bad} of {read['train']}), validation 0% (0 of {read['dev']}), test 0% "
    whole = sum(read.values())
    told = f"{bad / whole:.0%} of the records were left out, {bad} of {whole}: {bad // 2} for want of a text"
    run = tmp_path / "run"
    for store, why in ((run / "store", "outside of saved models and runs"), (run / "results.json", "found a file at")):
        with pytest.raises(ValueError, match=why):
            command("finetune", recipe, *given, "--feature_cache_dir", store, "--output_dir", tmp_path / "other")
    page, card = (run / "report" / "report.html").read_text(), (run / "README.md").read_text().replace("\\", "")
    for text in (capsys.readouterr().out, page, card):
        assert told in text and shares in text
    compared = ["--max_rows", "8", "--compare", "frozen_linear", "--output_dir", tmp_path / "compared"]
    command("finetune", recipe, *given, *compared)
    assert told in capsys.readouterr().out and told in (tmp_path / "compared" / "comparison.md").read_text()
    capsys.readouterr()
    command("predict", run, data / "train.jsonl", tmp_path / "out.csv", "--on_bad_record", "skip")
    assert f"{bad} bad records left out, 50% of all (the first 5 are listed above)" in capsys.readouterr().out


def test_bad_records_of_one_file_are_of_the_split_that_they_would_be_in(tmp_path):
    rows = [{"text": "" if i % 3 == 0 else f"t{i}", "label": "xy"[i % 2]} for i in range(60)]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    builder = ImageText(
        tmp_path / "all.jsonl", cache_dir=str(tmp_path / "cache"), on_bad_record="skip", image_column=None
    )
    builder.download_and_prepare()
    splits, skipped = builder.as_dataset(), builder.skipped
    counts = {split: sum(one.split == split for one in skipped) for split in (*splits, None)}
    assert counts.pop(None) == 1 and sum(counts.values()) == 20 and counts["train"] > counts["test"]
    assert sum(map(len, splits.values())) == 40


def test_categories_of_a_parquet_file_come_out_with_their_order_and_type(finished_pictures, tmp_path):
    size = pa.DictionaryArray.from_arrays(pa.array([2, None, 0], pa.int8()), ["small", "medium", "large"], ordered=True)
    given = pa.table({"text": ["the sea", "the land", "a sea"], "size": size})
    pq.write_table(given, tmp_path / "new.parquet")
    command("predict", finished_pictures, tmp_path / "new.parquet", tmp_path / "out.parquet", "--image_column", "none")
    found = pq.read_table(tmp_path / "out.parquet")["size"]
    assert found.type == given["size"].type
    assert found.to_pylist() == ["large", None, "small"]
    assert found.chunk(0).dictionary.to_pylist() == ["small", "medium", "large"]


def test_predict_tells_texts_of_unread_columns_that_are_no_utf8(finished_pictures, pictures, tmp_path, caplog):
    source = pictures / "latin.csv"
    lines = (pictures / "test.jsonl").read_text().splitlines()[:2]
    rows = [json.loads(line) for line in lines]
    cells = [b"img,text,remark"] + [f"{row['img']},a word,".encode() + b"Caf\xe9" for row in rows]
    source.write_bytes(b"\n".join(cells) + b"\n")
    predict.main([str(finished_pictures), str(source), str(tmp_path / "out.csv")])
    source.unlink()
    assert "2 texts of column 'remark', which the model does not read: no UTF-8; broken" in caplog.text

"""The builder of anybody's pictures and texts: kinds of files, columns, splits, labels, cache."""

import json
import logging
from pathlib import Path

import datasets
import pytest
from image_text_splits import load_image_text
from PIL import Image

from hf_mmtab.data.image_text import ImageText
from hf_mmtab.data.image_text_loading import read_image_text
from hf_mmtab.data.pictures.columns import find_columns

LABELS = ["cat", "dog", "ant"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with six pictures, named 0.png ... 5.png."""
    root = tmp_path / "pets"
    (root / "img").mkdir(parents=True)
    for index in range(6):
        Image.new("RGB", (8, 6), (index * 40, 0, 0)).save(root / "img" / f"{index}.png")
    return root


def rows_of(count: int = 6, **changes) -> list[dict]:
    return [
        {"id": i, "text": f"text {i}", "img": f"img/{i % 6}.png", "label": LABELS[i % 3], **changes}
        for i in range(count)
    ]


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def build(data, tmp_path: Path, **options) -> datasets.DatasetDict:
    splits, skipped = load_image_text(data, cache_dir=str(tmp_path / "cache"), **options)
    assert skipped == []
    return splits


def test_json_lines_become_typed_splits(folder, tmp_path):
    write_jsonl(folder / "train.jsonl", rows_of())
    write_jsonl(folder / "dev.jsonl", rows_of(3))
    write_jsonl(folder / "test_hard.jsonl", rows_of(2))
    splits = build(folder, tmp_path)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 6, "validation": 3, "test_hard": 2}
    assert splits["train"].features["label"].names == ["ant", "cat", "dog"]
    assert splits["train"].features["id"] == datasets.Value("int64")
    row = splits["train"][4]
    assert (row["text"], row["label"], row["image"].getpixel((0, 0))) == ("text 4", 2, (160, 0, 0))


def test_csv_equals_json_lines(folder, tmp_path):
    lines = ["id,picture,caption,category", *(f'{i},img/{i}.png,"text, {i}",{LABELS[i % 3]}' for i in range(6))]
    (folder / "train.csv").write_text("\n".join(lines), encoding="utf-8")
    (folder / "validation.csv").write_text("\n".join(lines[:3]), encoding="utf-8")
    train = build(folder, tmp_path)["train"]
    assert train["text"][:] == [f"text, {i}" for i in range(6)]
    assert [train.features["label"].int2str(label) for label in train["label"]] == LABELS * 2


def test_parquet_keeps_embedded_pictures_and_class_names(folder, tmp_path):
    write_jsonl(folder / "train.jsonl", rows_of())
    write_jsonl(folder / "dev.jsonl", rows_of(3))
    source = build(folder, tmp_path, label_order="first")
    other = tmp_path / "parquet"
    other.mkdir()
    for name, rows in source.items():
        rows = rows.cast_column("image", datasets.Image(decode=False))
        rows = rows.map(lambda row: {"image": {"bytes": Path(row["image"]["path"]).read_bytes(), "path": "x.png"}})
        rows.to_parquet(other / f"{name}-00000-of-00001.parquet")
    again = build(other, tmp_path)
    assert again["train"].features["label"].names == LABELS  # not sorted: the file's own class numbers
    assert again["train"]["label"][:] == source["train"]["label"][:]
    assert again["train"][5]["image"].getpixel((0, 0)) == (200, 0, 0)


def test_a_data_set_in_memory_gives_the_same_rows_as_its_file(folder, tmp_path):
    write_jsonl(folder / "train.jsonl", rows_of())
    write_jsonl(folder / "dev.jsonl", rows_of(3))
    rows = [{**row, "img": str(folder / row["img"])} for row in rows_of()]
    in_memory = datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(rows), "val": datasets.Dataset.from_list(rows[:3])}
    )
    from_files, from_memory = build(folder, tmp_path), build(in_memory, tmp_path)
    assert from_memory["train"].features == from_files["train"].features
    assert from_memory["validation"].to_list() == from_files["validation"].to_list()
    with_pictures = in_memory.cast_column("img", datasets.Image())
    assert build(with_pictures, tmp_path)["train"][2]["image"].getpixel((0, 0)) == (80, 0, 0)


def test_several_labels_become_a_list(folder, tmp_path):
    rows = rows_of(label=["b", "a", "b"]) + rows_of(1, label=[]) + rows_of(1, label=["c"])
    write_jsonl(folder / "train.jsonl", rows)
    write_jsonl(folder / "dev.jsonl", rows[:2])
    train = build(folder, tmp_path)["train"]
    assert train.features["labels"] == datasets.List(datasets.ClassLabel(names=["a", "b", "c"]))
    assert train[0]["labels"] == [1, 0] and train[6]["labels"] == []


@pytest.mark.parametrize(
    "options",
    [{"label_column": "text"}, {"label_column": "img"}, {"number_columns": ["label"]}, {"category_columns": ["label"]}],
)
def test_a_label_is_never_an_input(folder, tmp_path, options):
    write_jsonl(folder / "train.jsonl", rows_of())
    with pytest.raises(
        ValueError, match=r"Expected a label that the model does not read, found column '\w+' of .*train"
    ):
        build(folder, tmp_path, **options)


def test_a_separator_splits_labels_of_csv(folder, tmp_path):
    lines = ["text,img,label", "one,img/0.png,a|b", "two,,b", "three,img/1.png,a"]
    (folder / "train.csv").write_text("\n".join(lines), encoding="utf-8")
    (folder / "dev.csv").write_text("\n".join(lines), encoding="utf-8")
    train = build(folder, tmp_path, label_separator="|")["train"]
    assert train["labels"][:] == [[0, 1], [1], [0]]
    assert train[1]["image"] is None


@pytest.mark.parametrize(
    ("order", "names"),
    [("alphabetical", ["ant", "cat", "dog"]), ("first", ["cat", "dog", "ant"]), ("frequency", ["ant", "cat", "dog"])],
)
def test_class_numbers_follow_the_chosen_order(folder, tmp_path, order, names):
    rows = rows_of() + rows_of(1, label="ant")
    write_jsonl(folder / "train.jsonl", rows)
    write_jsonl(folder / "dev.jsonl", rows)
    assert build(folder, tmp_path, label_order=order)["train"].features["label"].names == names


def test_whole_numbers_as_labels_are_sorted_by_value(folder, tmp_path):
    rows = [{**row, "label": 2 + 8 * (i % 2)} for i, row in enumerate(rows_of())]
    write_jsonl(folder / "train.jsonl", rows)
    write_jsonl(folder / "dev.jsonl", rows)
    assert build(folder, tmp_path)["train"].features["label"].names == ["2", "10"]


def test_one_file_is_split_by_class_and_seed(folder, tmp_path):
    write_jsonl(folder / "anything.jsonl", rows_of(300))
    splits = build(folder, tmp_path)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 240, "validation": 30, "test": 30}
    assert sorted(i for rows in splits.values() for i in rows["id"]) == list(range(300))
    assert [splits["test"]["label"][:].count(label) for label in range(3)] == [10, 10, 10]
    assert build(folder / "anything.jsonl", tmp_path)["test"]["id"][:] == splits["test"]["id"][:]
    assert build(folder, tmp_path, split_seed=1)["test"]["id"][:] != splits["test"]["id"][:]


def test_train_gives_up_a_part_where_there_is_no_validation_file(folder, tmp_path):
    write_jsonl(folder / "train.jsonl", rows_of(90))
    write_jsonl(folder / "test.jsonl", rows_of(6))
    splits = build(folder, tmp_path)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 80, "validation": 10, "test": 6}


def test_own_columns_keep_their_values_but_not_the_processors_names(folder, tmp_path):
    rows = [{**row, "image": i, "mixed": [1, "two", None][i % 3]} for i, row in enumerate(rows_of())]
    write_jsonl(folder / "train.jsonl", rows)
    write_jsonl(folder / "dev.jsonl", rows)
    train = build(folder, tmp_path, image_column="img")["train"]
    assert train["input_image"][:] == list(range(6))
    assert train["mixed"][:3] == ["1", "two", None]


def test_an_appended_row_is_seen_though_the_cache_is_there(folder, tmp_path):
    write_jsonl(folder / "dev.jsonl", rows_of(3))
    write_jsonl(folder / "train.jsonl", rows_of(6))
    assert len(build(folder, tmp_path)["train"]) == 6
    write_jsonl(folder / "train.jsonl", rows_of(7))
    assert len(build(folder, tmp_path)["train"]) == 7


def test_rows_can_be_streamed(folder, tmp_path):
    write_jsonl(folder / "train.jsonl", rows_of())
    write_jsonl(folder / "dev.jsonl", rows_of(3))
    builder = ImageText(folder, cache_dir=str(tmp_path / "cache"))
    rows = list(builder.as_streaming_dataset(split="train"))
    assert [row["text"] for row in rows] == [f"text {i}" for i in range(6)]
    assert rows[3]["image"].getpixel((0, 0)) == (120, 0, 0)
    assert not (tmp_path / "cache" / "image_text").exists()


def test_input_for_prediction_keeps_its_columns_and_needs_no_label(folder, tmp_path):
    rows = [{"image": f"img/{i}.png", "title": f"t{i}", "label": "unseen", "price": 1.5 * i} for i in range(3)]
    path = write_jsonl(folder / "new.jsonl", rows)
    found = read_image_text(path, cache_dir=str(tmp_path / "cache"))
    read = found.rows
    assert found.skipped == []
    names = {"input_image": "image", "title": "title", "input_label": "label", "price": "price"}
    assert found.own_columns == names
    assert read.column_names == ["image", "text", "input_image", "title", "input_label", "price"]
    assert read["input_image"][:] == ["img/0.png", "img/1.png", "img/2.png"]
    assert read["text"][:] == read["title"][:] == ["t0", "t1", "t2"]
    assert read["price"][:] == [0.0, 1.5, 3.0] and read["input_label"][:] == ["unseen"] * 3


def test_input_for_prediction_must_be_one_file(folder, tmp_path):
    write_jsonl(folder / "train.jsonl", rows_of())
    write_jsonl(folder / "test.jsonl", rows_of())
    with pytest.raises(ValueError, match=r"Expected one data file to predict, found \['train.jsonl', 'test.jsonl'\]"):
        read_image_text(folder, cache_dir=str(tmp_path / "cache"))


def test_pictures_or_texts_may_be_left_out(folder, tmp_path):
    write_jsonl(folder / "train.jsonl", [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}] * 10)
    assert "image" not in build(folder, tmp_path, image_column=None)["train"].features
    write_jsonl(folder / "train.jsonl", [{"img": "img/0.png", "label": "x"}, {"img": None, "label": "y"}] * 10)
    assert "text" not in build(folder, tmp_path, text_column=None)["train"].features


def test_the_sample_ships_with_the_package(tmp_path):
    splits = build("sample:openclipart", tmp_path)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 940, "validation": 140, "test": 280}
    assert "keywords" not in splits["train"].column_names
    for rows in splits.values():
        assert len(rows.features["label"].names) == 14 == len(set(rows["label"]))
    assert splits["test"][0]["image"].size[0] <= 224


def test_an_unknown_sample_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"one of \['openclipart'\], found 'cats'"):
        load_image_text("sample:cats", cache_dir=str(tmp_path / "cache"))


def test_whole_numbers_of_a_csv_file_stay_numbers_and_all_else_stays_text(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    rows = ["7,007,1,a.png,x,", "-12,010,2.5,a.png,y,3"]
    (tmp_path / "new.csv").write_text("id,code,price,img,text,seen\n" + "\n".join(rows) + "\n")
    found = read_image_text(tmp_path / "new.csv", cache_dir=str(tmp_path / "cache")).rows
    own = {name: found[name][:] for name in ("id", "code", "price", "seen")}
    assert own == {"id": [7, -12], "code": ["007", "010"], "price": ["1", "2.5"], "seen": [None, 3]}


def test_what_product_and_film_tables_call_their_texts_is_known(tmp_path):
    for name in ("overview", "product_name", "description"):
        assert find_columns(["id", "image", name, "label"], "here").text == name


def test_data_of_texts_or_of_pictures_alone_says_none(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    for kept, absent, value in (("text", "image", "a fork"), ("image", "text", "a.png")):
        file = tmp_path / f"{kept}.jsonl"
        file.write_text("".join(json.dumps({kept: value, "label": label}) + "\n" for label in "xyxyxyxyxy"))
        with pytest.raises(ValueError, match=f"Name it with {absent}_column; set that to none"):
            ImageText(file, cache_dir=str(tmp_path / "cache")).download_and_prepare()
        builder = ImageText(file, cache_dir=str(tmp_path / "cache"), **{f"{absent}_column": "none"})
        builder.download_and_prepare()
        rows = builder.as_dataset()["train"]
        assert kept in rows.column_names and absent not in rows.column_names


def test_a_label_in_a_list_beside_single_ones_is_told(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("hf_mmtab"), "propagate", True)
    rows = [{"image": None, "text": "a", "label": label} for label in ["x", "y", ["x"]] * 4]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ImageText(tmp_path / "rows.jsonl", cache_dir=str(tmp_path / "cache")).download_and_prepare()
    assert "rows.jsonl', line 3, and a single one in" in caplog.text and "several labels a row" in caplog.text

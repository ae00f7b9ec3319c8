"""Bad pictures, texts and labels: each a message with file, line, column, value and remedy."""

import inspect
import json
import pickle
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_text_splits import load_image_text
from PIL import Image

from hf_mmtab.data.image_text import ImageText
from hf_mmtab.data.image_text_loading import read_image_text
from hf_mmtab.data.pictures import opening as pictures
from hf_mmtab.data.reading.records import BadRecord, BadRecordError
from hf_mmtab.models.mmbt import image_reading_mmbt

SKIP_HINT = " To leave such records out and list them, set on_bad_record to skip."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pets"
    root.mkdir()
    for index in range(4):
        Image.new("RGB", (8, 6), (index * 40, 0, 0)).save(root / f"{index}.png")
    return root


def good(index: int) -> dict:
    return {"text": f"text {index}", "img": f"{index % 4}.png", "label": ["cat", "dog"][index % 2]}


def write(folder: Path, *changes: dict, name: str = "train.jsonl", count: int = 8) -> Path:
    """Write good rows, with line 3 (and on) replaced; `{"drop": key}` removes a key."""
    rows = [good(index) for index in range(count)]
    for index, change in enumerate(changes, start=2):
        rows[index] = {**rows[index], **change}
        if "drop" in change:
            del rows[index][rows[index].pop("drop")]
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def load(folder: Path, tmp_path: Path, **options):
    return load_image_text(folder, cache_dir=str(tmp_path / "cache"), **options)


def expect(folder: Path, tmp_path: Path, message: str, good_rows: int = 7, **options) -> None:
    """Raised by default; under "skip" the record is left out and listed, and the job goes on."""
    with pytest.raises(BadRecordError) as caught:
        load(folder, tmp_path, **options)
    assert str(caught.value) == message + SKIP_HINT
    splits, skipped = load(folder, tmp_path, on_bad_record="skip", **options)
    assert [str(record) for record in skipped] == [message]
    assert sum(len(rows) for rows in splits.values()) == good_rows


def test_a_key_that_stands_twice_in_a_record(folder, tmp_path):
    path = write(folder)
    lines = path.read_text().splitlines()
    lines[2] = lines[2][:-1] + ', "label": "other"}'
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(BadRecordError, match=r"the key 'label' twice .*line 3"):
        load(folder, tmp_path)
    splits, skipped = load(folder, tmp_path, on_bad_record="skip")
    assert len(skipped) == 1 and sum(map(len, splits.values())) == 7


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n\r\n"])
def test_json_lines_end_in_any_way(folder, tmp_path, end):
    path = write(folder, {"img": "no.png"})
    path.write_bytes(path.read_bytes().replace(b"\n", end.encode()))
    with pytest.raises(BadRecordError, match=rf"line {5 if end.startswith(chr(10)) else 3}"):
        load(folder, tmp_path)
    splits, skipped = load(folder, tmp_path, on_bad_record="skip")
    assert len(skipped) == 1 and sum(map(len, splits.values())) == 7


def test_truncated_json_line(folder, tmp_path):
    path = write(folder)
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[4] = lines[4][:25]
    path.write_text("\n".join(lines), encoding="utf-8")
    expect(
        folder,
        tmp_path,
        'Expected one JSON object in each line, found \'{"text": "text 4", "img":\': Expecting value at '
        "character "
        f"26 ('{path}', line 5). Repair or remove the line.",
    )


def test_line_that_is_no_object_or_no_utf8(folder, tmp_path):
    path = write(folder)
    path.write_bytes(path.read_bytes() + b'["a", "b"]\n\xff\xfe\n')
    splits, skipped = load(folder, tmp_path, on_bad_record="skip")
    assert [(record.line, record.found) for record in skipped] == [
        (9, "['a', 'b']"),
        (10, "b'\\xff\\xfe': 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ]
    assert sum(map(len, splits.values())) == 8


def test_missing_picture_file(folder, tmp_path):
    path = write(folder, {"img": "no.png"})
    expect(
        folder,
        tmp_path,
        f"Expected a readable picture, found no file '{folder}/no.png' ('{path}', line 3, column 'img'). "
        "Repair or remove the picture, or write null for a record without one.",
    )


def test_file_that_is_no_picture(folder, tmp_path):
    (folder / "text.png").write_text("I am not a picture")
    path = write(folder, {"img": "text.png"})
    expect(
        folder,
        tmp_path,
        "Expected a readable picture, found UnidentifiedImageError: cannot identify image file "
        f"'{folder}/text.png' ('{path}', line 3, column 'img'). "
        "Repair or remove the picture, or write null for a record without one.",
    )


def test_picture_cut_short_is_found_before_training(folder, tmp_path):
    whole = folder / "whole.jpg"
    Image.effect_noise((200, 200), 60).save(whole)
    (folder / "cut.jpg").write_bytes(whole.read_bytes()[:4000])
    write(folder, {"img": "cut.jpg"})
    splits, skipped = load(folder, tmp_path, on_bad_record="skip")
    assert [record.line for record in skipped] == [3] and "image file is truncated" in skipped[0].found
    assert sum(map(len, splits.values())) == 7
    with pytest.raises(BadRecordError, match=r"image file is truncated .*line 3"):
        load(folder, tmp_path)


def test_skipped_pictures_are_still_listed_when_the_rows_come_from_the_cache(folder, tmp_path):
    write(folder, {"img": "no.png"}, {"label": None})
    first = load(folder, tmp_path, on_bad_record="skip")[1]
    again = load(folder, tmp_path, on_bad_record="skip")[1]
    assert first == again and [record.line for record in first] == [4, 3]


def test_url_instead_of_a_path(folder, tmp_path):
    path = write(folder, {"img": "https://example.org/cat.png"})
    expect(
        folder,
        tmp_path,
        "Expected the path of a local picture, found 'https://example.org/cat.png' "
        f"('{path}', line 3, column 'img'). Download the pictures first; URLs are not fetched.",
    )


def test_picture_that_is_no_path(folder, tmp_path):
    path = write(folder, {"img": 5})
    expect(
        folder,
        tmp_path,
        f"Expected a picture as path, bytes or null, or a list of them, found 5 (int) ('{path}', line 3, "
        "column 'img'). Write one path (or null), or a list of paths, for each record.",
    )


@pytest.mark.parametrize("text", ["", "  \n", None])
def test_empty_text(folder, tmp_path, text):
    path = write(folder, {"text": text})
    found = f"{text!r}" if isinstance(text, str) else "None (NoneType)"
    expect(
        folder,
        tmp_path,
        f"Expected a text, found {found} ('{path}', line 3, column 'text'). "
        "Write one, leave the record out, or set allow_empty_text to true to keep it.",
    )
    splits, _ = load(folder, tmp_path, allow_empty_text=True)
    assert sum(map(len, splits.values())) == 8


def test_missing_key_in_one_record(folder, tmp_path):
    path = write(folder, {"drop": "text"})
    expect(
        folder,
        tmp_path,
        f"Expected a text, found no such column among ['img', 'label'] ('{path}', line 3, column 'text'). "
        "Write one, leave the record out, or set allow_empty_text to true to keep it.",
    )


def test_text_that_is_no_string(folder, tmp_path):
    path = write(folder, {"text": ["two", "words"]})
    expect(
        folder,
        tmp_path,
        f"Expected a text (str), found ['two', 'words'] (list) ('{path}', line 3, column 'text'). "
        "Write one string for each record.",
    )


@pytest.mark.parametrize("label", [None, {"name": "cat"}, 0.5, ""])
def test_label_neither_str_nor_list(folder, tmp_path, label):
    path = write(folder, {"label": label})
    found = repr(label) if isinstance(label, str) else f"{label!r} ({type(label).__name__})"
    expected = "a label as str, or a list of str for several labels"
    remedy = "Write the label's name; leave out unlabelled records."
    if isinstance(label, float):
        expected = "a label as text or whole number, the name of a class"
        remedy = "Write classes as texts; numbers to estimate, such as prices, are labels of tables (task: table)."
    expect(folder, tmp_path, f"Expected {expected}, found {found} ('{path}', line 3, column 'label'). {remedy}")


def test_label_absent_from_train(folder, tmp_path):
    write(folder, count=4)
    path = write(folder, {"label": "Dog"}, name="dev.jsonl", count=4)
    expect(
        folder,
        tmp_path,
        "Expected a label of the training set, one of ['cat', 'dog'], found 'Dog' "
        f"('{path}', line 3, column 'label'). "
        "Correct it, add training records that have it, or leave the record out.",
    )


def test_several_labels_where_one_is_wanted(folder, tmp_path):
    path = write(folder, {"label": ["cat", "dog"]})
    expect(
        folder,
        tmp_path,
        f"Expected one label (multi_label is false), found 2: ['cat', 'dog'] ('{path}', line 3, column "
        "'label'). Give it one label, or set multi_label to true.",
        multi_label=False,
    )


def test_csv_row_with_too_many_fields(folder, tmp_path):
    lines = ["text,img,label", *(f"text {i},{i % 4}.png,cat" for i in range(7)), "a, b,0.png,cat"]
    path = folder / "train.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    expect(
        folder,
        tmp_path,
        f"Expected 3 cells, found 4: ['a', ' b', '0.png', 'cat'] ('{path}', line 9). "
        "Complete the row, or quote cells that hold the separator.",
    )


def test_csv_quote_never_closed(folder, tmp_path):
    lines = ["text,img,label", *(f"text {i},{i % 4}.png,cat" for i in range(7)), '"a,0.png,cat', "b,0.png,cat"]
    path = folder / "train.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    expect(
        folder,
        tmp_path,
        f"Expected a CSV row, found unexpected end of data ('{path}', line 9). "
        "Look for a quote that is never closed, or text behind a quoted cell.",
        good_rows=8,  # the one below the open quote, too
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "Expected a first line with column names, found nothing in"),
        ("a,a,label\n1,2,x\n", r"Expected different column names, found \['a'\] twice in"),
        (
            "title1,img,label\n1,0.png,x\n",
            r"Expected a column for the text named like one of \['text', .*\], found columns "
            r"\['img', 'label', 'title1'\] in '.*train.csv'. Name it with text_column; "
            r"set that to none",
        ),
    ],
)
def test_csv_with_wrong_columns(folder, tmp_path, content, message):
    (folder / "train.csv").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load(folder, tmp_path)


def test_a_test_file_without_labels_can_be_left_out(folder, tmp_path):
    write(folder)
    (folder / "test.jsonl").write_text('{"text": "a", "img": null}\n')
    with pytest.raises(ValueError, match=r"found columns \['img', 'text'\].* is for `predict`"):
        load(folder, tmp_path)
    assert "test" not in load(folder, tmp_path, splits={"train": "train.jsonl"})[0]


def test_a_picture_that_is_a_program_is_refused(folder, tmp_path):
    Image.new("RGB", (4, 4)).save(folder / "a.eps")
    write(folder, {"img": "a.eps"})
    with pytest.raises(BadRecordError, match="found EPS, which would have to be run as a program"):
        load(folder, tmp_path)


def test_named_column_that_is_not_there(folder, tmp_path):
    path = write(folder)
    message = (
        "Expected column 'caption' for the text, found columns ['img', 'label', 'text'] in "
        f"'{path}'. Correct text_column."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        load(folder, tmp_path, text_column="caption")


def test_folder_without_data_files(folder, tmp_path):
    with pytest.raises(ValueError, match=r"Expected one data file, or files named by their split .* found \['0.png'"):
        load(folder, tmp_path)


def test_files_of_unknown_splits(folder, tmp_path):
    write(folder, name="a.jsonl")
    write(folder, name="b.jsonl")
    with pytest.raises(ValueError, match=r"found \['a.jsonl', 'b.jsonl'\] in .* or pass splits="):
        load(folder, tmp_path)
    splits, _ = load(folder, tmp_path, splits={"train": "a.jsonl", "validation": "b.jsonl"})
    assert sorted(splits) == ["train", "validation"]


def test_no_training_file(folder, tmp_path):
    write(folder, name="test.jsonl")
    with pytest.raises(ValueError, match=r"Expected a file for training, found \['test.jsonl'\]"):
        load(folder, tmp_path)


def test_two_kinds_of_files_for_one_split(folder, tmp_path):
    write(folder)
    (folder / "train.csv").write_text("text,img,label\n")
    with pytest.raises(ValueError, match=r"Expected one kind of file for split 'train', found \['.csv', '.jsonl'\]"):
        load(folder, tmp_path)


def test_nothing_at_the_path(tmp_path):
    with pytest.raises(FileNotFoundError, match="Expected a data folder or file, found nothing at"):
        load(tmp_path / "nowhere", tmp_path)


def test_empty_file_and_file_of_bad_records_only(folder, tmp_path):
    path = folder / "train.jsonl"
    path.write_text("")
    with pytest.raises(ValueError, match="Expected records, found none in"):
        load(folder, tmp_path)
    path.write_text('{"text": "a", "img": null, "label": null}\n')
    with pytest.raises(ValueError, match=r"Expected labelled training records, found none in .* use read_image_text"):
        load(folder, tmp_path, on_bad_record="skip")


def test_json_that_is_no_list(folder, tmp_path):
    (folder / "train.json").write_text('{"text": "a"}')
    with pytest.raises(ValueError, match="Expected a JSON list of objects, found a dict in"):
        load(folder, tmp_path)
    (folder / "train.json").write_text('[{"text": "a"')
    with pytest.raises(ValueError, match="Expected a JSON list of objects, found Expecting ',' delimiter"):
        load(folder, tmp_path)


def test_unknown_policy(folder, tmp_path):
    write(folder)
    with pytest.raises(ValueError, match='Expected on_bad_record to be "raise" or "skip", found \'ignore\''):
        ImageText(folder, on_bad_record="ignore")


def test_prediction_goes_on_past_bad_records_and_tells(folder, tmp_path, caplog):
    path = write(folder, {"img": "no.png"}, {"text": ""}, name="new.jsonl")
    found = read_image_text(path, cache_dir=str(tmp_path / "cache"), on_bad_record="skip")
    assert len(found.rows) == 6 and [record.line for record in found.skipped] == [4, 3]
    assert {record.to_dict()["column"] for record in found.skipped} == {"img", "text"}


def test_a_text_of_100k_characters_is_read_from_every_kind_of_file(folder, tmp_path):
    long = "word " * 20_000
    write(folder, {"text": long})
    assert long in load(folder, tmp_path)[0]["train"]["text"][:]
    (folder / "train.jsonl").unlink()
    (folder / "train.csv").write_text(f'text,img,label\n"{long}",0.png,a\nshort,1.png,b\n', encoding="utf-8")
    assert long in load(folder, tmp_path)[0]["train"]["text"][:]


@pytest.mark.parametrize("check", ["header", "decode"])
def test_a_picture_that_training_would_refuse_is_reported_by_the_check(folder, tmp_path, monkeypatch, check):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    Image.new("L", (90, 90)).save(folder / "large.png")
    write(folder, {"img": "large.png"})
    splits, skipped = load(folder, tmp_path, on_bad_record="skip", check_images=check)
    assert [record.found for record in skipped] == ["90 x 90 pixels, at most 5,000 allowed"]
    with pytest.raises(image_reading_mmbt.ImageReadError, match="90 x 90 pixels, at most 5,000 allowed"):
        image_reading_mmbt.read_image(folder / "large.png")
    assert sum(map(len, splits.values())) == 7


def test_the_check_knows_how_training_reads_pictures():
    reads = inspect.signature(image_reading_mmbt.read_image).parameters["min_side"].default
    assert (image_reading_mmbt.LARGE_PIXELS, reads) == (pictures.LARGE_PIXELS, pictures.MIN_SIDE)
    assert pictures.REFUSED_FORMATS == image_reading_mmbt.REFUSED_FORMATS


def test_hidden_files_are_no_data_and_others_are_named(folder, tmp_path, caplog):
    write(folder)
    write(folder, name=".train.jsonl")
    write(folder, name="._dev.jsonl")
    write(folder, name="extra.jsonl")
    assert sum(map(len, load(folder, tmp_path)[0].values())) == 8
    assert "Not read, since their names say no split: extra.jsonl" in caplog.text


def test_a_parquet_file_that_is_none_is_named(folder, tmp_path):
    (folder / "train.parquet").write_bytes(b"not a table")
    with pytest.raises(ValueError, match=r"Expected .*found .*train.parquet"):
        load(folder, tmp_path)


def test_columns_by_the_thousand_are_kept(folder, tmp_path):
    names = [f"c{i}" for i in range(2000)]
    rows = [f"t {i},{'ab'[i % 2]}," + ",".join(str(i) for _ in names) for i in range(20)]
    (folder / "train.csv").write_text("\n".join([",".join(["text", "label", *names]), *rows]))
    splits, _ = load(folder, tmp_path, image_column=None)
    assert sum(map(len, splits.values())) == 20 and len(splits["train"].column_names) == 2002


def test_a_picture_that_was_repaired_or_broken_since_is_looked_at_again(folder, tmp_path):
    path = write(folder)
    whole = (folder / "1.png").read_bytes()
    counts = []
    for content in (b"broken", whole, b"broken anew", None):
        (folder / "1.png").write_bytes(content) if content is not None else (folder / "1.png").unlink()
        found = read_image_text(path, cache_dir=str(tmp_path / "cache"), on_bad_record="skip")
        counts.append((len(found.rows), len(found.skipped)))
        if content != whole:
            with pytest.raises(BadRecordError, match=r"Expected a readable picture.*line 2"):
                read_image_text(path, cache_dir=str(tmp_path / "cache"))
    assert counts == [(6, 2), (8, 0), (6, 2), (6, 2)]


def test_an_error_keeps_its_record_and_message_between_processes():
    error = BadRecordError(BadRecord("t.csv", 3, "price", "a number", "'x'", "Correct the cell."))
    copy = pickle.loads(pickle.dumps(error))

    assert copy.record == error.record and str(copy) == str(error)
    assert str(copy).count(SKIP_HINT) == 1


def test_pictures_as_lists_of_numbers_in_parquet_are_bad_records(tmp_path):
    table = pa.table({"image": [[[[1, 2, 3]] * 2] * 2] * 6, "text": ["a"] * 6, "label": ["x", "y"] * 3})
    pq.write_table(table, tmp_path / "arrays.parquet")
    builder = ImageText(tmp_path / "arrays.parquet", cache_dir=str(tmp_path / "cache"))
    with pytest.raises(
        BadRecordError, match=r"Expected a readable picture, found .* and not a picture as path.*arrays.parquet', row"
    ):
        builder.download_and_prepare()

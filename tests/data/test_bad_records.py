"""Bad pictures, texts and labels: each a message with file, line, column, value and remedy."""

import inspect
import json
import pickle
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


PICTURE = "Repair or remove the picture, or write null for a record without one."
TEXT = "Write one, leave the record out, or set allow_empty_text to true to keep it."
LABEL, NAME = (
    "a label as str, or a list of str for several labels",
    "Write the label's name; leave out unlabelled records.",
)
BAD = [  # change of a record, expected, found, remedy
    ({"img": "no.png"}, "a readable picture", "no file 'FOLDER/no.png'", PICTURE),
    ({"img": "text.png"}, "a readable picture",
     "UnidentifiedImageError: cannot identify image file 'FOLDER/text.png'", PICTURE),
    ({"img": "https://example.org/cat.png"}, "the path of a local picture", "'https://example.org/cat.png'",
     "Download the pictures first; URLs are not fetched."),
    ({"img": 5}, "a picture as path, bytes or null, or a list of them", "5 (int)",
     "Write one path (or null), or a list of paths, for each record."),
    ({"text": ""}, "a text", "''", TEXT),
    ({"text": "  \n"}, "a text", r"'  \n'", TEXT),
    ({"text": None}, "a text", "None (NoneType)", TEXT),
    ({"drop": "text"}, "a text", "no such column among ['img', 'label']", TEXT),
    ({"text": ["two", "words"]}, "a text (str)", "['two', 'words'] (list)", "Write one string for each record."),
    ({"label": None}, LABEL, "None (NoneType)", NAME),
    ({"label": {"name": "cat"}}, LABEL, "{'name': 'cat'} (dict)", NAME),
    ({"label": ""}, LABEL, "''", NAME),
    ({"label": 0.5}, "a label as text or whole number, the name of a class", "0.5 (float)",
     "Write classes as texts; numbers to estimate, such as prices, are labels of tables (task: table)."),
    ({"label": ["cat", "dog"], "multi_label": False}, "one label (multi_label is false)", "2: ['cat', 'dog']",
     "Give it one label, or set multi_label to true."),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected", "found", "remedy"), BAD)
def test_a_bad_value_is_told_with_its_place_and_a_remedy(folder, tmp_path, change, expected, found, remedy):
    (folder / "text.png").write_text("I am not a picture")
    options = {"multi_label": change["multi_label"]} if "multi_label" in change else {}
    path = write(folder, {key: value for key, value in change.items() if key not in options})
    column, found = change.get("drop", next(iter(change))), found.replace("FOLDER", str(folder))
    message = f"Expected {expected}, found {found} ('{path}', line 3, column '{column}'). {remedy}"
    expect(folder, tmp_path, message, **options)


@pytest.mark.parametrize("text", ["", "  \n", None])
def test_empty_texts_are_kept_where_they_are_allowed(folder, tmp_path, text):
    write(folder, {"text": text})
    splits, _ = load(folder, tmp_path, allow_empty_text=True)
    assert sum(map(len, splits.values())) == 8


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


@pytest.mark.parametrize(
    ("lines", "message", "good_rows"),
    [
        (["a, b,0.png,cat"], "Expected 3 cells, found 4: ['a', ' b', '0.png', 'cat'] ('PATH', line 9). "
         "Complete the row, or quote cells that hold the separator.", 7),
        (['"a,0.png,cat', "b,0.png,cat"], "Expected a CSV row, found unexpected end of data ('PATH', line 9). "
         "Look for a quote that is never closed, or text behind a quoted cell.", 8),  # the one below the quote, too
    ],
)  # fmt: skip
def test_a_bad_csv_row_is_told(folder, tmp_path, lines, message, good_rows):
    path = folder / "train.csv"
    rows = ["text,img,label", *(f"text {i},{i % 4}.png,cat" for i in range(7)), *lines]
    path.write_text("\n".join(rows), encoding="utf-8")
    expect(folder, tmp_path, message.replace("PATH", str(path)), good_rows=good_rows)


RECORD = '{"text": "a", "img": null, "label": null}\n'
WORDED = '{"text": "a", "img": null, "label": "cat", "n": "many"}\n'
FILES = [  # name → content (None: good records), options, message
    ({}, {}, r"Expected one data file, or files named by their split .* found \['0.png'"),
    ({"a.jsonl": None, "b.jsonl": None}, {}, r"found \['a.jsonl', 'b.jsonl'\] in .* or pass splits="),
    ({"test.jsonl": None}, {}, r"Expected a file for training, found \['test.jsonl'\]"),
    ({"train.jsonl": None, "train.csv": "text,img,label\n"}, {},
     r"Expected one kind of file for split 'train', found \['.csv', '.jsonl'\]"),
    ({"train.jsonl": None, "test.jsonl": '{"text": "a", "img": null}\n'}, {},
     r"found columns \['img', 'text'\].* is for `predict`"),
    ({"train.jsonl": None}, {"text_column": "caption"},
     r"Expected column 'caption' for the text, found columns \['img', 'label', 'text'\] in "
     r"'.*train.jsonl'\. Correct text_column\."),
    ({"train.jsonl": ""}, {}, "Expected records, found none in"),
    ({"train.jsonl": RECORD}, {"on_bad_record": "skip"},
     r"Expected rows in .*, found none .*: 1 left out\. The first: .*column 'label'.* use read_image_text"),
    ({"train.jsonl": '{"text": "a", "img": null, "label": []}\n'}, {"on_bad_record": "skip"},
     "Expected labelled training records, found none in .* use read_image_text"),
    ({"train.jsonl": WORDED, "test.jsonl": WORDED}, {"on_bad_record": "skip", "number_columns": ("n",)},
     r"Expected rows of split 'train' in .*: 1 left out\. The first: Expected a number, .*line 1, column 'n'"),
    ({"train.json": '{"text": "a"}'}, {}, "Expected a JSON list of objects, found a dict in"),
    ({"train.json": '[{"text": "a"'}, {}, "Expected a JSON list of objects, found Expecting ',' delimiter"),
    ({"train.parquet": "not a table"}, {}, "Expected .*found .*train.parquet"),
    ({"train.csv": ""}, {}, "Expected a first line with column names, found nothing in"),
    ({"train.csv": "a,a,label\n1,2,x\n"}, {}, r"Expected different column names, found \['a'\] twice in"),
    ({"train.csv": f"{'a' * 5000},label\n1,x\n"}, {}, "at most 1,000 characters, found one of 5,000 in"),
    ({"train.csv": "title1,img,label\n1,0.png,x\n"}, {},
     r"Expected a column for the text named like one of \['text', .*\], found columns \['img', 'label', 'title1'\] in "
     r"'.*train.csv'. Name it with text_column; set that to none"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "options", "message"), FILES)
def test_files_that_cannot_be_read_are_told(folder, tmp_path, files, options, message):
    for name, content in files.items():
        write(folder, name=name) if content is None else (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load(folder, tmp_path, **options)


def test_files_of_splits_can_be_named(folder, tmp_path):
    write(folder, name="a.jsonl")
    write(folder, name="b.jsonl")
    (folder / "test.jsonl").write_text('{"text": "a", "img": null}\n')  # without labels
    splits, _ = load(folder, tmp_path, splits={"train": "a.jsonl", "validation": "b.jsonl"})
    assert sorted(splits) == ["train", "validation"]


def test_a_picture_that_is_a_program_is_refused(folder, tmp_path):
    Image.new("RGB", (4, 4)).save(folder / "a.eps")
    write(folder, {"img": "a.eps"})
    with pytest.raises(BadRecordError, match="found EPS, which would have to be run as a program"):
        load(folder, tmp_path)


def test_nothing_at_the_path(tmp_path):
    with pytest.raises(FileNotFoundError, match="Expected a data folder or file, found nothing at"):
        load(tmp_path / "nowhere", tmp_path)


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


def test_columns_by_the_thousand_are_kept(folder, tmp_path):
    names = [f"c{i}" for i in range(1000)]
    rows = [f"t {i},{'ab'[i % 2]}," + ",".join(str(i) for _ in names) for i in range(20)]
    (folder / "train.csv").write_text("\n".join([",".join(["text", "label", *names]), *rows]))
    splits, _ = load(folder, tmp_path, image_column=None)
    assert sum(map(len, splits.values())) == 20 and len(splits["train"].column_names) == 1002


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

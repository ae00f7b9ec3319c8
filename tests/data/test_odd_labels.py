"""Labels of pictures that are numbers, missing values, or lists written in a text."""

import csv
import json
import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_mmtab.data.image_text import ImageText
from hf_mmtab.data.pictures.values import label_values, written_list
from hf_mmtab.data.reading.records import BadRecordError

NONE = float("nan")


def write(folder, kind, labels):
    path, texts = folder / f"rows.{kind}", [f"text {number}" for number in range(len(labels))]
    if kind == "parquet":
        pq.write_table(pa.table({"text": texts, "label": labels}), path)
    elif kind == "jsonl":
        rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["text", "label"], *zip(texts, labels, strict=True)])
    return path


def read(folder, kind, labels, **options):
    """Return the names, what each row has by name, and how many rows were left out."""
    given = {"image_column": None, "split_fractions": (1.0, 0.0, 0.0), "cache_dir": str(folder / "cache"), **options}
    builder = ImageText(write(folder, kind, labels), **given)
    builder.download_and_prepare()
    rows = builder.as_dataset("train")
    several = "labels" in rows.features
    names = (rows.features["labels"].feature if several else rows.features["label"]).names
    found = [[names[i] for i in row] for row in rows["labels"]] if several else [names[i] for i in rows["label"]]
    return names, found, len(builder.skipped)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_whole_numbers_held_as_floats_are_classes_and_gaps_are_no_label(tmp_path, kind):
    assert read(tmp_path, kind, [1.0, 2.0, 10.0, 1.0]) == (["1", "2", "10"], ["1", "2", "10", "1"], 0)
    (tmp_path / "gaps").mkdir()
    with pytest.raises(BadRecordError, match=r"Expected a label as str, .* found nan \(float\).*2, column 'label'"):
        read(tmp_path / "gaps", kind, [1.0, NONE, 2.0])
    assert read(tmp_path / "gaps", kind, [1.0, NONE, 2.0], on_bad_record="skip") == (["1", "2"], ["1", "2"], 1)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("odd", [1.5, float("inf"), 1e300])
def test_a_number_that_is_no_class_says_where_it_belongs(tmp_path, kind, odd):
    with pytest.raises(BadRecordError, match=r"the name of a class, found .* \(float\).*2, .*task: table") as error:
        read(tmp_path, kind, [1.0, odd])
    assert repr(odd) in str(error.value)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    "cells",
    [
        ['["a","b"]', '["a"]', "[]"],
        ["['a', 'b']", "['a']", "[]"],  # as pandas writes a column of lists
        ['[ "a" , "b" ]', "a", "[]"],
        ['["a", "b", "a"]', '["a"]', " [ ] "],
        ["('a', 'b')", "{'a'}", "()"],  # tuples and sets
        ["{'a', 'b'}", "('a',)", "()"],
    ],
)
def test_a_list_written_in_a_text_is_several_labels(tmp_path, kind, cells):
    assert read(tmp_path, kind, cells) == (["a", "b"], [["a", "b"], ["a"], []], 0)


def test_a_list_is_read_before_its_text_is_split():
    assert label_values('["a, b", "c"]', ",", None) == (["a, b", "c"], True)
    assert label_values("a, b", ",", None) == (["a", "b"], True)
    assert label_values("[1, 2]", None, ["x", "y", "z"]) == (["y", "z"], True)
    assert label_values('["\\u00e9"]', None, None) == (["é"], True)


def test_missing_texts_in_a_list_are_no_label(tmp_path):
    for kind, labels in (("jsonl", [["a", "NA"], ["b"]]), ("csv", ['["a", "NA"]', '["b"]'])):
        assert read(tmp_path, kind, labels, missing=("NA",)) == (["a", "b"], [["a"], ["b"]], 0)
    assert label_values("a|NA", "|", None, ("NA",)) == (["a"], True)


def test_numbers_that_are_written_in_two_ways_are_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "hf_mmtab"):
        read(tmp_path, "csv", ["1", "1.0", "01", "10", "-1", "a"])
    assert "classes of their own (rows): '01' (1), '1' (1), '1.0' (1). If they are the same" in caplog.text


NO_LISTS = [
    "(a, b)",
    "(1)",
    "(sic)",
    "{x}",
    "[a]",
    "[sic] a",
    "[",
    "[]]",
    "['a' 'b']",
    '["a", null]',
    '[["a"]]',
    '[{"a": 1}]',
    "[__import__('os')]",
]


@pytest.mark.parametrize("text", [*NO_LISTS, "[" * 5000 + "]" * 5000, "[1" + ",1" * 10_000 + "]", '["\\x"]'])
def test_what_is_no_plain_list_stays_a_text(text):
    assert written_list(text) is None


def test_classes_that_are_probably_none_are_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "hf_mmtab"):
        read(tmp_path, "csv", ["a", "nan", "N/A", "[b]", "(c, d)", "(e)", "1.5", "2.0", "-0.25"])
    for told in (
        "look like missing values are classes of their own: 'N/A', 'nan'.",
        "look like lists are classes of their own: '(c, d)', '[b]'.",
        "look like numbers with fractions are classes of their own: '-0.25', '1.5'.",
    ):
        assert told in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "hf_mmtab"):
        given = {"missing": ("nan", "N/A"), "on_bad_record": "skip"}
        names, _, left_out = read(tmp_path, "csv", ["a", "nan", "N/A", "b"], **given)
    assert (names, left_out) == (["a", "b"], 2) and "look like" not in caplog.text


@pytest.mark.parametrize("sign", ["|", "; ", ","])
def test_several_labels_joined_in_a_text_are_told_with_the_key_that_parts_them(tmp_path, caplog, sign):
    cells = [sign.join(labels) for labels in (["kite", "red"], ["boat", "teal"], ["kite", "teal"], ["red"], ["boat"])]
    for given, told in (({}, True), ({"label_separator": "/"}, True), ({"label_separator": sign.strip()}, False)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "hf_mmtab"):
            names, _, _ = read(tmp_path, "csv", cells, **given)
        assert (f'`label_separator: "{sign.strip()}"` parts them' in caplog.text) == told == (len(names) == 5)
        assert ("No label of the training rows holds the label_separator '/'" in caplog.text) == ("/" in given.values())


def test_names_with_commas_and_classes_of_classes_are_not_told_as_joined(tmp_path, caplog):
    cells = ["home, garden", "home, kitchen", "toys", "music", "games|chess", "games|go", "games|dice", "a", "b"]
    with caplog.at_level(logging.WARNING, "hf_mmtab"):
        read(tmp_path, "csv", cells)
        read(tmp_path, "csv", ["toys|chess", "toys|go", "toys|dice"])
    assert "joined by" not in caplog.text

"""CSV files as text: every row is returned or reported, wherever blocks, lines and quotes end."""

import csv
import gzip
import io
import json
import random

import numpy as np
import pytest
from image_text_splits import load_image_text

from hf_mmtab.data.image_text_loading import read_image_text
from hf_mmtab.data.reading.csv_text import read_text_blocks
from hf_mmtab.data.reading.record_files import iter_records
from hf_mmtab.data.reading.records import BadRecordError, BadRecords
from hf_mmtab.data.table import Table

BLOCKS = (1, 3, 7, 64, 2**24)


def _read(path, block_bytes, **options):
    bad = BadRecords("skip")
    blocks = list(read_text_blocks(path, ",", bad, block_bytes, **options))
    rows = [tuple(row.values()) for block in blocks for row in block.table.to_pylist()]
    lines = [line for block in blocks for line in block.lines.tolist()]
    bad.check_count(len(rows))
    return rows, lines, [(record.line, record.expected) for record in bad.records]


CASES = {
    "line ends of Unicode": (
        "1,a\u2028b\n2,c\u2029d\n3,x\x85y\n4,\x0b\x0c\x1c\x1d\x1e\n".encode(),
        [("1", "a\u2028b"), ("2", "c\u2029d"), ("3", "x\x85y"), ("4", "\x0b\x0c\x1c\x1d\x1e")],
        [2, 3, 4, 5],
        [],
    ),
    "carriage returns": (b'1,a\r2,"b\rc"\r3,d', [("1", "a"), ("2", "b\rc"), ("3", "d")], [2, 3, 5], []),
    "both": (b'1,a\r\n2,"b\r\nc"\r\n3,d\r\n', [("1", "a"), ("2", "b\r\nc"), ("3", "d")], [2, 3, 5], []),
    "a NUL": (b"1,a\0b\n2,c", [("1", "a\0b"), ("2", "c")], [2, 3], []),
    "quotes within cells": (
        b'1,5" pipe\n2,"q, ""r"""\n3, "x\n4,y"\n5,z\n',
        [("1", '5" pipe'), ("2", 'q, "r"'), ("3", ' "x'), ("4", 'y"'), ("5", "z")],
        [2, 3, 4, 5, 6],
        [],
    ),
    "a quote that never closes": (
        b'1,a\n2,"b\n3,c\n4,d',
        [("1", "a"), ("3", "c"), ("4", "d")],
        [2, 4, 5],
        [(3, "a CSV row")],
    ),
    "a quote that another row closes": (
        b'1,a\n2,"b\n3,c\n4,"d"\n5,e\n',
        [("1", "a"), ("3", "c"), ("4", "d"), ("5", "e")],
        [2, 4, 5, 6],
        [(3, "a CSV row")],
    ),
    "text behind a quote": (b'1,"a"b\n2,"c"\n', [("2", "c")], [3], [(2, "a CSV row")]),
    "ragged rows and bad bytes": (
        b"1\n2,a,b\n3,c\n4,\xe9\n5\xff\n6,\xc3\xa9",
        [("3", "c"), ("6", "é")],
        [4, 7],
        [(2, "2 cells"), (3, "2 cells"), (5, "UTF-8 text"), (6, "UTF-8 text")],
    ),
    "byte order marks of cells": (
        b'\xef\xbb\xbf1,a\n2,\xef\xbb\xbfb\n\xef\xbb\xbf,c\n\xef\xbb\xbf\n',
        [("\ufeff1", "a"), ("2", "\ufeffb"), ("\ufeff", "c")],
        [2, 3, 4],
        [(5, "2 cells")],
    ),
    "empty lines": (
        b'1,"a\n\nb"\n\n2,c\n\n\n\n',
        [("1", "a\n\nb"), ("2", "c")],
        [2, 6],
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("block_bytes", BLOCKS)
@pytest.mark.parametrize("case", CASES)
def test_rows_are_returned_or_reported_wherever_blocks_end(case, block_bytes, tmp_path):
    body, rows, lines, problems = CASES[case]
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbfa,b" + (b"\r" if case == "carriage returns" else b"\n") + body)

    assert _read(path, block_bytes) == (rows, lines, problems)


def test_random_files_are_read_as_the_csv_module_reads_them(tmp_path):
    draw = random.Random(0)
    path = tmp_path / "t.csv"
    for _ in range(200):
        cells = ['a"', "\n", "\r\n", "\r", "é\u2028", ",", " ", "x" * 9, "", '""', "\x1c\x85"]
        rows = [("r", "".join(draw.choices(cells, k=3)), draw.choice(cells)) for _ in range(draw.randint(1, 12))]
        text = io.StringIO(newline="")
        ending = draw.choice(["\n", "\r\n", "\r"])
        quoting = draw.choice([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]) if ending == "\r\n" else csv.QUOTE_ALL
        writer = csv.writer(text, lineterminator=ending, quoting=quoting)
        writer.writerows([("a", "b", "c"), *rows])
        path.write_bytes(text.getvalue().encode())
        assert _read(path, draw.choice(BLOCKS))[::2] == (rows, [])


def test_empty_cells_are_null_only_where_that_is_asked_for_and_nothing_quotes_them(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a,b\n,""\n')
    assert _read(path, 64)[0] == [("", "")]
    assert _read(path, 64, missing=[""])[0] == [(None, "")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n".encode("utf-16"), "found UTF-16 text in '.*t.csv'. Save it as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-le"), "found NUL bytes in the first line of '.*t.csv'"),
        (b"PK\x03\x04....", "found a zip archive"),
        (gzip.compress(b"a,b\n", mtime=0), "found a gzip file in '.*t.csv'. Add .gz to its name"),
        (b"caf\xe9,b\n1,2\n", "column names in UTF-8, found .*0xe9.* in '.*t.csv'"),
        (b'"a,b\n1,2\n', "column names in UTF-8, found unexpected end of data in"),
        (b"\n\n", "column names, found nothing in"),
    ],
)
@pytest.mark.parametrize("reader", ["table", "pictures"])
def test_files_of_another_kind_are_named(reader, content, message, tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Table(path) if reader == "table" else load_image_text(path)


def test_one_byte_of_another_encoding_costs_one_row(tmp_path):
    rows = [f"text {i},{'ab'[i % 2]}" for i in range(3000)]
    rows[1500] = "caf\xe9,a"
    path = tmp_path / "train.csv"
    path.write_bytes("\n".join(["text,label", *rows]).encode("latin-1"))
    options = {"cache_dir": str(tmp_path / "cache"), "image_column": None}
    splits, skipped = load_image_text(path, on_bad_record="skip", **options)
    assert sum(map(len, splits.values())) == 2999 and [record.line for record in skipped] == [1502]
    predicted = read_image_text(path, on_bad_record="skip", **options)
    assert len(predicted.rows) == 2999 and len(predicted.skipped) == 1
    with pytest.raises(BadRecordError, match=r"line 1502, column 'text'\). Save the file as UTF-8"):
        load_image_text(path, **options)


@pytest.mark.parametrize("cell", ["a\u2028b", "a\x85b", "a\x1cb", "a\x0bb"])
def test_a_cell_of_a_table_is_not_cut_at_a_line_end_of_unicode(cell, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"id,note\n1,{cell}\n2\n3,x\n", encoding="utf-8")
    builder = Table(path, cache_dir=str(tmp_path / "cache"), on_bad_record="skip")
    builder.download_and_prepare()
    assert builder.as_dataset(split="train")["note"][:] == [cell, "x"]
    assert [record.line for record in builder.skipped] == [3]


BAD_LINES = {
    "deep": "[" * 100_000,
    "half a pair": '{"text": "\\ud800", "label": "a"}',
    "long number": '{"text": "t", "label": ' + "9" * 5000 + "}",
    "no object": "7",
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_json_lines_that_cannot_be_read_are_reported_one_by_one(kind, tmp_path):
    good = [json.dumps({"text": f"a\u2028 {i}", "label": "ab"[i % 2]}, ensure_ascii=False) for i in range(9)]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join([*good[:4], BAD_LINES[kind], "", *good[4:]]), encoding="utf-8")
    options = {"cache_dir": str(tmp_path / "cache"), "image_column": None}
    splits, skipped = load_image_text(path, on_bad_record="skip", **options)
    assert sum(map(len, splits.values())) == 9 and [record.line for record in skipped] == [5]
    with pytest.raises(BadRecordError, match=r"one JSON object in each line, found .* line 5"):
        load_image_text(path, **options)


def test_deep_values_of_own_columns_are_kept_as_text(tmp_path):
    path = tmp_path / "train.jsonl"
    deep = "[" * 700 + "]" * 700
    rows = [f'{{"text": "t {i}", "label": "{"ab"[i % 2]}", "own": {deep}}}' for i in range(9)]
    path.write_text("\n".join(rows))
    splits, _ = load_image_text(path, image_column=None, cache_dir=str(tmp_path / "cache"))
    assert splits["train"]["own"][0] == deep


def test_cut_json_lines_are_named(tmp_path):
    path = tmp_path / "train.jsonl.gz"
    noise = np.random.default_rng(0).integers(0, 99, 9000).tolist()
    path.write_bytes(gzip.compress("\n".join(json.dumps({"text": str(n)}) for n in noise).encode())[:-400])
    with pytest.raises(ValueError, match=r"Expected a whole gzip file, found '.*train.jsonl.gz'"):
        load_image_text(path, image_column=None, label_column=None, cache_dir=str(tmp_path))


def test_rows_that_are_neither_used_nor_reported_are_an_error():
    bad = BadRecords("skip")
    bad.rows_read = 3
    with pytest.raises(RuntimeError, match="Expected 3 rows read to be used or reported, found 2 used and 0 reported"):
        bad.check_count(2)


BLANK = ["", "   ", "\t", "\r"]


@pytest.mark.parametrize("blank", BLANK)
@pytest.mark.parametrize("kind", ["table.csv", "records.csv", "records.jsonl"])
@pytest.mark.parametrize("block_bytes", [1, 7, 2**24])
def test_blank_lines_are_no_rows_for_any_reader_wherever_they_stand(kind, blank, block_bytes, tmp_path):
    header, rows = (["text,label"], [f"t{i},{i % 2}" for i in range(6)])  # a blank line in place of names is an error
    if kind == "records.jsonl":
        header, rows = [blank], [json.dumps({"text": f"t{i}", "label": str(i % 2)}) for i in range(6)]
    path = tmp_path / kind
    lines = [*header, blank, *rows[:3], blank, blank, *rows[3:], blank, blank]
    path.write_bytes("\n".join(lines).encode())
    bad = BadRecords("skip")
    if kind == "table.csv":
        read = [
            (row["text"], row["label"])
            for block in read_text_blocks(path, ",", bad, block_bytes)
            for row in block.table.to_pylist()
        ]
    else:
        read = [(record["text"], record["label"]) for _, record in iter_records(path, bad)]
    assert read == [(f"t{i}", str(i % 2)) for i in range(6)]
    assert (bad.rows_read, bad.records) == (6, [])


def test_a_single_column_has_no_blank_rows_and_quoted_ones_are_cells(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b'a\n1\n\n""\n2\n')
    assert _read(path, 64) == ([("1",), ("",), ("2",)], [2, 4, 5], [])

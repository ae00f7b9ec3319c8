"""Predictions as CSV, what a spreadsheet would run and what stays a number, and as JSON lines that others can read."""

import csv
import json
import logging

import polars as pl
import pyarrow as pa
import pytest

from hf_mmtab.commands.tables.writer import table_writer

FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1"]
HARMLESS = ["-5", "+3.5e-2", "a=b", "", "1-2", "'quoted"]


def written(path, safe: bool) -> list[list[str]]:
    table = pa.table({"=name": FORMULAS + HARMLESS, "score": [-1.5] * 13, "labels": [["=a"]] * 13})
    with table_writer(path, ".csv", safe) as write:
        write(table)
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_formulas_get_an_apostrophe_and_numbers_stay(tmp_path):
    rows = written(tmp_path / "p.csv", safe=True)
    assert rows[0] == ["'=name", "score", "labels"]
    assert [row[0] for row in rows[1:]] == [f"'{text}" for text in FORMULAS] + HARMLESS
    assert {row[1] for row in rows[1:]} == {"-1.5"} and rows[1][2] == '["=a"]'


def test_without_the_option_texts_stay_and_the_person_is_warned(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("hf_mmtab"), "propagate", True)
    rows = written(tmp_path / "p.csv", safe=False)
    assert [row[0] for row in rows[1:]] == FORMULAS + HARMLESS
    assert "8 texts in the CSV file begin with one of = + - @" in caplog.text and "--spreadsheet_safe" in caplog.text


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_other_formats_are_not_touched(tmp_path, suffix, caplog):
    with table_writer(tmp_path / f"p{suffix}", suffix, True) as write:
        write(pa.table({"text": FORMULAS}))
    assert not caplog.text


def refuse(constant):
    raise ValueError(f"{constant} is no JSON")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_lacks_are_null(tmp_path, number):
    table = pa.table({"score": [number, 0.5], "list": [[number, 1.0], []], "of": [{"a": [number]}, None]})
    for suffix in (".jsonl", ".csv"):
        with table_writer(tmp_path / f"p{suffix}", suffix) as write:
            write(table)
    lines = (tmp_path / "p.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=refuse) for line in lines] == [
        {"score": None, "list": [None, 1.0], "of": {"a": [None]}},
        {"score": 0.5, "list": [], "of": None},
    ]
    assert pl.read_ndjson(tmp_path / "p.jsonl")["score"].to_list() == [None, 0.5]  # as `report` reads it
    assert next(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))["list"] == "[null, 1.0]"

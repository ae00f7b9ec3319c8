"""The files of a folder are read once each; what is left out is named."""

import gzip
import json
import logging
import os
import shutil

import polars as pl
import pytest

from hf_mmtab.data.pictures.files import find_sources
from hf_mmtab.data.reading.table_files import table_files
from hf_mmtab.data.table import Table

ROWS = b"who,x\na,1\nb,2\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(logging.getLogger("hf_mmtab"), "propagate", True)
    (tmp_path / "t.csv").write_bytes(ROWS)
    return tmp_path


def _twice(kind, folder):
    original = folder / "t.csv"
    if kind == "gz":
        (folder / "t.csv.gz").write_bytes(gzip.compress(ROWS))
    elif kind == "older gz":
        (folder / "T.csv.gz").write_bytes(gzip.compress(ROWS[:8]))
    elif kind == "browser's copy":
        shutil.copy(original, folder / "t (1).csv")
    elif kind == "another name":
        shutil.copy(original, folder / "a.csv")
    elif kind == "symbolic link":
        (folder / "u.csv").symlink_to(original)
    elif kind == "hard link":
        os.link(original, folder / "u.csv")
    elif kind == "two gz":
        original.unlink()
        for name in "ab":
            (folder / f"{name}.csv.gz").write_bytes(gzip.compress(ROWS, mtime=0))
    elif kind == "parquet":
        original.unlink()
        for name in "ab":
            pl.DataFrame({"x": [1, 2]}).write_parquet(folder / f"{name}.parquet")


@pytest.mark.parametrize(
    "kind", ["gz", "older gz", "browser's copy", "another name", "symbolic link", "hard link", "two gz", "parquet"]
)
def test_a_file_twice_in_a_folder_is_refused_by_name(kind, folder):
    _twice(kind, folder)
    names = sorted(path.name for path in folder.iterdir())
    with pytest.raises(ValueError, match="each row of the data once") as caught:
        table_files(folder)
    assert all(repr(name) in str(caught.value) for name in names)


@pytest.mark.parametrize("rows", [[{"text": "a", "label": "x"}] * 3, [{"text": "b", "label": "y"}] * 2])
def test_records_twice_in_a_split_are_refused_and_the_splits_may_be_alike(rows, tmp_path):
    text = "\n".join(map(json.dumps, rows))
    for name in ("train.jsonl", "dev.jsonl"):
        (tmp_path / name).write_text(text)
    assert len(find_sources(tmp_path)) == 2
    (tmp_path / "train-copy.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"'train-copy\.jsonl' and 'train\.jsonl'"):
        find_sources(tmp_path)
    with pytest.raises(ValueError, match="each row of the data once"):
        find_sources(tmp_path, {"train": ["train.jsonl", "train-copy.jsonl"]})


def test_files_that_differ_and_empty_parts_are_read(folder):
    (folder / "u.csv").write_bytes(ROWS.replace(b"2", b"3"))
    for name in ("empty-1.csv", "empty-2.csv"):
        (folder / name).write_bytes(b"who,x\n")
    assert len(table_files(folder)) == 4


@pytest.mark.parametrize(
    "name", [".t.csv", "~$t.csv", ".~lock.t.csv#", "t.csv~", "t.csv.bak", "#t.csv#", "t.csv.part", "._t.csv"]
)
def test_hidden_lock_and_backup_files_are_named_and_left_out(name, folder, caplog):
    (folder / name).write_bytes(ROWS)
    assert [path.name for path in table_files(folder)] == ["t.csv"]
    assert f"Not read: {name} in" in caplog.text


def test_data_in_subfolders_is_named(folder, caplog):
    for number in range(8):
        (folder / "more" / f"{number}").mkdir(parents=True)
        (folder / "more" / f"{number}" / "p.csv").write_bytes(ROWS)
    assert [path.name for path in table_files(folder)] == ["t.csv"]
    assert "Not read: more/0/p.csv, more/1/p.csv" in caplog.text and "and 3 more in subfolders" in caplog.text
    (folder / "t.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"Its subfolders hold some: name '.*more/0'"):
        table_files(folder)


def test_the_data_folder_of_a_dataset_is_no_subfolder_left_out(tmp_path, caplog):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text('{"text": "a", "label": "x"}')
    assert len(find_sources(tmp_path)) == 1
    assert "Not read" not in caplog.text


@pytest.mark.parametrize(
    ("name", "cells", "told"),
    [
        ("", ["0", "1"], "row numbers"),
        ("Unnamed: 0", ["7", "9"], "row numbers"),
        ("", ["x", "y"], "without a name (''), with values such as 'x'"),
        ("Unnamed: 0", ["1.5", "2"], "without a name ('Unnamed: 0'), with values such as '1.5'"),
        ("__index_level_0__", ["a", "1"], "without a name ('__index_level_0__'), with values such as 'a'"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_unnamed_column_is_called_what_it_is(name, cells, told, suffix, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("hf_mmtab"), "propagate", True)
    logging.getLogger("hf_mmtab.data.table").warning_once.cache_clear()
    frame, path = pl.DataFrame({name: cells, "x": [1, 2]}), tmp_path / f"u.{suffix}"
    frame.write_csv(path) if suffix == "csv" else frame.write_parquet(path)
    builder = Table(path, cache_dir=str(tmp_path / "cache"))
    assert list(builder.info.features) == ["x"]
    assert told in caplog.text and ("row numbers" in caplog.text) == (told == "row numbers")


def test_tables_of_other_kinds_beside_the_data_are_told(tmp_path, caplog):
    logging.getLogger("hf_mmtab.data.reading.table_files").warning_once.cache_clear()
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "b.jsonl").write_text('{"a": 1}\n')
    assert [path.name for path in table_files(tmp_path)] == ["a.csv"]
    assert "Not read: ['b.jsonl'] in" in caplog.text

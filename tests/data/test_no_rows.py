"""Data without rows, or with none that can be read, is told in one sentence, from Python too."""

import json

import pandas as pd
import pytest
from PIL import Image

from hf_mmtab.data.image_text import ImageText
from hf_mmtab.data.image_text_loading import read_image_text
from hf_mmtab.data.table import Table


def _table(path, tmp_path, **options):
    builder = Table(path, cache_dir=str(tmp_path / "cache"), **options)
    builder.download_and_prepare()
    return builder


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("split", ["train", "train[:1]", None])
def test_a_table_without_rows_is_told(suffix, split, tmp_path):
    path, frame = tmp_path / f"t.{suffix}", pd.DataFrame({"a": [1], "b": ["x"]}).head(0)
    if suffix == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, sep="\t" if suffix == "tsv" else ",", index=False)
    builder = _table(path, tmp_path)
    with pytest.raises(ValueError, match=rf"^Expected rows in '.*t.{suffix}', found none\. Give a table with rows\.$"):
        builder.as_dataset(split=split)


@pytest.mark.parametrize("count", [1, 3])
def test_a_table_of_broken_rows_says_why_the_first_is_one(count, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "x,1\n" * count)
    builder = _table(path, tmp_path, types={"a": "int"}, on_bad_record="skip")
    found = rf"found none that can be read: {count} left out. The first: Expected a value of type int64, found 'x' \('"
    with pytest.raises(ValueError, match=rf"^Expected rows in '.*t.csv', {found}.*t.csv', line 2, column 'a'\)"):
        builder.as_dataset(split="train")


@pytest.mark.parametrize("count", [2, 200])
@pytest.mark.parametrize("text", [b"bytes", "", 7.5, None])
def test_texts_none_of_which_is_one_are_told_with_the_first_reason(text, count, tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "p.png")
    pd.DataFrame({"text": [text] * count, "image": ["p.png"] * count}).to_parquet(tmp_path / "t.parquet")
    found = rf"found none that can be read: {count} left out\. The first: Expected .*t\.parquet', row 1, column 'text'"
    with pytest.raises(ValueError, match=rf"^Expected rows in .*, {found}"):
        read_image_text(tmp_path / "t.parquet", cache_dir=str(tmp_path / "cache"), on_bad_record="skip")


def test_pictures_none_of_which_is_one_are_told_with_the_first_reason(tmp_path):
    (tmp_path / "p.png").write_bytes(b"no picture")
    rows = [{"text": f"t{i}", "image": "p.png"} for i in range(5)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=r"none that can be read: 5 left out\. The first: Expected a readable picture"):
        read_image_text(tmp_path / "t.jsonl", cache_dir=str(tmp_path / "cache"), on_bad_record="skip")


@pytest.mark.parametrize("policy", ["skip", "raise"])
@pytest.mark.parametrize("count", [3, 2500])
def test_lines_none_of_which_is_a_record_are_told_with_the_first_reason(count, policy, tmp_path):
    (tmp_path / "t.jsonl").write_text('{"text": \n' * count)
    found = rf"found none that can be read: {count:,} left out\. The first: Expected .*t\.jsonl', line 1\)"
    with pytest.raises(ValueError, match=rf"^Expected rows in '.*t\.jsonl', {found}"):
        read_image_text(tmp_path / "t.jsonl", cache_dir=str(tmp_path / "cache"), on_bad_record=policy)


def test_a_split_of_broken_records_is_named_and_the_others_can_be_read(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "p.png")
    for name, label in (("train", "cat"), ("validation", "cat"), ("test", "unheard of")):
        rows = [{"text": f"t{i}", "image": "p.png", "label": label} for i in range(4)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    builder = ImageText(tmp_path, cache_dir=str(tmp_path / "cache"), on_bad_record="skip")
    builder.download_and_prepare()
    assert len(builder.as_dataset(split="train")) == 4
    for split in (None, "test"):
        with pytest.raises(ValueError, match=r"Expected rows of split 'test' in .* 4 left out\. The first: Expected a"):
            builder.as_dataset(split=split)

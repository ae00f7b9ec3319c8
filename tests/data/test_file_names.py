"""Names of files that a system allows: bytes that are no UTF-8, new lines, control characters, 255 bytes."""

import json
import os

import pytest
from PIL import Image

from hf_mmtab.data.image_text import ImageText
from hf_mmtab.data.table import Table

ROWS = b"when,who\n2024-01-01,a\n2024-01-02,b\n"
ODD = [b"a\nb", b"a\x07\x1b[31mb", b"a\x01b", b"a\\b", b"a\"'b", b"-rf", b"[a]*", b"a#b%20", b" a ", b"x" * 251]


@pytest.mark.parametrize("name", ODD, ids=str)
def test_tables_with_odd_names_are_read(name, tmp_path):
    path = tmp_path / os.fsdecode(name + b".csv")
    path.write_bytes(ROWS)
    for place in (path, tmp_path):
        builder = Table(str(place), cache_dir=str(tmp_path / ".cache"))
        builder.download_and_prepare()
        assert builder.as_dataset("train")["who"][:] == ["a", "b"]


@pytest.mark.parametrize("name", ODD, ids=str)
def test_pictures_with_odd_names_are_read(name, tmp_path):
    picture = os.fsdecode(name + b".png")
    Image.new("RGB", (4, 4)).save(tmp_path / picture, "PNG")
    rows = [{"text": "a", "image": picture, "label": label} for label in "xyxy"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    builder = ImageText(str(tmp_path / "rows.jsonl"), cache_dir=str(tmp_path / "cache"), split_fractions=(1, 0, 0))
    builder.download_and_prepare()
    assert builder.as_dataset("train")[0]["image"].size == (4, 4)


def test_a_table_whose_name_is_no_utf8_is_refused_by_its_name(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.csv")
    path.write_bytes(ROWS)
    with pytest.raises(ValueError, match=r"Expected names of files and folders in UTF-8, found .*caf.*Rename the file"):
        Table(str(path), cache_dir=str(tmp_path / ".cache")).download_and_prepare()

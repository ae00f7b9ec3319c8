"""EncodedDataset: laziness, leaving inputs out, fingerprint, errors that name the row."""

import io
import os
from pathlib import Path

import datasets
import pytest
from PIL import Image

from hf_mmtab.data.encoded import EncodedDataset


class Encoder:
    """Counts what it is asked to encode."""

    def __init__(self, scale: int = 1):
        self.scale, self.calls = scale, 0

    def encode_row(self, row, skip=frozenset()):
        self.calls += 1
        encoded = {"x": row["x"] * self.scale, "y": row["x"]}
        return {name: value for name, value in encoded.items() if name not in skip}

    @property
    def fingerprint(self) -> str:
        return f"scale {self.scale}"


def rows_of(*values: int) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"x": list(values)})


def test_rows_are_encoded_when_asked_for():
    encoder = Encoder(10)
    encoded = EncodedDataset(rows_of(1, 2, 3), encoder.encode_row)
    assert len(encoded) == 3 and encoder.calls == 0
    assert encoded[1] == {"x": 20, "y": 2} and encoder.calls == 1
    assert EncodedDataset([{"x": 5}], encoder.encode_row)[0] == {"x": 50, "y": 5}


def test_inputs_can_be_left_out_and_training_rows_marked():
    encoded = EncodedDataset(rows_of(1), Encoder().encode_row, augment=True)
    assert encoded[0] == {"x": 1, "y": 1, "augment": True}
    assert encoded.without(["x"])[0] == {"y": 1, "augment": True}
    assert encoded.without(["x"]).without({"y"})[0] == {"augment": True}


def test_the_fingerprint_follows_rows_and_encoder_but_not_what_is_left_out():
    base = EncodedDataset(rows_of(1, 2), Encoder().encode_row)
    assert base.fingerprint == EncodedDataset(rows_of(1, 2), Encoder().encode_row).fingerprint
    assert base.fingerprint == base.without(["x"]).fingerprint
    others = [
        EncodedDataset(rows_of(1, 3), Encoder().encode_row),
        EncodedDataset(rows_of(1, 2), Encoder(2).encode_row),
        EncodedDataset(rows_of(1, 2).select([0]), Encoder().encode_row),
        EncodedDataset([{"x": 1}], Encoder().encode_row),
        EncodedDataset(rows_of(1, 2), lambda row, skip: {"x": row["x"]}),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_the_fingerprint_follows_the_picture_files(tmp_path: Path):
    path = tmp_path / "a.png"
    Image.new("L", (2, 2)).save(path)
    rows = datasets.Dataset.from_dict({"image": [str(path), None]}).cast_column("image", datasets.Image())
    before = EncodedDataset(rows, Encoder().encode_row).fingerprint
    assert EncodedDataset(rows, Encoder().encode_row).fingerprint == before
    Image.new("L", (3, 3)).save(path)
    os.utime(path, ns=(0, 0))
    assert EncodedDataset(rows, Encoder().encode_row).fingerprint != before


class PictureEncoder(Encoder):
    def source_of(self, inputs):
        return (("image",), "settings") if set(inputs) == {"pixel_values"} else None


def test_the_key_of_a_row_follows_its_picture_alone(tmp_path: Path):
    def encoded(texts, colours):
        pictures = []
        for colour in colours:
            buffer = io.BytesIO()
            Image.new("RGB", (4, 4), colour).save(buffer, format="PNG")
            pictures.append({"bytes": buffer.getvalue(), "path": None})
        features = datasets.Features({"text": datasets.Value("string"), "image": datasets.Image()})
        rows = datasets.Dataset.from_dict({"text": texts, "image": pictures}, features=features)
        return EncodedDataset(rows, PictureEncoder().encode_row)

    def keys(texts, colours):
        return encoded(texts, colours).row_keys(["pixel_values"])

    red, blue = keys(["a", "b"], ["red", "blue"])
    assert red != blue and keys(["", ""], ["red", "blue"]) == [red, blue]
    assert keys(["a", "b", "c"], ["blue", "red", "blue"]) == [blue, red, blue]
    assert encoded(["a"], ["red"]).row_keys(["input_ids"]) is None


def test_pictures_are_handed_over_undecoded(tmp_path: Path):
    (tmp_path / "a.png").write_text("no picture")
    rows = datasets.Dataset.from_dict({"image": [str(tmp_path / "a.png")]}).cast_column("image", datasets.Image())
    assert EncodedDataset(rows, lambda row, skip: row)[0]["image"] == {
        "bytes": None, "path": str(tmp_path / "a.png")
    }  # fmt: skip


def test_an_error_names_the_row():
    def refuse(row, skip):
        raise ValueError("Expected a picture")

    with pytest.raises(ValueError, match="Row 1 of the split: Expected a picture"):
        EncodedDataset(rows_of(1, 2), refuse)[1]

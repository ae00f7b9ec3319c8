"""Rows that are encoded when they are asked for, so that DataLoader workers do the decoding."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from datasets.fingerprint import Hasher

SEVERAL = "images"  # column of rows that may have several pictures
Encode = Callable[[Mapping[str, Any], frozenset[str]], dict[str, Any]]


class EncodedDataset(torch.utils.data.Dataset):
    """Rows run through an encode function when asked for.

    Args:
        rows: a `datasets.Dataset` (its pictures are handed to `encode` undecoded) or any sequence of rows.
        encode: `encode(row, skip) -> dict`, e.g. `MMBTProcessor.encode_row`.
        skip: model inputs that `encode` shall neither compute nor return.
        augment: mark every example with `augment: True`, so that the collator may change its picture.
            Training only.
    """

    def __init__(self, rows: Sequence[Any], encode: Encode, skip: frozenset[str] = frozenset(), augment: bool = False):
        self.rows = _undecoded(rows) if isinstance(rows, datasets.Dataset) else rows
        self.encode = encode
        self.skip = frozenset(skip)
        self.augment = augment

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            example = self.encode(self.rows[index], self.skip)
        except (ValueError, OSError) as error:
            raise ValueError(
                f"Row {index} of the split: {error} `check_images: decode` names such a record with file and line "
                "before training, `on_bad_record: skip` leaves it out."
            ) from error
        if self.augment:
            example["augment"] = True
        return example

    def without(self, names: frozenset[str] | set[str] | Sequence[str]) -> "EncodedDataset":
        """Return the same rows, whose examples lack these model inputs and do not pay for them."""
        return EncodedDataset(self.rows, self.encode, self.skip | frozenset(names), self.augment)

    def lengths(self) -> np.ndarray | None:
        """Return the length of each row's text once encoded, up to a constant, `(rows,)`; None: it is not known.

        Pictures are not decoded.
        """
        owner: Any = getattr(self.encode, "__self__", None)
        if not isinstance(self.rows, datasets.Dataset) or not hasattr(owner, "text_lengths"):
            return None
        lengths = owner.text_lengths(self.rows)
        return None if lengths is None else np.minimum(lengths, owner.max_length)

    @property
    def fingerprint(self) -> str:
        """A hash of the rows, the picture files that they name and how they are encoded; not of `skip`."""
        digest = hashlib.sha256()
        if isinstance(self.rows, datasets.Dataset):
            digest.update(self.rows._fingerprint.encode())
            for name, feature in self.rows.features.items():
                if holds_pictures(feature):
                    _update_with_files(digest, self.rows, name)
        else:
            digest.update(Hasher.hash(list(self.rows)).encode())
        settings = getattr(getattr(self.encode, "__self__", None), "fingerprint", None)
        digest.update((settings or Hasher.hash(self.encode)).encode())
        return digest.hexdigest()[:16]

    def row_keys(self, inputs: Sequence[str]) -> list[str] | None:
        """Return for each row a hash of what these model inputs are made of; None: they are not made of pictures alone.

        Rows with the same pictures have the same key, whatever their other columns say and in whichever data set.
        """
        if isinstance(self.rows, _SinglePictures):
            return self.rows.keys
        owner: Any = getattr(self.encode, "__self__", None)
        source = owner.source_of(inputs) if hasattr(owner, "source_of") else None
        if source is None or not isinstance(self.rows, datasets.Dataset):
            return None
        columns, settings = source
        name = next((one for one in columns if one in self.rows.features), None)
        if name is None:  # data without pictures: what stands for none is computed once
            return [_hashed(f"{settings} {_identity(None)}")] * len(self.rows)
        if not holds_pictures(self.rows.features[name]):
            return None
        return [_hashed(f"{settings} {' '.join(pictures)}") for pictures in _pictures(self.rows, name)]

    @cached_property
    def single_pictures(self) -> tuple["EncodedDataset", np.ndarray] | None:
        """The pictures of rows that have several, as rows of their own, and how many there are up to each row.

        A row without a picture counts as one. None: rows have one picture each.
        """
        owner: Any = getattr(self.encode, "__self__", None)
        if not isinstance(self.rows, datasets.Dataset):
            return None
        if not isinstance(self.rows.features.get(SEVERAL), datasets.List):
            return None
        settings = owner.source_of(["pixel_values"])[1]
        several = [pictures[: owner.max_images] for pictures in _pictures(self.rows, SEVERAL)]
        ends = np.cumsum([len(pictures) for pictures in several])
        keys = [_hashed(f"{settings} {picture}") for pictures in several for picture in pictures]
        rows = _SinglePictures(self.rows.select_columns([SEVERAL]), ends, keys)
        return EncodedDataset(rows, owner.encode_pictures), ends


class _SinglePictures(Sequence):
    """Each picture of rows with several as a row of its own."""

    def __init__(self, rows: datasets.Dataset, ends: np.ndarray, keys: list[str]):
        self.rows, self.ends, self.keys = rows, ends, keys

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: Any) -> Any:
        row = int(np.searchsorted(self.ends, index, side="right"))
        pictures = self.rows[row][SEVERAL] or [None]
        return {"image": pictures[index - (int(self.ends[row - 1]) if row else 0)]}


def holds_pictures(feature: Any) -> bool:
    """Whether a column has pictures, or lists of them."""
    return isinstance(getattr(feature, "feature", feature), datasets.Image)


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _undecoded(rows: datasets.Dataset) -> datasets.Dataset:
    """Hand out bytes and paths of pictures: the processor decodes, and only when the picture is wanted."""
    for name, feature in rows.features.items():
        if holds_pictures(feature) and getattr(feature, "feature", feature).decode:
            undecoded = datasets.Image(decode=False)
            rows = rows.cast_column(name, datasets.List(undecoded) if hasattr(feature, "feature") else undecoded)
    return rows


def _update_with_files(digest: Any, rows: datasets.Dataset, column: str) -> None:
    """Add size and time of the files behind a picture column: they can change while the rows do not."""
    column_of_table = rows.with_format("arrow")[column]
    for chunk in column_of_table.chunks if hasattr(column_of_table, "chunks") else [column_of_table]:
        chunk = chunk.flatten() if pa.types.is_list(chunk.type) else chunk
        embedded = chunk.field("bytes").is_valid().to_pylist()
        for path, has_bytes in zip(chunk.field("path").to_pylist(), embedded, strict=True):
            if path and not has_bytes and os.path.exists(path):
                status = os.stat(path)
                digest.update(f"{path} {status.st_size} {status.st_mtime_ns}".encode())


def _pictures(rows: datasets.Dataset, column: str) -> Iterator[list[str]]:
    """Yield what tells the pictures of a row from others; of a row without one, what stands for none."""
    for batch in rows.select_columns([column]).with_format("arrow").iter(batch_size=1024):
        for value in batch[column].to_pylist():
            yield [_identity(one) for one in (value if isinstance(value, list) else [value])] or [_identity(None)]


def _identity(picture: dict[str, Any] | None) -> str:
    """Return what tells a picture from others: a hash of its bytes, or path, size and time of its file."""
    embedded, path = (picture or {}).get("bytes"), (picture or {}).get("path")
    if embedded is not None:
        return f"bytes {hashlib.sha256(embedded).hexdigest()}"
    status = os.stat(path) if path and os.path.exists(path) else None
    return f"file {path} {status and (status.st_size, status.st_mtime_ns)}"

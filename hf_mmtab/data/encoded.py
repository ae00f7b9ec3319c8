"""Rows that are encoded when they are asked for, so that DataLoader workers do the decoding."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import torch
from datasets.fingerprint import Hasher

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
                if isinstance(feature, datasets.Image):
                    _update_with_files(digest, self.rows, name)
        else:
            digest.update(Hasher.hash(list(self.rows)).encode())
        owner = getattr(self.encode, "__self__", None)
        if owner is not None and hasattr(owner, "fingerprint"):
            digest.update(owner.fingerprint.encode())
        else:
            digest.update(Hasher.hash(self.encode).encode())
        return digest.hexdigest()[:16]

    def row_keys(self, inputs: Sequence[str]) -> list[str] | None:
        """Return for each row a hash of what these model inputs are made of; None: they are not made of pictures alone.

        Rows with the same picture have the same key, whatever their other columns say and in whichever data set.
        """
        owner: Any = getattr(self.encode, "__self__", None)
        source = owner.source_of(inputs) if hasattr(owner, "source_of") else None
        if source is None or not isinstance(self.rows, datasets.Dataset):
            return None
        columns, settings = source
        if not all(isinstance(self.rows.features.get(name), datasets.Image) for name in columns):
            return None
        keys = [settings] * len(self.rows)
        for name in columns:
            keys = [f"{key} {one}" for key, one in zip(keys, _pictures(self.rows, name), strict=True)]
        return [hashlib.sha256(key.encode()).hexdigest()[:32] for key in keys]


def _undecoded(rows: datasets.Dataset) -> datasets.Dataset:
    """Hand out bytes and paths of pictures: the processor decodes, and only when the picture is wanted."""
    for name, feature in rows.features.items():
        if isinstance(feature, datasets.Image) and feature.decode:
            rows = rows.cast_column(name, datasets.Image(decode=False))
    return rows


def _update_with_files(digest: Any, rows: datasets.Dataset, column: str) -> None:
    """Add size and time of the files behind a picture column: they can change while the rows do not."""
    column_of_table = rows.with_format("arrow")[column]
    for chunk in column_of_table.chunks if hasattr(column_of_table, "chunks") else [column_of_table]:
        embedded = chunk.field("bytes").is_valid().to_pylist()
        for path, has_bytes in zip(chunk.field("path").to_pylist(), embedded, strict=True):
            if path and not has_bytes and os.path.exists(path):
                status = os.stat(path)
                digest.update(f"{path} {status.st_size} {status.st_mtime_ns}".encode())


def _pictures(rows: datasets.Dataset, column: str) -> Iterator[str]:
    """Yield what tells a picture from others: a hash of its bytes, or path, size and time of its file."""
    for batch in rows.select_columns([column]).with_format("arrow").iter(batch_size=1024):
        for picture in batch[column].to_pylist():
            embedded, path = (picture or {}).get("bytes"), (picture or {}).get("path")
            if embedded is not None:
                yield f"bytes {hashlib.sha256(embedded).hexdigest()}"
                continue
            status = os.stat(path) if path and os.path.exists(path) else None
            yield f"file {path} {status and (status.st_size, status.st_mtime_ns)}"

"""Which files (or tables) make up a picture-and-text data set, and which split each belongs to."""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from transformers.utils import logging

from ..reading.arrow_types import with_known_types
from ..reading.csv_text import read_header
from ..reading.folder_files import files_in, refuse_twice
from ..reading.library_errors import plain_errors
from ..reading.record_files import SUFFIXES, file_suffix, iter_records
from ..reading.records import BadRecords, OnBadRecord
from ..reading.text_files import separator_of

logger = logging.get_logger(__name__)

ALL = "all"  # one file for everything: split by seed
SPLIT_ORDER = ["train", "validation", "test", "test_hard", "test_hard_gt"]
SPLIT_NAMES = {name: name for name in SPLIT_ORDER} | dict.fromkeys(("dev", "val", "valid"), "validation")
SPLIT_NAMES["training"] = "train"
# Change them when the same files shall give other rows, so that old caches are not used.
FORMAT_VERSIONS: dict[OnBadRecord, str] = {"raise": "7", "skip": "8"}
Splits = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class Source:
    """A data file, or a data set in memory, and the split that it belongs to ("all": not split yet).

    Args:
        split: its name.
        path: of a data set in memory only a name.
        rows: of a data set in memory.
        separator: of the columns of a CSV file; None: by its name.
        missing: texts that stand for a missing value.
    """

    split: str
    path: Path
    rows: datasets.Dataset | None = None
    separator: str | None = None
    missing: tuple[str, ...] = ()

    @cached_property
    def schema(self) -> pa.Schema | None:
        """Column types, where they are known before the records are read: all but those of JSON."""
        if self.rows is not None:
            return self.rows.features.arrow_schema
        suffix = file_suffix(self.path)
        if suffix in (".csv", ".tsv"):
            names = read_header(self.path, self.separator or separator_of(self.path))
            return pa.schema([(name, pa.string()) for name in names])
        with plain_errors(self.path):
            if suffix != ".parquet":
                return None
            return with_known_types(pq.read_schema(self.path).empty_table(), self.path).schema

    def records(
        self, bad: BadRecords, skip_columns: Sequence[str] = (), read: Collection[str] | None = None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (line or row from 1, record); `read`: columns whose texts must be UTF-8, None: all."""
        records = self._records(bad, skip_columns, read)
        if not self.missing or (self.rows is None and file_suffix(self.path) in (".csv", ".tsv")):
            yield from records
            return
        texts = set(self.missing)
        for number, record in records:
            yield number, {name: None if isinstance(v, str) and v in texts else v for name, v in record.items()}

    def _records(
        self, bad: BadRecords, skip_columns: Sequence[str], read: Collection[str] | None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        if self.rows is None:
            yield from iter_records(self.path, bad, skip_columns, self.separator, self.missing, read)
            return
        kept = [name for name in self.rows.column_names if name not in skip_columns]
        number = 0
        for batch in self.rows.select_columns(kept).with_format("arrow").iter(256):
            bad.rows_read += batch.num_rows
            for record in batch.to_pylist():
                number += 1
                yield number, record


def sample_path(name: str = "openclipart") -> Path:
    """Return the folder of a sample that ships with the package; recipes name it `sample:openclipart`.

    Raises:
        ValueError: if there is no such sample.
    """
    folder = Path(str(resources.files("hf_mmtab.data") / "samples"))
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if name not in names:
        raise ValueError(f"Expected the name of a shipped sample, one of {names}, found {name!r}.")
    return folder / name


def find_sources(data_root: Path, splits: Splits | None = None) -> list[Source]:
    """Find the data files.

    Args:
        data_root: a folder, or one file. In a folder, files are assigned by name: `train.jsonl`, `dev.csv`,
            `validation-00000-of-00002.parquet`, `test_hard.jsonl` ...; a single file of any name is split by
            seed.
        splits: split name -> file or files, relative to `data_root`, instead of going by names.

    Returns:
        Sources in the order train, validation, test, others.

    Raises:
        FileNotFoundError: if something named is not there.
        ValueError: if the folder's files cannot be told apart or there is none for training.
    """
    if not data_root.exists():
        raise FileNotFoundError(f"Expected a data folder or file, found nothing at {str(data_root)!r}.")
    if splits is not None:
        named = [Source(name, path) for name in splits for path in _named_files(data_root, splits[name])]
        _refuse_twice(named)
        return _sort(named)
    if data_root.is_file():
        return [Source(ALL, data_root)]
    files = sorted(path for folder in (data_root, data_root / "data") for path in data_files(folder))
    matched = [Source(split, path) for path in files if (split := split_of(path.name))]
    if not matched and len(files) == 1:
        return [Source(ALL, files[0])]
    names = sorted(path.name for path in files) or sorted(path.name for path in data_root.iterdir())[:20]
    if not matched:
        raise ValueError(
            "Expected one data file, or files named by their split (train, dev or validation, test) and "
            f"ending in one of {list(SUFFIXES)}, found {names} in {str(data_root)!r}. Rename them, or pass "
            "splits={'train': ...}."
        )
    if others := sorted({path.name for path in files} - {source.path.name for source in matched}):
        logger.warning_once(f"Not read, since their names say no split: {', '.join(others)} in {str(data_root)!r}.")
    for split in {source.split for source in matched}:
        kinds = {file_suffix(source.path) for source in matched if source.split == split}
        if len(kinds) > 1:
            raise ValueError(
                f"Expected one kind of file for split {split!r}, found {sorted(map(str, kinds))} in "
                f"{str(data_root)!r}. Remove one, or pass splits={{{split!r}: ...}}."
            )
    if not any(source.split == "train" for source in matched):
        raise ValueError(
            f"Expected a file for training, found {names} in {str(data_root)!r}. Name it train.*, or pass "
            "splits={'train': ...}."
        )
    _refuse_twice(matched)
    return _sort(matched)


def _refuse_twice(sources: Sequence[Source]) -> None:
    for split in dict.fromkeys(source.split for source in sources):
        refuse_twice([source.path for source in sources if source.split == split])


def read_as(sources: Sequence[Source], separator: str | None, missing: Sequence[str]) -> list[Source]:
    """Return sources that are read with a separator and texts for missing values; see `Source`."""
    return [replace(source, separator=separator, missing=tuple(missing)) for source in sources]


def sources_of(data: datasets.Dataset | datasets.DatasetDict) -> list[Source]:
    """Return the splits of a data set in memory; a single `Dataset` is split by seed."""
    if isinstance(data, datasets.Dataset):
        return [Source(ALL, Path("dataset"), data)]
    sources = [Source(SPLIT_NAMES.get(name, name), Path(name), rows) for name, rows in data.items()]
    if not any(source.split == "train" for source in sources):
        raise ValueError(f"Expected a split for training, found {sorted(data)}. Name it train.")
    return _sort(sources)


def split_of(name: str) -> str | None:
    """Return the split that a file name speaks of (`dev.jsonl` -> validation), or None."""
    for known in sorted(SPLIT_NAMES, key=len, reverse=True):
        if re.match(rf"{known}([-.]|_\d|$)", name.lower()):
            return SPLIT_NAMES[known]
    return None


def digest_of(sources: Sequence[Source], policy: OnBadRecord) -> str:
    """Return a hash of the files' contents (of data sets: their fingerprints), for caches to follow."""
    digest = hashlib.blake2b(FORMAT_VERSIONS[policy].encode(), digest_size=8)
    for source in sources:
        digest.update(f"{source.split} {source.path.name}".encode())
        if source.rows is not None:
            digest.update(source.rows._fingerprint.encode())
            continue
        with open(source.path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def data_files(folder: Path) -> list[Path]:
    """Return the files of a folder that may hold records; none of a folder that is not there."""
    return files_in(folder, SUFFIXES, beside=("data",)) if folder.is_dir() else []


def _named_files(root: Path, named: str | Sequence[str]) -> list[Path]:
    folder = root if root.is_dir() else root.parent
    paths = [folder / name for name in ([named] if isinstance(named, str) else named)]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"Expected the data file named in `splits`, found nothing at {str(path)!r}.")
    return paths


def _sort(sources: list[Source]) -> list[Source]:
    order = {split: index for index, split in enumerate(SPLIT_ORDER)}
    return sorted(sources, key=lambda source: order.get(source.split, len(order)))

"""Anybody's pictures and texts: a folder (or file) of JSON lines, CSV or Parquet -> typed splits."""

import os
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from transformers.utils import logging

from .pictures.config import ImageTextConfig
from .pictures.files import ALL, Source, Splits, digest_of, find_sources, read_as, sources_of
from .pictures.opening import picture_problems
from .pictures.scan import ImageTextScan, scan
from .pictures.types import as_types
from .pictures.values import ValueProblem, label_values, picture_values, text_value
from .reading.library_errors import CheckedBuilder, plain_errors
from .reading.places import real_path
from .reading.records import BadRecord, BadRecords, shorten

logger = logging.get_logger(__name__)

Record = tuple[Source, int, dict[str, Any]]  # with its line or row
Pictures = list[dict[str, Any] | None]  # of a record

CHUNK = 256  # records whose pictures are checked together


class ImageText(CheckedBuilder):
    """Pictures with a text (or two) and one or several labels, from files of the user's own.

    Columns: `image` (null where there is none), or `images` where a record has a list of them; `text` or `sentence1`
    and `sentence2`, `label` or `labels`, and the input's own. An own column whose name the processor reads is kept as
    `input_<name>`. Rows, classes, missing values and licence: those of the input. Pictures given by path stay files;
    embedded ones are copied.

    Example:
        >>> builder = ImageText(data_root="products", label_column="category")
        >>> builder.download_and_prepare()
        >>> rows = builder.as_dataset()  # DatasetDict with train, validation, test
        >>> left_out = builder.skipped  # under on_bad_record="skip": what was left out, and why
    """

    BUILDER_CONFIG_CLASS = ImageTextConfig
    VERSION = datasets.Version("1.0.0")
    REPORT = "skipped_pictures-{split}.json"
    FOLDER: str | None = None  # below the data's root, where the files are if there is such a folder
    DEFAULTS: Mapping[str, Any] = {}  # of the config's fields
    hash: str | None
    config: ImageTextConfig

    def __init__(
        self,
        data_root: str | os.PathLike | datasets.Dataset | datasets.DatasetDict,
        cache_dir: str | None = None,
        **kwargs: Any,
    ):
        if isinstance(data_root, datasets.Dataset | datasets.DatasetDict):
            self._sources = sources_of(data_root)
            root = Path("in_memory")
        else:
            root = real_path(data_root)
            if type(self) is ImageText:  # what the rows are called, also on a card; a layout has its name
                kwargs.setdefault("dataset_name", re.sub(r"[^\w.-]+", "-", root.stem)[:60].strip("-.") or None)
            self._sources = self.sources_in(root, kwargs.get("splits"))
        self._sources = read_as(self._sources, kwargs.get("separator"), kwargs.get("missing") or ())
        self._bad = BadRecords(kwargs.get("on_bad_record", "raise"))
        # The cache of `datasets` follows the arguments, not the data: without a hash of the files, a row
        # appended to them would not be seen.
        kwargs.setdefault("hash", digest_of(self._sources, self._bad.policy))
        with plain_errors(root):
            super().__init__(cache_dir=cache_dir, data_root=str(root), **{**self.DEFAULTS, **kwargs})

    @property
    def own_columns(self) -> dict[str, str]:
        """Columns of the built rows that the input has itself, pictures left out → their names there."""
        texts = next(iter(self._scan.columns.values())).text_features
        kept = {name: name for name, column in texts.items() if name == column and name not in self._scan.own_types}
        return kept | {own: name for name, own in self._scan.own_names.items()}

    @property
    def mixed_columns(self) -> dict[str, pa.DataType]:
        """Columns of the built rows that hold JSON → their type in a Parquet file, see `ImageTextScan.mixed`."""
        return {self._scan.own_names[name]: kind for name, kind in self._scan.mixed.items()}

    @classmethod
    def sources_in(cls, root: Path, splits: Splits | None = None) -> list[Source]:
        """Return the data files under a folder, as this layout has them."""
        has_own = cls.FOLDER and (root / cls.FOLDER).is_dir()
        return find_sources(root / str(cls.FOLDER) if has_own else root, splits)

    def _info(self) -> datasets.DatasetInfo:
        self._scan: ImageTextScan = scan(self._sources, self.config, self._bad)
        # Rows whose pictures were repaired or broken since are looked at again; `datasets` asks for the hash later.
        self.hash = f"{self.hash}-{self._scan.pictures}"
        return datasets.DatasetInfo(description=self.__doc__ or "", features=self._scan.features())

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        training = [source for source in self._sources if source.split in ("train", ALL)]
        parts: list[tuple[str, list[Source], int | None]]
        parts = [(name, training, index) for index, name in enumerate(self._scan.part_names)]
        for name in dict.fromkeys(source.split for source in self._sources):
            if name not in (ALL, *self._scan.part_names):
                parts.append((name, [source for source in self._sources if source.split == name], None))
        if self._scan.parts is not None:
            parts = [one for one in parts if one[2] is None or (self._scan.parts == one[2]).any()]
        return [
            datasets.SplitGenerator(name, gen_kwargs={"split": name, "sources": sources, "part": part})
            for name, sources, part in parts
        ]

    def _generate_tables(self, split: str, sources: list[Source], part: int | None) -> Iterator[tuple[str, pa.Table]]:
        bad, rows_used = BadRecords(self._bad.policy), 0
        records = self._records(sources, part, bad)
        known: dict[str, str | None] = {}  # many rows may share a picture file
        while chunk := list(islice(records, CHUNK)):
            named = [self._pictures(source, record) for source, _, record in chunk]
            pictures = [found for found, _ in named]
            looked_at = self._picture_problems(pictures, known)
            problems = [first or second for (_, first), second in zip(named, looked_at, strict=True)]
            for (source, line, _), problem in zip(chunk, problems, strict=True):
                if problem is not None:
                    remedy = "Repair or remove the picture, or write null for a record without one."
                    column = self._scan.columns[source.path].image
                    bad.add(BadRecord(str(source.path), line, column, "a readable picture", problem, remedy, split))
            good = [place for place, problem in enumerate(problems) if problem is None]
            rows_used += len(good)
            table = self._to_table([chunk[place] for place in good], [pictures[place] for place in good])
            yield f"{chunk[0][0].path}-{chunk[0][1]}", table
        bad.check_count(rows_used)
        # Beside the rows while they are still in a temporary folder (`_output_dir`), so that both appear at
        # once; when streaming there is no folder.
        self._write_skipped(bad.records, split)

    def _records(self, sources: list[Source], part: int | None, bad: BadRecords) -> Iterator[Record]:
        """Yield the good records of a split, their pictures not looked at yet; count them in `bad`."""
        ordinal = -1
        for source in sources:
            read = self._scan.columns[source.path].read_by(self.config)
            for line, record in source.records(BadRecords("skip"), read=read):
                ordinal += 1
                if part is not None and self._scan.parts is not None and self._scan.parts[ordinal] != part:
                    continue
                if line not in self._scan.bad_lines[source.path]:
                    bad.rows_read += 1
                    yield source, line, record

    def _pictures(self, source: Source, record: dict[str, Any]) -> tuple[Pictures, str | None]:
        """Return the pictures that a record names, and what stands in their place if it is none."""
        column = self._scan.columns[source.path].image
        value = None if column is None else record.get(column)
        try:
            return picture_values(value, source.path.parent), None
        except ValueProblem as error:
            return [], f"{shorten(value)}, and not {error.expected}"

    def _picture_problems(self, pictures: list[Pictures], known: dict[str, str | None]) -> list[str | None]:
        """Return what is wrong with the first bad picture of each record, or None."""
        answers = iter(
            picture_problems([one for several in pictures for one in several], self.config.check_images, known)
        )
        found: list[str | None] = []
        for several in pictures:
            bad = [(place, problem) for place in range(1, len(several) + 1) if (problem := next(answers))]
            told = [f"picture {place} of {len(several)}: {one}" if len(several) > 1 else one for place, one in bad]
            found.append(next(iter(told), None))
        return found

    def _to_table(self, records: list[Record], pictures: list[Pictures]) -> pa.Table:
        features = self.info.features
        assert features is not None
        several = self._scan.several_pictures
        values: dict[str, list[Any]] = {"images": pictures} if several else {"image": [one for (one,) in pictures]}
        for name, kind in self._scan.own_types.items():
            values[self._scan.own_names[name]] = as_types(
                [record.get(name) for _, _, record in records], kind, name in self._scan.mixed
            )
        columns = [self._scan.columns[source.path] for source, _, _ in records]
        for name in next(iter(self._scan.columns.values())).text_features:
            values[name] = [
                text_value(record.get(one.text_features[name]))
                for (_, _, record), one in zip(records, columns, strict=True)
            ]
        if self._scan.label_names is not None:
            labels = [self._labels(source, record) for source, _, record in records]
            if self._scan.several:
                values["labels"] = labels
            else:
                values["label"] = [one[0] for one in labels]
        schema = features.arrow_schema
        return pa.table([pa.array(values[one.name], one.type) for one in schema], schema=schema)

    def _labels(self, source: Source, record: dict[str, Any]) -> list[int]:
        separator = self.config.label_separator
        column = self._scan.columns[source.path].label
        numbered = self._scan.number_names[source.path] or None
        names, _ = label_values(record.get(column or ""), separator, numbered, self.config.missing)
        return [self._scan.label_ids[name] for name in names]

"""A first pass over the data files: column types, label names, bad records, and an automatic split."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from transformers.utils import logging

from ..reading.library_errors import no_rows
from ..reading.record_files import file_suffix
from ..reading.records import BadRecord, BadRecords, free_names, shorten, tell_alike
from .columns import Columns, find_columns
from .config import ImageTextConfig
from .files import ALL, Source
from .stratified import rarest_label, stratified_split
from .types import TEXTS, kind_of_value, note_type, type_of, type_of_texts
from .values import (
    ValueProblem,
    check_category,
    check_number,
    label_values,
    order_labels,
    picture_values,
    tell_joined_classes,
    tell_odd_classes,
    text_value,
)

logger = logging.get_logger(__name__)

RESERVED = ("image", "images", "text", "sentence1", "sentence2", "label", "labels")
HEAD = 1000  # records whose keys are taken for all columns of a file without a schema
TYPE_SAMPLE = 2000  # records whose own columns are typed together


@dataclass
class ImageTextScan:
    """What a first pass found; the second pass writes rows by it."""

    columns: dict[Path, Columns] = field(default_factory=dict)
    number_names: dict[Path, list[str]] = field(default_factory=dict)  # of labels that are class numbers
    own_types: dict[str, pa.DataType] = field(default_factory=dict)
    own_kinds: dict[str, set[str]] = field(default_factory=dict)  # of the values, where all columns are kept
    label_names: list[str] | None = None
    several: bool = False
    several_pictures: bool = False  # whether a record has a list of them
    bad_lines: dict[Path, set[int]] = field(default_factory=dict)
    parts: np.ndarray | None = None  # part of each record of the training files, if they are split by seed
    part_names: list[str] = field(default_factory=list)
    beside: frozenset[str] = frozenset()  # columns that the model reads: their texts stay as they are
    pictures: str = ""  # hash of the named pictures' paths, sizes and times

    @cached_property
    def label_ids(self) -> dict[str, int]:
        """Label → its class number."""
        return {name: number for number, name in enumerate(self.label_names or ())}

    def features(self) -> datasets.Features:
        """Return the features of the built data set."""
        first = next(iter(self.columns.values()))
        features: dict[str, Any] = {}
        if first.image is not None:
            picture = datasets.Image()
            features |= {"images": datasets.List(picture)} if self.several_pictures else {"image": picture}
        features.update({name: datasets.Value("string") for name in first.text_features})
        if self.label_names is not None:
            one = datasets.ClassLabel(names=self.label_names)
            features["labels" if self.several else "label"] = datasets.List(one) if self.several else one
        own = datasets.Features.from_arrow_schema(pa.schema(list(self.own_types.items())))
        features.update({self.own_names[name]: own[name] for name in own})
        return datasets.Features(features)

    @property
    def mixed(self) -> dict[str, pa.DataType]:
        """Own columns of several kinds of values, kept as JSON → the type of a Parquet file that holds all of them."""
        texts = {name for name, kind in self.own_types.items() if pa.types.is_string(kind)} - self.beside
        kinds = {name: found - {"NoneType"} for name, found in self.own_kinds.items() if name in texts}
        listed = pa.list_(pa.string())
        return {name: listed if one <= {"str", TEXTS} else pa.string() for name, one in kinds.items() if one - {"str"}}

    @property
    def own_names(self) -> dict[str, str]:
        """An input's own columns → the names under which they are kept: never one that the processor reads."""
        return free_names(list(self.own_types), RESERVED)


def scan(sources: list[Source], config: ImageTextConfig, bad: BadRecords) -> ImageTextScan:
    """Read all records once, without pictures.

    Raises:
        BadRecordError: for the first bad record, unless `bad` collects them.
        ValueError: for missing columns or a training set without records.
    """
    found = ImageTextScan(beside=frozenset([*config.number_columns, *config.category_columns]))
    counts: dict[str, int] = {}
    training: list[list[str]] = []
    lists: dict[bool, str] = {}  # whether labels are a list → the first such record
    placed: dict[int, int] = {}  # bad record → its number among the training records
    origins: list[str] = []  # split of the file of each bad record
    held = False  # whether a training label holds the separator
    rows_used, of_training, pictures = 0, 0, hashlib.blake2b(digest_size=8)
    for source in sources:
        in_training = source.split in ("train", ALL)
        columns = _columns_of(source, config)
        found.columns[source.path] = columns
        numbers = _class_names(source, columns.label)
        found.number_names[source.path] = numbers
        found.bad_lines[source.path] = set()
        before = len(bad.records)
        for line, record in _typed_records(source, columns, config, found, bad):
            labels: list[str] = []
            problem = _problem(source.path, line, record, columns, config)
            if columns.image is not None and problem is None:
                value = record.get(columns.image)
                found.several_pictures |= isinstance(value, list | tuple)
                for picture in picture_values(value, source.path.parent):
                    pictures.update(_state_of(picture))
            if columns.label is not None and problem is None:
                try:
                    value = record.get(columns.label)
                    labels, several = label_values(value, config.label_separator, numbers or None, config.missing)
                    found.several |= several and config.multi_label is None
                    held |= in_training and isinstance(value, str) and (config.label_separator or "") in value
                    lists.setdefault(several, f"{str(source.path)!r}, line {line}")
                    problem = _label_problem(source, line, columns.label, labels, counts, config)
                except ValueProblem as error:
                    problem = _bad(source.path, line, columns.label, record, error)
            if problem is not None:
                bad.add(problem)
                labels = []
                placed[len(bad.records) - 1] = len(training)
            elif in_training:
                of_training += 1
                for label in labels:
                    counts[label] = counts.get(label, 0) + 1
            if in_training:
                training.append(labels)
            rows_used += problem is None
        origins += [source.split] * (len(bad.records) - before)
        found.bad_lines[source.path] = {r.line for r in bad.records[before:] if r.line is not None}
    bad.check_count(rows_used)
    found.pictures = pictures.hexdigest()
    if any(columns.label is not None for columns in found.columns.values()):
        left_out = [one for one, origin in zip(bad.records, origins, strict=True) if origin in ("train", ALL)]
        if left_out and not of_training:
            of_labels = {one.column for one in left_out} <= {columns.label for columns in found.columns.values()}
            hint = " To read records without labels use read_image_text." if of_labels else ""
            named = "train" if len({source.split for source in sources}) > 1 else None
            raise ValueError(f"{no_rows(config.data_root, left_out, named)}{hint}")
        _finish_labels(found, counts, config, sources, held)
    if len(lists) == 2 and config.multi_label is None:
        logger.warning(
            f"Labels are a list in {lists[True]}, and a single one in {lists[False]}: the data is read as of several "
            "labels a row. If each row has one, write single labels everywhere."
        )
    _split_training(found, training, sources, config)
    for number, origin in enumerate(origins):
        split: str | None = origin
        if found.parts is not None and origin in ("train", ALL):
            split = found.part_names[found.parts[placed[number]]] if number in placed else None
        bad.records[number] = replace(bad.records[number], split=split)
    return found


def _state_of(picture: dict[str, Any] | None) -> bytes:
    """Return path, size and time of a picture that is a file; empty: there is none, or its bytes are in the data."""
    if picture is None or picture["bytes"] is not None:
        return b""
    try:
        state = os.stat(picture["path"])
    except (OSError, ValueError):  # absent, or no name of a file
        return f"{picture['path']}: absent\n".encode("utf-8", "surrogatepass")
    return f"{picture['path']}: {state.st_size} {state.st_mtime_ns}\n".encode("utf-8", "surrogatepass")


def _columns_of(source: Source, config: ImageTextConfig) -> Columns:
    if source.schema is not None:
        names = list(source.schema.names)
    else:
        bad = BadRecords("skip")
        head = list(islice(source.records(bad, read=()), HEAD))
        names = list(dict.fromkeys(name for _, record in head for name in record))
        if not names and bad.records:
            raise no_rows(str(source.path), bad.records)
    if not names:
        raise ValueError(f"Expected records, found none in {str(source.path)!r}. Is it the right file?")
    beside = sorted({*config.number_columns, *config.category_columns})
    absent = [name for name in beside if name not in names]
    if absent and (source.schema is not None or len(head) < HEAD):  # a later record may have it
        raise ValueError(
            f"Expected the columns {', '.join(beside)} in {str(source.path)!r}, which the model reads beside picture "
            f"and text (empty where a cell is missing), found no {', '.join(absent)} among {', '.join(names)}. Add "
            "them; number_columns and category_columns of training say which."
        )
    asked = (config.image_column, config.text_column, config.text_pair_column, config.label_column)
    columns = find_columns(names, repr(str(source.path)), *asked)
    if columns.label is not None and columns.label in (columns.image, columns.text, columns.text_pair, *beside):
        raise ValueError(
            f"Expected a label that the model does not read, found column {columns.label!r} of {str(source.path)!r} "
            "both as label and as input. Name others: label_column, image_column, text_column, number_columns, "
            "category_columns."
        )
    roles = {columns.image: "the picture", columns.text: "the text", columns.text_pair: "the second text"}
    if twice := next((name for name in beside if name in roles), None):
        raise ValueError(
            f"Expected number_columns and category_columns beside picture and text, found {twice!r} of "
            f"{str(source.path)!r}, which is {roles[twice]} already. Take it out there, or name another column in "
            "image_column, text_column or text_pair_column (none: there is none)."
        )
    if taken := next((name for name in beside if name in RESERVED), None):
        raise ValueError(
            f"Expected number_columns and category_columns called other than {', '.join(RESERVED)}, as what a model "
            f"reads is called, found {taken!r} in {str(source.path)!r}. Rename the column."
        )
    return columns


def _class_names(source: Source, label: str | None) -> list[str]:
    """Return the names of class numbers, which `datasets` writes into the schema (of Parquet files, too)."""
    if label is None or source.schema is None:
        return []
    feature: Any = datasets.Features.from_arrow_schema(source.schema)[label]
    feature = getattr(feature, "feature", feature)
    return list(feature.names) if isinstance(feature, datasets.ClassLabel) else []


def _typed_records(
    source: Source, columns: Columns, config: ImageTextConfig, found: ImageTextScan, bad: BadRecords
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the records, and note the types of the input's own columns on the way."""
    used = set() if config.keep_input_columns else columns.used
    schema = source.schema
    only_texts = source.rows is None and file_suffix(source.path) in (".csv", ".tsv")
    if schema is not None and not only_texts:
        heavy = [f.name for f in schema if f.name == columns.image and not _are_paths(f.type)]
        found.several_pictures |= any(_is_list(schema.field(name).type) for name in heavy)
        for one in schema:
            if one.name not in used and one.name not in heavy:
                note_type(found.own_types, one.name, one.type)
        yield from source.records(bad, skip_columns=heavy, read=columns.read_by(config))
        return
    records = source.records(bad, read=columns.read_by(config))
    kind_of = type_of_texts if only_texts else type_of
    while sample := list(islice(records, TYPE_SAMPLE)):
        for name in dict.fromkeys(name for _, record in sample for name in record if name not in used):
            values = [record.get(name) for _, record in sample]
            note_type(found.own_types, name, kind_of(values))
            if config.keep_input_columns:
                found.own_kinds.setdefault(name, set()).update(map(kind_of_value, values))
        yield from sample


def _are_paths(kind: pa.DataType) -> bool:
    """Whether a column of pictures has paths, or lists of paths."""
    kind = kind.value_type if _is_list(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _problem(
    path: Path, line: int, record: dict[str, Any], columns: Columns, config: ImageTextConfig
) -> BadRecord | None:
    """Return what is wrong with the picture's path, the texts or the numbers, or None."""
    column = columns.image
    try:
        if column is not None and column in record:
            picture_values(record[column], path.parent)
        for column in (columns.text, columns.text_pair):
            if column is None:
                continue
            text = text_value(record.get(column))
            if not text.strip() and not config.allow_empty_text:
                remedy = "Write one, leave the record out, or set allow_empty_text to true to keep it."
                raise ValueProblem("a text", remedy)
        for column in config.number_columns:
            check_number(record.get(column))
        for column in config.category_columns:
            check_category(record.get(column))
    except ValueProblem as error:
        return _bad(path, line, column, record, error)
    return None


def _bad(path: Path, line: int, column: str | None, record: dict[str, Any], error: ValueProblem) -> BadRecord:
    found = shorten(record[column]) if column in record else f"no such column among {sorted(record)}"
    if column in record and not isinstance(record[column], str):
        found += f" ({type(record[column]).__name__})"
    return BadRecord(str(path), line, column, error.expected, found, error.remedy)


def _label_problem(
    source: Source, line: int, column: str, labels: list[str], counts: dict[str, int], config: ImageTextConfig
) -> BadRecord | None:
    place = (str(source.path), line, column)
    if config.multi_label is False and len(labels) != 1:
        remedy = "Give it one label, or set multi_label to true."
        return BadRecord(*place, "one label (multi_label is false)", f"{len(labels)}: {labels}", remedy)
    known = config.label_names
    if known is None and source.split in ("train", ALL):
        return None
    known = list(counts) if known is None else known
    unknown = [label for label in labels if label not in known]
    if not unknown:
        return None
    expected = f"a label of the training set, one of {shorten(sorted(known), 200)}"
    remedy = "Correct it, add training records that have it, or leave the record out."
    return BadRecord(*place, expected, ", ".join(map(repr, unknown)), remedy)


def _finish_labels(
    found: ImageTextScan, counts: dict[str, int], config: ImageTextConfig, sources: list[Source], held: bool
) -> None:
    """Decide on the label names and their order, and on one or several labels; `held`: one holds the separator."""
    numbers = found.number_names[sources[0].path]
    found.label_names = config.label_names or numbers or order_labels(counts, config.label_order)
    tell_alike(found.label_names, [counts.get(name, 0) for name in found.label_names] if counts else None)
    tell_odd_classes(found.label_names)
    if not numbers and config.label_names is None:
        tell_joined_classes(found.label_names)
        if config.label_separator is not None and counts and not held:
            logger.warning(
                f"No label of the training rows holds the label_separator {config.label_separator!r}: each text is one "
                "label."
            )
    if config.multi_label is not None:
        found.several = config.multi_label
    if not counts:
        raise ValueError(
            f"Expected labelled training records, found none in {str(sources[0].path)!r}. "
            "To read records without labels use read_image_text."
        )


def _split_training(
    found: ImageTextScan, training: list[list[str]], sources: list[Source], config: ImageTextConfig
) -> None:
    """Split one file into three, or take the validation set out of the training set if there is none."""
    splits = {source.split for source in sources}
    fractions = list(config.split_fractions)
    if ALL in splits:
        found.part_names = ["train", "validation", "test"]
    elif "train" in splits and "validation" not in splits:
        found.part_names = ["train", "validation"]
        share = fractions[1] / (fractions[0] + fractions[1])
        fractions = [1 - share, share]
    else:
        return
    found.parts = stratified_split(rarest_label(training), fractions, config.split_seed)

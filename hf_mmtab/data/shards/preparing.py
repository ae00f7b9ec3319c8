"""A table of events to a fitted processor and encoded rows on disk, in memory that does not grow with the table."""

import hashlib
import json
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import datasets
import numpy as np
import pyarrow as pa
from transformers.utils import logging

from ..reading.column_names import near_names
from ..windows.encoded_rows import FACTS_FILE, EncodedRows
from ..windows.histories import CODE, in_order, iter_tables, read_histories, require_columns
from ..windows.label_columns import LabelColumns
from ..windows.repeated_rows import count_repeated
from ..windows.splits import Split

logger = logging.get_logger(__name__)


class TableProcessor(Protocol):
    """What `prepare_rows` asks of a processor; `TabBertProcessor` is one."""

    plan: Any

    @property
    def fields(self) -> list[str]: ...
    @property
    def field_ranges(self) -> list[list[int]]: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def is_fitted(self) -> bool: ...
    def unknown_ids(self) -> list[int]: ...
    def fit(self, rows: Any) -> Any: ...
    def fit_part(self, rows: Any) -> Any: ...
    def finish(self, statistics: Any) -> Any: ...
    def encode_batches(self, rows: Iterable[pa.Table]) -> Iterator[pa.Table]: ...


def prepare_rows(
    dataset: datasets.Dataset,
    processor: TableProcessor,
    folder: str | Path,
    split: Split | str = "time",
    label: Sequence[str] | None = None,
    number_labels: Collection[str] = (),
    earlier: int = 0,
) -> EncodedRows:
    """Order the rows, split them, fit the processor on the training rows, encode all and write them to
    `folder`.

    A processor that is fitted already is used as it is. Rows that `folder` holds already, from the same
    table, processor and split, are opened and not made again (with an unfitted processor they are made
    again).

    Args:
        dataset: typed rows of a builder or any `datasets.Dataset`.
        processor: its plan names entity, time and label.
        folder: created; what was there is replaced.
        split: a `Split` or its kind.
        label: columns of the labels; None: the plan's. Empty: rows without labels.
        number_labels: those of them that are numbers, and no classes, whatever their values are.
        earlier: how many rows, the first ones, are of earlier calls: warnings are of the others.

    Raises:
        ValueError: if a column of the plan is absent, a label is a field too, an entity or
            time is missing, or labels cannot be read.
    """
    split = Split(split) if isinstance(split, str) else split  # type: ignore[arg-type]
    plan = processor.plan
    key = [dataset._fingerprint, plan.to_dict(), split.kind, split.shares, split.seed]
    if label is not None and list(label) != list(plan.label):
        key.append(list(label))
    if number_labels:
        key.append({"numbers": sorted(number_labels)})
    label = list(plan.label if label is None else label)
    require_no_input(plan, label)
    if processor.is_fitted and (ready := _ready(Path(folder), key, processor.fingerprint)) is not None:
        return ready
    entity, table = list(plan.entity), dataset
    require_columns(dataset.column_names, plan.columns)
    with tempfile.TemporaryDirectory(prefix="rows-", dir=_parent(folder)) as scratch:
        found, order = read_histories(dataset, entity, plan.time, plan.time_unit), None
        if len(found.late) and plan.order == "time" and plan.time is not None:
            dataset, order = in_order(dataset, found, entity, plan.time, scratch, earlier)
            found = read_histories(dataset, entity, plan.time, plan.time_unit)
        rows_split = split.rows(found.entity, found.time)
        if not processor.is_fitted:
            processor.fit(_chosen(iter_tables(dataset, plan.columns), rows_split == 0))
        label = present_labels(dataset.column_names, label)
        labels, names = read_labels(dataset, label, number_labels) if label else (None, [])
        bounds = zip(processor.fields, processor.field_ranges, processor.unknown_ids(), strict=True)
        facts = {
            "fingerprint": digest_of([*key, processor.fingerprint]),
            "processor_fingerprint": processor.fingerprint,
            "key": digest_of(key),
            "order": plan.order,
            "split": {"kind": split.kind, "fractions": list(split.shares), "seed": split.seed},
        }
        rows = EncodedRows.write(
            folder,
            processor.encode_batches(iter_tables(dataset, plan.columns)),
            {name: [min(start, unknown), end] for name, (start, end), unknown in bounds},
            found.entity,
            found.time,
            rows_split,
            found.names.drop(CODE, strict=False),
            labels,
            names,
            order,
            facts,
        )
    gaps = [field.name for field in plan.fields if field.kind == "time_gap"]
    repeated = count_repeated(rows, table, gaps, earlier) if plan.time is not None else 0
    warn_repeated(repeated, len(rows) - earlier)
    return rows


def _parent(folder: str | Path) -> Path:
    parent = Path(folder).absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    return parent


def digest_of(value: Any) -> str:
    """Return a hash of plain values, 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _ready(folder: Path, key: list[Any], processor_fingerprint: str) -> EncodedRows | None:
    if not (folder / FACTS_FILE).is_file():
        return None
    rows = EncodedRows(folder)
    same = rows.facts["key"] == digest_of(key) and rows.processor_fingerprint == processor_fingerprint
    return rows if same else None


def _chosen(tables: Iterable[pa.Table], mask: np.ndarray) -> Iterator[pa.Table]:
    done = 0
    for table in tables:
        part = mask[done : done + table.num_rows]
        done += table.num_rows
        if part.all():
            yield table
        elif part.any():
            yield table.filter(pa.array(part))


def require_no_input(plan: Any, label: Sequence[str]) -> None:
    """Raise a ValueError if a field of the plan reads a label column."""
    if read := [f.name for f in plan.fields if plan.source(f) in label]:
        raise ValueError(
            f"Expected labels that are no input, found that {', '.join(map(repr, read))} read the label columns "
            f"{list(label)}. Choose other label columns, or pretrain without these fields."
        )


def warn_repeated(repeated: int, rows: int) -> None:
    """Say how many rows of the table repeat others."""
    if repeated:
        logger.warning(
            f"{repeated} of {rows} rows repeat an earlier row of the same history and time in every column. They "
            "are kept; if they are copies, remove them from the table."
        )


def present_labels(names: Collection[str], label: list[str]) -> list[str]:
    """Return the label columns of a table with columns `names`; none, with a warning, where it lacks one of them."""
    if absent := [name for name in label if name not in names]:
        near = near_names(absent, list(names))
        logger.warning(f"The table has no column {absent}: its windows have no labels.{near}")
    return [] if absent else label


def read_labels(
    dataset: datasets.Dataset, label: list[str], numbers: Collection[str] = ()
) -> tuple[np.ndarray, list[str]]:
    """Return the labels of all rows and the names of the classes, see `LabelColumns`.

    Raises:
        ValueError: if a column among several is not numeric.
    """
    labels = LabelColumns(dataset.features, label, numbers)
    for table in iter_tables(dataset, label):
        labels.see(table)
    labels.tell()
    empty = labels.codes(dataset.features.arrow_schema.empty_table().select(label))
    return np.concatenate([empty, *(labels.codes(table) for table in iter_tables(dataset, label))]), labels.names

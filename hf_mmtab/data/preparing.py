"""A table of events to a fitted processor and encoded rows on disk, in memory that does not grow with the table."""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from transformers.utils import logging

from .encoded_rows import FACTS_FILE, EncodedRows
from .histories import in_order, iter_tables, read_histories
from .repeated_rows import count_repeated
from .splits import Split
from .windows import IGNORED

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
    def encode_batches(self, rows: Iterable[pa.Table]) -> Iterator[pa.Table]: ...


def prepare_rows(
    dataset: datasets.Dataset,
    processor: TableProcessor,
    folder: str | Path,
    split: Split | str = "time",
    label: Sequence[str] | None = None,
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

    Raises:
        ValueError: if a column of the plan is absent, a label is a field too, an entity or
            time is missing, or labels cannot be read.
    """
    split = Split(split) if isinstance(split, str) else split  # type: ignore[arg-type]
    plan = processor.plan
    key = [dataset._fingerprint, plan.to_dict(), split.kind, split.shares, split.seed]
    if label is not None and list(label) != list(plan.label):
        key.append(list(label))
    label = list(plan.label if label is None else label)
    if read := [f.name for f in plan.fields if plan.source(f) in label]:
        raise ValueError(
            f"Expected labels that are no input, found that {', '.join(map(repr, read))} read the label columns "
            f"{label}. Choose other label columns, or pretrain without these fields."
        )
    if processor.is_fitted and (ready := _ready(Path(folder), key, processor.fingerprint)) is not None:
        return ready
    entity, table = list(plan.entity), dataset
    _require(dataset, [*plan.columns])
    with tempfile.TemporaryDirectory(prefix="rows-", dir=_parent(folder)) as scratch:
        order = None
        if plan.order == "time" and plan.time is not None:
            found = read_histories(dataset, entity, plan.time, plan.time_unit)
            if found.backward:
                dataset, order = in_order(dataset, entity, plan.time, scratch, plan.time_unit)
                found = read_histories(dataset, entity, plan.time, plan.time_unit)
        else:
            found = read_histories(dataset, entity, plan.time, plan.time_unit)
        rows_split = split.rows(found.entity, found.time)
        if not processor.is_fitted:
            processor.fit(_chosen(iter_tables(dataset, plan.columns), rows_split == 0))
        labels, names = read_labels(dataset, label) if _has_all(dataset, label) else (None, [])
        bounds = zip(processor.fields, processor.field_ranges, processor.unknown_ids(), strict=True)
        facts = {
            "fingerprint": _hash([*key, processor.fingerprint]),
            "processor_fingerprint": processor.fingerprint,
            "key": _hash(key),
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
            found.names.drop("#code", strict=False),
            labels,
            names,
            order,
            facts,
        )
    gaps = [field.name for field in plan.fields if field.kind == "time_gap"]
    repeated = count_repeated(rows, table, gaps) if plan.time is not None else 0
    if repeated:
        logger.warning(
            f"{repeated} of {len(rows)} rows repeat an earlier row of the same history and time in every column. They "
            "are kept; if they are copies, remove them from the table."
        )
    return rows


def _parent(folder: str | Path) -> Path:
    parent = Path(folder).absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    return parent


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _ready(folder: Path, key: list[Any], processor_fingerprint: str) -> EncodedRows | None:
    if not (folder / FACTS_FILE).is_file():
        return None
    rows = EncodedRows(folder)
    same = rows.facts["key"] == _hash(key) and rows.processor_fingerprint == processor_fingerprint
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


def _require(dataset: datasets.Dataset, columns: list[str]) -> None:
    names = dict.fromkeys(dataset.column_names)
    absent = [c for c in columns if c not in names]
    if absent:
        raise ValueError(
            f"Expected columns {absent}, found {list(names)}. Rename the table's columns or edit the plan."
        )


def _has_all(dataset: datasets.Dataset, label: list[str]) -> bool:
    absent = [c for c in label if c not in dataset.column_names]
    if absent:
        logger.warning(f"The table has no column {absent}: its windows have no labels.")
    return bool(label) and not absent


def read_labels(dataset: datasets.Dataset, label: list[str]) -> tuple[np.ndarray, list[str]]:
    """Return the labels of all rows and the names of the classes.

    One column of text, yes/no, a ClassLabel or whole numbers with at most 1,000 values gives classes:
    `(rows,)` int64, -100 where missing. Other numbers, or several columns, give `(rows, targets)` float32,
    NaN where missing, no names.

    Raises:
        ValueError: if a column among several is not numeric.
    """
    kind = dataset.features[label[0]]
    if len(label) == 1 and isinstance(kind, datasets.ClassLabel):
        parts = [pc.fill_null(t[label[0]], IGNORED).to_numpy() for t in iter_tables(dataset, label)]
        codes = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
        return np.where(codes < 0, IGNORED, codes), list(kind.names)
    columns = [pa.chunked_array([c for t in iter_tables(dataset, label) for c in t[n].chunks]) for n in label]
    if len(label) == 1 and not pa.types.is_floating(columns[0].type):
        column = columns[0]
        values = sorted(v for v in pc.unique(column).to_pylist() if v is not None)
        if len(values) <= 1000:
            codes = pc.fill_null(pc.index_in(column, value_set=pa.array(values, column.type)), IGNORED)
            return codes.to_numpy().astype(np.int64), [str(v) for v in values]
    for name, column in zip(label, columns, strict=True):
        if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
            raise ValueError(f"Expected numbers in the label column {name!r}, found {column.type}.")
    numbers = [pc.fill_null(c.cast(pa.float32()), float("nan")).to_numpy() for c in columns]
    return np.stack(numbers, axis=1), []

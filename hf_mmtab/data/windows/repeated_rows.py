"""Rows that are in a table twice: found among those of one history and time, whatever the size of the table."""

from collections.abc import Sequence

import datasets
import numpy as np
import polars as pl
import pyarrow as pa

from .encoded_rows import EncodedRows
from .histories import iter_tables

FACTOR, SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(29)  # of an odd multiplier and the mixing after it


def count_repeated(rows: EncodedRows, dataset: datasets.Dataset, without: Sequence[str] = (), earlier: int = 0) -> int:
    """Return how many rows equal an earlier row of the same entity and time in every column of the table.

    Ids tell the few rows that may be equal; only those are compared by their values.

    Args:
        rows: the encoded rows.
        dataset: the table that they were read from, in its own order.
        without: fields that differ between equal rows, as the time since the row before does.
        earlier: how many rows of the table, the first ones, do not count.
    """
    compared = [c for name, c in zip(rows.fields, rows.columns, strict=True) if name not in without]
    places = rows_alike(rows.time, rows.entity_starts, compared)
    if not len(places):
        return 0
    chosen = np.zeros(len(dataset), dtype=bool)
    chosen[places if rows.row_numbers is None else rows.row_numbers[places]] = True
    plain = [field.name for field in dataset.features.arrow_schema if not pa.types.is_nested(field.type)]
    found, done = [], 0
    for table in iter_tables(dataset, plain):
        part = chosen[done : done + table.num_rows]
        done += table.num_rows
        if part.any():
            found.append(pl.DataFrame(pl.from_arrow(table.filter(pa.array(part)))))
    frame = pl.concat(found)
    old = frame.head(int(chosen[:earlier].sum()))
    return len(frame) - len(frame.unique()) - (len(old) - len(old.unique()))


def rows_alike(time: np.ndarray, entity_starts: np.ndarray, columns: Sequence[np.ndarray]) -> np.ndarray:
    """Return the places of rows that share entity, time and ids with another row.

    Args:
        time: `(rows,)`, each entity's rows together and in order.
        entity_starts: first row of each entity.
        columns: ids, each `(rows,)`.
    """
    if len(time) < 2:
        return np.empty(0, dtype=np.int64)
    same = time[1:] == time[:-1]
    same[entity_starts[1:] - 1] = False
    tied = np.zeros(len(time), dtype=bool)
    tied[1:] = same
    tied[:-1] |= same
    places = np.flatnonzero(tied)
    if not len(places):
        return places
    first = np.ones(len(time), dtype=bool)
    first[1:] = ~same
    mixed = np.cumsum(first[places]).astype(np.uint64)  # which tie
    for column in columns:
        mixed = (mixed ^ (mixed >> SHIFT)) * FACTOR + column[places].astype(np.uint64)
    order = np.argsort(mixed, kind="stable")
    equal = mixed[order][1:] == mixed[order][:-1]
    alike = np.zeros(len(places), dtype=bool)
    alike[order[1:][equal]] = True
    alike[order[:-1][equal]] = True
    return places[alike]

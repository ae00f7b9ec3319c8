"""Encoded rows of one machine, written again as shards that are cut where a test wants."""

import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from hf_mmtab.data.windows.encoded_rows import EncodedRows
from hf_mmtab.data.windows.shard_files import ShardWriter
from hf_mmtab.data.windows.sharded_rows import ShardedRows


def ranges_of(processor) -> dict[str, list[int]]:
    """The ids of each field, that of unknown values included."""
    bounds = zip(processor.fields, processor.field_ranges, processor.unknown_ids(), strict=True)
    return {name: [min(start, unknown), end] for name, (start, end), unknown in bounds}


def in_shards(
    rows: EncodedRows, processor, folder: Path, cuts: list[int], values: pa.Table | None = None
) -> ShardedRows:
    """Write the histories before the first cut as one shard, those up to the next as another, and so on.

    `values`: of the rows, in the order of the table, to be kept beside their ids.
    """
    targets = None if rows.labels is None else (rows.labels.shape[1] if rows.labels.ndim > 1 else 0)
    writer = ShardWriter(folder, ranges_of(processor), targets, rows.row_numbers is not None)
    writer.begin()
    bounds = np.append(rows.entity_starts, len(rows))
    edges = [0, *cuts, len(rows.entity_starts)]
    shards = []
    for number, (first, last) in enumerate(itertools.pairwise(edges)):
        mine = slice(int(bounds[first]), int(bounds[last]))
        ids = rows.take(np.arange(mine.start, mine.stop))
        shards.append(
            writer.write(
                number,
                pa.table({name: ids[:, i] for i, name in enumerate(rows.fields)}),
                np.array(rows.time[mine]),
                np.array(rows.split[mine]),
                bounds[first:last] - bounds[first],
                rows.entity_names[first:last] if rows.entity_names.width else pl.DataFrame(),
                None if rows.labels is None else np.array(rows.labels[mine]),
                None if rows.row_numbers is None else np.array(rows.row_numbers[mine]),
                None if values is None else _values_of(rows, values, mine),
            )
        )
    kept = ("fingerprint", "processor_fingerprint", "key", "order", "split", "label_names")
    writer.finish(shards, {name: rows.facts[name] for name in kept}, processor)
    return ShardedRows(folder)


def _values_of(rows: EncodedRows, values: pa.Table, mine: slice) -> pa.Table:
    numbers = np.arange(mine.start, mine.stop) if rows.row_numbers is None else np.array(rows.row_numbers[mine])
    return values.take(pa.array(numbers)).combine_chunks()

"""Rows on scratch disk: Arrow streams one behind another in a file, which need not stay open for more of them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa


def append_rows(path: Path, rows: pa.Table, anew: bool = False) -> None:
    """Write rows behind those that a file holds.

    Args:
        path: of the file.
        rows: with the columns of the earlier ones.
        anew: in place of the file.
    """
    target = path.with_suffix(f".{uuid4().hex}.part") if anew else path  # another worker may do the same work again
    with open(target, "wb" if anew else "ab") as out, pa.ipc.new_stream(out, rows.schema) as writer:
        writer.write_table(rows)
    if anew:
        target.replace(path)  # rows that are being read stay those of the old file


def read_rows(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of a file, mapped to memory.

    Args:
        path: of the file.
        columns: only these.
    """
    source = pa.memory_map(str(path))
    tables = []
    while source.tell() < source.size():
        table = pa.ipc.open_stream(source).read_all()
        tables.append(table if columns is None else table.select(list(columns)))
    return pa.concat_tables(tables)


class RowScatter:
    """Appends rows to one file per shard, a million rows at a time.

    Args:
        path_of: shard → file.
        shard: column with the shard of each row.
        rows: that are held at most.
    """

    def __init__(self, path_of: Callable[[int], Path], shard: str, rows: int = 1_000_000) -> None:
        self.path_of, self.shard, self.rows = path_of, shard, rows
        self._held: list[pa.Table] = []
        self._count = 0
        self.met: set[int] = set()  # shards that have rows

    def add(self, table: pa.Table) -> None:
        """Add rows, in their order."""
        self._held.append(table)
        self._count += table.num_rows
        if self._count >= self.rows:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if not self._count:
            return
        table = pa.concat_tables(self._held)
        self._held, self._count = [], 0
        for shard, rows in _by_shard(table, self.shard):
            append_rows(self.path_of(shard), rows)
            self.met.add(shard)


def _by_shard(table: pa.Table, name: str) -> Iterator[tuple[int, pa.Table]]:
    shards = table[name].to_numpy()
    if (shards[1:] < shards[:-1]).any():
        order = np.argsort(shards, kind="stable")
        table, shards = table.take(pa.array(order)), shards[order]
    firsts = np.flatnonzero(np.diff(shards.astype(np.int64), prepend=-1))
    for first, end in zip(firsts, [*firsts[1:], len(shards)], strict=True):
        yield int(shards[first]), table.slice(first, end - first)

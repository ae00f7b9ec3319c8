"""The steps of preparing a table, one after another in this process."""

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any

from .spilled_rows import RowScatter, read_rows
from .writing import SHARD, TableShards


class LocalEngine:
    """Runs every step here; numpy, pyarrow and polars use the cores."""

    name = "local"
    workers = 1
    piece_rows: int | None = None  # files are read whole, one after another

    def scatter(self, shards: TableShards, pieces: Sequence[Any], policy: Any, most: int | None) -> list[int]:
        """Read all pieces and put each row into its shard; return the shards that hold rows."""
        for file in shards.folder.glob("rows-*.arrow"):  # of a start that was killed
            file.unlink()
        scatter = RowScatter(shards.rows_file, SHARD)
        for number, piece in enumerate(pieces):
            for rows in shards.scatter(number, piece, policy, most):
                scatter.add(rows)
            most = None if most is None else most - shards.pieces_read(number + 1)[-1].read
            if most == 0:
                break
        scatter.flush()
        for number in sorted(scatter.met):
            shards.settle(number, read_rows(shards.rows_file(number)), kept=True)
        return sorted(scatter.met)

    def map(self, step: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """Yield `step(item)` of every item, in their order."""
        return map(step, items)

    def merged(self, step: Callable[[Sequence[Any]], Any], items: Sequence[Any]) -> Any:
        """Return the merged parts that `step` makes of neighbouring items."""
        return reduce(lambda one, later: one.merge(later), (step([item]) for item in items))

    def close(self) -> None:
        """Nothing is held."""

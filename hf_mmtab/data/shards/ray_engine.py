"""The steps of preparing a table on a Ray cluster: Ray Data reads, shuffles, maps, and repeats what a lost node did."""

import logging
import os
import pickle
import socket
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...light import LIGHT
from .writing import SHARD, TableShards

PIECE_ROWS = 1_000_000  # of a Parquet file that one task reads
FAN_IN = 4  # parts that one task merges
PARTS_PER_WORKER = 4
# Of tasks: workers of their own that import no models, which saves .8 GiB and 5 s of CPU for each.
WITHOUT_MODELS: dict[str, Any] = {"runtime_env": {"env_vars": {LIGHT: "1"}}}
SHUFFLED_BYTES = 2**28  # of rows that one task brings into shards
PATIENCE = 20  # seconds until a cluster's machine must answer
ADVICE = "\nFailed to apply UDF transform after"  # what Ray adds to a worker's message
TOKEN = "seen-by-all"  # file by which workers tell that they see the folder


class RayEngine:
    """Runs the steps as tasks of Ray Data.

    Args:
        folder: of everything in between, which all machines must see.
        address: of a cluster (`auto`, `ray://HOST:10001`, `HOST:6379`); None: that of RAY_ADDRESS, else one is started
            on this machine.

    Raises:
        ImportError: if Ray is not installed.
    """

    name = "ray"
    piece_rows: int | None = PIECE_ROWS

    def __init__(self, folder: Path, address: str | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would send them home
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise ImportError("Expected Ray for engine: ray, found none. pip install 'hf-mmtab[ray]'") from error
        self.ray, self._started = ray, not ray.is_initialized()
        if self._started:
            known = address or os.environ.get("RAY_ADDRESS")
            options: dict[str, Any] = {"address": known} if known else {"address": "local", "include_dashboard": False}
            try:
                _knock(known)
                ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
            except ConnectionError as error:
                raise ValueError(
                    f"Expected a Ray cluster at {known!r}, found none ({error}). Start one (`ray start --head`), "
                    "correct --ray_address, or leave it out: one is then started on this machine."
                ) from error
            except Exception as error:
                if type(error) is not Exception:  # Ray raises bare ones where its processes do not come up
                    raise
                raise OSError(
                    f"Expected Ray to start on this machine, found that it did not ({error}). Leave it more memory and "
                    "cores, or start it by hand (`ray start --head`) and give --ray_address auto. --engine local needs "
                    "no Ray."
                ) from error
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.shuffle_input_batch_bytes = SHUFFLED_BYTES  # a worker holds about twice as much; Ray's 1 GiB is 1.9 GiB
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors are pages, and raised as well
        self.workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._check_folder(folder)

    def _check_folder(self, folder: Path) -> None:
        token, place = os.urandom(8).hex(), str(folder / TOKEN)
        Path(place).write_text(token, encoding="utf-8")
        seen = list(
            self.map(lambda _: Path(place).read_text() if Path(place).is_file() else "", [*range(self.workers)])
        )
        if any(one != token for one in seen):
            raise ValueError(
                f"Expected a folder that all machines of the Ray cluster see, found {str(folder)!r}, which some do "
                "not see. Choose an output on a file system that they share."
            )

    def scatter(self, shards: TableShards, pieces: Sequence[Any], policy: Any, most: int | None) -> list[int]:
        """Read all pieces and put each row into its shard; return the shards that hold rows.

        Raises:
            ValueError: with `max_rows`, for which pieces would have to be read in turn.
        """
        if most is not None:
            raise ValueError("Expected no max_rows beside engine: ray, found it. Leave it out, or take engine: local.")

        def read(task: pa.Table) -> Iterator[pa.Table]:
            for number in task["number"].to_pylist():
                yield from shards.scatter(number, pieces[number], policy)

        def settle(rows: pa.Table) -> pa.Table:
            number = rows[SHARD][0].as_py()
            shards.settle(number, rows.combine_chunks())
            return pa.table({"number": [number]})

        tasks = self.ray.data.from_items(
            [{"number": number} for number in range(len(pieces))], override_num_blocks=len(pieces)
        )
        rows = tasks.map_batches(read, batch_size=1, batch_format="pyarrow", **WITHOUT_MODELS)
        groups = rows.groupby(SHARD, num_partitions=shards.count)
        settled = groups.map_groups(settle, batch_format="pyarrow", **WITHOUT_MODELS)
        with _plain_errors():
            return sorted(row["number"] for row in settled.iter_rows())

    def map(self, step: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """Yield `step(item)` of every item, in their order; results are small."""

        yield from self._run(items, lambda task: _result(task, step, items), **WITHOUT_MODELS)

    def map_with(self, make: Callable[[], Callable[[Any], Any]], items: Sequence[Any]) -> Iterator[Any]:
        """Yield `step(item)` of every item, in their order, where each worker makes its `step` once; results are small.

        A worker has one GPU of a cluster that has some, else one CPU. Who replaces a lost one does its item again.
        """
        gpus = int(self.ray.cluster_resources().get("GPU", 0))

        class Worker:
            def __init__(self) -> None:
                self.step = make()

            def __call__(self, task: pa.Table) -> pa.Table:
                return _result(task, self.step, items)

        count = min(gpus or self.workers, len(items))
        yield from self._run(items, Worker, concurrency=count, **({"num_gpus": 1} if gpus else {}))

    def _run(self, items: Sequence[Any], work: Any, **options: Any) -> Iterator[Any]:
        """Yield what `work`, a function or a class of workers, makes of every item, in their order."""
        tasks = self.ray.data.from_items([{"number": i} for i in range(len(items))], override_num_blocks=len(items))
        with _plain_errors():
            ran = tasks.map_batches(work, batch_size=1, batch_format="pyarrow", **options)
            done = sorted(ran.iter_rows(), key=itemgetter("number"))
        for row in done:
            yield pickle.loads(row["result"])

    def merged(self, step: Callable[[Sequence[Any]], Any], items: Sequence[Any]) -> Any:
        """Return the merged parts that `step` makes of neighbouring items, merged as a tree on the workers."""
        ray = self.ray
        share = -(-len(items) // min(len(items), PARTS_PER_WORKER * self.workers))
        made = ray.remote(lambda some: step(some)).options(**WITHOUT_MODELS)
        merge = ray.remote(_merge).options(**WITHOUT_MODELS)
        parts = [made.remote(items[first : first + share]) for first in range(0, len(items), share)]
        while len(parts) > 1:
            parts = [merge.remote(*parts[first : first + FAN_IN]) for first in range(0, len(parts), FAN_IN)]
        with _plain_errors():
            return ray.get(parts[0])

    def close(self) -> None:
        """Stop the cluster that was started here."""
        if self._started:
            self.ray.shutdown()


def _knock(address: str | None) -> None:
    """Raise a ConnectionError if nobody listens at HOST:PORT, for which Ray itself would wait many minutes."""
    host, port = (address or "").removeprefix("ray://").rpartition(":")[::2]
    if host and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
        except OSError as error:  # also of names that none has, and of no route
            raise ConnectionError(str(error)) from error


def _result(task: pa.Table, step: Callable[[Any], Any], items: Sequence[Any]) -> pa.Table:
    (number,) = task["number"].to_pylist()
    return pa.table({"number": [number], "result": pa.array([pickle.dumps(step(items[number]))], pa.binary())})


def _merge(first: Any, *later: Any) -> Any:
    for part in later:
        first = first.merge(part)
    return first


class _plain_errors:
    """Raise what went wrong in a worker as it was raised there, without Ray's wrapping and advice.

    Raises:
        OSError: for what the cluster could not do: memory, disk, workers or machines that were lost too often.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        from ray.exceptions import RayError, RayTaskError

        seen: Any = error
        while seen is not None:
            cause = getattr(seen, "cause", None) or seen.__cause__
            if isinstance(seen, RayError) and not isinstance(seen, RayTaskError):
                found = str(seen).strip().partition("\n")[0][:300].rstrip(".")
                raise OSError(
                    f"Expected workers that finish, found {type(seen).__name__}: {found}. Give the cluster more memory "
                    "and disk, or make the shards smaller (`--shards`), and run the same command again: what was "
                    "finished is kept."
                ) from error
            if cause is None and isinstance(seen, ValueError | OSError | ImportError) and seen is not error:
                if len(seen.args) == 1:
                    seen.args = (str(seen.args[0]).partition(ADVICE)[0],)
                raise seen from None
            seen = cause

"""A table of any size to a folder of encoded rows in shards, on this machine or on a Ray cluster."""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from functools import partial, reduce
from pathlib import Path
from typing import Any, Literal, cast

import datasets
import numpy as np
import pyarrow as pa
from transformers.utils import logging

from ..arguments import PrepareArguments, TableDataArguments
from ..data.image_text_loading import warn_about
from ..data.reading.records import BadRecords
from ..data.shards.local_engine import LocalEngine
from ..data.shards.preparing import digest_of, present_labels, require_no_input, warn_repeated
from ..data.shards.writing import Division, TableShards, count_shards
from ..data.table import Table
from ..data.windows.encoded_rows import FACTS_FILE
from ..data.windows.histories import require_columns
from ..data.windows.label_columns import LabelColumns
from ..data.windows.shard_files import ShardWriter, facts_text, is_sharded, shard_files
from ..data.windows.sharded_rows import ShardedRows
from ..data.windows.splits import Split
from ..data.windows.time_split import HIGHEST, TimeCounts, fit_time_split, split_places
from ..files import file_digest, json_text, read_json, write_array, write_whole
from ..locking import refuse_file, scratch_folder
from ..models.tabbert import TabBertProcessor
from ..recipes import build, check_keys, field_types
from ..statistics.features import LATELY, USUAL
from ..statistics.of_all_histories import OfAllHistories
from . import get_task
from .prepared_table import described, unplanned
from .saved_processor import open_processor
from .table import PROCESSOR_FOLDER, SIMULATED_CARDS, TableTask
from .table_entities import refuse_absent_entities

logger = logging.get_logger(__name__)

SCRATCH_SUFFIX = ".hf_mmtab-prepare"
STATE_FILE, OF_ALL_FOLDER = "state.json", "of-all"


@dataclass(frozen=True)
class PreparedShards:
    """What preparing a table made.

    Attributes:
        folder: of the encoded rows.
        facts: what `rows.json` says.
        made: False: the folder held them already.
    """

    folder: Path
    facts: dict[str, Any]
    made: bool


def prepare_shards(
    task: TableTask,
    data: TableDataArguments,
    out: str | Path,
    options: PrepareArguments,
    pretrained: str | None = None,
    needs_label: bool = False,
) -> PreparedShards:
    """Read a table, fit the processor on its training rows, encode all rows, and write them in shards.

    Ids, splits, labels and the processor are those of `prepare_rows`, whatever the engine and the number of shards.
    Rows that `out` holds already, from the same table, plan and split, are kept. What an interrupted start left beside
    `out` (`.NAME.hf_mmtab-prepare`) is gone on from.

    Args:
        task: reads the table.
        data: which table, plan and split.
        out: folder to write.
        options: engine, shards, whether to start anew.
        pretrained: checkpoint whose processor is used in place of a new one.
        needs_label: whether the recipe's labels may be other ones than that processor's.

    Raises:
        ValueError: if the table does not fit the plan, has no row, a row is broken, or `out` holds something else.
    """
    refuse_file(Path(out), "rows")
    out = Path(out).absolute()  # workers have a working directory of their own
    scratch = out.with_name(f".{out.name}{SCRATCH_SUFFIX}")
    with scratch_folder(scratch, STATE_FILE, "rows folder") as take_over:
        keep_values = options.keep_values or options.of_all_histories
        job = _Job.begin(task, data, out, scratch, pretrained, needs_label, keep_values)
        known = read_json(out / FACTS_FILE, f"Delete {str(out)!r}.") if is_sharded(out) else {}
        done = known.get("key") == job.key
        if not done:
            _refuse_other_rows(out, options.overwrite)
        made = not done or (options.of_all_histories and "of_all_histories" not in known)
        if made:
            take_over()
            job.run(options, done)
    facts = read_json(out / FACTS_FILE, f"Delete {str(out)!r}.")
    return PreparedShards(out, facts, made)


def prepare_table(
    data: str | Path,
    out: str | Path,
    engine: Literal["local", "ray"] = "local",
    ray_address: str | None = None,
    shards: int | None = None,
    keep_values: bool = False,
    of_all_histories: bool = False,
    overwrite: bool = False,
    pretrained: str | None = None,
    task: str = "table",
    **keys: Any,
) -> PreparedShards:
    """Read a table of any size, fit a processor on its training rows and write encoded rows in shards.

    What `hf-mmtab prepare` does. Training reads the folder with the recipe key `rows`.

    Args:
        data: file or folder of CSV, Parquet or Arrow files, or a URL of one that fsspec reaches (`s3://…`).
        out: folder to write. With Ray all machines must see it.
        engine: "local", or "ray" (extra `ray`).
        ray_address: of a cluster to join; None: RAY_ADDRESS, else Ray is started on this machine.
        shards: files to cut the rows into; None: one for 128 MiB of the table.
        keep_values: keep the values of fields beside their ids, for statistics of the past.
        of_all_histories: make the statistics that look at rows of all histories on the engine, too.
        overwrite: replace rows of another table, plan or split.
        pretrained: checkpoint whose processor encodes the rows.
        task: table, card_transactions or prsa.
        keys: keys of a recipe that say how the table is read, planned and split, such as `entity_columns`.

    Raises:
        ValueError: if the table does not fit the plan, has no row, a row is broken, `out` holds something else, or an
            argument or key has a value that none can have.

    Example:

    ```python
    import hf_mmtab

    hf_mmtab.prepare_table("payments.csv", "rows", entity_columns=["account"])  # engine="ray" on a cluster
    ```
    """
    check_keys(keys, set(field_types(TableDataArguments)), "prepare_table")
    where = {"engine": engine, "ray_address": ray_address, "shards": shards, "overwrite": overwrite}
    how = {"keep_values": keep_values, "of_all_histories": of_all_histories, "task": task, "data": str(data)}
    arguments, options = build([TableDataArguments, PrepareArguments], {**keys, **where, **how})
    return prepare_shards(get_task(task, TableTask), arguments, out, options, pretrained)


def _refuse_other_rows(out: Path, overwrite: bool) -> None:
    if is_sharded(out) and not overwrite:
        raise ValueError(
            f"Expected a new folder for the rows, or one of the same table, plan and split, found others in "
            f"{str(out)!r}. Choose another folder, or start anew with `--overwrite true`."
        )


@dataclass
class _Job:
    """One table on its way into shards."""

    data: TableDataArguments
    out: Path
    scratch: Path
    table: Table
    processor: TabBertProcessor
    label: list[str]
    split: Split
    key: str
    keep_values: bool

    @classmethod
    def begin(
        cls,
        task: TableTask,
        data: TableDataArguments,
        out: Path,
        scratch: Path,
        pretrained: str | None,
        needs_label: bool,
        keep_values: bool,
    ) -> "_Job":
        theirs = None if pretrained is None else unplanned(open_processor(pretrained), data, needs_label)
        folder = scratch / f".cards-{digest_of(data.simulate)}" if data.data == SIMULATED_CARDS else scratch
        table = task.builder_of(data, folder, pretrained)
        processor = theirs if theirs is not None else task.new_processor(data, table, partial(_sample, table))
        plan, features = processor.plan, table.info.features
        assert features is not None
        label = list(data.label_columns or plan.label)
        require_no_input(plan, label)
        require_columns(list(features), plan.columns)
        label = present_labels(features, label)
        split = Split(data.split, cast(Any, tuple(data.split_fractions) or None), data.split_seed)
        known = processor.fingerprint if processor.is_fitted else None
        rows = (
            ["simulated", data.simulate]
            if data.data == SIMULATED_CARDS
            else [table._get_dataset_fingerprint(datasets.Split.TRAIN)]
        )
        key = [*rows, data.entities, plan.to_dict(), label, split.kind, split.shares, split.seed, known]
        key += ["values"] * keep_values
        return cls(data, out, scratch, table, processor, label, split, digest_of(key), keep_values)

    def run(self, options: PrepareArguments, encoded: bool) -> None:
        """Go through the steps; rows that are encoded already lack statistics of all histories alone."""
        engine = _engine(options, self.scratch)
        try:
            if not encoded:
                shards, pieces = self._shards(engine, options)
                numbers = self._scatter(engine, shards, pieces)
                self._encode(engine, shards, numbers, pieces)
            if options.of_all_histories:
                self._look_at_all(engine)
        finally:
            engine.close()

    # -- the steps

    def _look_at_all(self, engine: Any) -> None:
        """Make the statistics of all histories that need no labels, beside the rows."""
        rows, folder = ShardedRows(self.out), self.scratch / OF_ALL_FOLDER
        fields = TabBertProcessor.from_pretrained(self.out / PROCESSOR_FOLDER).bare()
        files = [shard_files(self.out, number)[-1] for number in range(rows.num_shards)]
        made = OfAllHistories.of(rows, fields, folder, (LATELY, USUAL)).run(engine, files)
        shards = rows.facts["shards"]
        for shard, file in zip(shards, files, strict=True):
            shard["bytes"].append(file.stat().st_size)
            shard.setdefault("digests", [None] * (len(shard["bytes"]) - 1)).append(file_digest(file))
        facts = {"groups": list(made.groups), "crowded": sorted(made.crowded or ())}
        write_whole(self.out / FACTS_FILE, facts_text(rows.facts | {"of_all_histories": facts, "shards": shards}))
        logger.info(f"Statistics of all histories ({', '.join(made.groups)}) of {len(rows):,} rows made")

    def _shards(self, engine: Any, options: PrepareArguments) -> tuple[TableShards, list[Any]]:
        """Return the shards to be, and the pieces of the table; what another job left on scratch goes."""
        pieces = self.table.pieces(engine.piece_rows)
        plan = self.processor.plan
        count = count_shards(self.table, plan, engine.workers, options.shards)
        state = {"key": self.key, "pieces": [[str(one.file), one.groups] for one in pieces], "shards": count}
        state = json.loads(json.dumps(state))
        if read_json(self.scratch / STATE_FILE, f"Delete {str(self.scratch)!r}.") != state:
            for path in self.scratch.iterdir():
                if not path.name.startswith("."):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            write_whole(self.scratch / STATE_FILE, json_text(state))
        entities = tuple(self.data.entities)
        if entities and not plan.entity:
            raise ValueError("Expected entity_columns beside `entities`, found none. Name the column.")
        label = tuple(self.label)
        return TableShards(self.scratch, self.table, plan, label, count, entities, self.keep_values), pieces

    def _scatter(self, engine: Any, shards: TableShards, pieces: list[Any]) -> list[int]:
        """Bring each row into its shard; return the shards that hold rows."""
        done = self.scratch / "scattered.json"
        if not done.is_file():
            numbers = engine.scatter(shards, pieces, self.data.on_bad_record, self.data.max_rows)
            write_whole(done, json_text({"shards": numbers}))
        return read_json(done, f"Delete {str(self.scratch)!r}.")["shards"]

    def _encode(self, engine: Any, shards: TableShards, numbers: list[int], pieces: list[Any]) -> None:
        if shards.entities:
            met = set().union(*(facts.entities for facts in shards.pieces_read(len(pieces))))
            refuse_absent_entities(shards.plan, set(shards.entities) - met, met)
        offsets, skipped = shards.rows_before(len(pieces), self.data.data)
        rows = int(offsets[-1])
        into = "1 shard" if len(numbers) == 1 else f"{len(numbers):,} shards"
        logger.info(f"{rows:,} rows read into {into} by engine {engine.name}")
        labels = shards.look_over(numbers, rows)
        if labels is not None:
            labels.tell()
        division = self._divide(engine, shards, numbers, offsets)
        processor = self._fitted(engine, shards, numbers, division)
        logger.info(f"Processor fitted on {processor.rows_fitted:,} rows: {processor.vocab_size:,} ids")
        bounds = zip(processor.fields, processor.field_ranges, processor.unknown_ids(), strict=True)
        ranges = {name: [min(start, unknown), end] for name, (start, end), unknown in bounds}
        writer = ShardWriter(self.out, ranges, labels.num_targets if labels is not None else None, True)
        told = self._encoded(engine, shards, numbers, processor, division, labels, writer)
        logger.info(f"{rows:,} rows encoded")
        warn_about(skipped)
        warn_repeated(sum(shard.pop("repeated") for shard in told), rows)
        facts = {
            "fingerprint": digest_of([self.key, processor.fingerprint]),
            "processor_fingerprint": processor.fingerprint,
            "key": self.key,
            "order": shards.plan.order,
            "split": {"kind": self.split.kind, "fractions": list(self.split.shares), "seed": self.split.seed},
            "split_cuts": [cut if cut < HIGHEST else None for cut in division.cuts],
            "label_names": labels.names if labels is not None else [],
            "left_out": len(skipped),
            "skipped": [asdict(record) for record in skipped[:100]],
            "engine": engine.name,
            "recipe": described(self.data),
        }
        writer.finish(told, facts, processor)

    def _divide(self, engine: Any, shards: TableShards, numbers: list[int], offsets: np.ndarray) -> Division:
        """Find the cuts of the split; no process holds all times."""
        rows, split = int(offsets[-1]), self.split
        if split.kind == "entity":
            self._divide_entities(shards, numbers)
        if split.kind != "time":
            return Division(split.kind, (), offsets)
        if shards.plan.time is None:  # rows count in the order of the table
            places = split_places(split.shares, rows)
            cuts, training = [place if place < rows else HIGHEST for place in places], places[0]
        else:
            counts = reduce(_merged, (cast(TimeCounts, shards.facts(number).times) for number in numbers))

            def recount(spans: list[TimeCounts]) -> list[TimeCounts]:
                within = [(one.low, one.high) for one in spans]
                parts = engine.map(partial(shards.recount, spans=within), numbers)
                return reduce(lambda one, later: [*map(_merged, one, later)], parts)

            cuts, training = fit_time_split(split.shares, counts, recount)
        split.check_training(training, rows)
        return Division("time", tuple(cuts), offsets)

    def _divide_entities(self, shards: TableShards, numbers: list[int]) -> None:
        """Draw the split of each history and leave it with its shard; holds 16 bytes a history."""
        firsts, sizes = [], []
        for facts in map(shards.facts, numbers):
            firsts.append(facts.first)
            sizes.append(np.diff(facts.starts, append=facts.rows))
        order, rows = np.argsort(np.concatenate(firsts)), np.concatenate(sizes)
        of_entity = np.empty(len(rows), dtype=np.uint8)
        of_entity[order] = self.split.of_entities(rows[order])
        self.split.check_training(int(rows[of_entity == 0].sum()), int(rows.sum()))
        ends = np.cumsum([len(one) for one in firsts])
        for number, part in zip(numbers, np.split(of_entity, ends[:-1]), strict=True):
            write_array(shards.splits_file(number), part, header=True)

    def _fitted(self, engine: Any, shards: TableShards, numbers: list[int], division: Division) -> TabBertProcessor:
        saved, processor = self.scratch / PROCESSOR_FOLDER, self.processor
        if saved.is_dir():
            return TabBertProcessor.from_pretrained(saved)
        if not processor.is_fitted:
            step = partial(shards.fit, processor=processor.bare(), division=division)
            processor.finish(engine.merged(step, numbers))
        draft = saved.with_name(f"{PROCESSOR_FOLDER}.part")
        processor.save_pretrained(draft)
        os.replace(draft, saved)
        return processor

    def _encoded(
        self,
        engine: Any,
        shards: TableShards,
        numbers: list[int],
        processor: TabBertProcessor,
        division: Division,
        labels: LabelColumns | None,
        writer: ShardWriter,
    ) -> list[dict[str, Any]]:
        """Write the shards that an earlier start did not; return the facts of all."""
        begun = self.scratch / "begun"
        if not begun.exists():
            writer.begin()
            begun.touch()
        places = range(len(numbers))
        left = [i for i in places if shards.encoded(i) is None or not shard_files(self.out, i)[1].is_file()]
        step = partial(shards.encode, processor=processor.bare(), division=division, labels=labels, writer=writer)
        for _ in engine.map(step, [(place, numbers[place]) for place in left]):
            pass
        return [cast(dict[str, Any], shards.encoded(place)) for place in places]


def _merged(one: TimeCounts, later: TimeCounts) -> TimeCounts:
    one.merge(later)
    return one


def _engine(options: PrepareArguments, scratch: Path) -> Any:
    if options.engine == "local":
        return LocalEngine()
    from ..data.shards.ray_engine import RayEngine

    return RayEngine(scratch, options.ray_address)


def _sample(table: Table, most: int) -> pa.Table:
    """Return the first rows of the table; broken ones are left out, and met again later."""
    assert table.info.features is not None
    found = table.info.features.arrow_schema.empty_table()
    for rows in (rows for piece in table.pieces() * bool(most) for rows in table.read(piece, BadRecords("skip"))):
        found = pa.concat_tables([found, rows])
        if found.num_rows >= most:
            break
    return found.slice(0, most)

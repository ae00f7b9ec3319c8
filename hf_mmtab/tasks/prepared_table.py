"""A table as ids, with the processor that made them: encoded by the run itself, or by `hf-mmtab prepare` before."""

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..arguments import TableDataArguments
from ..data.reading.places import Place, refuse_address
from ..data.reading.records import BadRecord
from ..data.windows.encoded_rows import FACTS_FILE, EncodedRows
from ..data.windows.shard_files import PROCESSOR_FOLDER, SHARDS_FOLDER, facts_text, is_sharded
from ..data.windows.sharded_rows import ShardedRows, open_rows
from ..files import read_json
from ..models.tabbert import TabBertProcessor
from ..models.tabbert.processing.field_ids import IDS_MARK
from .saved_processor import open_processor

# Recipe keys that say what the rows are; who trains on encoded rows may repeat them, but not change them.
DESCRIBING = (
    "data", "simulate", "types", "separator", "missing", "max_rows", "entities", "plan", "plan_edits", "num_bins",
    "entity_columns", "time_column", "label_columns", "split", "split_fractions", "split_seed",
)  # fmt: skip
READING = ("data", "simulate", "types", "separator", "missing", "max_rows", "entities")  # of these: of the file


@dataclass
class PreparedTable:
    """A table as ids on disk, the processor that made them, and the rows that could not be read.

    Args:
        values: the typed rows that were encoded; None: rows were encoded before (`rows`), and only ids are known.
        ordered: how unexpected each row is in other orders, see `hf_mmtab.commands.tables.orderings`.
        of_all: statistics of the rows of all histories, where these are some of them, see `TableColumns`.
        label: columns of the label; None: those of the processor's plan.
        source: for rows that were encoded before, how to read their table once more; None: nothing says how.
        earlier: how many of the typed rows, the first ones, come from earlier calls (`predict --state`).
    """

    rows: EncodedRows
    processor: TabBertProcessor
    skipped: list[BadRecord]
    values: datasets.Dataset | None
    ordered: dict[str, np.ndarray] = field(default_factory=dict)
    of_all: dict[str, np.ndarray] = field(default_factory=dict)
    label: list[str] | None = None
    source: TableDataArguments | None = None
    earlier: int = 0

    @property
    def label_columns(self) -> list[str]:
        """Columns of the label."""
        return list(self.processor.plan.label) if self.label is None else self.label

    @property
    def dataset(self) -> datasets.Dataset:
        """The typed rows.

        Raises:
            ValueError: if only ids are known.
        """
        if self.values is None:
            self.require_values()
            raise ValueError(
                f"Expected a table, found rows in shards in {str(self.rows.folder)!r}. Name the table itself (`data`, "
                "without `rows`)."
            )
        return self.values

    @property
    def has_values(self) -> bool:
        """Whether values are known of the rows, and not ids alone."""
        return self.values is not None or (isinstance(self.rows, ShardedRows) and self.rows.has_values)

    def require_values(self) -> None:
        """Raise a ValueError unless values are known of the rows."""
        if not self.has_values:
            raise ValueError(
                "Expected the values of the table, from which statistics, boosted trees and amounts are made, found "
                f"rows that hold ids alone in {str(self.rows.folder)!r}. Prepare them with `--keep_values true`, name "
                "the table itself (`data`, without `rows`), or take row_inputs: states, surprise, both or "
                "windowed_surprise, and no baselines."
            )


def open_encoded(arguments: TableDataArguments, pretrained: str | None, needs_label: bool) -> PreparedTable:
    """Open rows that were encoded before, with the processor beside them; `split` becomes theirs.

    Args:
        arguments: with `rows`.
        pretrained: checkpoint whose processor must have encoded the rows.
        needs_label: whether the rows must have a label.

    Raises:
        ValueError: if the folder holds no finished rows or is damaged, the recipe describes others, they were encoded
            by another processor, or have no label and need one.
    """
    refuse_address(str(arguments.rows), "encoded rows")
    folder = Path(str(arguments.rows))
    if not (folder / FACTS_FILE).is_file():
        found = f"{SHARDS_FOLDER} alone: `prepare` did not finish" if (folder / SHARDS_FOLDER).is_dir() else "none"
        raise ValueError(
            f"Expected encoded rows ({FACTS_FILE} and {SHARDS_FOLDER}) in {str(folder)!r}, found {found}. Make them "
            "with `hf-mmtab prepare RECIPE.yaml`, and name the folder that it wrote."
        )
    rows = open_rows(folder)
    beside = (folder if is_sharded(folder) else folder.parent) / PROCESSOR_FOLDER
    if not beside.is_dir():
        raise ValueError(f"Expected the processor of the rows in {str(beside)!r}, found no such folder. {rows.remedy}")
    processor = TabBertProcessor.from_pretrained(beside)
    if processor.fingerprint != rows.processor_fingerprint:
        raise ValueError(
            f"Expected the processor {rows.processor_fingerprint} beside the rows in {str(folder)!r}, found "
            f"{processor.fingerprint}. {rows.remedy}"
        )
    _refuse_other_rows(arguments, rows.facts, processor, str(folder))
    if pretrained is not None and (theirs := open_processor(pretrained).fingerprint) != processor.fingerprint:
        raise ValueError(
            f"Expected rows that the processor of {pretrained!r} encoded ({theirs}), found those of another "
            f"({processor.fingerprint}) in {str(folder)!r}. Pretrain on these rows, or name the rows that the "
            "checkpoint was pretrained on."
        )
    if needs_label and rows.labels is None:
        raise ValueError(
            f"Expected labelled rows in {str(folder)!r}, found none with a label. Name the label column in the recipe "
            "(`label_columns: [...]`) and prepare the table again."
        )
    split = rows.facts["split"]
    arguments.split, arguments.split_seed = split["kind"], split["seed"]
    arguments.split_fractions = list(split["fractions"])
    skipped = [BadRecord(**one) for one in rows.facts.get("skipped", [])]
    told = rows.facts.get("recipe", {})
    label = told.get("label_columns") or list(processor.plan.label)
    source = None
    if "data" in told:
        how = {name: value for name, value in told.items() if name in READING}
        policy = "skip" if rows.facts["left_out"] else arguments.on_bad_record
        source = TableDataArguments(task=arguments.task, on_bad_record=policy, **how)
    return PreparedTable(rows, processor, skipped, None, label=label, source=source)


def described(arguments: TableDataArguments) -> dict[str, Any]:
    """Return what a recipe says of its rows, key → value, where that is not the default."""
    defaults = TableDataArguments(task=arguments.task, data="-")
    given = {key: getattr(arguments, key) for key in DESCRIBING}
    return {key: value for key, value in given.items() if value != getattr(defaults, key)}


def _refuse_other_rows(
    arguments: TableDataArguments, facts: Mapping[str, Any], processor: TabBertProcessor, folder: str
) -> None:
    """Raise a ValueError if a recipe describes other rows than those of a folder."""
    given = described(arguments)
    if arguments.data == arguments.rows:
        del given["data"]
    defaults = TableDataArguments(task=arguments.task, data="-")
    plan, split = processor.plan, facts["split"]
    theirs: dict[str, Any] = {key: getattr(defaults, key) for key in DESCRIBING} if "recipe" in facts else {}
    theirs |= facts.get("recipe", {})
    theirs |= {"split": split["kind"], "split_fractions": split["fractions"], "split_seed": split["seed"]}
    theirs |= {"entity_columns": [*plan.entity], "time_column": plan.time}
    theirs.setdefault("label_columns", [*plan.label])
    other = {
        key: value for key, value in given.items() if key in theirs and _plain(key, value) != _plain(key, theirs[key])
    }
    if other:
        told = ", ".join(f"{key} {theirs[key]!r}" for key in other)
        raise ValueError(
            f"Expected a recipe of the rows in {folder!r} ({told}), found "
            f"{', '.join(f'{key} {value!r}' for key, value in other.items())}. Take {' and '.join(other)} out of the "
            "recipe, or prepare the table with it."
        )


def _plain(key: str, value: Any) -> Any:
    """Return a value as it is compared: of paths the name, since folders move."""
    if key in ("data", "plan") and isinstance(value, str):
        return Path(value).name
    return [round(float(share), 6) for share in value] if key == "split_fractions" else value


def unplanned(processor: TabBertProcessor, arguments: TableDataArguments, needs_label: bool) -> TabBertProcessor:
    """Return a checkpoint's processor.

    Raises:
        ValueError: if the recipe has a plan beside it; labels may be other ones where they are needed.
    """
    free = {"label_columns"} if needs_label else set()
    if given := [key for key in arguments.given_plan() if key not in free]:
        raise ValueError(
            f"Expected no {', '.join(given)} beside `pretrained`, whose processor has a plan of its own. Remove them, "
            "or start without `pretrained`."
        )
    return processor


def rows_digest(folder: str) -> str | None:
    """Return a hash of what is known of encoded rows, statistics left out; None if there are none."""
    file = Path(folder) / FACTS_FILE
    if not file.is_file():
        return None
    known, facts = file.read_bytes(), read_json(file, f"Delete {folder!r}.")
    if facts.pop("of_all_histories", None):
        for shard, name in itertools.product(facts["shards"], ("bytes", "digests")):
            if name in shard:
                shard[name] = shard[name][:-1]
        known = facts_text(facts).encode()
    return hashlib.sha256(known).hexdigest()[:16]


def refuse_encoded(root: Place) -> None:
    """Raise a ValueError for `data` that is encoded already: its ids would be binned again as if they were numbers."""
    if not isinstance(root, Path):
        return
    folder = next((one for one in (root, *root.parents[:2]) if (one / FACTS_FILE).is_file()), None)
    inside = root.relative_to(folder).parts if folder else ()
    if folder and (not inside or inside[0] in (SHARDS_FOLDER, FACTS_FILE) or root.suffix == ".bin"):
        _refuse(root, str(folder))
    file = next(iter(sorted(root.glob("*.parquet")) + sorted(root.glob("*.arrow"))), root) if root.is_dir() else root
    if file.is_file() and IDS_MARK in _metadata(file):
        _refuse(root, None)


def _refuse(root: Path, folder: str | None) -> None:
    remedy = (
        f"Train on them with `--rows {folder}`."
        if folder
        else "Let `hf-mmtab prepare RECIPE.yaml` encode the table, and train with `--rows FOLDER` on what it wrote."
    )
    raise ValueError(f"Expected a table of values in {str(root)!r}, found rows that are encoded already. {remedy}")


def _metadata(file: Path) -> Mapping[bytes, bytes]:
    try:
        if file.suffix == ".parquet":
            return pq.read_schema(file).metadata or {}
        if file.suffix == ".arrow":
            with pa.memory_map(str(file)) as source:
                return pa.ipc.open_file(source).schema.metadata or {}
    except (pa.ArrowException, OSError):  # reading the table names the file and what is wrong with it
        return {}
    return {}

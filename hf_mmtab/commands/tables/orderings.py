"""How unexpected rows are in another order: to an encoder of the rows of a merchant, a destination, an aircraft."""

import re
import tempfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import AutoConfig

from ...data.reading.places import place_of
from ...data.shards.local_engine import LocalEngine
from ...data.shards.preparing import prepare_rows
from ...data.shards.writing import TableShards, count_shards
from ...data.windows.histories import require_columns
from ...models.tabbert import TabBertPooledForSequenceClassification
from ...models.tabbert.modeling_tabbert_surprise import SCALE
from ...statistics import seconds_of
from ...tasks import PreparedTable, TableTask, get_task
from ...tasks.checkpoints import recipe_of
from ...tasks.saved_processor import open_processor
from ...tasks.table import PROCESSOR_FOLDER
from ...tasks.table_heads import AUTO, beside_ids, reads_statistics
from .window_blocks import ALL_ROWS, WindowCut, current_device, judged_values, run_windows

BATCH = 16


def check_orderings(orderings: dict[str, Any], plan: Any) -> dict[str, int]:
    """Return ordering → rows of a window of its encoder.

    Args:
        orderings: name → folder of the encoder, as a recipe has them.
        plan: of the table.

    Raises:
        FileNotFoundError: if there is no such encoder.
        ValueError: if a name is none, or an encoder does not predict the next row of another order.
    """
    found = {}
    for name, place in orderings.items():
        if not (isinstance(name, str) and re.fullmatch(r"\w+", name) and isinstance(place, str)):
            raise ValueError(
                f"Expected orderings as names of letters, digits and _ with the folder of an encoder, such as "
                f"{{merchant: outputs/merchant_pretrain}}, found {name!r}: {place!r}."
            )
        own = open_processor(place, "orderings").plan
        if list(own.entity) == list(plan.entity) or not own.entity or own.time != plan.time:
            raise ValueError(
                f"Expected an encoder of the rows in another order in {place!r}, found entity {list(own.entity)} and "
                f"time {own.time!r}; the table's are {list(plan.entity)} and {plan.time!r}. Pretrain it with other "
                "entity_columns."
            )
        if not getattr(AutoConfig.from_pretrained(place), "next_row", False):
            raise ValueError(
                f"Expected an encoder that predicts the next row for ordering {name!r}, found another in {place!r}. "
                "Pretrain it with next_row: true."
            )
        found[name] = int(recipe_of(place).get("seq_len") or 10)
    return found


def check_statistics_are_read(run: Any) -> None:
    """Refuse, or leave out, what a run says about statistics if its head reads none; check orderings that it reads.

    Raises:
        FileNotFoundError: if there is no encoder of an ordering, or the table of rows in shards is gone.
        ValueError: if it was said of this architecture, or orderings do not fit.
    """
    model = run.recipe.model
    if model.label_lag is not None:
        seconds_of(model.label_lag)
    given = [name for name in ("orderings", "label_lag") if getattr(model, name)]
    given += ["statistics"] * (model.statistics != [AUTO])
    may_read = reads_statistics(model) or (model.row_inputs == [AUTO] and model.architecture != "raw_lstm")
    if given and not may_read:
        run.refuse_or_leave_out(
            given,
            f"Expected a head that reads statistics beside {' and '.join(given)}, found architecture "
            f"{model.architecture} with row_inputs {', '.join(model.row_inputs)}. Add statistics to row_inputs, or "
            f"leave {' and '.join(given)} out.",
        )
    if may_read and model.orderings:
        _check_table(model.orderings, run.table)


def _check_table(orderings: dict[str, Any], table: Any) -> None:
    """Refuse orderings, before anything is computed, that no encoder or no table has.

    Args:
        orderings: as a recipe has them.
        table: the run's; of rows in shards the table itself is read once more.

    Raises:
        FileNotFoundError: if there is no such encoder, or the table of rows in shards is gone.
        ValueError: see `check_orderings`; or if shards do not say of which table they are, or of some entities of it.
    """
    check_orderings(orderings, table.processor.plan)
    if table.values is not None:
        return
    table.require_values()
    folder, source = str(table.rows.folder), table.source
    if source is None or source.entities:
        found = "a selection of its `entities`" if source is not None else "rows that do not name it"
        raise ValueError(
            f"Expected the whole table of the rows in {folder!r} beside `orderings`, found {found}. Prepare all of it "
            "anew with `hf-mmtab prepare`, leave `orderings` out, or fine-tune on the table (`data`, without `rows`)."
        )
    if source.simulate is None and not place_of(source.data).exists():
        raise FileNotFoundError(
            f"Expected the table of the rows in {folder!r} beside `orderings`, which are made from it, found none at "
            f"{source.data!r}. Put it back there, or leave `orderings` out."
        )


def read_orderings(table: PreparedTable, orderings: dict[str, str]) -> None:
    """Let the encoders of other orderings judge all rows of a table, once for all that read its statistics.

    Args:
        table: its `ordered` is filled; the processor gets the encoders' places.
        orderings: as a recipe has them.
    """
    if not orderings:
        return
    seq_lens = check_orderings(orderings, table.processor.plan)
    table.processor.orderings, table.processor.statistics = dict(orderings), {"orderings": seq_lens}
    if not table.ordered:
        with tempfile.TemporaryDirectory() as scratch:
            table.ordered = ordered_surprise(table, Path(scratch))


def read_beside_of_saved(table: PreparedTable, windows: Mapping[str, Any], config: Any, checkpoint: str) -> None:
    """Give windows what a saved head reads beside ids, as its run did.

    Args:
        table: the run's.
        windows: split → its windows.
        config: of the head.
        checkpoint: its folder.
    """
    processor = open_processor(checkpoint)
    read_orderings(table, processor.orderings or {})
    table.processor.statistics = processor.statistics
    known = beside_ids(table, config.statistics, "windowed_surprise" in config.encoded_widths)
    for found in windows.values():
        found.beside = known


def ordered_surprise(table: PreparedTable, folder: Path) -> dict[str, np.ndarray]:
    """Return how unexpected each row is in each ordering of the table's processor, by field and in all, in nats.

    A row is judged by the earlier rows of its merchant (destination, …) in the window, at least half a window where
    there are that many: no later row counts, and no label.

    Args:
        table: with `dataset`, `rows` and `processor`.
        folder: for encoded rows.

    Returns:
        "ORDERING: surprise of FIELD" → `(rows,)` float32, in the order of `table.rows`.
    """
    processor = table.processor
    found: dict[str, np.ndarray] = {}
    seq_lens = (processor.statistics or {}).get("orderings") or {}
    for name, seq_len in seq_lens.items():
        place = processor.orderings[name]
        other = open_processor(place)
        names = [f"{name}: surprise of {field}" for field in (*other.fields, "all")]
        if table.values is None:
            found |= dict(zip(names, _of_shards(table, place, other, seq_len, folder / name), strict=True))
            continue
        own = folder / f"ordering_{name}"
        rows = prepare_rows(table.dataset, other, own, ALL_ROWS, label=[], earlier=table.earlier)
        values = _surprise(place, other, rows, seq_len)
        by_number = np.empty_like(values)
        by_number[_numbers(rows)] = values
        found |= dict(zip(names, by_number[_numbers(table.rows)].T, strict=True))
    return found


def _numbers(rows: Any) -> Any:
    return slice(None) if rows.row_numbers is None else np.array(rows.row_numbers)


def _of_shards(table: Any, place: str, processor: Any, seq_len: int, folder: Path) -> np.ndarray:
    """Return the surprise of the rows of shards, `(fields + 1, rows)` float32 in a file that goes with the process.

    Their table is read once more, into shards of the other order; memory holds one of these.

    Raises:
        ValueError: if it is no longer the table that was encoded.
    """
    source, rows, plan = table.source, table.rows, processor.plan
    folder.mkdir()
    reader = get_task(source.task, TableTask).builder_of(source, folder, str(rows.folder / PROCESSOR_FOLDER))
    require_columns(list(reader.info.features or ()), plan.columns)
    engine, pieces = LocalEngine(), reader.pieces()
    shards = TableShards(folder, reader, plan, (), count_shards(reader, plan, engine.workers))
    numbers = engine.scatter(shards, pieces, source.on_bad_record, source.max_rows)
    offsets, _ = shards.rows_before(len(pieces), source.data)
    changed = ValueError(
        f"Expected the table that was encoded into {str(rows.folder)!r} ({len(rows):,} rows), found another in "
        f"{source.data!r} ({int(offsets[-1]):,}). Prepare it anew, or leave `orderings` out."
    )
    if offsets[-1] != len(rows):
        raise changed
    by_number = _mapped(np.float32, (len(rows), len(processor.fields) + 1))
    times = _mapped(np.int64, (len(rows),))
    for shard in numbers:
        typed, of_table = shards.typed_rows(shard, offsets)
        dataset = datasets.Dataset(typed, fingerprint=f"shard-{shard}")  # type: ignore[arg-type]
        encoded = prepare_rows(dataset, processor, folder / "encoded", ALL_ROWS, label=[])
        of_table = of_table[_numbers(encoded)]
        by_number[of_table], times[of_table] = _surprise(place, processor, encoded, seq_len), encoded.time
    found = _mapped(np.float32, by_number.shape[::-1])
    for part, (first, end) in zip(rows.parts(), pairwise(rows.starts.tolist()), strict=True):
        mine = slice(first, end) if part.row_numbers is None else part.row_numbers
        if plan.time is not None and not np.array_equal(times[mine], part.time):
            raise changed
        found[:, first:end] = by_number[mine].T
    return found


def _mapped(kind: Any, shape: tuple[int, ...]) -> np.ndarray:
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, kind, mode="w+", shape=shape)


def _surprise(place: str, processor: Any, rows: Any, seq_len: int) -> np.ndarray:
    """Return the surprise of every row, `(rows, fields + 1)` float32, the last column that of all fields."""
    build: Any = TabBertPooledForSequenceClassification.from_pretrained_encoder
    device = current_device()
    model = build(place, processor.fingerprint, row_inputs="surprise").to(device).eval()
    fields = model.config.num_fields

    def cells(**inputs: torch.Tensor) -> torch.Tensor:
        return model.get_row_states(**inputs)[..., :fields] / SCALE  # the first columns: from the row before

    found = np.empty((len(rows), fields + 1), dtype=np.float32)
    for windows, judged, _ in WindowCut(seq_len, "row", every=True).blocks(rows):
        batches = run_windows(cells, windows, processor, BATCH, device)
        found[judged.row, :fields] = judged_values((values for values, _ in batches), judged)
    found[:, fields] = found[:, :fields].sum(axis=1)
    return found

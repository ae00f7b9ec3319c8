"""How unexpected rows are in another order: to an encoder of the rows of a merchant, a destination, an aircraft."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig

from ...data.shards.preparing import prepare_rows
from ...models.tabbert import TabBertPooledForSequenceClassification
from ...models.tabbert.modeling_tabbert_surprise import SCALE
from ...statistics import seconds_of
from ...tasks import PreparedTable
from ...tasks.checkpoints import recipe_of
from ...tasks.saved_processor import open_processor
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
    """Refuse, or leave out, what a run says about statistics if its head reads none.

    Raises:
        ValueError: if it was said of this architecture.
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
        other = open_processor(processor.orderings[name])
        rows = prepare_rows(
            table.dataset, other, folder / f"ordering_{name}", ALL_ROWS, label=[], earlier=table.earlier
        )
        values = _surprise(processor.orderings[name], other, rows, seq_len)
        by_number = np.empty_like(values)
        by_number[slice(None) if rows.row_numbers is None else np.array(rows.row_numbers)] = values
        order = slice(None) if table.rows.row_numbers is None else np.array(table.rows.row_numbers)
        names = [f"{name}: surprise of {field}" for field in (*other.fields, "all")]
        found |= dict(zip(names, by_number[order].T, strict=True))
    return found


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

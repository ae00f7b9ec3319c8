"""Generated ids as rows of a table: values, numbers anywhere in their bins, and times that go on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .processing.field_kinds import BinnedField, TimePartField
from .processing.values import time_part

TRIES = 256  # times within one bin of gaps, of which the one that fits the calendar's fields best is taken
HOURS = np.arange(1.0, 366 * 24 + 1) * 3600  # seconds; where no gap is known, the next hour that fits


def draw_rows(
    processor: Any, ids: np.ndarray, last: np.ndarray, seed: int = 0, numbers: Sequence[int] | None = None
) -> dict[str, pa.Array]:
    """Return the columns that the fields read, each `(histories × rows,)`.

    A column that several fields read comes from a field of bins, if one reads it. The time column is made of all of
    its fields: the time since the row before, drawn within its bin so that month, weekday, hour … fit if they can.
    [MISSING], [UNK] and what a plan fills in for missing values are null; a hashed value is the name of its bucket.
    Where a field has bins of the time itself, as the paper's plan, times lie anywhere in them, in no order.

    Args:
        processor: fitted, of the model.
        ids: shape `(histories, rows, fields)`.
        last: microseconds since 1970 of each history's row before the first, or a start, `(histories,)`.
        seed: of the random numbers.
        numbers: of the histories, as in `generate_rows`.
    """
    histories, rows, _ = ids.shape
    own = range(histories) if numbers is None else numbers
    fields, plan = processor.fitted_fields, processor.plan
    uniforms = np.stack([np.random.default_rng((seed, n, 1)).random((rows, len(fields))) for n in own])
    readers: dict[str, int] = {}
    for place, field in enumerate(fields):
        is_time = field.source == plan.time and not (field.plan.is_binned and field.plan.kind != "time_gap")
        if not is_time and (field.source not in readers or field.plan.is_binned):
            readers[field.source] = place
    columns = {name: _draw(fields[i], ids[..., i], uniforms[..., i]) for name, i in readers.items()}
    if plan.time is not None and plan.time not in columns:
        columns[plan.time] = pa.array(_times(fields, ids, last, seed, own).reshape(-1).astype("datetime64[us]"))
    return {name: columns[name] for name in plan.columns if name in columns}


def _draw(field: Any, ids: np.ndarray, uniforms: np.ndarray) -> pa.Array:
    places = ids.reshape(-1) - field.first_value_id
    known = (places >= 0) & (places < field.size)
    values = field.draw(np.where(known, places, 0), uniforms.reshape(-1))
    if field.plan.fill is not None:  # what stood for a missing value
        known &= np.asarray(pc.not_equal(values, pa.scalar(field.plan.fill, values.type)))
    return pc.if_else(pa.array(known), values, pa.scalar(None, values.type))


def _times(fields: Sequence[Any], ids: np.ndarray, last: np.ndarray, seed: int, numbers: Sequence[int]) -> np.ndarray:
    """Return the microseconds of rows, `(histories, rows)`, increasing in each history."""
    parts = [(i, field) for i, field in enumerate(fields) if isinstance(field, TimePartField)]
    gap = next(((i, field) for i, field in enumerate(fields) if field.plan.kind == "time_gap"), None)
    tries = TRIES if parts else 1
    drawn = np.stack([np.random.default_rng((seed, n, 2)).random((ids.shape[1], tries)) for n in numbers])
    times, before = np.empty(ids.shape[:2], dtype=np.int64), np.array(last, dtype=np.int64)
    for row in range(ids.shape[1]):
        known = np.zeros(len(ids), dtype=bool)
        if gap is not None:
            places = ids[:, row, gap[0]] - gap[1].first_value_id
            known = (places >= 0) & (places < gap[1].size)
        for group in (known, ~known):
            if not group.any():
                continue
            seconds = np.broadcast_to(HOURS, (int(group.sum()), len(HOURS)))
            if group is known and gap is not None:
                seconds = _gaps(gap[1], places[known, None], drawn[known, row])
            moments = before[group, None] + (seconds * 1e6).astype(np.int64)  # (histories, tries)
            best = _agreement(parts, moments, ids[group, row]).argmax(axis=1)
            times[group, row] = moments[np.arange(len(best)), best]
        before = times[:, row]
    return times


def _gaps(field: BinnedField, places: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Return seconds, `(histories, tries)`, in whole seconds where the bin has room for that."""
    seconds = field.draw_numbers(places, uniforms)
    return np.where(seconds >= 1, np.round(seconds), np.maximum(seconds, 0))


def _agreement(parts: Sequence[tuple[int, Any]], moments: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return how many of the calendar's fields each moment fits, of the shape of `moments` `(histories, tries)`."""
    count = np.zeros(moments.shape, dtype=np.int64)
    flat = pa.array(moments.reshape(-1).astype("datetime64[us]"))
    for place, field in parts:
        wanted = ids[:, place] - field.first_value_id
        names = np.append(field.values.to_numpy() - field.all_values()[0], -1)  # from 0, as `time_part` counts
        wanted = names[np.where((wanted >= 0) & (wanted < field.size), wanted, -1)]
        count += time_part(flat, field.part, field.source).reshape(moments.shape) == wanted[:, None]
    return count

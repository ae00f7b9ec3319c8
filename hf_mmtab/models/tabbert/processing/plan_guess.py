"""Guess a column plan from the first rows of a table."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import polars as pl
from transformers.utils import logging

from .column_plan import ColumnPlan, FieldPlan, refuse_repeated_columns
from .refused_rows import absent_columns
from .values import PER_SECOND

logger = logging.get_logger(__name__)

NAMED = 5  # columns in one sentence
ODD_SHARE = 0.1  # of times that are in another unit than the others by mistake
YEAR_1980, YEAR_2100 = 315_532_800, 4_102_444_800  # seconds since 1970


def infer_plan(
    sample: pl.DataFrame,
    entity: str | list[str] | None = None,
    time: str | None = None,
    label: str | list[str] | None = None,
    max_category_values: int = 256,
) -> ColumnPlan:
    """Guess a plan from the first rows of a table; print it with `to_yaml` and edit what is wrong.

    Text and yes/no columns become categories, text with a currency sign money; whole numbers become
    categories when they have few values or look like identifiers (beyond 32 bits), else bins; other numbers
    become bins. The time column gives hour, weekday, month and the gap to the previous row. Columns that
    never change within an entity become static fields. Columns with one value per row (identifiers of the
    row) or one value at all are left out.

    Args:
        sample: a few thousand rows or more, columns typed.
        entity: columns that name whose history a row belongs to; None: the table is one history.
        time: timestamp, or number (see `time_unit`), that orders rows; None: the only timestamp column, if there is
            just one.
        label: columns to predict, never an input.

    Raises:
        ValueError: if a named column is absent or named twice, or a few times of another unit are among numbers.
    """
    entity = [entity] if isinstance(entity, str) else list(entity or [])
    label = [label] if isinstance(label, str) else list(label or [])
    refuse_repeated_columns(entity, label)
    time = only_time(sample.schema, label) if time is None else time
    absent = [c for c in [*entity, *([time] if time else []), *label] if c not in sample.columns]
    if absent:
        raise ValueError(f"{absent_columns(absent, sample.columns)} Check entity, time and label.")
    planned: list[FieldPlan] = []
    unit = checked_time_unit(sample[time]) if time is not None else None
    if time is not None:
        if unit in PER_SECOND:
            moments = (pl.col(time) * (10**6 / PER_SECOND[unit])).cast(pl.Int64).cast(pl.Datetime("us"))
            sample = sample.with_columns(moments)
        if sample.schema[time] in (pl.Datetime, pl.Date):
            planned += _time_fields(sample, time, time)
        planned.append(FieldPlan(name=f"{time}.gap", kind="time_gap", column=time, transform="log1p", binning="tails"))
    kinds = {name: kind for name, kind in sample.schema.items() if name not in (*entity, time, *label)}
    found = {name: _guess(sample[name], kind, name, max_category_values) for name, kind in kinds.items()}
    static = _static(sample, entity, [name for name, guess in found.items() if isinstance(guess, list)])
    left_out: dict[str, list[str]] = {}
    for name, guess in found.items():
        if isinstance(guess, str):
            left_out.setdefault(guess, []).append(name)
        else:
            planned += [replace(one, static=name in static) for one in guess]
    for reason, names in left_out.items():
        logger.warning(f"Left out of the plan, since {reason}: {_counted(names)}.")
    return ColumnPlan(tuple(planned), tuple(entity), time, time_unit=unit, label=tuple(label))


def only_time(kinds: Mapping[str, Any], label: Collection[str] = ()) -> str | None:
    """Return the only column of moments or days that is no label; None: there is none, or several.

    Args:
        kinds: column → polars type.
        label: columns to predict.
    """
    stamps = [name for name, kind in kinds.items() if kind in (pl.Datetime, pl.Date) and name not in label]
    return stamps[0] if len(stamps) == 1 else None


def time_unit(times: pl.Series) -> str | None:
    """Return the unit of times that are numbers, by their size: s, ms, us or ns since 1970 if all lie in the years 1980
    to 2100, else "number"; None for other types, and for numbers beyond 64 bits of microseconds.
    """
    if not times.dtype.is_numeric() or times.null_count() == len(times):
        return None
    low, high = cast(float, times.min()), cast(float, times.max())
    for unit, per_second in PER_SECOND.items():
        if YEAR_1980 * per_second <= low and high < YEAR_2100 * per_second:
            return unit
    return "number" if max(abs(low), abs(high)) * 10**6 < 2**63 else None


def checked_time_unit(times: pl.Series) -> str | None:
    """Return the unit of times that are numbers, see `time_unit`.

    Raises:
        ValueError: if nearly all are moments of one unit; names the first that is not. If each is one, but of several.
    """
    unit = time_unit(times)
    if unit in PER_SECOND or not times.dtype.is_numeric():
        return unit
    for name, per_second in PER_SECOND.items():
        odd = ~times.is_between(YEAR_1980 * per_second, YEAR_2100 * per_second, closed="left")
        if 0 < odd.sum() <= ODD_SHARE * len(times):
            row = int(odd.arg_true()[0])
            cell = times[row]
            raise ValueError(
                f"Expected times of column {times.name!r} in {name} since 1970, as nearly all of them are, found "
                f"{cell} in row {row + 1} ({int(odd.sum()):,} such of {len(times):,}). Correct the cells; if they "
                f"stand for a missing value: `missing: ['{cell}']` (CSV); if all are plain numbers: `time_unit: "
                "number` in the plan."
            )
    inside = {
        name: times.is_between(YEAR_1980 * per_second, YEAR_2100 * per_second, closed="left")
        for name, per_second in PER_SECOND.items()
    }
    found = {name: times.filter(mask)[0] for name, mask in inside.items() if mask.any()}
    if len(found) > 1 and sum(mask.sum() for mask in inside.values()) == len(times):
        told = " and ".join(f"{value} ({name})" for name, value in found.items())
        raise ValueError(
            f"Expected times of column {times.name!r} in one unit since 1970, found {told}. Write all in one unit; if "
            "they are plain numbers: `time_unit: number` in the plan."
        )
    return unit


def _time_fields(sample: pl.DataFrame, column: str, prefix: str) -> list[FieldPlan]:
    parts = ["month", "weekday"]
    if sample.schema[column] != pl.Date and (sample[column].dt.hour() != 0).any():
        parts.append("hour")
    return [FieldPlan(name=f"{prefix}.{p}", kind="time_part", column=column, part=p, keep="covered") for p in parts]


def _guess(values: pl.Series, dtype: pl.DataType, name: str, max_category_values: int) -> list[FieldPlan] | str:
    """Return the fields of a column, or why it has none."""
    if dtype.is_nested():
        return f"no field can read {dtype}"
    present = values.drop_nulls()
    distinct = present.n_unique()
    if distinct + (len(present) < len(values)) <= 1:  # a missing value says something, too
        return "all rows of the sample hold the same value" if distinct else "no row of the sample has a value"
    if distinct <= 1:
        return [FieldPlan(name=name)] if distinct else []
    if dtype == pl.Duration:
        return [FieldPlan(name=name, kind="numeric", binning="tails")]
    if dtype == pl.Time:
        return [FieldPlan(name=f"{name}.hour", kind="time_part", column=name, part="hour", keep="covered")]
    if dtype.is_temporal():
        return _time_fields(values.to_frame(), name, name)
    if dtype == pl.String:
        if _share(present.str.contains(r"^\s*\(?-?[$€£¥]")) > 0.95:
            return [
                FieldPlan(name=name, kind="money", binning="tails"),
                FieldPlan(name=f"{name}.sign", kind="sign", column=name),
            ]
        if distinct == len(present) and distinct > max_category_values:
            return "every row has a new value"
    if dtype.is_integer():
        if distinct <= max_category_values or _beyond_32_bits(present):
            return [FieldPlan(name=name)]
        return [FieldPlan(name=name, kind="numeric", binning="tails")]
    if dtype.is_float() or dtype.is_decimal():
        return [FieldPlan(name=name, kind="numeric", binning="tails")]
    return [FieldPlan(name=name)]


def _share(flags: pl.Series) -> float:
    return float(flags.to_numpy().mean())


def _beyond_32_bits(values: pl.Series) -> bool:
    return bool(np.abs(values.to_numpy().astype(np.float64)).max() >= 2**31)


def _static(sample: pl.DataFrame, entity: list[str], columns: list[str]) -> set[str]:
    """Return the columns that never change within an entity of several rows."""
    if not entity or not columns:
        return set()
    counts = [pl.col(name).n_unique().alias(f"{place}") for place, name in enumerate(columns)]
    repeated = sample.group_by(pl.struct(entity).alias("who")).agg(pl.len(), *counts).filter(pl.col("len") > 1)
    same = repeated.drop("who", "len").max() if len(repeated) > 1 else None
    return set() if same is None else {name for name, most in zip(columns, same.row(0), strict=True) if most == 1}


def _counted(names: list[str]) -> str:
    """Return the first names of many, and how many more there are."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f"{'column' if len(names) == 1 else 'columns'} {', '.join(map(repr, names[:NAMED]))}{more}"

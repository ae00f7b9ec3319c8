"""The kinds of fields. A new kind is a class here and its name in `FIELD_KINDS` and in `column_plan.KINDS`."""

import calendar
import logging
from abc import abstractmethod
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .categorical_field import CategoricalField
from .column_plan import TIME_PARTS, ColumnPlan, FieldPlan
from .field import Batch, Field
from .fixed_counts import FixedCounts
from .quantiles import QuantileSketch, bin_edges, count_edges_below, elapsed_text, number_text
from .values import microseconds, numbers, time_part

logger = logging.getLogger(__name__)

TAIL_ROWS = 20  # of training, at least, in each bin of the tails
CYCLE_DAYS = {"month": 366, "day": 31, "weekday": 7, "hour": 1, "minute": 1 / 24}


class BinnedField(Field):
    """Quantile bins of a number, increasing in their ids: plain numbers, amounts of money, timestamps."""

    learned: QuantileSketch

    def __init__(self, plan: FieldPlan, source: str, hash_above: int) -> None:
        super().__init__(plan, source, hash_above)
        self.learned = QuantileSketch(None if plan.binning == "original" else 2**18)

    def read(self, batch: Batch) -> np.ndarray:
        """Return the numbers as float64, shape `(rows,)`, NaN where missing."""
        values = numbers(self.column(batch), self.source)
        return values if self.plan.fill is None else np.where(np.isnan(values), float(self.plan.fill), values)

    def learn(self, batch: Batch) -> None:
        kind = self.column(batch).type
        self.temporal = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
        self.add(self.read(batch))

    def add(self, values: np.ndarray) -> None:
        """Learn from numbers; infinite ones are counted, but take no part in the quantiles."""
        finite = np.isfinite(values)
        self.rows += len(values)
        if not finite.all():
            missing = int(np.isnan(values).sum())
            self.missing += missing
            self.infinite += len(values) - missing - int(finite.sum())
            values = values[finite]
        self.learned.add(values)

    def nothing_to_fit(self) -> str:
        """Return what is wrong when no number was met."""
        return f"no number to fit bins on, all {self.rows} rows are missing or infinite. Remove it from the plan."

    def fit(self) -> None:
        sketch, count = self.learned, self.plan.num_bins
        if sketch.total == 0:
            raise ValueError(f"Field {self.plan.name!r}: {self.nothing_to_fit()}")
        if self.infinite:
            logger.warning(
                f"Field {self.plan.name!r}: {self.infinite} infinite numbers lie in its outer bins"
                " and took no part in fitting them."
            )
        self.lowest, self.highest = sketch.lowest, sketch.highest
        original = self.plan.binning == "original"
        self.error = sketch.error if original else sketch.edge_error
        if self.error:
            logger.info(
                f"Field {self.plan.name!r} has more than {sketch.limit:,} different numbers: the edges of its bins are "
                f"within {self.error:.1g} of their values."
            )
        values, counts = sketch.middles_and_counts()
        if original:
            # source: np.arange(0, 1 + 1/n, 1/n) of the original, rounding errors included
            shares = np.minimum(np.arange(count + 1) * (1 / count), 1.0)
            self.edges = sketch.quantiles(shares, self._transformed)
        else:
            tail_rows = TAIL_ROWS if self.plan.binning == "tails" else None
            self.edges = bin_edges(self._transformed(values), counts, count, tail_rows)
        of_bins = np.bincount(self._bin(values), weights=counts, minlength=len(self.edges) - 1)
        self.counts = of_bins.astype(np.int64)
        if original:
            self.bins = np.flatnonzero(self.counts)
            self.counts = self.counts[self.bins]

    @property
    def size(self) -> int:
        assert self.edges is not None
        return len(self.edges) - 1 if self.bins is None else len(self.bins)

    def _transformed(self, values: np.ndarray) -> np.ndarray:
        """Apply the plan's transform, which increases with `values`."""
        if self.plan.transform == "log1p":
            return np.sign(values) * np.log1p(np.abs(values))
        if self.plan.transform == "log_floor_1":  # source: TabFormer's amountEncoder
            return np.log(np.maximum(values, 1.0))
        if self.plan.transform == "minmax":
            # source: scikit-learn's MinMaxScaler over nanoseconds, as TabFormer has it
            unit = 1000.0 if self.temporal else 1.0
            span = (self.highest - self.lowest) * unit
            scale = 1.0 / (span if span != 0 else 1.0)
            return values * unit * scale + (0.0 - self.lowest * unit * scale)
        return values

    def _numbers(self, transformed: np.ndarray) -> np.ndarray:
        """Undo the plan's transform."""
        if self.plan.transform == "log1p":
            return np.sign(transformed) * np.expm1(np.abs(transformed))
        if self.plan.transform == "log_floor_1":
            return np.exp(transformed)
        if self.plan.transform == "minmax":
            return self.lowest + transformed * (self.highest - self.lowest)
        return transformed

    def draw_numbers(self, places: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Return numbers that lie anywhere in their bins, float64; whole ones where all edges are of whole numbers.

        Args:
            places: of the bins, any shape.
            uniforms: random numbers in [0, 1), of a shape that goes with that of `places`.
        """
        assert self.edges is not None
        bins = places if self.bins is None else self.bins[places]
        low, high = self.edges[bins], self.edges[bins + 1]
        # inner edges lie halfway between neighbouring numbers of training
        whole = self.plan.transform == "none" and not np.any(np.concatenate([self.edges * 2, self.edges[[0, -1]]]) % 1)
        if whole:
            first, last = np.ceil(low), np.where(bins == len(self.edges) - 2, high, np.ceil(high) - 1)
            return first + np.floor(uniforms * (last - first + 1))
        numbers = self._numbers(low + uniforms * (high - low))
        return np.round(numbers, 2) if self.plan.kind == "money" else numbers

    def draw(self, places: np.ndarray, uniforms: np.ndarray) -> pa.Array:
        drawn = self.draw_numbers(places, uniforms)
        return pa.array(drawn.astype("datetime64[us]")) if self.temporal else pa.array(drawn)

    def _bin(self, values: np.ndarray) -> np.ndarray:
        """Return the bin of each number; the outer bins are open, also to infinite numbers."""
        assert self.edges is not None
        return count_edges_below(self.edges[1:-1], self._transformed(values))

    def codes(self, batch: Batch) -> tuple[np.ndarray, np.ndarray | None]:
        values = self.read(batch)
        if not self.infinite and (infinite := int(np.isinf(values).sum())):  # of training they were told
            numbers = "1 infinite number lies" if infinite == 1 else f"{infinite:,} infinite numbers lie"
            logger.warning(f"Field {self.plan.name!r}: {numbers} in its outer bins, beside its smallest and largest.")
        with np.errstate(invalid="ignore"):
            codes = self._bin(values)
        if self.bins is not None:
            assert self.edges is not None
            place = np.full(len(self.edges) - 1, -1)
            place[self.bins] = np.arange(len(self.bins))
            codes = place[codes]
        missing = np.isnan(values)
        return codes, missing if missing.any() else None

    def edge_text(self, edge: float, digits: int) -> str:
        """Return an edge as text."""
        return number_text(edge, digits)

    def tokens(self, digits: int = 6) -> list[str]:
        """Return the interval of each id; bins of `log1p` in the numbers that they are logarithms of."""
        assert self.edges is not None
        edges = self._numbers(self.edges) if self.plan.transform == "log1p" else self.edges
        texts = [self.edge_text(float(edge), digits) for edge in edges]
        last = len(edges) - 2  # the only interval that holds its upper edge
        kept = range(len(edges) - 1) if self.bins is None else self.bins
        return [f"[{texts[i]}, {texts[i + 1]}{']' if i == last else ')'}" for i in kept]


class TimeGapField(BinnedField):
    """Quantile bins of the seconds since the entity's previous row; its first row has none."""

    def read(self, batch: Batch) -> np.ndarray:
        assert batch.gaps is not None
        return batch.gaps

    def learn(self, batch: Batch) -> None:
        self.add(self.read(batch))

    def merge(self, later: Field, between: np.ndarray) -> None:
        super().merge(later, between)
        self.learned.add(between)
        self.missing -= len(between)

    def nothing_to_fit(self) -> str:
        return (
            f"no time between two rows to fit bins on, since none of the {self.rows} rows follows another of its "
            "entity. Give a table with more rows of each, or remove the field from the plan."
        )

    def edge_text(self, edge: float, digits: int) -> str:
        return elapsed_text(edge, digits)


class FixedField(Field):
    """Few values that are known beforehand; those that training met have an id, another is [UNK]."""

    learned: FixedCounts

    def __init__(self, plan: FieldPlan, source: str, hash_above: int) -> None:
        super().__init__(plan, source, hash_above)
        self.learned = FixedCounts(len(self.all_values()))

    @abstractmethod
    def all_values(self) -> list:
        """Return the values, in the order of `places`."""

    @abstractmethod
    def places(self, batch: Batch) -> np.ndarray:
        """Return the place of each row's value among `all_values`, `(rows,)`, -1 where missing."""

    def learn(self, batch: Batch) -> None:
        places = self.places(batch)
        self.rows += len(places)
        self.missing += int((places < 0).sum())
        self.learned.add(places)

    def fit(self) -> None:
        self.values = pa.array(self.all_values())
        if self.learned.counts is not None:
            met = np.flatnonzero(self.learned.counts)
            self.values, self.counts = self.values.take(pa.array(met)), self.learned.counts[met]

    def codes(self, batch: Batch) -> tuple[np.ndarray, np.ndarray | None]:
        places = self.places(batch)
        missing = places < 0
        if self.size < len(self.all_values()):
            known = pc.index_in(pa.array(self.all_values()), value_set=self.values)
            places = pc.fill_null(known, -1).to_numpy(zero_copy_only=False)[places]
        return places, missing if missing.any() else None


class SignField(FixedField):
    """Negative, zero or positive."""

    def all_values(self) -> list:
        return ["negative", "zero", "positive"]

    def places(self, batch: Batch) -> np.ndarray:
        values = numbers(self.column(batch), self.source)
        return np.where(np.isnan(values), -1, (values >= 0).astype(np.int8) + (values > 0))

    def draw(self, places: np.ndarray, uniforms: np.ndarray) -> pa.Array:
        return pc.subtract(pc.index_in(super().draw(places, uniforms), value_set=pa.array(self.all_values())), 1)


class TimePartField(FixedField):
    """A part of the calendar or the clock: month, day, weekday, hour or minute."""

    @property
    def part(self) -> str:
        """Which part."""
        return str(self.plan.part)

    def all_values(self) -> list:
        first = 1 if self.part in ("month", "day") else 0
        return list(range(first, first + TIME_PARTS[self.part]))

    def places(self, batch: Batch) -> np.ndarray:
        return time_part(self.column(batch), self.part, self.source)

    def learn(self, batch: Batch) -> None:
        super().learn(batch)
        array = self.column(batch)
        if not pa.types.is_time(array.type) and array.null_count < len(array):
            moments = microseconds(array.drop_null())
            self.learned.span(int(moments.min()), int(moments.max()))

    def uncovered(self) -> str:
        """Return which values training did not get to, in words; empty if it went through the whole cycle.

        Twice through the cycle is enough: what is absent then, such as an hour at night, does not occur.
        """
        counts = self.learned.counts
        if counts is None or counts.all() or self.learned.days >= 2 * CYCLE_DAYS[self.part]:
            return ""
        absent = [value for value, count in zip(self.all_values(), counts, strict=True) if not count]
        words: Any = {"month": calendar.month_name, "weekday": calendar.day_name}.get(self.part)
        names = [str(value) if words is None else words[value] for value in absent]
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


FIELD_KINDS: dict[str, type[Field]] = {
    "categorical": CategoricalField,
    "numeric": BinnedField,
    "money": BinnedField,
    "sign": SignField,
    "time_part": TimePartField,
    "time_gap": TimeGapField,
}


def make_fields(plan: ColumnPlan) -> list[Field]:
    """Return the fields of a plan, in its order, without statistics or ids."""
    return [FIELD_KINDS[one.kind](one, str(plan.source(one)), plan.hash_above) for one in plan.fields]

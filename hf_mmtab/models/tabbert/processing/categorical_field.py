"""The field of a category: a vocabulary, or buckets of a hash."""

import logging

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from .category_counts import CategoryCounts
from .column_plan import FieldPlan
from .field import Batch, Field
from .text_numbers import is_text, one_spelling, padded, parse_numbers, spelled_numbers, whole_numbers
from .values import categories, stable_hash, truths

logger = logging.getLogger(__name__)


class CategoricalField(Field):
    """A vocabulary, most frequent value first; hashed into buckets if the plan says so or the values are too many."""

    learned: CategoryCounts

    def __init__(self, plan: FieldPlan, source: str, hash_above: int) -> None:
        super().__init__(plan, source, hash_above)
        self.learned = CategoryCounts(plan.name, plan.hash_buckets, hash_above)

    def learn(self, batch: Batch) -> None:
        values = categories(self.column(batch), self.plan.fill)
        self.rows += len(values)
        self.missing += values.null_count
        self.learned.add(values)

    def fit(self) -> None:
        if self.learned.hashed:
            self.buckets, self.numbers = self.learned.num_buckets, self.learned.numbers
            if not self.plan.hash_buckets:
                shared = -np.expm1(-self.hash_above / self.buckets)
                logger.warning(
                    f"Field {self.plan.name!r} has more than {self.hash_above} different values: hashed into "
                    f"{self.buckets} ids, so that {shared:.1%} of the values or more share an id with another. Set "
                    "min_count, max_values or hash_buckets in the plan to decide otherwise."
                )
            return
        _tell_spellings(self.source, self.learned.ranked())
        ranked = self.learned.ranked().filter(pl.col("count") >= self.plan.min_count)
        if self.plan.max_values is not None:
            ranked = ranked.head(self.plan.max_values)
        values = ranked["value"].to_arrow(compat_level=pl.CompatLevel.oldest())
        self.values = values.cast(pa.string()) if pa.types.is_large_string(values.type) else values
        self.counts = ranked["count"].to_numpy()

    @property
    def size(self) -> int:
        return self.buckets or super().size

    def codes(self, batch: Batch) -> tuple[np.ndarray, np.ndarray | None]:
        values = categories(self.column(batch), self.plan.fill)
        missing = np.asarray(values.is_null()) if values.null_count else None
        if self.buckets:
            values = one_spelling(values) if self.numbers else values
            return (stable_hash(values) % np.uint64(self.buckets)).astype(np.int64), missing
        places = self._places(values)
        if places.null_count:
            places = pc.fill_null(places, -1)
        return places.to_numpy(zero_copy_only=False), missing

    def one_spelling(self, values: pa.Array) -> pa.Array:
        """Return values of `categories` in the spelling that training met; of others, numbers among numbers in one.

        What has one id is one value in statistics too.
        """
        if self.values is None:  # hashed
            return one_spelling(values) if self.numbers and is_text(values.type) else values
        known = self.values.take(self._places(values))
        if known.null_count == values.null_count:
            return known
        others = values
        if is_text(values.type) and len(self.values) and not spelled_numbers(self.values).null_count:
            others = one_spelling(values)
        elif is_text(known.type):
            others = self._like_vocabulary(values)
        if known.type != others.type:  # the other cells of the column may have no place in the vocabulary's type
            kind = pa.string() if is_text(others.type) else pa.float64()
            known, others = known.cast(kind, safe=False), others.cast(kind, safe=False)
        return pc.coalesce(known, others)

    def _places(self, values: pa.Array) -> pa.Array:
        """Return the place of each value in the vocabulary, null where it has none."""
        assert self.values is not None
        places = pc.index_in(self._like_vocabulary(values), value_set=self.values)
        if places.null_count > values.null_count and 0 < len(self.values) <= 2:
            known = truths(self.values)  # of a column of truth values, which another file may spell in another way
            if not known.null_count:
                places = pc.coalesce(places, pc.index_in(truths(values), value_set=known, skip_nulls=True))
        return self._same_number(values, places) if places.null_count > values.null_count else places

    def _same_number(self, values: pa.Array, places: pa.Array) -> pa.Array:
        """Fill in the places of values that are numbers of the vocabulary in another spelling, or of fewer bits.

        Texts are compared as numbers where the vocabulary has numbers alone: 1e3 may be a name, too.
        """
        assert self.values is not None
        unknown = pc.and_(values.is_valid(), places.is_null())
        given = spelled_numbers(values.filter(unknown))
        if given.null_count == len(given):
            return places
        known = spelled_numbers(self.values)
        if known.null_count and is_text(values.type):
            return places
        found = pc.index_in(given, value_set=known, skip_nulls=True)
        if pa.types.is_floating(self.values.type) or pa.types.is_floating(
            values.type
        ):  # 0.1 of 32 bits is not that of 64
            given = pc.if_else(pc.equal(pc.floor(given), given), None, given).cast(pa.float32(), safe=False)
            known = known.cast(pa.float32(), safe=False)
            found = pc.coalesce(found, pc.index_in(given, value_set=known, skip_nulls=True))
        return pc.replace_with_mask(places, unknown, found)

    def _like_vocabulary(self, values: pa.Array) -> pa.Array:
        """Cast values to the vocabulary's type; what does not fit becomes null, that is unknown."""
        assert self.values is not None
        kind = self.values.type
        if values.type == kind:
            return values
        if pa.types.is_string(kind) and pa.types.is_floating(values.type):
            # whole numbers that pandas turned into floats: 5411.0 is "5411"; from 2**53 on they may be rounded
            whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 2.0**53))
            integers = values.cast(pa.int64(), safe=False).cast(pa.string())
            return pc.if_else(whole, integers, values.cast(pa.string()))
        if pa.types.is_string(kind):
            return values.cast(kind)
        if pa.types.is_floating(kind):
            if not is_text(values.type):
                return values.cast(kind, safe=False)
            return pc.if_else(padded(values), None, parse_numbers(values))
        return whole_numbers(values)

    def tokens(self, digits: int = 6) -> list[str]:
        return [f"[HASH {i}]" for i in range(self.buckets)] if self.buckets else super().tokens(digits)


def _tell_spellings(name: str, ranked: pl.DataFrame) -> None:
    """Warn where all of `CategoryCounts.ranked` are numbers, and two texts spell one of them."""
    if ranked["value"].dtype != pl.String:
        return
    numbers = pl.Series(spelled_numbers(ranked["value"].to_arrow(compat_level=pl.CompatLevel.oldest())))
    rows = ranked.with_columns(number=numbers)
    again = rows.filter(pl.col("number").is_duplicated())
    if len(again) and not rows["number"].null_count():
        one = again.filter(pl.col("number") == again["number"][0])["value"].to_list()
        logger.warning(
            f"Column {name!r} spells {again['number'].n_unique():,} numbers in several ways, such as {one[0]!r} and "
            f"{one[1]!r}: they are different values, since a category is text. Write them in one way, or say that they "
            f"are numbers (types: {{{name}: float}})."
        )

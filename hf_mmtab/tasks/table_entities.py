"""The rows of some entities of a table, and what to say of entities that it does not have."""

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..models.tabbert.processing.column_plan import ColumnPlan


def keep_entities(dataset: datasets.Dataset, plan: ColumnPlan, entities: list[str]) -> datasets.Dataset:
    """Return the rows whose first entity column is one of `entities`; all of them if none is named.

    Raises:
        ValueError: if there is no entity column, or one of the entities has no row.
    """
    if not entities:
        return dataset
    if not plan.entity:
        raise ValueError("Expected entity_columns beside `entities`, found none. Name the column.")
    column = dataset.data.column(plan.entity[0]) if dataset._indices is None else None
    values = column if column is not None else pa.chunked_array([dataset.with_format("arrow")[plan.entity[0]]])
    names = values.cast(pa.string())
    known = set(pc.unique(names).to_pylist())
    refuse_absent_entities(plan, set(entities) - known, known)
    return dataset.select(np.flatnonzero(pc.is_in(names, value_set=pa.array(entities)).to_numpy()))


def refuse_absent_entities(plan: ColumnPlan, absent: set[str], known: set[str]) -> None:
    """Raise a ValueError if entities that a recipe names have no row; names some of those that have."""
    if absent:
        there = sorted(filter(None, known))
        more = f" and {len(there) - 5} more" if len(there) > 5 else ""
        told = f" There are {', '.join(there[:5])}{more}." if there else " Correct `entities`."
        raise ValueError(
            f"Expected entities of column {plan.entity[0]!r}, found no row of {', '.join(sorted(absent))}.{told}"
        )

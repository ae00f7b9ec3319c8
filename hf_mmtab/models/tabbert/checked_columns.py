"""Checks of the columns that a configuration of TabBERT or TabGPT names."""

import itertools


def require_columns(fields: list[str], field_ranges: list[list[int]], vocab_size: int) -> None:
    """Check the columns of a configuration.

    Args:
        fields: their names, in the order of the input.
        field_ranges: `[start, end)` of the ids of each.
        vocab_size: number of ids.

    Raises:
        ValueError: if a name stands twice, or ranges lack, overlap or leave the vocabulary.
    """
    if len(fields) != len(field_ranges):
        raise ValueError(f"Expected one id range per column, found fields={fields} and field_ranges={field_ranges}.")
    if len(set(fields)) != len(fields):
        raise ValueError(f"Expected different names in fields, found {fields}.")
    for name, bounds in zip(fields, field_ranges, strict=True):
        if len(bounds) != 2 or not 0 <= bounds[0] < bounds[1] <= vocab_size:
            raise ValueError(
                f"Expected field_ranges of column {name!r} to be [start, end) within 0 and "
                f"vocab_size={vocab_size}, found {bounds}."
            )
    ranges = sorted((start, end) for start, end in field_ranges)
    if any(after[0] < before[1] for before, after in itertools.pairwise(ranges)):
        raise ValueError(f"Expected field_ranges that do not overlap, found {field_ranges}.")

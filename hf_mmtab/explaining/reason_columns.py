"""Reasons as columns of a table of predictions: `reason_1`, `reason_1_adds`, …"""

from collections.abc import Sequence

import pyarrow as pa

from .explanation import Explanation


def reason_columns(explanations: Sequence[Explanation | None], count: int) -> dict[str, pa.Array]:
    """Return the strongest reasons of each prediction, and what each adds to its score; null where there is none.

    Args:
        explanations: of the rows; None for a row that is not explained.
        count: of reasons.
    """
    tops = [[] if one is None else one.top(count) for one in explanations]
    columns: dict[str, pa.Array] = {}
    for place in range(count):
        chosen = [top[place] if place < len(top) else None for top in tops]
        columns[f"reason_{place + 1}"] = pa.array([one and str(one) for one in chosen], pa.string())
        columns[f"reason_{place + 1}_adds"] = pa.array([one and one.attribution for one in chosen], pa.float32())
    return columns

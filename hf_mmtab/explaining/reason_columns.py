"""Reasons as columns of a table of predictions: `reason_1`, `reason_1_adds`, …, and the score that they explain."""

from collections.abc import Sequence

import pyarrow as pa

from .explanation import Explanation


def reason_columns(explanations: Sequence[Explanation | None], count: int) -> dict[str, pa.Array]:
    """Return the strongest reasons of each prediction, and what each adds to its score; null where there is none.

    All reasons together add up to `explained_score` minus `explained_from`, which is the score of an empty input: where
    that is above 0 for the log odds of a label, nothing in the row is needed for the label. `explained_label` says of
    which label, or target, the score is.

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
    columns["explained_label"] = pa.array([one and one.label for one in explanations], pa.string())
    ends = [(None, None) if one is None else (one.score, one.baseline) for one in explanations]
    columns["explained_score"], columns["explained_from"] = (
        pa.array([one[place] for one in ends], pa.float32()) for place in (0, 1)
    )
    return columns

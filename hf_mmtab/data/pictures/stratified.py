"""A seeded split that keeps each class's share in every part."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np


def stratified_split(strata: Sequence[Hashable], fractions: Sequence[float], seed: int) -> np.ndarray:
    """Assign each row to a part, keeping the shares of the strata.

    Args:
        strata: one value for each row, e.g. its label.
        fractions: of the parts, summing to 1. The first part gets at least one row of each stratum.
        seed: the same seed gives the same parts.

    Returns:
        Index of the part, shape `(rows,)`, int64. No part stays empty as long as a stratum has rows to spare.

    Raises:
        ValueError: if the fractions are negative or do not sum to 1.
    """
    if min(fractions) < 0 or not np.isclose(sum(fractions), 1.0):
        raise ValueError(f"Expected fractions that sum to 1, found {list(fractions)}.")
    members: dict[Hashable, list[int]] = defaultdict(list)
    for row, stratum in enumerate(strata):
        members[stratum].append(row)
    generator = np.random.default_rng(seed)
    parts = np.zeros(len(strata), dtype=np.int64)
    # Ends that do not fall on whole rows are carried into the next stratum, or small classes would never
    # reach the small parts.
    carry = np.zeros(len(fractions))
    for rows in members.values():
        wanted = np.asarray(fractions) * len(rows) + carry
        counts = np.floor(wanted + 1e-9).astype(int).clip(min=0)
        counts[0] = max(1, len(rows) - counts[1:].sum())
        while counts.sum() > len(rows):
            counts[1 + int(np.argmax(counts[1:]))] -= 1
        carry = wanted - counts
        parts[generator.permutation(rows)] = np.repeat(np.arange(len(fractions)), counts)
    # Of few rows, each part that was asked for gets one all the same, from where the most are left.
    for part in range(1, len(fractions)):
        kept = Counter(stratum for stratum, chosen in zip(strata, parts, strict=True) if chosen == 0)
        if fractions[part] > 0 and not (parts == part).any() and kept and max(kept.values()) > 1:
            fullest = max(kept, key=lambda stratum: kept[stratum])
            parts[next(row for row in members[fullest] if parts[row] == 0)] = part
    return parts


def rarest_label(labels: Sequence[Sequence[str]]) -> list[str | None]:
    """Return for each row the one of its labels that is rarest overall: a stratum for multi-label data."""
    counts = Counter(label for row in labels for label in row)
    return [min(row, key=lambda label: (counts[label], label)) if row else None for row in labels]

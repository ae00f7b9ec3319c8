"""Detection by episode: positives of one history that lie close together are one event, and one hit may be enough."""

from dataclasses import dataclass

import numpy as np

GAP = np.timedelta64(7, "D")  # positives of one history farther apart than this belong to two episodes


@dataclass(frozen=True)
class Episodes:
    """How the positives of a split were found, episode by episode.

    Args:
        hit: `(episodes,)` place of the first positive that was called positive, from 0; -1: none was.
        sizes: `(episodes,)` positives of each.
        delays: `(episodes,)` timedelta64 from the first positive to the first hit; NaT: no hit.
        lost: share of the money of the positives that went by before the first hit, or without one; None: no amounts.
        histories: how many histories have an episode.
    """

    hit: np.ndarray
    sizes: np.ndarray
    delays: np.ndarray
    lost: float | None
    histories: int

    @property
    def found(self) -> np.ndarray:
        """Which episodes have a hit, `(episodes,)`."""
        return self.hit >= 0

    def found_by(self, rows: int) -> float:
        """Return the share of the episodes that have a hit among their first positives.

        Args:
            rows: how many, at least 1.
        """
        return float((self.found & (self.hit < rows)).mean())


def episodes(
    groups: np.ndarray,
    times: np.ndarray,
    labels: np.ndarray,
    called: np.ndarray,
    amounts: np.ndarray | None = None,
    gap: np.timedelta64 = GAP,
) -> Episodes | None:
    """Gather the positives of each history into episodes.

    Args:
        groups: history of each row, `(rows,)`.
        times: `datetime64` of each row; rows without a time are left out.
        labels: 0 and 1, `(rows,)`.
        called: whether a row was called positive, `(rows,)`.
        amounts: of money, `(rows,)`, NaN where missing; refunds count as nothing.
        gap: the longest pause within an episode.

    Returns:
        None if the rows are of one history alone, or none is positive.
    """
    positive = np.flatnonzero((labels == 1) & ~np.isnat(times))
    if not len(positive) or len(np.unique(groups)) < 2:
        return None
    _, number = np.unique(groups[positive], return_inverse=True)
    order = np.lexsort((times[positive], number))  # within a moment: as the rows lie
    positive, number = positive[order], number[order]
    when = times[positive].astype("datetime64[us]")
    begins = np.append(True, (number[1:] != number[:-1]) | (when[1:] - when[:-1] > gap))
    first = np.flatnonzero(begins)
    sizes = np.diff(np.append(first, len(positive)))
    episode = np.repeat(np.arange(len(first)), sizes)
    place = np.arange(len(positive)) - first[episode]
    hit = np.full(len(first), len(positive))
    np.minimum.at(hit, episode[called[positive]], place[called[positive]])
    hit = np.where(hit < len(positive), hit, -1)
    delays = np.where(hit >= 0, when[first + np.maximum(hit, 0)] - when[first], np.timedelta64("NaT"))
    lost = None
    if amounts is not None:
        money = np.nan_to_num(np.maximum(amounts[positive], 0.0))
        before = (hit[episode] < 0) | (place < hit[episode])
        lost = float(money[before].sum() / money.sum()) if money.sum() > 0 else None
    return Episodes(hit, sizes, delays, lost, len(np.unique(number)))

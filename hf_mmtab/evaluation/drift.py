"""How far a table has moved from the rows that a processor was fitted on, field by field."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import chi2

from ..data.windows.encoded_rows import CountedIds, EncodedRows
from .unseen_values import unseen_note, unseen_values

MOVED, FAR = 0.1, 0.25  # population stability index, by the usual rule of credit scoring
GROUPS = 10  # of the bins of a number, each with about as many training rows
SHOWN_VALUES = 20  # of a category; the rest are one group
NAMED = 3  # fields in the sentence; the page has all


@dataclass(frozen=True)
class FieldDrift:
    """How far one field has moved.

    Args:
        field: its name.
        index: population stability index between training and these rows: 0 for equal shares, above `MOVED` moved,
            above `FAR` far.
        noise: the index that 95 % of samples of this size stay below if nothing has moved.
        groups: what shares are compared: intervals of numbers, values, "other values", [UNK] and [MISSING].
        training: share of each group among the training rows.
        here: among these.
    """

    field: str
    index: float
    noise: float
    groups: tuple[str, ...]
    training: tuple[float, ...]
    here: tuple[float, ...]

    @property
    def moved(self) -> bool:
        """Whether the field has moved, beyond what chance would do to so few rows."""
        return self.index >= MOVED and self.index > self.noise

    @property
    def verdict(self) -> str:
        """What to make of the index."""
        return "moved far" if self.moved and self.index >= FAR else "moved" if self.moved else "as in training"

    def shares(self) -> list[tuple[str, float, float]]:
        """Return each group with its share in training and here."""
        return list(zip(self.groups, self.training, self.here, strict=True))

    def share(self, group: str) -> tuple[float | None, float | None]:
        """Return the share of a group in training and here; None where no row of either has it."""
        return next(((then, now) for name, then, now in self.shares() if name == group), (None, None))

    @property
    def largest(self) -> float:
        """The largest share of any group."""
        return max(*self.training, *self.here)

    def largest_changes(self, count: int = 2) -> list[tuple[str, float, float]]:
        """Return the groups whose shares changed most, with the shares in training and here."""
        return sorted(self.shares(), key=lambda one: -abs(one[2] - one[1]))[:count]


def field_drift(rows: EncodedRows | CountedIds, processor: Any, places: np.ndarray | None = None) -> list[FieldDrift]:
    """Compare each field's values with those of the training rows, the field that moved most first.

    Args:
        rows: encoded with `processor`.
        processor: fitted on the training rows.
        places: numbers of the rows to count; None: all.
    """
    found = [
        _compare(field, rows.count_ids(number, field.end, places), processor.rows_fitted)
        for number, field in enumerate(processor.fitted_fields)
        if field.counts is not None and len(rows)
    ]
    return sorted(found, key=lambda one: -one.index)


def _compare(field: Any, counts: np.ndarray, rows_fitted: int) -> FieldDrift:
    """Compare counts of ids, `(end,)`, with those of training."""
    trained = np.asarray(field.counts, dtype=np.int64)
    group, names = value_groups(field, trained)
    missing = round(field.missing_rate * rows_fitted)
    special = [max(0, rows_fitted - missing - int(trained.sum())), missing]
    before = np.append(np.bincount(group, trained, len(names)), special)
    values = counts[field.first_value_id : field.first_value_id + len(trained)]
    own = [counts[field.unknown_id], counts[field.missing_id] if field.missing_id != field.unknown_id else 0]
    after = np.append(np.bincount(group, values, len(names)), own)
    met = (before > 0) | (after > 0)
    before, after = before[met], after[met]
    kept = tuple(name for name, one in zip([*names, "[UNK]", "[MISSING]"], met, strict=True) if one)
    index, noise = stability_index(before, after)
    return FieldDrift(field.plan.name, index, noise, kept, tuple(before / before.sum()), tuple(after / after.sum()))


def value_groups(field: Any, trained: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the group of each value or bin, `(values,)`, and the groups' names.

    Args:
        field: of a fitted processor.
        trained: training rows of each value, `(values,)`.
    """
    tokens = field.tokens(3)
    if field.edges is not None:
        before = np.cumsum(trained) - trained / 2  # rows up to the middle of each bin
        group = np.minimum(before / max(1, trained.sum()) * GROUPS, GROUPS - 1).astype(np.int64)
        _, group = np.unique(group, return_inverse=True)
        first, last = np.unique(group, return_index=True)[1], np.append(np.flatnonzero(np.diff(group)), -1)
        return group, [_span(tokens[a], tokens[b]) for a, b in zip(first, last, strict=True)]
    largest = np.argsort(-trained, kind="stable")[:SHOWN_VALUES]
    group = np.full(len(trained), len(largest))
    group[largest] = np.arange(len(largest))
    return group, [*(tokens[i] for i in largest), *(["other values"] if len(trained) > len(largest) else [])]


def _span(first: str, last: str) -> str:
    """Return the interval from the start of one bin to the end of another."""
    if first == last or not ("," in first and "," in last):
        return first
    return f"{first.split(',')[0]},{last.split(',')[1]}"


def stability_index(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Return the population stability index of two samples, and what chance alone stays below in 95 % of cases.

    The index is the sum of (p - q) ln(p / q) over groups. If both samples come from one population it is about
    chi-squared with `groups - 1` degrees of freedom, times the sum of both inverse sizes (Yurdakul 2018).

    Args:
        before, after: counts, `(groups,)`; half a row is added to each, so that no share is zero.
    """
    p, q = before + 0.5, after + 0.5
    p, q = p / p.sum(), q / q.sum()
    index = float(((p - q) * np.log(p / q)).sum())
    sizes = 1 / before.sum() + 1 / after.sum()
    return index, float(chi2.ppf(0.95, max(1, len(before) - 1)) * sizes)


def score_drift(training: np.ndarray, here: np.ndarray) -> FieldDrift:
    """Compare scores with those that a run gave to its own rows, in ten groups of equally many of these.

    Args:
        training: scores of the run's rows, `(n,)`.
        here: scores of new rows, `(m,)`.
    """
    edges = np.unique(np.quantile(training, np.linspace(0, 1, GROUPS + 1)[1:-1]))
    before, after = (
        np.bincount(np.searchsorted(edges, scores, side="right"), minlength=len(edges) + 1)
        for scores in (training, here)
    )
    index, noise = stability_index(before, after)
    bounds = ["0", *(f"{edge:.3g}" for edge in edges), "1"]
    names = tuple(f"[{low}, {high})" for low, high in itertools.pairwise(bounds))
    return FieldDrift("score", index, noise, names, tuple(before / before.sum()), tuple(after / after.sum()))


def drift_notes(
    found: Sequence[FieldDrift],
    rows: EncodedRows | CountedIds,
    processor: Any,
    what: str,
    places: np.ndarray | None = None,
) -> list[str]:
    """Say which fields have values that training never had, and which others have moved.

    Fields of the calendar are not named: they move whenever a table covers less than a year.

    Args:
        found: see `field_drift`.
        rows: that were compared.
        processor: fitted on the training rows.
        what: the rows, as in "new rows".
        places: numbers of the rows that were compared; None: all.
    """
    unseen = unseen_values(rows, processor, slice(None) if places is None else places)
    told = {one.field for one in unseen} | {one.name for one in processor.plan.fields if one.kind == "time_part"}
    gaps = {one.name for one in processor.plan.fields if one.kind == "time_gap"}
    moved: list[tuple[FieldDrift, str, float, float]] = []
    begun: list[tuple[FieldDrift, str, float, float]] = []
    for one in (one for one in found if one.moved and one.field not in told):
        (group, then, now), *_ = one.largest_changes(1)
        begins = one.field in gaps and group == "[MISSING]" and now > then
        (begun if begins else moved).append((one, group, then, now))
    notes = unseen_note(unseen, what) + [
        f"{now:.1%} of the {what} are the first of their history ({then:.1%} in training), where {one.field} is "
        "[MISSING]: histories that begin anew in a table are read without their past. Give the rows before, too, or "
        "let `predict` keep them (`--state`)."
        for one, _, then, now in begun
    ]
    if not moved:
        return notes
    shown = "; ".join(
        f"{one.field} (index {one.index:.2f}: {group} {then:.1%} in training, {now:.1%} here)"
        for one, group, then, now in moved[:NAMED]
    )
    more = f" and {len(moved) - NAMED} more fields" if len(moved) > NAMED else ""
    return [
        *notes,
        f"The {what} differ from the training rows in {shown}{more}. If this is how the data is now, train "
        "on later rows.",
    ]

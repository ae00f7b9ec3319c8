"""Do columns of generated rows go together as those of real rows do? Each pair of fields, as shares of both."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.windows.encoded_rows import SPLITS, EncodedRows
from .drift import value_groups

MOST_ROWS = 20_000  # of either kind
OTHERS = "[UNK] or [MISSING]"


@dataclass(frozen=True)
class FieldPair:
    """Two fields whose values go together.

    Args:
        fields: their names.
        groups: of each: intervals of numbers, values, "other values".
        real: share of each combination among real rows, `(first groups, second groups)`.
        generated: among generated rows.
    """

    fields: tuple[str, str]
    groups: tuple[tuple[str, ...], tuple[str, ...]]
    real: np.ndarray
    generated: np.ndarray

    @property
    def shared(self) -> tuple[float, float]:
        """What a value of one field tells of the other's, mutual information in nats: real, generated."""
        return mutual_information(self.real), mutual_information(self.generated)

    @property
    def distance(self) -> float:
        """Total variation: the share of generated rows that lies in other combinations than the real ones."""
        return float(np.abs(self.real - self.generated).sum() / 2)


def field_pairs(generated: EncodedRows, own: EncodedRows, processor: Any) -> list[FieldPair]:
    """Compare every pair of fields; those that tell most of each other come first.

    As many rows of either kind are taken, since a sample's mutual information grows as it shrinks.

    Args:
        generated: encoded with `processor`.
        own: rows of the model's run; those of its test split stand for real ones.
        processor: fitted on the training rows.
    """
    test = np.flatnonzero(np.asarray(own.split) == SPLITS.index("test"))
    count = min(len(generated), len(test), MOST_ROWS)
    spread = [np.linspace(0, size - 1, count).astype(np.int64) for size in (len(test), len(generated))]
    ids = [own.take(test[spread[0]]), generated.take(spread[1])]
    grouped = {}
    for number, field in enumerate(processor.fitted_fields):
        if field.counts is None:
            continue
        group, names = value_groups(field, np.asarray(field.counts, dtype=np.int64))
        lookup = np.full(field.end, len(names))  # [UNK] and [MISSING]
        lookup[field.first_value_id : field.first_value_id + len(group)] = group
        grouped[field.plan.name] = [lookup[one[:, number]] for one in ids], (*names, OTHERS)
    pairs = []
    for first, second in itertools.combinations(grouped, 2):
        (codes, rows), (other_codes, columns) = grouped[first], grouped[second]
        shares = [
            np.bincount(a * len(columns) + b, minlength=len(rows) * len(columns)).reshape(len(rows), -1) / count
            for a, b in zip(codes, other_codes, strict=True)
        ]
        met = shares[0] + shares[1]
        kept, across = (np.atleast_1d(met.any(axis=axis)) for axis in (1, 0))
        groups = tuple(itertools.compress(rows, kept)), tuple(itertools.compress(columns, across))
        real, made = (one[kept][:, across] for one in shares)
        pairs.append(FieldPair((first, second), groups, real, made))
    return sorted(pairs, key=lambda pair: -pair.shared[0])


def mutual_information(shares: np.ndarray) -> float:
    """Return the mutual information of rows and columns, nats, from shares that sum to 1."""
    apart = shares.sum(axis=1, keepdims=True) * shares.sum(axis=0, keepdims=True)
    known = shares > 0
    return float((shares[known] * np.log(shares[known] / apart[known])).sum())

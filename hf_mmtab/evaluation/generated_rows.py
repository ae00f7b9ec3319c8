"""Are generated rows like real ones, and are they copies? `drift.py` compares the shares of single fields."""

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.neighbors import NearestNeighbors

from ..data.windows.encoded_rows import SPLITS, EncodedRows

MOST_ROWS, MOST_TRAINING = 2_000, 50_000  # that are compared, evenly spread
LEAST_ROWS, BLOCKS = 50, 50
WARNING = "Do not hand these rows out: the model has learned training rows by heart."
CLEARLY = 0.2  # by which share of the test rows' number that of generated ones must differ


def generated_notes(generated: EncodedRows, own: EncodedRows) -> list[str]:
    """Say how well a classifier tells generated rows from real ones, and how near they come to training rows.

    Args:
        generated: encoded with the model's processor.
        own: the rows of the model's run; its test rows stand for real ones that the model has not seen.

    Raises:
        ValueError: if there are too few rows to compare.
    """
    train, test = (np.flatnonzero(np.asarray(own.split) == SPLITS.index(name)) for name in ("train", "test"))
    if min(counts := (len(generated), len(train), len(test))) < LEAST_ROWS:
        raise ValueError(
            f"Expected at least {LEAST_ROWS} generated rows, training rows and test rows, found {counts}. Generate "
            "more rows, or train with a split that has test rows."
        )
    real, made = _spread(test, MOST_ROWS), _spread(np.arange(len(generated)), MOST_ROWS)
    real_pairs = with_row_before(own, real)
    auc = told_apart(real_pairs, with_row_before(generated, made))
    shift = told_apart(real_pairs, with_row_before(own, _spread(train, MOST_ROWS)))
    known = own.take(_spread(train, MOST_TRAINING))
    near_made, near_real = (nearest(rows, known) for rows in (generated.take(made), own.take(real)))
    return [
        *learned_by_heart(near_made, near_real),
        f"A classifier (boosted trees on a row and the row before) tells generated rows from the run's test rows with "
        f"AUC {auc:.3f}, and the run's training rows with {shift:.3f}; 0.5 is not at all, 1 always.",
        f"From the nearest of {len(known):,} training rows, generated rows differ in {near_made.mean():.2f} of "
        f"{known.shape[1]} cells on average, test rows in {near_real.mean():.2f}; {np.mean(near_made == 0):.1%} and "
        f"{np.mean(near_real == 0):.1%} are copies.",
    ]


def learned_by_heart(generated: np.ndarray, real: np.ndarray) -> list[str]:
    """Return a warning if generated rows are clearly nearer to training rows than test rows are; else nothing.

    Args:
        generated, real: `(rows,)`, in how many cells the nearest training row differs.
    """
    told = []
    copies = (generated == 0).astype(float), (real == 0).astype(float)
    if _clearly_above(-generated, -real):
        told.append(f"they differ from the nearest in {generated.mean():.2f} cells, test rows in {real.mean():.2f}")
    if _clearly_above(*copies):
        told.append(f"{copies[0].mean():.1%} of them are copies, of test rows {copies[1].mean():.1%}")
    if not told:
        return []
    return [f"{WARNING} {'; '.join(told).capitalize()}. Train for fewer epochs, or on more rows."]


def _clearly_above(values: np.ndarray, others: np.ndarray) -> bool:
    by, spread = values.mean() - others.mean(), np.sqrt(values.var() / len(values) + others.var() / len(others))
    return bool(by > max(CLEARLY * abs(others.mean()), 3 * spread, 0.01))


def told_apart(real: np.ndarray, generated: np.ndarray) -> float:
    """Return the AUC of a classifier between two sets of ids, `(rows, columns)`, judged on blocks that it has not seen.

    Neighbouring rows resemble each other: a block of them is in one fold.
    """
    rows = np.concatenate([real, generated])
    is_made = np.repeat([0, 1], [len(real), len(generated)])
    block = np.concatenate([np.arange(len(one)) * BLOCKS // len(one) for one in (real, generated)])
    model = HistGradientBoostingClassifier(max_iter=100, random_state=0)
    scores = cross_val_predict(model, rows, is_made, groups=block, cv=GroupKFold(5), method="predict_proba")
    return float(roc_auc_score(is_made, scores[:, 1]))


def with_row_before(rows: EncodedRows, places: np.ndarray) -> np.ndarray:
    """Return the ids of rows and of the row before each in its history, -1 for none, `(len(places), 2 × fields)`."""
    before = rows.take(np.maximum(places - 1, 0))
    before[np.isin(places, rows.entity_starts)] = -1
    return np.concatenate([rows.take(places), before], axis=1)


def nearest(rows: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return in how many cells each row differs from the most similar of the known ones, `(rows,)`.

    Args:
        rows: ids, `(rows, fields)`.
        known: ids, `(known rows, fields)`.
    """
    found = NearestNeighbors(n_neighbors=1, metric="hamming", algorithm="brute").fit(known).kneighbors(rows)
    return np.round(found[0][:, 0] * known.shape[1])


def _spread(places: np.ndarray, most: int) -> np.ndarray:
    return places[np.unique(np.linspace(0, len(places) - 1, min(most, len(places))).astype(np.int64))]

"""Generated rows against real ones: closed forms."""

import numpy as np
import pytest

from hf_mmtab.evaluation.generated_rows import WARNING, learned_by_heart, nearest, told_apart


def test_the_nearest_row_is_counted_in_cells():
    known = np.array([[1, 5, 9], [2, 6, 10]])
    assert nearest(np.array([[1, 5, 9], [1, 6, 9], [3, 7, 10], [0, 0, 0]]), known).tolist() == [0, 1, 2, 3]


def test_rows_of_one_kind_are_not_told_apart_and_joined_ones_are():
    rng = np.random.default_rng(0)
    same = [rng.integers(0, 8, (600, 4)) for _ in range(2)]
    assert told_apart(*same) == pytest.approx(0.5, abs=0.06)
    joined = same[1].copy()
    joined[:, 1] = joined[:, 0]  # every column is as before, not the pair
    assert told_apart(same[0], joined) > 0.9


def test_rows_that_are_nearer_to_training_rows_than_test_rows_are_a_warning():
    rng = np.random.default_rng(0)
    real = rng.poisson(1.8, 500)
    assert learned_by_heart(np.zeros(500, dtype=int), real)[0].startswith(
        f"{WARNING} They differ from the nearest in 0.00"
    )
    assert not learned_by_heart(rng.poisson(1.8, 500), real)  # as near as test rows
    assert not learned_by_heart(rng.poisson(2.5, 500), real)  # further away
    half = np.where(rng.random(500) < 0.5, 0, 4)  # half of them copies, the others far away
    assert "of them are copies, of test rows" in learned_by_heart(half, real)[0]

"""The seeded, stratified split."""

import numpy as np
import pytest

from hf_mmtab.data.pictures.stratified import rarest_label, stratified_split


def test_each_part_keeps_the_shares():
    strata = ["a"] * 800 + ["b"] * 150 + ["c"] * 50
    parts = stratified_split(strata, [0.8, 0.1, 0.1], seed=0)
    for stratum, count in (("a", 800), ("b", 150), ("c", 50)):
        share = np.bincount(parts[np.array(strata) == stratum], minlength=3) / count
        assert np.allclose(share, [0.8, 0.1, 0.1], atol=0.021)
    assert np.array_equal(parts, stratified_split(strata, [0.8, 0.1, 0.1], seed=0))
    assert not np.array_equal(parts, stratified_split(strata, [0.8, 0.1, 0.1], seed=1))


def test_many_small_classes_fill_every_part_and_all_are_in_the_first():
    strata = [index // 3 for index in range(300)]  # 100 classes of 3
    parts = stratified_split(strata, [0.8, 0.1, 0.1], seed=0)
    assert set(np.array(strata)[parts == 0]) == set(range(100))
    assert np.allclose(np.bincount(parts) / 300, [0.8, 0.1, 0.1], atol=0.02)


def test_single_rows_stay_in_the_first_part():
    assert stratified_split(["a", "b", "c"], [0.5, 0.25, 0.25], seed=0).tolist() == [0, 0, 0]


def test_no_part_stays_empty_while_there_are_rows_to_spare():
    parts = stratified_split(["a"] * 4 + ["b"] * 4, [0.8, 0.1, 0.1], seed=0)
    assert sorted(np.bincount(parts).tolist()) == [1, 1, 6]


def test_several_labels_are_represented_by_the_rarest():
    assert rarest_label([["a", "b"], ["a"], [], ["a", "c"], ["c"]]) == ["b", "a", None, "c", "c"]


@pytest.mark.parametrize("fractions", [[0.5, 0.4], [1.2, -0.2]])
def test_fractions_must_sum_to_one(fractions):
    with pytest.raises(ValueError, match="Expected fractions that sum to 1, found"):
        stratified_split(["a"], fractions, seed=0)

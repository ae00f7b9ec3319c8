"""An epoch's draws where positives are rare."""

import numpy as np
import pytest

from hf_mmtab.training.sampling import ImbalanceSampler

POSITIVE = np.arange(50) % 10 == 0  # 5 of 50


def test_positives_are_repeated_up_to_their_share_and_every_negative_comes_once():
    sampler = ImbalanceSampler(POSITIVE, positive_share=0.25)
    drawn = np.bincount(list(sampler), minlength=50)
    assert len(sampler) == 60 and drawn.sum() == 60
    assert (drawn[~POSITIVE] == 1).all() and (drawn[POSITIVE] == 3).all()
    assert sampler.draws == (1.0, 3.0)


def test_negatives_may_be_left_out_and_others_come_in_the_next_epoch():
    sampler = ImbalanceSampler(POSITIVE, negative_share=0.2)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    for epoch in (first, second):
        drawn = np.bincount(epoch, minlength=50)
        assert drawn[~POSITIVE].sum() == 9 and drawn.max() == 1 and (drawn[POSITIVE] == 1).all()
    assert sorted(first) != sorted(second)
    sampler.set_epoch(0)
    assert list(sampler) == first  # a function of seed and epoch
    assert list(ImbalanceSampler(POSITIVE, negative_share=0.2, seed=1)) != first


def test_a_remainder_of_positives_is_drawn_without_repetition():
    sampler = ImbalanceSampler(POSITIVE, positive_share=0.2, negative_share=28 / 45)
    drawn = np.bincount(list(sampler), minlength=50)[POSITIVE]
    assert drawn.sum() == 7 and sorted(drawn) == [1, 1, 1, 2, 2]


def test_positives_that_are_frequent_already_stay_as_they_are():
    assert len(ImbalanceSampler(~POSITIVE, positive_share=0.5)) == 50


def test_no_positive_to_repeat_is_an_error():
    with pytest.raises(ValueError, match="Expected positive examples to repeat, found none among 3"):
        ImbalanceSampler(np.zeros(3, dtype=bool), positive_share=0.5)

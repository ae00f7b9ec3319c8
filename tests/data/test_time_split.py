"""The cut by time from counts of parts, against `Split` on all times."""

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mmtab.data.windows.splits import Split
from hf_mmtab.data.windows.time_split import HIGHEST, LOWEST, TimeCounts, fit_time_split, split_at

MOMENTS = st.one_of(
    st.integers(0, 5),
    st.integers(10**15, 10**15 + 10**6),
    st.integers(-(10**15), 10**15),
    st.sampled_from([LOWEST, LOWEST + 1, -1, 0, HIGHEST - 1]),  # the last one is what stands for no cut,
)
SHARES = st.sampled_from([(0.7, 0.1, 0.2), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0), (1.0, 0.0, 0.0), (0.01, 0.01, 0.98)])


def counted(parts, template):
    def of_part(part):
        counts = TimeCounts(template.low, template.high, template.limit)
        counts.add(part)
        return counts

    def merged(one, other):
        one.merge(other)
        return one

    return reduce(merged, map(of_part, parts))


def cut(times, pieces, shares, limit):
    parts = np.array_split(times, pieces)
    passes = []

    def recount(templates):
        passes.append(len(templates))
        return [counted(parts, template) for template in templates]

    return *fit_time_split(shares, counted(parts, TimeCounts(limit=limit)), recount), len(passes)


@settings(max_examples=300, deadline=None)
@given(st.lists(MOMENTS, min_size=1, max_size=60), st.integers(1, 5), SHARES, st.sampled_from([2, 7, 1000]))
def test_cuts_of_parts_divide_rows_as_one_pass_over_all_times_does(times, pieces, shares, limit):
    times = np.array(times, dtype=np.int64)
    cuts, training, _ = cut(times, pieces, shares, limit)

    expected = Split("time", shares)._by_time(times)

    assert split_at(times, cuts).tolist() == expected.tolist()
    assert training == (expected == 0).sum()


@settings(max_examples=100, deadline=None)
@given(st.lists(MOMENTS, min_size=1, max_size=50), st.integers(2, 6), st.randoms())
def test_counts_do_not_depend_on_parts_or_their_order(times, pieces, random):
    times = np.array(times, dtype=np.int64)
    parts = np.array_split(times, pieces)
    random.shuffle(parts)

    one, many = counted([times], TimeCounts(limit=4)), counted(parts, TimeCounts(limit=4))

    assert (one.shift, one.keys.tolist(), one.counts.tolist()) == (many.shift, many.keys.tolist(), many.counts.tolist())


def test_microseconds_over_twenty_years_need_four_passes():
    times = np.random.default_rng(0).integers(10**15, 10**15 + 20 * 365 * 86_400 * 10**6, 300_000)

    cuts, training, again = cut(times, 3, (0.7, 0.1, 0.2), 2**12)

    assert np.array_equal(split_at(times, cuts), Split("time").rows(times, times))
    assert training == 210_000 and again <= 4


def test_rows_of_one_time_alone_leave_nothing_to_train_on():
    cuts, training, again = cut(np.full(20, 7), 4, (0.7, 0.1, 0.2), 2)

    assert (cuts, training, again) == ([7, 7], 0, 0)
    with pytest.raises(ValueError, match="leaves no row to train on"):
        Split("time").check_training(training, 20)


def test_no_rows_have_no_cut():
    assert fit_time_split((0.7, 0.1, 0.2), TimeCounts(), list) == ([HIGHEST, HIGHEST], 0)

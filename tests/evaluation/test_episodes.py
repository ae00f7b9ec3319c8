"""Episodes of positives, counted by hand."""

import numpy as np
import pytest

from hf_mmtab.evaluation.episodes import episodes
from hf_mmtab.reports.plots_alerts import episode_sentences, episodes_found

DAYS = np.array([0, 1, 2, 20, 0, 9, 0, 1, 0])
TIMES = np.datetime64("2024-01-01T10:00") + DAYS * np.timedelta64(1, "D")
GROUPS = np.array(["a", "a", "a", "a", "b", "b", "c", "c", "d"])
LABELS = np.array([1, 1, 1, 1, 1, 1, 0, 1, 0])
CALLED = np.array([0, 0, 1, 1, 0, 0, 1, 1, 0], dtype=bool)
AMOUNTS = np.array([10.0, 20.0, 30.0, 5.0, 15.0, np.nan, 99.0, 20.0, 1.0])


def test_positives_of_one_history_that_lie_close_together_are_found_at_their_first_hit():
    shuffled = np.random.default_rng(0).permutation(9)
    found = episodes(*(one[shuffled] for one in (GROUPS, TIMES, LABELS, CALLED, AMOUNTS)))
    assert found is not None
    # a: days 0 to 2, found at its third row; a: day 20, at once; b: two of one row each, missed; c: at once
    assert found.sizes.tolist() == [3, 1, 1, 1, 1] and found.hit.tolist() == [2, 0, -1, -1, 0]
    assert found.histories == 3 and found.found.tolist() == [True, True, False, False, True]
    assert [found.found_by(rows) for rows in (1, 2, 3)] == [0.4, 0.4, 0.6]
    assert found.delays[:2].astype("timedelta64[D]").astype(int).tolist() == [2, 0] and np.isnat(found.delays[2])
    assert found.lost == pytest.approx((10 + 20 + 15) / 100)  # refunds and missing amounts count as nothing
    wide = episodes(GROUPS, TIMES, LABELS, CALLED, gap=np.timedelta64(30, "D"))
    assert wide is not None and wide.sizes.tolist() == [4, 2, 1] and wide.lost is None


def test_without_positives_times_or_several_histories_there_are_no_episodes():
    assert episodes(GROUPS, TIMES, np.zeros(9), CALLED) is None
    assert episodes(np.full(9, ""), TIMES, LABELS, CALLED) is None
    assert episodes(GROUPS, np.full(9, "NaT", dtype="datetime64[us]"), LABELS, CALLED) is None


def test_what_is_said_of_episodes():
    found = episodes(GROUPS, TIMES, LABELS, CALLED, AMOUNTS)
    assert found is not None
    said = " ".join(episode_sentences(found, "fraud"))
    assert "no more than 7 days apart" in said and "7 such rows make 5 episodes in 3 histories." in said
    assert "3 of 5 episodes are found (60%). Of those, 67% at their first row. 45%" in said
    assert "45% of the money of fraud goes by before the first hit" in said
    figure = episodes_found(found, "fraud")
    assert figure is not None
    [line, _] = figure.axes[0].lines
    assert line.get_xydata().tolist() == [[1, 0.4], [2, 0.4], [3, 0.6]]
    late = episodes(GROUPS, TIMES, LABELS, CALLED & (GROUPS == "a") & (DAYS == 2), AMOUNTS)
    assert late is not None
    assert "0% at their first row, half of them by row 3, within 2 days" in " ".join(episode_sentences(late, "fraud"))
    missed = episodes(GROUPS, TIMES, LABELS, np.zeros(9, dtype=bool), AMOUNTS)
    assert missed is not None
    assert "0 of 5 episodes are found (0%). 100% of the money" in " ".join(episode_sentences(missed, "fraud"))
    single = episodes(GROUPS, TIMES, np.where(DAYS == 0, LABELS, 0), CALLED)
    assert single is not None and episodes_found(single, "fraud") is None

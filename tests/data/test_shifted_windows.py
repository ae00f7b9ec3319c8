"""Training windows begin elsewhere in each epoch, inside their history, and the same everywhere."""

import numpy as np
import pytest
from test_windows_and_splits import PLAN, _events
from torch.utils.data import DataLoader

from hf_mmtab.data.shards.preparing import prepare_rows
from hf_mmtab.data.windows.shifted_windows import ShiftedWindows
from hf_mmtab.data.windows.splits import Split, windows
from hf_mmtab.models.tabbert.processing_tabbert import TabBertProcessor

LENGTHS = (24 * 40, 30, 5, 24)  # rows of the histories


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder, table = tmp_path_factory.mktemp("rows"), _events(LENGTHS)
    return prepare_rows(table, TabBertProcessor(PLAN), folder, Split("time", (1.0, 0.0, 0.0)))


def shifted(rows, seed=1):
    return ShiftedWindows(windows(rows, "train", seq_len=24, stride=24), 24, None, seed)


def starts(cut, epoch):
    cut.set_epoch(epoch)
    cut[0]
    return cut.index.start.copy()


def test_before_the_first_epoch_nothing_is_moved(rows):
    cut, fixed = shifted(rows), windows(rows, "train", seq_len=24, stride=24)
    assert (cut[3]["input_ids"] == fixed[3]["input_ids"]).all() and cut.fingerprint == fixed.fingerprint


def test_the_place_in_a_window_tells_no_hour(rows):
    fixed, cut = windows(rows, "train", seq_len=24, stride=24), shifted(rows)
    whole = fixed.index.start < LENGTHS[0]
    assert set(fixed.index.start[whole] % 24) == {0}  # each row of a window has one hour, in all windows
    middle = np.flatnonzero(whole)[1:-1]
    hours = np.concatenate([starts(cut, epoch)[middle] % 24 for epoch in range(480)])
    shares = np.bincount(hours, minlength=24) / len(hours)
    # guessing the most frequent hour of a place is right in one of 24 cases, give or take three deviations
    assert shares.max() < 1 / 24 + 3 * np.sqrt(1 / 24 / 480) and shares.min() > 0


def test_no_window_leaves_its_history_and_none_is_lost(rows):
    cut, fixed = shifted(rows), windows(rows, "train", seq_len=24, stride=24)
    moved = np.zeros(len(cut), dtype=bool)
    covered = np.zeros(len(rows), dtype=bool)
    for epoch in range(60):
        begins = starts(cut, epoch)
        assert (cut.entities() == fixed.entities()).all() and len(begins) == len(fixed)
        ends = begins + cut.index.length - 1
        assert (np.searchsorted(rows.entity_starts, ends, side="right") - 1 == fixed.entities()).all()
        assert len(cut[len(cut) - 1]["input_ids"]) == 24
        moved |= begins != fixed.index.start
        for begin, end in zip(begins, ends, strict=True):
            covered[begin : end + 1] = True
    assert covered.all()
    short = (fixed.index.length < 24) | (fixed.entities() == 3)
    assert moved[~short].all() and not moved[short].any()


def test_seed_and_epoch_alone_decide(rows):
    cut, other = shifted(rows), shifted(rows)
    in_order = [starts(cut, epoch) for epoch in range(4)]
    assert (starts(other, 3) == in_order[3]).all()  # a run that resumes in epoch 3
    assert not (in_order[2] == in_order[3]).all()
    assert not (starts(shifted(rows, seed=2), 3) == in_order[3]).all()


def test_a_loader_process_that_lives_on_sees_the_epoch(rows):
    cut = shifted(rows)
    loader = DataLoader(cut, batch_size=8, num_workers=1, persistent_workers=True, collate_fn=list)
    for epoch in (0, 1):
        cut.set_epoch(epoch)
        read = [item["input_ids"] for batch in loader for item in batch]
        expected = shifted(rows)
        expected.set_epoch(epoch)
        assert all((one == expected[i]["input_ids"]).all() for i, one in enumerate(read))

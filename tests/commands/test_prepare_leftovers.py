"""What `prepare` leaves beside its folder when it fails: nothing, but what an interrupted start left."""

from unittest.mock import Mock

import pytest
from prepared_tables import cards

from hf_mmtab.commands import prepare
from hf_mmtab.data.shards.local_engine import LocalEngine
from hf_mmtab.data.windows.shard_files import ShardWriter
from hf_mmtab.locking import lock_folder
from hf_mmtab.tasks import sharded_table

FAILING = {  # more options → the error
    "no table": (["--data", "nope.csv"], FileNotFoundError),
    "no checkpoint": (["--pretrained", "nope"], OSError),
    "no plan": (["--plan", "nope.yaml"], ValueError),
    "no column": (["--plan_edits", "{nope: {column: nope}}"], ValueError),
}


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return cards(tmp_path, 600, 3).rename(tmp_path / "table.csv")


def _prepare(*more):
    table = ["--simulate", "null", "--data", "table.csv", "--rows", "deep/rows", "--shards", "2"]
    prepare.main(["simulated_cards_next_row_pretrain", *table, *more])


def _beside(tmp_path):
    return sorted(str(path.relative_to(tmp_path / "deep")) for path in (tmp_path / "deep").rglob("*"))


@pytest.mark.parametrize("name", FAILING)
def test_a_start_that_wrote_nothing_leaves_nothing(tmp_path, table, name):
    options, kind = FAILING[name]
    with pytest.raises(kind):
        _prepare(*options)
    assert not _beside(tmp_path)


@pytest.mark.parametrize("error", [PermissionError, MemoryError, KeyboardInterrupt, ImportError])
def test_so_does_one_that_anything_else_ends(tmp_path, table, monkeypatch, error):
    for name in ("open_processor", "_engine"):
        with monkeypatch.context() as patch, pytest.raises(error):
            patch.setattr(sharded_table, name, Mock(side_effect=error("ended")))
            _prepare(*["--pretrained", "nope"] * (name == "open_processor"))
        assert not _beside(tmp_path), name


@pytest.mark.parametrize("name", FAILING)
def test_what_an_interrupted_start_left_outlives_a_failing_one(tmp_path, table, monkeypatch, name):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ShardWriter, "finish", Mock(side_effect=KeyboardInterrupt))
        _prepare()
    left = _beside(tmp_path)
    assert ".rows.hf_mmtab-prepare/state.json" in left

    options, kind = FAILING[name]
    with pytest.raises(kind):
        _prepare(*options)
    assert _beside(tmp_path) == left
    monkeypatch.setattr(LocalEngine, "scatter", Mock(side_effect=AssertionError("the table was read again")))
    _prepare()
    assert (tmp_path / "deep" / "rows" / "rows.json").is_file()
    assert not (tmp_path / "deep" / ".rows.hf_mmtab-prepare").exists()


def test_a_second_start_is_refused_in_a_sentence_and_takes_nothing_away(tmp_path, table):
    scratch = tmp_path / "deep" / ".rows.hf_mmtab-prepare"
    with lock_folder(scratch, True):
        before = _beside(tmp_path)
        with pytest.raises(BlockingIOError, match=r"Wait for it, or choose another rows folder\.$"):
            _prepare()
        assert _beside(tmp_path) == before


def test_files_of_others_in_place_of_the_lock_stay(tmp_path, table):
    scratch = tmp_path / "deep" / ".rows.hf_mmtab-prepare"
    scratch.mkdir(parents=True)
    (scratch / ".hf_mmtab.lock").write_text("mine")
    with pytest.raises(ValueError, match="Expected an empty file or none"):
        _prepare()
    assert (scratch / ".hf_mmtab.lock").read_text() == "mine"


def test_a_second_start_with_other_simulated_cards_simulates_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = ["simulated_cards_next_row_pretrain", "--shards", "2", "--rows"]
    few, many = (["--simulate", f"{{users: 4, rows: {rows}, seed: 1}}"] for rows in (400, 700))
    prepare.main([*common, "direct", *many])
    monkeypatch.setattr(ShardWriter, "write", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepare.main([*common, "rows", *few])
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    prepare.main([*common, "rows", *many])
    direct, again = ((tmp_path / name / "shards" / "00000.arrow").read_bytes() for name in ("direct", "rows"))
    assert direct == again

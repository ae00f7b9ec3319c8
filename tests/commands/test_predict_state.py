"""The rows that `predict --state` keeps: whose they are, and that none is taken twice."""

from datetime import datetime
from types import SimpleNamespace

import datasets
import pytest

from hf_mmtab.commands.tables.blocks import scored_table
from hf_mmtab.commands.tables.state import STATE_FILE, with_history, write_state
from hf_mmtab.locking import lock_folder

COLUMNS = ["who", "at", "amount"]


def test_a_state_of_another_model_or_a_damaged_one_is_refused(tmp_path):
    rows = datasets.Dataset.from_dict({"who": ["a", "b"], "amount": [1.0, 2.0]})
    write_state(tmp_path / "state", rows, "mine")
    more = rows.map(lambda row: {"amount": row["amount"] + 1})
    both, earlier = with_history(more, tmp_path / "state", ["who", "amount"], "mine", None)
    assert (len(both), earlier) == (4, 2)
    with pytest.raises(ValueError, match=r"Expected the state of processor other .* found one of mine"):
        with_history(rows, tmp_path / "state", ["who", "amount"], "other", None)
    texts = datasets.Dataset.from_dict({"who": ["a"], "amount": ["much"]})
    with pytest.raises(ValueError, match="Expected new rows with the columns and types"):
        with_history(texts, tmp_path / "state", ["who", "amount"], "mine", None)
    (tmp_path / "state" / STATE_FILE).write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="found a damaged file"):
        with_history(rows, tmp_path / "state", ["who", "amount"], "mine", None)


def table_of(amounts: list[float], first: int = 0) -> datasets.Dataset:
    times = [datetime(2024, 1, 1, hour) for hour in range(first, first + len(amounts))]
    who = [name for name in "ab" for _ in amounts]
    return datasets.Dataset.from_dict({"who": who, "at": times * 2, "amount": amounts * 2})


@pytest.mark.parametrize("rows", [range(6), [5, 1, 0], [1]], ids=str)
def test_rows_that_a_state_has_already_are_refused_in_any_order(tmp_path, rows):
    table = table_of([1.0, float("nan"), 3.0])
    write_state(tmp_path, table, "mine")
    with pytest.raises(ValueError, match=rf"found all {len(rows)} there, with the same values.*rows that came since"):
        with_history(table.select(rows), tmp_path, COLUMNS, "mine", "at")


def test_some_rows_that_a_state_has_are_told_and_a_row_without_time_may_be_like_an_earlier_one(tmp_path, caplog):
    write_state(tmp_path, table_of([1.0, 2.0]), "mine")
    with_history(table_of([2.0, 3.0], first=1), tmp_path, COLUMNS, "mine", "at")
    assert "2 of 4 rows are in" in caplog.text and "Give new rows alone." in caplog.text
    caplog.clear()
    with_history(table_of([3.0], first=1), tmp_path, COLUMNS, "mine", "at")
    both, earlier = with_history(table_of([1.0]).select([0]), tmp_path, COLUMNS, "mine", None)
    assert (len(both), earlier) == (5, 4) and not caplog.text


def test_a_state_is_written_through_a_link(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / STATE_FILE).symlink_to(tmp_path / "elsewhere.parquet")
    write_state(tmp_path / "state", table_of([1.0]), "mine")
    assert (tmp_path / "state" / STATE_FILE).is_symlink() and (tmp_path / "elsewhere.parquet").stat().st_size


def test_whole_amounts_at_first_bind_no_later_ones(tmp_path):
    earlier = table_of([5, 7]).cast_column("amount", datasets.Value("int64"))
    write_state(tmp_path, earlier, "mine")
    both, _ = with_history(table_of([28.73], first=5), tmp_path, COLUMNS, "mine", "at")
    assert both["amount"][:] == [5.0, 7.0, 5.0, 7.0, 28.73, 28.73]
    write_state(tmp_path, both, "mine")
    more, _ = with_history(table_of([3], first=6), tmp_path, COLUMNS, "mine", "at")
    assert more["amount"][-1] == 3.0


def test_whole_times_are_not_taken_for_floats_whose_unit_is_another(tmp_path):
    write_state(tmp_path, datasets.Dataset.from_dict({"who": ["a"], "at": [1_000_000]}), "mine")
    with pytest.raises(ValueError, match="columns and types"):
        with_history(datasets.Dataset.from_dict({"who": ["a"], "at": [2.5]}), tmp_path, ["who", "at"], "mine", "at")


def test_007_is_not_taken_for_account_7(tmp_path):
    write_state(tmp_path, datasets.Dataset.from_dict({"who": [7, 8], "amount": [1.0, 2.0]}), "mine")
    texts = datasets.Dataset.from_dict({"who": ["8", "007"], "amount": [3.0, 4.0]})
    with pytest.raises(ValueError, match="column 'who' holds whole numbers, and now texts such as '007'"):
        with_history(texts, tmp_path, ["who", "amount"], "mine", None)
    both, _ = with_history(texts.select([0]), tmp_path, ["who", "amount"], "mine", None)
    assert both["who"][:] == [7, 8, 8]


def test_two_calls_at_once_on_one_state_are_refused(tmp_path):
    scorer = SimpleNamespace(tables=lambda *_: pytest.fail("it scored"), told={})
    given = {"checkpoint": "none", "input": "none", "task": None, "on_bad_record": "raise"}
    options = SimpleNamespace(out=str(tmp_path / "out.csv"), state=str(tmp_path / "state"), **given)
    with (
        lock_folder(tmp_path / "state", True, "--state"),
        pytest.raises(BlockingIOError, match=r"for this run alone.*choose another --state"),
        scored_table(options, scorer),
    ):
        pytest.fail("it went on")


def test_labels_that_another_heads_state_or_the_new_rows_lack_are_told_as_unknown(tmp_path, caplog):
    plain, labelled = table_of([1.0, 2.0]), table_of([3.0], first=4).add_column("fraud", [0, 1])
    write_state(tmp_path, plain, "mine")
    both, _ = with_history(labelled, tmp_path, COLUMNS, "mine", "at", ["fraud"])
    assert both["fraud"][:] == [None] * 4 + [0, 1]
    assert "The 4 rows in" in caplog.text and "have no column 'fraud', whose earlier values the model" in caplog.text
    write_state(tmp_path, both, "mine")
    caplog.clear()
    more, _ = with_history(table_of([5.0], first=6), tmp_path, COLUMNS, "mine", "at", ["fraud"])
    assert more["fraud"][:] == [None] * 4 + [0, 1, None, None]
    assert "The 2 new rows have no column 'fraud'" in caplog.text


def test_a_head_that_reads_no_labels_keeps_those_of_the_state(tmp_path):
    write_state(tmp_path, table_of([1.0]).add_column("fraud", [0, 1]), "mine")
    both, _ = with_history(table_of([2.0], first=3), tmp_path, COLUMNS, "mine", "at")
    assert both["fraud"][:] == [0, 1, None, None]
    labelled = table_of([2.0], first=3).add_column("fraud", [1, 1])
    assert with_history(labelled, tmp_path, COLUMNS, "mine", "at")[0]["fraud"][:] == [0, 1, 1, 1]

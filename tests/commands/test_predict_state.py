"""The rows that `predict --state` keeps: whose they are, and that none is taken twice."""

from datetime import datetime

import datasets
import pytest

from hf_mmtab.commands.tables.state import STATE_FILE, with_history, write_state

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

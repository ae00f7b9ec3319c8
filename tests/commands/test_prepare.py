"""`hf-mmtab prepare`: what it says, refuses and leaves behind."""

import json
import logging
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from prepared_tables import cards, rows_of

import hf_mmtab
from hf_mmtab.commands import prepare
from hf_mmtab.commands.console import run
from hf_mmtab.data.table import Table
from hf_mmtab.data.windows.shard_files import ShardWriter

RECIPE = "simulated_cards_next_row_pretrain"


@pytest.fixture(autouse=True)
def logging_as_before():
    logger = logging.getLogger("hf_mmtab")
    handlers, propagate, level = list(logger.handlers), logger.propagate, logger.level
    yield
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.fixture
def table(tmp_path):
    return str(cards(tmp_path, 2_000, 6))


def keys(table, out, *more):
    return [RECIPE, "--simulate", "null", "--data", table, "--rows", str(out), *more]


def test_a_pretraining_recipe_is_prepared_and_told(tmp_path, table, capsys):
    prepare.main(keys(table, tmp_path / "rows", "--shards", "3"))
    told = capsys.readouterr().out

    facts, _ = rows_of(tmp_path / "rows")
    assert f"2,000 rows of {sum(shard['entities'] for shard in facts['shards'])} histories in 3 shards in" in told
    assert "Rows: 1,400 train, 200 validation, 400 test; validation from 20" in told and "(by engine local)" in told
    assert f"Train on them: --rows {tmp_path / 'rows'}" in told
    prepare.main(keys(table, tmp_path / "rows"))
    assert "there already, from the same table, plan and split" in capsys.readouterr().out


def test_simulated_cards_are_made_and_prepared(tmp_path):
    small = "{users: 3, rows: 600, fraud_rate: 0.01}"
    for _ in range(2):  # the second finds them
        prepare.main([RECIPE, "--simulate", small, "--rows", str(tmp_path / "rows")])

    assert json.loads((tmp_path / "rows" / "rows.json").read_text())["rows"] == 600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows"]


def test_the_rows_lie_beside_the_runs_folder_by_default(tmp_path, table, monkeypatch):
    prepare.main([RECIPE, "--simulate", "null", "--data", table, "--output_dir", str(tmp_path / "run")])

    assert (tmp_path / "run-rows" / "rows.json").is_file()


def test_broken_rows_are_counted(tmp_path, table, capsys):
    with open(table, "a", encoding="utf-8") as file:
        file.write("1,2,3\n")
    prepare.main(keys(table, tmp_path / "rows", "--on_bad_record", "skip"))

    assert "1 bad row left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--engine", "spark"], "Expected one of local, ray for --engine, found 'spark'"),
        (["--shards", "0"], "shards"),
        (["--shard", "2"], "Did you mean 'shards'"),
        (["--task", "mmimdb"], "Expected `task` to be one of table"),
    ],
)
def test_what_is_wrong_is_one_message_and_status_1(tmp_path, table, capsys, more, message):
    with pytest.raises(SystemExit) as ended:
        run(prepare.main, keys(table, tmp_path / "rows", *more))

    assert ended.value.code == 1 and message in capsys.readouterr().err


def test_an_input_or_a_folder_of_others_is_never_replaced(tmp_path, table):
    with pytest.raises(ValueError, match="does not hold the input"):
        prepare.main(keys(table, tmp_path))
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "letter.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"found letter\.txt in"):
        prepare.main(keys(table, tmp_path / "rows"))
    assert (tmp_path / "rows" / "letter.txt").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="Expected a folder as rows, found a file"):
        prepare.main(keys(table, tmp_path / "file"))


def test_help_lists_the_keys(capsys):
    with pytest.raises(SystemExit) as ended:
        prepare.main(["--help"])

    assert ended.value.code == 0 and "--ray_address" in capsys.readouterr().out


def test_without_ray_the_extra_is_named(tmp_path, table, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'hf-mmtab\[ray\]'"):
        prepare.main(keys(table, tmp_path / "rows", "--engine", "ray"))


def test_from_python(tmp_path, table):
    made = hf_mmtab.prepare_table(table, tmp_path / "rows", task="card_transactions", shards=2, split="entity")

    assert made.made and made.facts["split"]["kind"] == "entity" and made.facts["rows"] == 2_000


def test_a_killed_start_with_a_guessed_plan_is_gone_on_from(tmp_path, capsys, monkeypatch):
    lines = [f"a{i % 5},2024-01-{1 + i // 20:02} {i % 20:02}:00,{i},note {i}".encode() for i in range(400)]
    lines[7] += b" caf\xe9"  # in a column that no plan reads: a bad row with every start
    (tmp_path / "table.csv").write_bytes(b"\n".join([b"account,when,amount,note", *lines]) + b"\n")

    def start(rows):
        more = ("--plan", "null", "--entity_columns", "account", "--label_columns", "null", "--on_bad_record", "skip")
        table = ("--data", str(tmp_path / "table.csv"), "--rows", str(tmp_path / rows), "--shards", "2")
        prepare.main(["flights_next_row_pretrain", *table, *more])
        return capsys.readouterr().out

    whole = start("whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ShardWriter, "finish", Mock(side_effect=KeyboardInterrupt))
        start("rows")
    assert start("rows") == whole.replace("whole", "rows") and "1 bad row left out" in whole
    assert (tmp_path / "rows" / "rows.json").read_bytes() == (tmp_path / "whole" / "rows.json").read_bytes()
    assert "there already" in start("rows")


def test_files_without_rows_are_no_table(tmp_path, capsys):
    for part in range(3):
        (tmp_path / f"{part}.csv").write_text("who,when,shop,price\n")
    keys = ["--plan", "null", "--entity_columns", "who", "--time_column", "when", "--label_columns", "null"]
    with pytest.raises(ValueError, match=r"Expected rows in '.*', found none\. Give a table with rows\."):
        prepare.main(
            ["flights_next_row_pretrain", "--data", str(tmp_path), "--rows", str(tmp_path.with_name("r")), *keys]
        )


def test_a_file_that_vanishes_is_named(tmp_path, table, capsys, monkeypatch):
    pieces = Table.pieces

    def lose(self, rows=None):
        found = pieces(self, rows)
        Path(table).unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Table, "pieces", lose)
    with pytest.raises(SystemExit):
        run(prepare.main, keys(table, tmp_path / "rows"))

    told = capsys.readouterr().err
    assert f"FileNotFoundError: Expected a file or folder at '{table}', found none (any more). Put it back" in told

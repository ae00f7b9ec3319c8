"""What commands say at their end and of odd cells is true to the letter."""

import json
import logging
from pathlib import Path

import pyarrow as pa
import pytest
from running import command

from hf_mmtab.commands.console import left_out
from hf_mmtab.commands.runs.inventory import write_inventory
from hf_mmtab.data.windows.histories import times_of
from hf_mmtab.table_baselines.boosting import BoostedTrees
from hf_mmtab.training import MMTabTrainingArguments


def with_bad_rows(runs: Path, count: int) -> str:
    lines = (runs / "payments.csv").read_text().splitlines()
    (runs / "bad.csv").write_text("\n".join([*lines, *["a,b"] * count]) + "\n")
    return "bad.csv"


LEFT_OUT = {1: "1 bad record left out", 7: "7 bad records left out"}
LISTED = {1: "(listed above)", 7: "(the first 5 are listed above)"}


@pytest.mark.parametrize("count", LEFT_OUT)
def test_commands_say_how_many_bad_records_are_left_out_and_listed(runs, capsys, count):
    table, skip = with_bad_rows(runs, count), ("--on_bad_record", "skip")
    command("predict", "lstm", table, "scores.csv", *skip)
    command("embed", "tabbert", table, "rows.parquet", *skip)
    command("drift", "lstm", table, "page.html", *skip)
    lines = capsys.readouterr().out.splitlines()
    share = f", {count / (count + len((runs / 'payments.csv').read_text().splitlines()) - 1):.0%} of all "
    for line, between in zip(lines, (share, share, " "), strict=True):  # `drift` reads a part
        assert line.endswith(f"{LEFT_OUT[count]}{between}{LISTED[count]}")
    page = (runs / "page.html").read_text()
    assert ("1 bad record is left out." if count == 1 else "7 bad records are left out.") in page
    assert left_out(0) == ""


@pytest.mark.parametrize("odd", ["99999-01-01 10:00:00", "never"])
@pytest.mark.parametrize("good", [0, 3])
def test_a_cell_that_keeps_times_from_being_read_is_named_with_its_row(odd, good):
    cells = pa.chunked_array([["2024-01-01 10:00:00"] * good + [odd]])
    with pytest.raises(ValueError, match=rf"found string, such as '{odd}' in row {10 + good + 1}\. Give its format"):
        times_of(cells, "when", 10, None)


def test_infinite_numbers_are_told(runs, caplog):
    lines = (runs / "payments.csv").read_text().splitlines()
    names = lines[0].split(",")
    row = lines[1].split(",")
    row[names.index("amount")] = "inf"
    (runs / "infinite.csv").write_text("\n".join([lines[0], ",".join(row)]) + "\n")
    with caplog.at_level(logging.WARNING, "hf_mmtab"):
        command("predict", "lstm", "infinite.csv", "scores.csv")
    assert "Field 'amount': 1 infinite number lies in its outer bins" in caplog.text


def test_a_run_that_was_copied_names_its_own_folder(runs, capsys):
    (runs / "lstm").rename(runs / "moved")
    (runs / "moved" / "recipe.yaml").unlink()
    write_inventory(runs / "moved")
    results = json.loads((runs / "moved" / "results.json").read_text())
    results["summary"] = "a line\nModel, processor and card: lstm\nReport: lstm/report/report.html"
    (runs / "moved" / "results.json").write_text(json.dumps(results))
    command("finetune", "lstm.yaml", "--output_dir", "moved")
    assert capsys.readouterr().out == "a line\nModel, processor and card: moved\nReport: moved/report/report.html\n"


def test_one_tree_is_one_tree_and_a_missing_deepspeed_is_named(tmp_path, monkeypatch):
    trees = BoostedTrees([], ["a"], [1])
    monkeypatch.setattr(BoostedTrees, "most_used", lambda self: [("a", 1.0)])
    assert trees.summary(0).startswith("1 tree on 1 numbers")
    monkeypatch.setattr("hf_mmtab.training.argument_values.is_deepspeed_available", lambda: False)
    with pytest.raises(ImportError, match=r"Expected the package deepspeed for .deepspeed., found none"):
        MMTabTrainingArguments(str(tmp_path), deepspeed="x.json")

"""A plan says what the columns of a table are, so one wrong cell is one wrong cell, not a column of text."""

from pathlib import Path

import pytest
import yaml

from hf_mmtab.arguments import TableDataArguments
from hf_mmtab.data.reading.records import BadRecordError
from hf_mmtab.data.table import Table
from hf_mmtab.models.tabbert import TabBertProcessor
from hf_mmtab.tasks.table import TableTask
from hf_mmtab.tasks.table_reading import plan_options

PLAN = {
    "entity": ["who"],
    "time": "when",
    "label": "bad",
    "fields": {
        "when.gap": {"kind": "time_gap"},
        "paid": {"kind": "money"},
        "paid.sign": {"kind": "sign", "column": "paid"},
        "size": {"kind": "numeric"},
        "size as it is": {"column": "size"},
        "shop": {},
    },
}
HEADER = "who,when,paid,size,shop,bad\n"
GOOD = [f"w{i % 3},2024-01-01 10:{i:02d}:00,{i}.5,{i % 4},s{i % 5},{i % 2}\n" for i in range(50)]
WRONG = ["w1,yesterday,1.5,1,s,0\n", "w1,2024-01-02 10:00:00,much,1,s,0\n", ",2024-01-02 10:00:00,2,1,s,0\n"]


def _arguments(folder: Path, **more) -> TableDataArguments:
    (folder / "plan.yaml").write_text(yaml.safe_dump(PLAN), encoding="utf-8")
    (folder / "t.csv").write_text(HEADER + "".join([*GOOD, *WRONG]), encoding="utf-8")
    return TableDataArguments(task="table", data=str(folder / "t.csv"), **more)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("known_by", ["plan", "checkpoint"])
def test_wrong_cells_of_planned_columns_are_left_out_and_listed(known_by, tmp_path):
    pretrained = None
    arguments = _arguments(tmp_path, on_bad_record="skip", plan=str(tmp_path / "plan.yaml"))
    if known_by == "checkpoint":
        pretrained, arguments.plan = str(tmp_path / "checkpoint"), None
        rows = {"who": ["a"], "when": [1], "paid": [1.0], "size": [1], "shop": ["s"]}
        plan = {**PLAN, "fields": {k: v for k, v in PLAN["fields"].items() if k != "when.gap"}}
        TabBertProcessor(plan).fit(rows).save_pretrained(pretrained)
    rows, skipped = TableTask("table", Table).read(arguments, tmp_path, pretrained)

    assert len(rows) == len(GOOD)
    assert [(record.line, record.column) for record in skipped] == [(52, "when"), (53, "paid"), (54, "who")]
    assert (rows.features["when"].dtype, rows.features["paid"].dtype) == ("timestamp[us]", "float64")


def test_without_leave_to_skip_the_first_wrong_cell_stops_with_its_line(tmp_path):
    arguments = _arguments(tmp_path, plan=str(tmp_path / "plan.yaml"))
    with pytest.raises(BadRecordError, match=r"found 'yesterday' \(.*t.csv', line 52, column 'when'\)"):
        TableTask("table", Table).read(arguments, tmp_path)


def test_the_plan_gives_columns_their_roles(tmp_path):
    arguments = _arguments(tmp_path, plan=str(tmp_path / "plan.yaml"))
    assert plan_options(arguments, None) == {
        "required": ("who", "when"),
        "roles": {"who": "text", "when": "time", "paid": "amount", "shop": "text"},  # `size` is a category too
        "month_first": (),
    }
    arguments.plan_edits = {"size as it is": None}
    assert plan_options(arguments, None)["roles"]["size"] == "amount"


def test_of_a_plan_yet_to_be_guessed_the_named_columns_have_roles(tmp_path):
    arguments = _arguments(tmp_path, entity_columns=["who"], time_column="when")
    assert plan_options(arguments, None) == {"required": ("who", "when"), "roles": {"who": "text", "when": "time"}}


@pytest.mark.parametrize(
    "more", [{}, {"types": {"when": "%Y-%m-%d %H:%M:%S"}}, {"time_column": "when"}], ids=["guessed", "typed", "named"]
)
def test_a_row_without_a_time_is_a_bad_record_where_the_plan_is_guessed_too(more, tmp_path):
    arguments = _arguments(tmp_path, entity_columns=["who"], label_columns=["bad"], on_bad_record="skip", **more)
    empty = "w2,,2,1,s,0\n"
    Path(arguments.data).write_text(HEADER + "".join([*GOOD, empty, WRONG[0], WRONG[2]]), encoding="utf-8")
    found = TableTask("table", Table).prepare(arguments, tmp_path / "run")

    assert len(found.rows) == len(GOOD) and found.processor.plan.time == "when"
    assert [(record.line, record.column) for record in found.skipped] == [(52, "when"), (53, "when"), (54, "who")]
    arguments.on_bad_record = "raise"
    with pytest.raises(BadRecordError, match=r"found none \(.*t.csv', line 52, column 'when'\)"):
        TableTask("table", Table).prepare(arguments, tmp_path / "other")

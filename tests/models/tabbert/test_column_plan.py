"""Column plans: reading, editing, inference, messages."""

import datetime

import polars as pl
import pytest

from hf_mmtab.models.tabbert.processing.column_plan import ColumnPlan, FieldPlan
from hf_mmtab.models.tabbert.processing.plan_guess import infer_plan
from hf_mmtab.models.tabbert.processing.plan_presets import resolve_plan


@pytest.mark.parametrize("plan", [resolve_plan(name) for name in ("card", "paper_card", "prsa", "paper_prsa")])
def test_a_plan_survives_its_dictionary_and_yaml_forms(plan, tmp_path):
    plan.to_yaml(tmp_path / "plan.yaml")

    assert ColumnPlan.from_dict(plan.to_dict()) == plan
    assert ColumnPlan.from_yaml(tmp_path / "plan.yaml") == plan
    assert resolve_plan(str(tmp_path / "plan.yaml")) == plan


def test_a_plan_can_be_edited_field_by_field():
    plan = resolve_plan("card").edit(entity=["User"], fields={"Zip": None, "Amount": {"num_bins": 8}, "Bank": {}})

    assert plan.entity == ("User",)
    assert "Zip" not in [f.name for f in plan.fields]
    assert next(f for f in plan.fields if f.name == "Amount").num_bins == 8
    assert plan.fields[-1] == FieldPlan("Bank")


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"feilds": {"a": {}}}, r"Unknown key 'feilds' in the column plan. Did you mean 'fields'\?"),
        (
            {"fields": {"a": {"num_bin": 3}}},
            r"Unknown key 'num_bin' in field 'a' of `fields`. Did you mean 'num_bins'\?",
        ),
        ({"fields": {}}, "needs at least one field"),
        ({"fields": ["a"]}, "Expected `fields` to map names to settings, found list"),
        ({"fields": {"a": {"kind": "number"}}}, "Field 'a': kind must be one of .*numeric.*, got 'number'"),
        ({"fields": {"a": {"kind": "numeric", "num_bins": 1}}}, "num_bins must be at least 2, got 1"),
        ({"fields": {"a": {"min_count": 0}}}, "min_count must be at least 1, got 0"),
        ({"fields": {"a": {"kind": "time_part", "part": "second"}}}, "part must be one of month, .*'second'"),
        ({"fields": {"a": {"kind": "time_gap"}}}, "needs the plan's time column: set `time`"),
        ({"label": "y", "fields": {"y": {}}}, "which is the label: a label is never an input"),
        ({"order": "random", "fields": {"a": {}}}, "order must be 'time' or 'file', got 'random'"),
        ({"special_tokens": ["[PAD]"], "fields": {"a": {}}}, r"special_tokens must contain \['\[CLS\]'"),
    ],
)
def test_a_wrong_plan_says_what_is_wrong(plan, message):
    with pytest.raises(ValueError, match=message):
        ColumnPlan.from_dict(plan)


def test_an_unknown_preset_lists_those_there_are():
    with pytest.raises(ValueError, match="one of card, paper_card, paper_prsa, prsa, a YAML file, or a dict"):
        resolve_plan("credit")


def test_a_plan_is_inferred_from_the_table():
    rows = 2000
    start = datetime.datetime(2020, 1, 1, 9)
    sample = pl.DataFrame(
        {
            "row": [f"r{i}" for i in range(rows)],
            "account": [i // 100 for i in range(rows)],
            "when": [start + datetime.timedelta(minutes=37 * i) for i in range(rows)],
            "price": [f"${i / 7:.2f}" for i in range(rows)],
            "shop": [3**40 + i % 50 for i in range(rows)],
            "code": [i % 12 for i in range(rows)],
            "meters": [i * 0.5 for i in range(rows)],
            "country": ["DE" if i // 100 % 2 else "FR" for i in range(rows)],
            "online": [i % 3 == 0 for i in range(rows)],
            "constant": [1] * rows,
            "fraud": [i % 90 == 0 for i in range(rows)],
        }
    )

    plan = infer_plan(sample, entity="account", label="fraud")
    kinds = {f.name: f.kind for f in plan.fields}

    assert (plan.entity, plan.time, plan.label) == (("account",), "when", ("fraud",))
    assert kinds == {
        "when.month": "time_part",
        "when.weekday": "time_part",
        "when.hour": "time_part",
        "when.gap": "time_gap",
        "price": "money",
        "price.sign": "sign",
        "shop": "categorical",
        "code": "categorical",
        "meters": "numeric",
        "country": "categorical",
        "online": "categorical",
    }
    assert [f.name for f in plan.fields if f.static] == ["country"]


def test_inference_names_columns_that_are_not_there():
    with pytest.raises(ValueError, match=r"Expected columns \['who'\], found \['a'\]"):
        infer_plan(pl.DataFrame({"a": [1, 2]}), entity="who")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fields:\n  a: {}\n  b: [1\n", r"Expected a column plan as YAML `key: value`, found .*plan.yaml', line 4"),
        ("fields:\n  a: {}\n  b: {}\n  a: {kind: money}\n", r"the key 'a' a second time .*line 4, column 3"),
        ("- a\n", "Expected a column plan as a YAML mapping .* found list"),
    ],
)
def test_a_plan_file_that_is_broken_or_says_a_field_twice_is_told_with_its_line(text, message, tmp_path):
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        ColumnPlan.from_yaml(tmp_path / "plan.yaml")


@pytest.mark.parametrize(("entity", "label"), [(["a", "a"], []), (["a"], ["a"]), ([], ["b", "b"])])
def test_a_column_is_once_among_entity_and_label(entity, label):
    sample = pl.DataFrame({"a": ["x", "y", "x", "y"], "b": [0, 1, 0, 1], "c": [1.5, 2.5, 3.5, 4.5]})
    with pytest.raises(ValueError, match="Expected entity and label columns that are all different"):
        infer_plan(sample, entity, label=label)
    with pytest.raises(ValueError, match="Expected entity and label columns that are all different"):
        ColumnPlan((FieldPlan("c", kind="numeric"),), tuple(entity), label=tuple(label))

"""A value of another kind in place of each value of each shipped recipe: read, or refused by the name of its key."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from hf_mmtab.commands.console import FOR_A_PERSON
from hf_mmtab.commands.runs.recipe import HeadRecipe, ImageTextRecipe, PretrainingRecipe
from hf_mmtab.commands.runs.walk import check_training
from hf_mmtab.models.tabbert.processing.column_plan import ColumnPlan, FieldPlan
from hf_mmtab.models.tabbert.processing.plan_presets import resolve_plan
from hf_mmtab.recipes import read_recipe, shipped_recipes, write_recipe
from hf_mmtab.tasks import TableTask, get_task

OTHERS: list[Any] = [[[1]], {"a": {"b": 1}}, 10**30, float("nan"), "nonsense"]


def places(value: Any, at: tuple = ()) -> Iterator[tuple]:
    """Yield the places of a value and of all that are in it."""
    if at:
        yield at
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*at, key))


def kind_of(name: str, values: dict[str, Any]) -> Any:
    if not isinstance(get_task(values["task"]), TableTask):
        return ImageTextRecipe
    return PretrainingRecipe if "pretrain" in name else HeadRecipe


def all_places() -> dict[tuple, tuple[str, tuple]]:
    """Return each key of each kind of recipe, and each setting of a field, once: where it stands."""
    found = {}
    for name in shipped_recipes():
        values = read_recipe(name)
        for at in places(values):
            found.setdefault((kind_of(name, values).__name__, at[0], *at[-1:]), (name, at))
    return found


PLACES = all_places()


@pytest.mark.parametrize(("name", "at"), PLACES.values(), ids=map(str, PLACES))
def test_another_value_is_read_or_refused_by_name(name, at, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = read_recipe(name)
    for other in OTHERS:
        values = holder = copy.deepcopy(given)
        for key in at[:-1]:
            holder = holder[key]
        holder[at[-1]] = other
        write_recipe(tmp_path / "recipe.yaml", values)
        try:
            recipe = kind_of(name, given).read(["recipe.yaml"], "x")
            check_training(recipe)
            if isinstance(plan := getattr(recipe.data, "plan", None), dict):
                resolve_plan(plan)
        except FOR_A_PERSON as error:
            told = str(error)
            assert any(isinstance(key, str) and key in told for key in at), (other, told)
            assert any(word in told for word in ("found", "got", "Unknown key")), (other, told)


@pytest.mark.parametrize("name", ["nonsense", [["table"]], {"a": 1}, None, 5])
def test_a_task_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="Expected `task` to be one of image_text"):
        get_task(name)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"num_bins": "8"}, "num_bins must be a whole number, got '8'"),
        ({"num_bins": True}, "num_bins must be a whole number, got True"),
        ({"num_bins": 8.5}, "num_bins must be a whole number"),
        ({"kind": ["numeric"]}, "kind must be a text"),
        ({"kind": "time_part", "part": ["hour"]}, "part must be a text"),
        ({"static": "maybe"}, "static must be true or false"),
        ({"fill": float("inf")}, "fill must be a text or true or false or a whole number or a number, got inf"),
        ({"fill": [0]}, "fill must be"),
        ({"hash_buckets": {"a": 1}}, "hash_buckets must be a whole number"),
        ({"column": 5}, "column must be a text, got 5"),
    ],
)
def test_a_setting_of_a_field_has_its_type(settings, expected):
    with pytest.raises(ValueError, match=f"Field 'a': {expected}"):
        FieldPlan("a", **settings)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("time", ["a"]), ("time", 5), ("time", []), ("hash_above", "many"), ("sep_column", "x"), ("label_ids", None),
        ("extra", [1]), ("order", None), ("time_unit", ["s"]),
    ],
)  # fmt: skip
def test_a_setting_of_a_plan_has_its_type(key, value):
    with pytest.raises(ValueError, match=f"The column plan: {key} must be "):
        ColumnPlan.from_dict({"fields": {"a": {}}, key: value})

"""Recipes: flat, typed, every key known."""

from dataclasses import dataclass, field

import pytest
import yaml
from transformers import TrainingArguments

from hf_mmtab.commands.finetune import load_recipe
from hf_mmtab.recipes import find_recipe, parse_recipe, read_recipe, recipe_folders, write_recipe


@dataclass
class Arguments:
    rate: float = 1.0
    steps: int = 1
    fast: bool = True
    names: list[str] = field(default_factory=list)
    schedule: dict | str | None = None


def parse(tmp_path, text: str, *overrides: str):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    (arguments,), values = parse_recipe([Arguments], [str(path), *overrides], "test")
    return arguments, values


def test_a_number_that_yaml_reads_as_text_is_a_number(tmp_path):
    assert yaml.safe_load("5e-5") == "5e-5"
    arguments, _ = parse(tmp_path, "rate: 5e-5")
    assert arguments.rate == 5e-5


def test_the_command_line_overrides_the_file_and_is_recorded(tmp_path):
    arguments, values = parse(
        tmp_path, "names: [a, b]\nsteps: 2", "--names", "c", "--fast", "false", "--steps=3"
    )
    assert (arguments.names, arguments.fast, arguments.steps) == (["c"], False, 3)
    assert values == {"names": ["c"], "steps": 3, "fast": False}


def test_a_choice_on_the_command_line_is_written_as_a_file_says_it(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("output_dir: run")
    _, values = parse_recipe([TrainingArguments], [str(path), "--logging_strategy", "epoch"], "test")
    write_recipe(tmp_path / "again.yaml", values)
    assert read_recipe(tmp_path / "again.yaml") == {"output_dir": "run", "logging_strategy": "epoch"}


def test_a_recipe_is_written_so_that_it_reads_the_same(tmp_path):
    _, values = parse(tmp_path, "names: [a, b]\nrate: 0.5")
    write_recipe(tmp_path / "out" / "again.yaml", values)
    assert read_recipe(tmp_path / "out" / "again.yaml") == values


def test_a_misspelt_key_names_the_nearest_ones(tmp_path):
    with pytest.raises(ValueError, match=r"found 'stepz' in recipe .*Did you mean 'steps'"):
        parse(tmp_path, "stepz: 2")
    with pytest.raises(ValueError, match=r"found 'rat' in the command line. Did you mean 'rate'"):
        parse(tmp_path, "steps: 2", "--rat", "1")


def test_a_value_of_the_wrong_type_is_refused(tmp_path):
    with pytest.raises(ValueError, match="argument --steps: invalid int value: 'two'"):
        parse(tmp_path, "steps: two")


def test_what_is_no_mapping_is_refused_with_its_place(tmp_path):
    with pytest.raises(ValueError, match=r"Expected a YAML mapping `key: value` .* found list"):
        parse(tmp_path, "- a\n- b")
    with pytest.raises(ValueError, match="line 2, column"):
        parse(tmp_path, "names: [a\nsteps: 2")


SHIPPED = sorted({path.stem for folder in recipe_folders() for path in folder.glob("*.yaml")})


def test_there_are_shipped_recipes():
    assert {"openclipart", "mmimdb", "food101", "vsnli"} <= set(SHIPPED)


@pytest.mark.parametrize("name", ["openclipart", "mmimdb", "food101", "vsnli"])
def test_every_key_of_a_shipped_recipe_is_known_and_well_typed(name, tmp_path):
    recipe = load_recipe([str(find_recipe(name)), "--output_dir", str(tmp_path)])
    assert recipe.task.name == recipe.data.task
    assert recipe.training.load_best_model_at_end

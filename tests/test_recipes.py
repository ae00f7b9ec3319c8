"""Recipes: flat, typed, every key known."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from transformers import TrainingArguments

from hf_mmtab.__main__ import main as command_line
from hf_mmtab.arguments import TabBertHeadArguments, TableDataArguments
from hf_mmtab.commands import pretrain
from hf_mmtab.commands.finetune import load_recipe
from hf_mmtab.commands.runs.recipe import ImageTextRecipe, without_options
from hf_mmtab.data.card_transactions import CardTransactions
from hf_mmtab.models.tabbert import TabBertProcessor
from hf_mmtab.models.tabbert.processing.plan_presets import resolve_plan
from hf_mmtab.recipes import build, check_keys, find_recipe, parse_recipe, read_recipe, recipe_folders, write_recipe


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
    arguments, values = parse(tmp_path, "names: [a, b]\nsteps: 2", "--names", "c", "--fast", "false", "--steps=3")
    assert (arguments.names, arguments.fast, arguments.steps) == (["c"], False, 3)
    assert values == {"names": ["c"], "steps": 3, "fast": False}


def test_a_choice_on_the_command_line_is_written_as_a_file_says_it(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("output_dir: run")
    _, values = parse_recipe([TrainingArguments], [str(path), "--logging_strategy", "epoch"], "test")
    write_recipe(tmp_path / "again.yaml", values)
    assert read_recipe(tmp_path / "again.yaml") == {"output_dir": "run", "logging_strategy": "epoch"}


def test_a_mapping_on_the_command_line_may_be_yaml_or_json(tmp_path):
    path = str(find_recipe("openclipart"))
    for said in ("{text_encoder: 1 epoch}", '{"text_encoder": "1 epoch"}'):
        for arguments in (["--freeze", said], [f"--freeze={said}"]):
            recipe = load_recipe([path, "--output_dir", str(tmp_path), *arguments])
            assert recipe.training.freeze == {"text_encoder": "1 epoch"}
    for said in ("{text_encoder:1 epoch}", "{text_encoder: [1}"):
        with pytest.raises(ValueError, match=r"after --freeze, found '{text_encoder.*Write `{key: value, key: value}`"):
            load_recipe([path, "--output_dir", str(tmp_path), "--freeze", said])


def test_a_key_is_unset_on_the_command_line_and_its_default_holds(tmp_path):
    text = "names: [a, b]\nsteps: 7\nschedule: {part: 1 epoch}"
    arguments, values = parse(tmp_path, text, "--steps", "null", "--schedule=null", "--rate", "2")
    assert (arguments.steps, arguments.schedule, arguments.rate) == (1, None, 2.0)
    assert values == {"names": ["a", "b"], "rate": 2.0}
    arguments, _ = parse(tmp_path, text, "--names", "null", "none")  # a list of two names
    assert arguments.names == ["null", "none"]
    for key in ("plan", "simulate", "preset"):
        recipe = pretrain.load_recipe(["simulated_cards_pretrain", f"--{key}", "null"])
        assert getattr(recipe.model if key == "preset" else recipe.data, key) is None


def test_variants_of_a_recipe_do_not_share_their_freeze_schedules(tmp_path):
    schedule = {"image_encoder": "1 epoch", "text_encoder": "50%"}
    given = ["openclipart", "--output_dir", str(tmp_path), "--freeze", json.dumps(schedule)]
    recipe = ImageTextRecipe.read(given, "finetune")
    one, other = (recipe.variant(None, architecture=name) for name in ("bert", "img"))
    del one.training.freeze["image_encoder"]  # as a run does with a part that its model lacks
    for kept in (other.training.freeze, recipe.training.freeze, recipe.values["freeze"], one.values["freeze"]):
        assert kept == schedule


def test_simulate_may_be_a_yaml_mapping(tmp_path):
    recipe = pretrain.load_recipe(["simulated_cards_pretrain", "--simulate", "{users: 20, rows: 20000}"])
    assert recipe.data.simulate == {"users": 20, "rows": 20000}


def test_a_recipe_is_written_so_that_it_reads_the_same(tmp_path):
    _, values = parse(tmp_path, "names: [a, b]\nrate: 0.5")
    write_recipe(tmp_path / "out" / "again.yaml", values)
    assert read_recipe(tmp_path / "out" / "again.yaml") == values


def test_a_misspelt_key_names_the_nearest_ones(tmp_path):
    with pytest.raises(ValueError, match=r"found 'stepz' in recipe .*Did you mean 'steps'"):
        parse(tmp_path, "stepz: 2")
    with pytest.raises(ValueError, match=r"found 'epochs' .*Did you mean 'num_train_epochs'"):
        check_keys(["epochs"], {"num_train_epochs", "eval_steps", "ema"}, "the command line")
    with pytest.raises(ValueError, match=r"found 'rat' in the command line. Did you mean 'rate'"):
        parse(tmp_path, "steps: 2", "--rat", "1")


def test_a_value_of_the_wrong_type_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Expected a whole number for steps, found 'two'"):
        parse(tmp_path, "steps: two")


def test_what_is_no_mapping_is_refused_with_its_place(tmp_path):
    with pytest.raises(ValueError, match=r"Expected a recipe as a YAML mapping `key: value`, found list"):
        parse(tmp_path, "- a\n- b")
    with pytest.raises(ValueError, match="line 2, column"):
        parse(tmp_path, "names: [a\nsteps: 2")
    with pytest.raises(ValueError, match=r"found the key 'steps' a second time .*line 3, column 1"):
        parse(tmp_path, "steps: 1\nname: a\nsteps: 2")


SHIPPED = sorted({path.stem for folder in recipe_folders() for path in folder.glob("*.yaml")})


PRETRAINING = [
    "card_paper_flat_pretrain",
    "card_paper_pretrain",
    "flights_pretrain",
    "prsa_pretrain",
    "simulated_cards_gpt2_pretrain",
    "simulated_cards_next_row_pretrain",
    "simulated_cards_pretrain",
]


FINETUNING_TABLES = [
    "card_paper_finetune",
    "card_published_finetune",
    "flights_finetune",
    "prsa_finetune",
    "simulated_cards_finetune",
]
FINETUNING = ["openclipart", "mmimdb", "food101", "vsnli", "image_text_labels", "image_text_towers", *FINETUNING_TABLES]


def test_every_shipped_recipe_has_its_card():
    root = Path(__file__).parents[1]
    recipes = {path.stem for path in (root / "scripts" / "recipes").glob("*.yaml")}
    assert recipes == {path.stem for path in (root / "model_cards").glob("*.md")} - {"README", "from_the_originals"}


def test_there_are_shipped_recipes():
    assert {*FINETUNING, *PRETRAINING} <= set(SHIPPED)


@pytest.mark.parametrize("name", FINETUNING_TABLES)
def test_a_recipe_of_a_table_fits_the_pretraining_that_it_starts_from(name, tmp_path):
    recipe = load_recipe([str(find_recipe(name)), "--output_dir", str(tmp_path)])
    before = pretrain.load_recipe([Path(recipe.model.pretrained).name, "--output_dir", str(tmp_path)])
    for key in ("task", "data", "simulate", "split", "split_fractions", "seq_len"):
        assert getattr(recipe.data, key) == getattr(before.data, key), key


def test_the_published_settings_are_in_their_recipe(tmp_path):
    recipe = load_recipe(["card_published_finetune", "--output_dir", str(tmp_path)])
    training = recipe.training
    assert (recipe.model.classification_loss, recipe.data.seq_len) == ("rmse_one_hot", 10)
    assert (training.per_device_train_batch_size, training.optim.value) == (32, "adamw_torch")
    assert training.lr_scheduler_type.value == "cosine" and training.warmup_steps == 0.1
    assert pretrain.load_recipe(["card_paper_flat_pretrain", "--output_dir", str(tmp_path)]).model.flatten


@pytest.mark.parametrize("name", FINETUNING)
def test_every_key_of_a_shipped_recipe_is_known_and_well_typed(name, tmp_path):
    recipe = load_recipe([str(find_recipe(name)), "--output_dir", str(tmp_path)])
    assert recipe.task.name == recipe.data.task
    # 300 validation pictures choose among epochs by chance: openclipart ends with its last epoch, and says why
    assert recipe.training.load_best_model_at_end == (
        name not in ("openclipart", "image_text_labels", "image_text_towers")
    )


def test_an_override_that_training_arguments_turn_into_an_enum_is_recorded_as_text(tmp_path):
    recipe = load_recipe([str(find_recipe("openclipart")), "--output_dir", str(tmp_path), "--optim", "adamw_torch"])
    write_recipe(tmp_path / "recipe.yaml", recipe.values)
    assert read_recipe(tmp_path / "recipe.yaml")["optim"] == "adamw_torch"


@pytest.mark.parametrize("name", PRETRAINING)
def test_every_key_of_a_shipped_pretraining_recipe_is_known_and_its_plan_is_one(name, tmp_path):
    recipe = pretrain.load_recipe([name, "--output_dir", str(tmp_path)])
    assert recipe.task.name == recipe.data.task
    assert recipe.training.load_best_model_at_end and recipe.training.metric_for_best_model == "loss"
    assert resolve_plan(recipe.data.plan or recipe.task.preset).fields


@pytest.mark.parametrize("name", ["card_paper_pretrain", "card_paper_flat_pretrain"])
def test_the_papers_recipes_build_the_papers_models(name, fixtures, tmp_path):
    recipe = pretrain.load_recipe([name, "--output_dir", str(tmp_path)])
    rows = CardTransactions(fixtures / "cards_400.csv", cache_dir=str(tmp_path))
    rows.download_and_prepare()
    processor = TabBertProcessor(recipe.data.plan).fit(rows.as_dataset(split="train"))
    config = recipe.task.config(recipe.data, recipe.model, processor)
    assert config.fields[-1] == "[SEP]" and len(config.fields) == 12
    assert (config.hidden_size, config.num_attention_heads, config.num_hidden_layers) == (768, 12, 12)
    assert config.flatten == ("flat" in name) and (config.flatten or config.field_hidden_size == 64)
    training = recipe.training
    assert (training.learning_rate, training.per_device_train_batch_size) == (5e-5, 8)
    assert (training.num_train_epochs, training.optim.value.split("_")[0], training.weight_decay) == (3, "adamw", 0.0)
    assert (recipe.data.seq_len, recipe.data.stride, recipe.data.split) == (10, 5, "paper")


@pytest.mark.parametrize("command", [load_recipe, pretrain.load_recipe])
def test_help_lists_every_key(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        command(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "'50%'" in shown and "--learning_rate" in shown and "--freeze" in shown
    assert "--adam_beta1" not in shown and "`--help-all` also lists" in shown
    with pytest.raises(SystemExit):
        command(["--help-all"])
    everything = capsys.readouterr().out
    assert "--adam_beta1" in everything and everything.count("\n  --") > shown.count("\n  --") + 50


def test_a_person_sees_the_message_and_not_the_traceback(tmp_path, monkeypatch, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("task: image_text\nlearning_rat: 1")
    monkeypatch.delenv("HF_MMTAB_TRACEBACK", raising=False)
    monkeypatch.setattr(sys, "argv", ["hf-mmtab", "finetune", str(recipe)])
    with pytest.raises(SystemExit) as end:
        command_line()
    told = capsys.readouterr().err
    assert end.value.code == 1 and "found 'learning_rat'" in told and "Traceback" not in told


def test_the_command_of_a_variant_names_each_option_once():
    words = ["python", "-m", "hf_mmtab", "finetune", "R", "--seed", "1", "--output_dir=x", "--compare", "a", "b"]
    assert without_options(words, {"seed", "output_dir"}) == [*words[:5], "--compare", "a", "b"]


def test_a_misspelt_name_of_a_recipe_gets_the_nearest_one():
    """As commands and keys do; the names alone are many to read through."""
    with pytest.raises(FileNotFoundError, match=r"found 'openclpart'\. Did you mean openclipart\?"):
        find_recipe("openclpart")


def test_paths_of_a_recipe_begin_at_the_home_folder_and_other_texts_do_not(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    values = {"data": "~/payments.csv", "separator": "~", "orderings": {"merchant": "~/encoder"}, "pretrained": "~/old"}
    data, head = build([TableDataArguments, TabBertHeadArguments], {"task": "table", **values})
    assert (data.data, data.separator) == ("/home/ann/payments.csv", "~")
    assert (head.pretrained, head.orderings) == ("/home/ann/old", {"merchant": "/home/ann/encoder"})

"""Values that a recipe must refuse, or read as they are meant: clear errors before any work."""

import logging
import re
import shutil

import pytest
import yaml

from hf_mmtab.arguments import (
    ImageTextDataArguments,
    ImageTextRunArguments,
    MMBTModelArguments,
    TabBertHeadArguments,
    TabBertModelArguments,
    TableDataArguments,
)
from hf_mmtab.commands import finetune, pretrain
from hf_mmtab.commands.finetune import load_recipe, tell_idle_keys
from hf_mmtab.commands.runs import walk
from hf_mmtab.evaluation.run_results import RunResults
from hf_mmtab.recipes import build, field_types, read_overrides, read_recipe, write_recipe
from hf_mmtab.training import MMTabTrainingArguments
from hf_mmtab.typed_values import typed_value


@pytest.fixture
def runs(tmp_path, fixtures, monkeypatch):
    folder = tmp_path / "runs"
    shutil.copytree(fixtures / "runs_0_1", folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plan", "{entity: 5}"], "Expected the name of a column, or a list of names, for 'entity'"),
        (["--plan", "{fields: {amount: 5}}"], "Expected a mapping of settings for field 'amount' of `fields`, found 5"),
        (["--plan", "{fields: [amount]}"], "Expected `fields` to map names to settings, found list"),
        (
            ["--plan_edits", "{amount: 5}"],
            "Expected a mapping of settings, or null, for field 'amount' of `fields`, found 5",
        ),
        (["--types", "{amount: 5}"], r"types\['amount'\] must be one of"),
        (["--separator", "::"], "Expected `separator` to be one character"),
        (["--hidden_size", "0"], "Expected hidden_size to be at least 1, found 0"),
        (["--seq_len", "0"], "Expected seq_len to be at least 1 and at most 10000000, found 0"),
        (["--stride", "-1"], "Expected stride to be at least 1, found -1"),
        (["--mlm_probability", "1.5"], "Expected mlm_probability to be at least 0 and at most 1, found 1.5"),
        (["--split_fractions", "0", "0", "0"], "fractions of train, validation and test that sum to 1"),
        (["--num_train_epochs", "0"], "Expected num_train_epochs above 0, found 0"),
        (["--simulate", "{rows: 5}"], "Expected data: simulated:cards beside `simulate`"),
        (["--simulate", "5"], "Expected a mapping for simulate, found '5'"),
        (["--seed", "1", "2"], r"Expected a whole number for --seed, found 2 values: \['1', '2'\]"),
        (["--seed", "one"], "Expected a whole number for --seed, found 'one'"),
        (["--save_strategy", "weekly"], "weekly"),
        (["pretrain.yaml"], r"Expected a text for --output_dir, found 2 values: \['new', 'pretrain.yaml'\]"),
    ],
)
def test_a_value_that_cannot_work_is_refused(runs, arguments, message):
    with pytest.raises(ValueError, match=message):
        pretrain.main(["pretrain.yaml", "--output_dir", "new", *arguments])


def test_numbers_of_a_simulation_must_be_numbers(tmp_path):
    command = ["simulated_cards_pretrain", "--output_dir", str(tmp_path / "new")]
    with pytest.raises(ValueError, match=r"Expected a whole number for simulate.rows, found '1e3'"):
        pretrain.main([*command, "--simulate", "{rows: 1e3}"])


@pytest.mark.parametrize("key", ["5", "on", "~", "1.5"])
def test_a_key_that_yaml_would_read_as_a_value_is_named_as_it_is_written(tmp_path, key):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"task: table\n{key}: 1\n")
    with pytest.raises(ValueError, match=f"Expected a known recipe key, found {key!r}"):
        pretrain.main([str(recipe)])


def test_a_single_seed_of_seeds_is_the_one_that_trains(runs, monkeypatch):
    executed = []

    def execute(run):
        executed.append(run.recipe)
        return RunResults("mmbt", "pictures", "test")

    monkeypatch.setattr(finetune, "execute", execute)
    for seeds, expected in ((["3"], [3]), ([], [1])):
        executed.clear()
        finetune.main(["pictures.yaml", *(["--seeds", *seeds] if seeds else [])])
        assert [recipe.training.seed for recipe in executed] == expected
        assert executed[0].values["seed"] == expected[0] and executed[0].folder.name == "mmbt"
    assert walk.execute is not execute


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        ("5e-5", float, 5e-5),
        (3, float, 3.0),
        ("true", bool, True),
        ("off", bool | None, False),
        ("7", int | str, 7),
        ("7", str, "7"),
        (7, str, "7"),
        ("a", list[str], ["a"]),
        ([1, "2"], list[int], [1, 2]),
        ("{a: 1}", dict | str | None, {"a": 1}),
        ("card", dict | str | None, "card"),
        ("[a, b]", list[str], ["a", "b"]),
        (" [a, 'b, c']", list[str], ["a", "b, c"]),
        (
            "[007, 1.10, 2020-01-01, yes, ~, +7, 1e5, 12:30]",
            list[str],
            ["007", "1.10", "2020-01-01", "yes", "~", "+7", "1e5", "12:30"],
        ),
        ("[1, 2]", list[int], [1, 2]),
        ("[.7, 1e-1, 2]", list[float], [0.7, 0.1, 2.0]),
        ("[]", list[str] | None, []),
        ("[a]", None | str | list[str], ["a"]),
        ("[a]", str, "[a]"),
        (["a", "b"], list[str], ["a", "b"]),
    ],
)
def test_values_become_what_the_annotation_asks_for(value, annotation, expected):
    converted = typed_value(value, annotation, "key")
    assert converted == expected and type(converted) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (True, int),
        (1.5, int),
        ("1.5", int),
        (True, str),
        ([1], int),
        ({"a": 1}, list[str]),
        ("x", bool),
        (5, dict),
        ("[1, x]", list[int]),
        ("[[1], 2]", list[int]),
        ("[{a: 1}]", list[str]),
    ],
)
def test_values_of_another_type_are_refused_with_the_key(value, annotation):
    with pytest.raises(ValueError, match="for key"):
        typed_value(value, annotation, "key")


@pytest.mark.parametrize("text", ["[a", "[a, b]]", "[a] b", "[*a]", "[a: b: c]", "[" * 5000, "['a]"])
def test_a_list_of_the_command_line_that_is_broken_is_refused_with_its_key(text):
    with pytest.raises(ValueError, match=r"Expected a list such as '\[value, value\]' after --entities, found"):
        typed_value(text, list[str], "--entities")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("learning_rate", ".nan", "Expected a finite number below 2^63 for learning_rate, found nan"),
        ("max_grad_norm", "1.0e+400", "for max_grad_norm, found inf"),
        ("seq_len", "99999999999999999999", "for seq_len, found 99999999999999999999"),
        ("gradient_accumulation_steps", "0", "Expected gradient_accumulation_steps to be at least 1, found 0"),
        ("save_total_limit", "-1", "Expected save_total_limit to be at least 1, found -1"),
        ("early_stopping_patience", "-1", "Expected early_stopping_patience to be at least 1, found -1"),
        ("weight_decay", "-0.1", "Expected weight_decay to be at least 0, found -0.1"),
    ],
)
def test_numbers_that_train_nonsense_are_refused(key, value, message, tmp_path):
    types = [TableDataArguments, TabBertModelArguments, MMTabTrainingArguments]
    values = yaml.safe_load(f"{key}: {value}")
    with pytest.raises(ValueError, match=re.escape(message)):
        build(types, {"task": "table", "data": "x", "output_dir": str(tmp_path), **values})


ALL_ARGUMENTS = [ImageTextDataArguments, MMBTModelArguments, ImageTextRunArguments, TableDataArguments]
ALL_ARGUMENTS += [TabBertModelArguments, TabBertHeadArguments, MMTabTrainingArguments]
LIST_KEYS = sorted(
    {(name, str(kind)) for one in ALL_ARGUMENTS for name, kind in field_types(one).items() if "list[" in str(kind)}
)


@pytest.mark.parametrize(("key", "kind"), LIST_KEYS)
def test_every_list_of_the_command_line_may_be_several_words_or_one_yaml_list(key, kind):
    choices = re.findall(r"'(\w+)'", kind)  # of a list of literals
    plain = "[str]" in kind or "[int]" in kind or "[float]" in kind
    values = choices[:2] or (["1", "2"] if plain else ["underflow_overflow"] * 2)
    lists = [read_overrides([f"--{key}", *words], ALL_ARGUMENTS)[key] for words in (values, [f"[{', '.join(values)}]"])]
    assert lists[0] == lists[1] and len(lists[0]) == 2


@pytest.mark.parametrize("name", ["007", "+7", "2020-01-01", "1_000", "08", "'1.10'", "12:30"])
def test_names_in_a_recipe_keep_their_digits(name, tmp_path):
    (tmp_path / "r.yaml").write_text(f"entities: [{name}]\nmax_rows: 0x10\nseq_len: 12\n")
    values = read_recipe(tmp_path / "r.yaml")
    assert typed_value(values["entities"], list[str], "entities") == [name.strip("'")]
    assert (values["max_rows"], values["seq_len"]) == (16, 12)
    write_recipe(tmp_path / "again.yaml", values)
    assert read_recipe(tmp_path / "again.yaml") == values


TABLE = {"task": "table", "data": "t"}


@pytest.mark.parametrize(
    ("kind", "values", "found"),
    [
        (TabBertHeadArguments, {"row_inputs": ["states", "states"]}, "row_inputs, found states more"),
        (TabBertHeadArguments, {"statistics": ["row", "lately", "row"]}, "statistics, found row more"),
        (TabBertHeadArguments, {"network_statistics": ["row", "row"]}, "network_statistics, found row more"),
        (TabBertHeadArguments, {"orderings": {"a": "out", "b": "out"}}, "orderings, found out more"),
        (TableDataArguments, {**TABLE, "entity_columns": ["who", "who"]}, "entity_columns, found who more"),
        (TableDataArguments, {**TABLE, "label_columns": ["odd", "odd"]}, "label_columns, found odd more"),
        (TableDataArguments, {**TABLE, "entities": ["7", "8", "7", "8"]}, "entities, found 7, 8 more"),
        (ImageTextRunArguments, {"compare": ["bow", "img", "bow"]}, "compare, found bow more"),
        (ImageTextRunArguments, {"seeds": [3, 4, 3]}, "seeds, found 3 more"),
        (ImageTextRunArguments, {"ensemble_members": ["bow", "bow"]}, "ensemble_members, found bow more"),
    ],
)
def test_a_name_that_stands_twice_in_a_list_is_refused(kind, values, found):
    with pytest.raises(ValueError, match=f"Expected different values in {found} than once. Name it once."):
        build([kind], values)


def test_numbers_that_may_be_equal_are_not_names():
    assert build([TabBertHeadArguments], {"mlp_hidden_sizes": [16, 16]})[0].mlp_hidden_sizes == [16, 16]
    fractions = {**TABLE, "split_fractions": [0.6, 0.2, 0.2]}
    assert build([TableDataArguments], fractions)[0].split_fractions == [0.6, 0.2, 0.2]


@pytest.mark.parametrize("name", ["entity_columns", "label_columns", "entities"])
def test_an_empty_list_of_columns_or_histories_is_refused(name):
    with pytest.raises(ValueError, match=rf"Expected names in {name}, found an empty list, .*`--{name} null`"):
        build([TableDataArguments], {**TABLE, name: []})
    build([TableDataArguments], {**TABLE, name: []}, of_finished=True)  # runs of version 0.1 predict


def test_both_stands_beside_neither_of_its_parts():
    with pytest.raises(ValueError, match="where both stands for states and surprise"):
        build([TabBertHeadArguments], {"row_inputs": ["states", "both"]})


@pytest.mark.parametrize("name", ["row_inputs", "statistics"])
def test_auto_stands_alone(name):
    with pytest.raises(ValueError, match=f"Expected {name} to be auto alone, or names, found auto beside surprise"):
        build([TabBertHeadArguments], {name: ["auto", "surprise"]})


@pytest.mark.parametrize(
    ("given", "architectures", "idle"),
    [
        (["--pooling", "mean"], ["lstm"], "pooling has no effect on architecture lstm: it is a key of mlp, pooled."),
        (["--pooling=mean"], ["lstm"], "pooling has no effect on architecture lstm"),
        (["--pooling", "mean"], ["lstm", "pooled"], None),  # compared
        (["--lstm_hidden_size", "4"], ["boosted"], "lstm_hidden_size has no effect on architecture boosted"),
        (["--lstm_hidden_size", "4"], ["auto"], None),
        (["--fusion_folds", "3"], ["raw_lstm"], "fusion_folds has no effect on architecture raw_lstm"),
        (["--row_inputs", "states"], ["boosted"], "row_inputs has no effect on architecture boosted"),
        ([], ["boosted"], None),  # what stands in the recipe may be for another architecture
    ],
)
def test_keys_that_no_trained_architecture_reads_are_told(given, architectures, idle, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("hf_mmtab"), "propagate", True)
    recipe = load_recipe(["simulated_cards_finetune", "--architecture", architectures[0], *given])
    tell_idle_keys(recipe, ["simulated_cards_finetune", *given], architectures)
    assert (idle in caplog.text) if idle else ("no effect" not in caplog.text)


def test_keys_inside_a_value_are_names_as_they_are_written(tmp_path):
    """Classes 0 and 1, a class yes, a column 007: YAML alone reads numbers and true."""
    (tmp_path / "r.yaml").write_text("class_weights: {0: 1, yes: 2.5, ~: 3}\ntypes:\n  007: string\n  0x1: int\n")
    values = read_recipe(tmp_path / "r.yaml")
    assert values == {"class_weights": {"0": 1, "yes": 2.5, "~": 3}, "types": {"007": "string", "0x1": "int"}}
    assert read_overrides(["--class_weights", "{no: 1, 2: 5}"], ALL_ARGUMENTS)["class_weights"] == {"no": 1, "2": 5}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seeds", "[1099511627776]", "Expected seeds to be at least 0 and at most 4294967295, found 1099511627776"),
        ("seed", "1099511627776", "Expected seed to be at least 0 and at most 4294967295, found 1099511627776"),
        (
            "dataloader_num_workers",
            "1099511627776",
            "must be 'auto' or a whole number from 0 to 512, got '1099511627776'",
        ),
        ("feature_cache_budget", "much", "feature_cache_budget: Expected a size such as '20GB'"),
        ("freeze", "{encoder: 3}", "freeze of 'encoder': Expected a moment such as '3 epochs'"),
        ("gradual_unfreezing", "{encoder: 3}", "gradual_unfreezing of 'encoder': Expected a moment such as"),
        ("thaw_warmup", "{encoder: x}", "thaw_warmup of 'encoder': Expected a moment such as"),
        ("eval_strategy", "weekly", "Expected eval_strategy to be one of no, steps, epoch, found 'weekly'"),
        ("optim", "nix", "Expected optim to be one of adamw_torch"),
    ],
)
def test_numbers_and_words_without_sense_are_refused_by_name(key, value, message, tmp_path):
    values = yaml.safe_load(f"{key}: {value}")
    with pytest.raises(ValueError, match=re.escape(message)):
        build(
            [TableDataArguments, ImageTextRunArguments, MMTabTrainingArguments],
            {"task": "table", "data": "x", "output_dir": str(tmp_path), "report_to": "none", **values},
        )

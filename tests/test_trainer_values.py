"""Values of transformers' own keys that it takes without a look: one message before any work, or the same run."""

import numpy as np
import pytest
import yaml

from hf_mmtab.commands import pretrain
from hf_mmtab.commands.runs.pretraining import PretrainingRun
from hf_mmtab.commands.runs.recipe import HeadRecipe, PretrainingRecipe
from hf_mmtab.commands.runs.walk import check_training
from hf_mmtab.metrics.masked_cells import MaskedCellMetrics
from hf_mmtab.reports.page import Page
from hf_mmtab.reports.plots_classes import confused_pairs
from hf_mmtab.training import MMTabTrainingArguments

# key, value on the command line, what the message says beside the key
WRONG = [
    ("train_sampling_strategy", "x", "one of random, sequential, group_by_length, batch_rebalance, found 'x'"),
    ("log_level", "nix", "one of detail, debug, info"),
    ("log_level_replica", "nix", "one of detail, debug, info"),
    ("ddp_backend", "nix", "one of nccl, gloo"),
    ("dataloader_multiprocessing_context", "nix", "one of fork, spawn"),
    ("lr_scheduler_kwargs", "5", "a mapping such as"),
    ("lr_scheduler_kwargs", "{nix: 1}", "fit lr_scheduler_type: linear, found {'nix': 1}"),
    ("gradient_checkpointing_kwargs", "5", "a mapping such as"),
    ("accelerator_config", "5", "a mapping, or a JSON file that exists, found '5'"),
    ("accelerator_config", "nix.json", "a mapping, or a JSON file that exists"),
    ("accelerator_config", "{nix: 1}", "keys among split_batches"),
    ("accelerator_config", "{split_batches: 7}", "true or false for accelerator_config.split_batches, found 7"),
    ("torch_compile_mode", "nix", "one of default"),
    ("torch_compile_backend", "nix", "one of no, eager"),
    ("report_to", "nix", "none, all, or some of"),
    ("optim_args", "nix", "settings such as 'name=value"),
    ("label_names", "nix", "each task knows the labels"),
    ("resume_from_checkpoint", "nix", "goes on from the last whole checkpoint"),
    ("max_steps", "0", "above 0, found 0"),
    ("max_steps", "-5", "above 0, found -5"),
    ("save_steps", "0", "above 0, found 0"),
    ("eval_steps", "0", "above 0, found 0"),
    ("learning_rate", "-1", "at least 0, found -1"),
    ("adam_beta1", "2", "from 0 to below 1, found 2"),
    ("adam_epsilon", "-1", "at least 0"),
    ("seed", "-1", "at least 0"),
    ("data_seed", "-1", "at least 0"),
    *((name, "", "found an empty text") for name in (
        "separator", "time_column", "output_dir", "data", "task", "entity_columns", "label_columns", "plan",
        "pretrained", "license", "run_name", "entities", "hub_model_id",
    )),
]  # fmt: skip
RIGHT = [
    ["--lr_scheduler_type", "cosine_with_min_lr", "--lr_scheduler_kwargs", "{min_lr: 1.0e-6}"],
    ["--lr_scheduler_type", "reduce_lr_on_plateau", "--eval_strategy", "epoch"],
    ["--accelerator_config", "{split_batches: false}"],
    ["--report_to", "none"],
    ["--report_to", "tensorboard", "wandb"],
    ["--max_steps", "-1"],
    ["--save_steps", "0.5"],
    ["--resume_from_checkpoint", "true"],
    ["--label_names", "labels"],
    ["--missing", ""],
    ["--optim_args", "a=1, b=2"],
    ["--torch_compile_mode", "reduce-overhead"],
]


@pytest.fixture
def recipe(tmp_path):
    values = {"task": "table", "data": "t.csv", "output_dir": str(tmp_path / "run"), "report_to": "none"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "recipe.yaml"


@pytest.mark.parametrize(("key", "value", "message"), WRONG)
@pytest.mark.parametrize("kind", [PretrainingRecipe, HeadRecipe])
def test_a_wrong_value_is_told_before_any_work(kind, key, value, message, recipe, tmp_path):
    with pytest.raises(ValueError) as caught:
        check_training(kind.read([str(recipe), f"--{key}", value], "x"))
    assert message in str(caught.value) and key in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.yaml"]


@pytest.mark.parametrize("given", RIGHT)
def test_right_values_are_taken(given, recipe):
    read = PretrainingRecipe.read([str(recipe), *given], "x")
    check_training(read)


@pytest.mark.parametrize(("name", "value"), [("log_level", "nix"), ("train_sampling_strategy", "x")])
def test_arguments_in_python_are_looked_at_too(name, value, tmp_path):
    with pytest.raises(ValueError, match=rf"Expected {name} to be one of .*, found '{value}'"):
        MMTabTrainingArguments(str(tmp_path), **{name: value})


def test_a_metric_that_pretraining_does_not_give_is_told_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    rows = "\n".join(f"w{i % 4},{'xyz'[i % 3]},{i}" for i in range(200))
    (tmp_path / "t.csv").write_text(f"who,shop,paid\n{rows}\n")
    plan = {"entity": "who", "fields": {"shop": {}, "paid": {"kind": "numeric", "num_bins": 4}}}
    values = {"task": "table", "data": str(tmp_path / "t.csv"), "plan": plan, "output_dir": str(tmp_path / "run")}
    values |= {"field_hidden_size": 8, "hidden_size": 16, "num_hidden_layers": 1, "report_to": "none"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.setattr("hf_mmtab.commands.runs.walk.Run.new_trainer", lambda *_: pytest.fail("training began"))
    with pytest.raises(ValueError, match=r"metric_for_best_model to be loss or one of accuracy, masked_loss, which"):
        pretrain.main([str(tmp_path / "recipe.yaml"), "--metric_for_best_model", "nix"])
    assert not (tmp_path / "run").exists()  # nothing was read for it
    with pytest.raises(ValueError, match=r"metric_for_best_model to be loss or one of accuracy, accuracy/paid"):
        pretrain.main([str(tmp_path / "recipe.yaml"), "--metric_for_best_model", "accuracy/nix"])
    assert MaskedCellMetrics(["a"]).names == ["masked_loss", "accuracy", "loss/a", "accuracy/a"]
    assert PretrainingRun.selection[0] in MaskedCellMetrics(["a"]).names


@pytest.mark.filterwarnings("error")
def test_classes_without_rows_and_numbers_beyond_a_plot_end_nothing(caplog):
    pairs = confused_pairs(np.array([[0, 0, 0], [1, 5, 0], [0, 2, 3]]), {0: "a", 1: "b", 2: "c"})
    assert [(one["true"], one["predicted"], one["share"]) for one in pairs] == [("c", "b", 0.4), ("b", "a", 1 / 6)]
    page = Page()
    page.draw("learning_curves", "", lambda: (_ for _ in ()).throw(OverflowError("too large")))
    assert not page.pictures

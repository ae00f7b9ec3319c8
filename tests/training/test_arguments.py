"""Every setting can be written in YAML, on the command line and in Python."""

import pytest
import yaml
from toy import toy_arguments, toy_trainer
from transformers import HfArgumentParser

from hf_mmtab.training import MMTabTrainingArguments

RECIPE = """
output_dir: run
use_cpu: true
learning_rate: 5e-5
freeze: {image_encoder: 3 epochs, text_encoder: [1 epoch, from 4 epochs]}
gradual_unfreezing: {text_encoder: 0.5 epochs}
part_learning_rates: {text_encoder: 1e-5}
layerwise_lr_decay: {text_encoder: 0.9}
thaw_warmup: {text_encoder: 100 steps}
class_weights: balanced
"""
COMMAND_LINE = [
    "--output_dir=run",
    "--use_cpu",
    "--learning_rate=5e-5",
    '--freeze={"image_encoder": "3 epochs", "text_encoder": ["1 epoch", "from 4 epochs"]}',
    '--gradual_unfreezing={"text_encoder": "0.5 epochs"}',
    '--part_learning_rates={"text_encoder": 1e-5}',
    '--layerwise_lr_decay={"text_encoder": 0.9}',
    '--thaw_warmup={"text_encoder": "100 steps"}',
    "--class_weights=balanced",
]
NAMES = ("learning_rate", "freeze", "gradual_unfreezing", "part_learning_rates", "layerwise_lr_decay", "thaw_warmup")


def test_yaml_command_line_and_python_say_the_same():
    (from_yaml,) = HfArgumentParser(MMTabTrainingArguments).parse_dict(yaml.safe_load(RECIPE))
    (from_line,) = HfArgumentParser(MMTabTrainingArguments).parse_args_into_dataclasses(COMMAND_LINE)
    python = MMTabTrainingArguments(
        "run",
        use_cpu=True,
        learning_rate=5e-5,
        freeze={"image_encoder": "3 epochs", "text_encoder": ["1 epoch", "from 4 epochs"]},
        gradual_unfreezing={"text_encoder": "0.5 epochs"},
        part_learning_rates={"text_encoder": 1e-5},
        layerwise_lr_decay={"text_encoder": 0.9},
        thaw_warmup={"text_encoder": "100 steps"},
    )
    for name in NAMES:
        assert getattr(from_yaml, name) == getattr(from_line, name) == getattr(python, name), name
    assert from_yaml.class_weights == from_line.class_weights == "balanced"


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"frozen_mode": "still"}, "frozen_mode must be 'eval' or 'train', got 'still'"),
        ({"optim_preset": "adam"}, "optim_preset must be 'bertadam' or unset, got 'adam'"),
        ({"audit_steps": 0}, "audit_steps and audit_samples must be at least 1"),
        ({"freeze": "text_encoder"}, "freeze must map parts to values"),
        ({"part_learning_rates": {"a": "fast"}}, "part_learning_rates of 'a' must be a number, got 'fast'"),
        (
            {"part_learning_rates": {"a": float("inf")}},
            "part_learning_rates of 'a' must be above 0 and finite, got inf",
        ),
        (
            {"part_learning_rates": {"a": float("nan")}},
            "part_learning_rates of 'a' must be above 0 and finite, got nan",
        ),
        ({"layerwise_lr_decay": {"a": 1.5}}, "layerwise_lr_decay of 'a' must be above 0 and at most 1, got 1.5"),
        ({"early_stopping_patience": 2}, "early_stopping_patience needs an evaluation to watch"),
        (
            {"optim_preset": "bertadam", "lr_scheduler_type": "cosine"},
            "brings its own linear warm-up and decay, found lr_scheduler_type 'cosine'",
        ),
    ],
)
def test_impossible_settings_are_errors(tmp_path, setting, message):
    with pytest.raises(ValueError, match=message):
        toy_arguments(tmp_path, **setting)


def test_schedule_is_checked_before_anything_is_built(tmp_path):
    with pytest.raises(ValueError, match="Expected a moment such as '3 epochs'"):
        toy_trainer(tmp_path, freeze={"text_encoder": 3})
    with pytest.raises(ValueError, match="gradual_unfreezing of 'text_encoder' needs a finite interval"):
        toy_trainer(tmp_path, gradual_unfreezing={"text_encoder": "forever"})


def test_bertadam_brings_the_weight_decay_of_the_original(tmp_path):
    assert toy_arguments(tmp_path, optim_preset="bertadam").weight_decay == 0.01
    assert toy_arguments(tmp_path, optim_preset="bertadam", weight_decay=0.1).weight_decay == 0.1

"""What report, card and comparison of a run on pictures and texts say of its loss and of a model with less to read."""

import json
import re

import pytest
import torch
from running import SHORT, command, results_of
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from hf_mmtab.commands.finetune import main
from hf_mmtab.training import MMTabTrainer, MMTabTrainingArguments
from hf_mmtab.training.losses import loss_notes

LOGGED = [{"loss": 1.0}, {"eval_loss": 0.9}]


def test_a_run_says_what_its_loss_holds_and_whether_reading_both_is_better(recipe, tmp_path, capsys):
    given = ["--compare", "bert", "--label_smoothing_factor", "0.1", "--num_train_epochs", "1"]
    main([str(recipe), *given])
    root = tmp_path / "run"
    sentence = r"mmbt is (not better|better|worse) than bert: accuracy [^\n]*\."
    assert re.search(sentence, capsys.readouterr().out)
    page = (root / "mmbt-seed1/report/report.html").read_text()
    assert re.search(f"<p>{sentence}</p>", page)
    told = "eval_loss is the training loss on validation rows, with label_smoothing_factor: 0.1, as"
    for name in ("mmbt", "bert"):
        notes = json.loads((root / f"{name}-seed1/results.json").read_text())["notes"]
        assert sum(note.startswith(told) for note in notes) == 1
    assert told.partition(",")[0] in page
    training = (root / "mmbt-seed1/README.md").read_text().split("## Training\n")[1].split("\n## ")[0].replace("\\", "")
    assert told in training


def test_a_model_that_reads_less_is_compared_without_a_verdict_on_more(recipe, tmp_path, capsys):
    main([str(recipe), "--architecture", "bert", "--compare", "img", "mmbt", "--num_train_epochs", "1"])
    shown = capsys.readouterr().out + (tmp_path / "run/bert-seed1/report/report.html").read_text()
    assert not re.search("bert is .* than (img|mmbt)", shown)


@pytest.mark.parametrize(
    ("given", "held"),
    [
        ({"label_smoothing_factor": 0.2}, "with label_smoothing_factor: 0.2, as"),
        ({"class_weights": "balanced"}, "with class_weights: balanced, as"),
        ({"pos_weight": "total_over_positives"}, "with pos_weight: total_over_positives, as"),
        ({"loss": "focal", "label_smoothing_factor": 0.1}, "with label_smoothing_factor: 0.1, loss: focal, as"),
        ({}, None),
    ],
)
def test_what_the_validation_loss_holds_is_told(tmp_path, given, held):
    arguments = MMTabTrainingArguments(str(tmp_path), **given)
    notes = loss_notes(LOGGED, arguments)
    assert (held is None and not notes) or held in notes[0]
    assert loss_notes([{"loss": 1.0}], arguments) == []  # nothing was evaluated


def test_the_validation_loss_is_smoothed_as_the_note_says(tmp_path):
    """So it is in transformers' Trainer: the same model has another eval_loss, which is why it is told."""
    model = tiny_bert()
    rows = [{"input_ids": [5, 6], "labels": label} for label in (0, 0, 0, 0)]
    losses = []
    for kind, arguments in ((MMTabTrainer, MMTabTrainingArguments), (Trainer, TrainingArguments)):
        for factor in (0.0, 0.5):
            given = arguments(str(tmp_path), label_smoothing_factor=factor, report_to="none", use_cpu=True)
            losses.append(kind(model=model, args=given, eval_dataset=rows).evaluate()["eval_loss"])
    assert losses[:2] == pytest.approx(losses[2:]) and abs(losses[0] - losses[1]) > 0.1


def tiny_bert():
    torch.manual_seed(0)
    sizes = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = BertForSequenceClassification(BertConfig(**sizes, intermediate_size=8, num_labels=2))
    torch.nn.init.constant_(model.classifier.bias, 0.0)
    model.classifier.bias.data[0] = 3.0
    return model


def test_a_run_whose_test_rows_have_one_class_alone_ends_with_what_is_defined(runs, capsys):
    train, test = runs / "pictures" / "train.jsonl", runs / "pictures" / "test.jsonl"
    train.write_text(train.read_text().replace("other", "third", 4))
    test.write_text(test.read_text().replace("other", "same"))
    command("finetune", "pictures.yaml", "--output_dir", "new", *SHORT, "--ablation", "true")
    assert "mean average precision           not defined: no class that some of the rows" in capsys.readouterr().out
    results = results_of(runs / "new")
    assert "macro_average_precision" not in results["metrics"]["test"]
    assert {row["metric"] for row in results["ablation"]} == {"accuracy", "macro_f1"}

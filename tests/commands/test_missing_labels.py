"""Rows without a label are neither learned from nor counted; what a checkpoint's head becomes is told."""

import json

import numpy as np
import yaml

from hf_mmtab.commands.finetune import main
from hf_mmtab.commands.runs.table_notes import head_note
from hf_mmtab.models.tabbert import TabBertConfig
from hf_mmtab.tasks import table_labels

PLAN = {"entity": "who", "time": "step", "label": "odd", "fields": {"shop": {}}}
TRAINING = {
    "task": "table",
    "architecture": "raw_lstm",
    "field_hidden_size": 4,
    "lstm_hidden_size": 4,
    "seq_len": 3,
    "num_train_epochs": 1,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "load_best_model_at_end": True,
    "report_to": "none",
    "disable_tqdm": True,
    "bootstrap": 0,
    "negatives_per_epoch": 0.5,
}


def test_windows_without_a_label_are_told_and_left_out(tmp_path, monkeypatch, capsys):
    said = []
    monkeypatch.setattr(table_labels.logger, "warning", said.append)
    labels = ["no" if step % 4 else "yes" for step in range(100)]
    labels = ["" if step % 5 == 1 else label for step, label in enumerate(labels)]
    rows = [f"w,{step},s{step % 3},{label}" for step, label in enumerate(labels)]
    (tmp_path / "t.csv").write_text("\n".join(["who,step,shop,odd", *rows]) + "\n")
    values = TRAINING | {"data": str(tmp_path / "t.csv"), "plan": PLAN, "output_dir": str(tmp_path / "run")}
    values["split_fractions"] = [0.6, 0.2, 0.2]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    main([str(tmp_path / "recipe.yaml")])

    assert said == [
        "Labels are missing: 12 of 60 train, 4 of 20 validation, 4 of 20 test. Nothing is learned from them and "
        "nothing judged by them; windows without any label are left out."
    ]
    known = np.array(labels[:60])
    positive, negative = int((known == "yes").sum()), int((known == "no").sum())
    assert (positive, negative) == (12, 36)
    out = capsys.readouterr().out
    assert "48 train (12 positive), 16 validation (4 positive), 16 test (4 positive)" in out
    assert "An epoch draws 30 windows, 40.0% of them positive." in out  # 12 of 12 and half of 36
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["judged"]["test"] == {"rows": 16, "positives": 4}


def test_the_head_of_a_fine_tuned_checkpoint_is_said_to_be_left_behind(tmp_path):
    config = TabBertConfig(fields=["shop"], field_ranges=[[4, 8]], vocab_size=8)
    config.architectures = ["TabBertLstmForSequenceClassification"]
    config.save_pretrained(tmp_path)
    assert head_note(str(tmp_path), "mlp") == [
        f"{tmp_path} is a TabBertLstmForSequenceClassification: only its encoder is taken. Its head is left behind, "
        "and the new one starts from random weights."
    ]
    assert head_note(str(tmp_path), "raw_lstm") == []
    config.architectures = ["TabBertForMaskedLM"]
    config.save_pretrained(tmp_path)
    assert head_note(str(tmp_path), "mlp") == []

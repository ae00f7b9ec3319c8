"""MMTabTrainer takes what Trainer takes: its positional arguments, no arguments, and models that are plain modules."""

import inspect

import datasets
import pytest
import torch
from torch import nn
from toy import ToyRows, largest_difference, moved, toy_arguments, toy_model, weights
from transformers import Trainer, TrainingArguments, default_data_collator

from hf_mmtab.training import MMTabTrainer


class PlainModel(nn.Module):
    """No `PreTrainedModel`: no config, no from_pretrained."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embeddings, self.encoder = nn.Embedding(20, 8), nn.Linear(8, 8)
        self.classifier = nn.Linear(8, 3)

    def forward(self, input_ids, labels=None):
        logits = self.classifier(torch.tanh(self.encoder(self.embeddings(input_ids).mean(dim=1))))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


def collate(rows):
    """A collator of the user, which Trainer gives whole rows."""
    batch = default_data_collator([{"input_ids": row["input_ids"], "labels": row["labels"]} for row in rows])
    collate.calls += 1
    return batch


collate.calls = 0


def test_positions_are_those_of_trainer(tmp_path):
    positional = list(inspect.signature(Trainer.__init__).parameters)[3:5]
    assert positional == ["data_collator", "train_dataset"]
    trainer = MMTabTrainer(PlainModel(), toy_arguments(tmp_path), collate, ToyRows(8), ToyRows(4))
    trainer.train()
    assert collate.calls == 6 and "eval_loss" in trainer.evaluate()
    with pytest.raises(TypeError, match="positional"):
        MMTabTrainer(PlainModel(), toy_arguments(tmp_path), *[None] * 12)


def test_a_plain_module_freezes_resumes_and_keeps_its_best_weights(tmp_path):
    settings = {"freeze": {"encoder": "1 epoch"}, "save_strategy": "epoch", "eval_strategy": "epoch"}
    settings |= {"load_best_model_at_end": True, "metric_for_best_model": "loss"}

    def trainer():
        args = toy_arguments(tmp_path, **settings)
        return MMTabTrainer(PlainModel(), args, collate, ToyRows(32), ToyRows(8))

    whole, before = trainer(), weights(PlainModel())
    whole.train()
    assert moved(before, weights(whole.model), "encoder") > 0
    assert "has trained since step 8" in whole.audit.explain("encoder")
    resumed = trainer()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-16"))
    assert largest_difference(weights(whole.model), weights(resumed.model)) == 0


class LikePeft(nn.Module):
    """Hides a model behind `base_model.model.` and forwards its attributes, as `PeftModel` does."""

    def __init__(self, model):
        super().__init__()
        self.base_model = nn.Module()
        self.base_model.model = model.requires_grad_(False)
        model.encoder[0].dense.adapter = nn.Linear(8, 8)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.base_model.model, name)

    def forward(self, input_ids, pixel_values, labels=None):
        return self.base_model.model(input_ids, pixel_values, labels=labels)


def test_parts_of_a_model_with_adapters_keep_their_names(tmp_path):
    model = LikePeft(toy_model())
    model.pooler.requires_grad_(True), model.classifier.requires_grad_(True)
    args = toy_arguments(tmp_path, freeze={"pooler": "1 epoch"}, part_learning_rates={"text_encoder": 1e-3})
    trainer = MMTabTrainer(model, args, train_dataset=ToyRows(16))
    trainer.train()
    assert list(trainer.audit.parts)[:2] == ["text_encoder", "image_encoder"]
    assert "has trained since step 4" in trainer.audit.explain("pooler")
    assert "frozen elsewhere" in trainer.audit.explain("image_encoder")


def test_weights_by_class_name_need_a_config(tmp_path):
    args = toy_arguments(tmp_path, class_weights={"cat": 2.0})
    with pytest.raises(ValueError, match=r"need the names in `model.config.label2id`, and this model has none"):
        MMTabTrainer(PlainModel(), args)
    counted = toy_arguments(tmp_path, class_weights="balanced")
    assert MMTabTrainer(PlainModel(), counted, label_counts=[1, 2, 3]).compute_loss_func is not None


def test_without_arguments_it_trains_into_the_folder_of_trainer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = MMTabTrainer(toy_model(), train_dataset=ToyRows(8))
    assert trainer.args.output_dir == Trainer(toy_model()).args.output_dir
    trainer.train()
    assert trainer.state.global_step == 3


def test_arguments_of_trainer_are_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(TypeError, match=r"found TrainingArguments\. MMTabTrainingArguments takes every keyword"):
        MMTabTrainer(toy_model(), TrainingArguments(str(tmp_path)))


def test_rows_that_are_not_encoded_are_named(tmp_path):
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]})
    trainer = MMTabTrainer(model=toy_model(), args=toy_arguments(tmp_path), train_dataset=rows)
    with pytest.raises(ValueError, match=r"Expected encoded rows for \w+, found the columns text, label\. Encode them"):
        trainer.train()

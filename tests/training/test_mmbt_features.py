"""The pooled regions of an MMBT with a ResNet: cached equals recomputed, and a frozen ResNet stands still."""

import pytest
import torch
from toy import largest_difference, moved, toy_arguments, weights
from transformers import BertConfig, ResNetConfig

from hf_mmtab.models.mmbt import MMBTConfig, MMBTForClassification
from hf_mmtab.training import MMTabTrainer


class Pictures(torch.utils.data.Dataset):
    """Pictures with words; `augment` marks them for the collator below."""

    def __init__(self, rows=16, augment=False, skip=frozenset()):
        generator = torch.Generator().manual_seed(0)
        self.pixels = torch.randn(rows, 3, 32, 32, generator=generator)
        self.words = torch.randint(5, 99, (rows, 6), generator=generator)
        self.augment, self.skip = augment, frozenset(skip)
        self.fingerprint = f"pictures-{rows}"

    def __len__(self):
        return len(self.words)

    def __getitem__(self, index):
        row = {"input_ids": self.words[index], "labels": index % 3}
        return row if "pixel_values" in self.skip else {**row, "pixel_values": self.pixels[index]}

    def without(self, names):
        return Pictures(len(self), self.augment, self.skip | set(names))


class Collator:
    random_inputs = frozenset({"pixel_values"})

    def __call__(self, rows):
        batch = {name: torch.stack([torch.as_tensor(row[name]) for row in rows]) for name in rows[0]}
        return {**batch, "token_type_ids": torch.ones_like(batch["input_ids"])}


def tiny_mmbt(seed=0, **changes):
    torch.manual_seed(seed)
    text = BertConfig(vocab_size=99, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    image = ResNetConfig(embedding_size=8, layer_type="basic", hidden_sizes=[8, 8], depths=[1, 1])
    return MMBTForClassification(
        MMBTConfig(text_config=text, image_config=image, num_labels=3, cls_token_id=1, sep_token_id=2, **changes)
    )


def build(folder, rows=None, model=None, **changes):
    model = tiny_mmbt() if model is None else model
    settings = {"num_train_epochs": 4, "learning_rate": 1e-3, "freeze": {"image_encoder": "3 epochs"}}
    rows = Pictures() if rows is None else rows
    options = {"train_dataset": rows, "eval_dataset": Pictures(8), "data_collator": Collator()}
    trainer = MMTabTrainer(model, toy_arguments(folder, **{**settings, **changes}), **options)
    calls, compute = [0], model.model.get_image_features

    def counted(pixel_values):
        calls[0] += 1
        return compute(pixel_values)

    model.model.get_image_features = counted
    return trainer, calls


def train(folder, **changes):
    trainer, calls = build(folder, **changes)
    trainer.train()
    return trainer, calls[0]


@pytest.mark.parametrize("pooling", ["avg", "none"])
def test_stored_regions_equal_recomputing(tmp_path, pooling):
    model = {"image_pooling": pooling}
    cached, few = train(tmp_path / "cached", model=tiny_mmbt(**model), feature_cache=True, eval_strategy="epoch")
    plain, many = train(tmp_path / "plain", model=tiny_mmbt(**model), eval_strategy="epoch")
    assert few < many
    assert largest_difference(weights(cached.model), weights(plain.model)) < 1e-6
    losses = [[e["eval_loss"] for e in t.state.log_history if "eval_loss" in e] for t in (cached, plain)]
    assert len(losses[0]) == 4 and losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_augmented_pictures_are_computed_each_time_and_the_log_says_so(tmp_path, capsys):
    _, calls = train(
        tmp_path, rows=Pictures(augment=True), feature_cache=True, show_freeze_report=True, num_train_epochs=2
    )
    assert calls == 2 * 4
    said = capsys.readouterr().out
    assert said.count("Feature cache off for image_encoder: augmentation makes ['pixel_values'] random") == 1


def test_budget_that_is_too_small_computes_each_time_with_the_same_result(tmp_path, capsys):
    cached, calls = train(tmp_path / "a", feature_cache=True, feature_cache_budget="100", show_freeze_report=True)
    assert "which feature_cache_budget" in capsys.readouterr().out
    plain, _ = train(tmp_path / "b")
    assert calls == 1 + 4 * 4  # one batch to measure the size
    assert largest_difference(weights(cached.model), weights(plain.model)) < 1e-6


@pytest.mark.slow
def test_two_workers_give_the_same_weights(tmp_path):
    cached, few = train(tmp_path / "cached", feature_cache=True, dataloader_num_workers=2)
    plain, many = train(tmp_path / "plain")
    assert few < many and largest_difference(weights(cached.model), weights(plain.model)) < 1e-6


def test_statistics_of_a_frozen_resnet_stand_still_and_drift_in_mode_train(tmp_path):
    for mode in ("eval", "train"):
        model = tiny_mmbt()
        before = weights(model)
        trainer, _ = train(
            tmp_path / mode, model=model, freeze={"image_encoder": "forever"}, frozen_mode=mode, num_train_epochs=1
        )
        after = weights(model)
        image = [name for name in before if name.startswith("model.image_model")]
        statistics = [name for name in image if name.rpartition(".")[2] in ("running_mean", "running_var")]
        assert statistics
        assert all(moved(before, after, name) == 0 for name in image if "running" not in name and "num_b" not in name)
        assert all((moved(before, after, name) > 0) == (mode == "train") for name in statistics)
        drift = trainer.audit.position.statuses["image_encoder"].statistics_since_start
        assert (drift > 0) == (mode == "train")

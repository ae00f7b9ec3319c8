"""Batches of similar length: what is left of the padding, the same epoch again, and predictions in the rows' order."""

import datasets
import numpy as np
import pytest
import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_mmtab.data.encoded import EncodedDataset
from hf_mmtab.training import MMTabTrainer, MMTabTrainingArguments
from hf_mmtab.training.sampling import LengthSampler


def padding(lengths: np.ndarray, order: list[int], size: int) -> float:
    batches = [lengths[order[start : start + size]] for start in range(0, len(order), size)]
    return 1 - lengths.sum() / sum(len(batch) * batch.max() for batch in batches)


def test_each_row_once_with_little_padding_and_no_order_of_lengths():
    lengths = np.random.default_rng(0).geometric(0.1, 1003)
    sampler = LengthSampler(lengths, 16, seed=3)
    order = list(sampler)
    assert sorted(order) == list(range(1003)) and len(sampler) == 1003
    shuffled = np.random.default_rng(1).permutation(1003).tolist()
    assert padding(lengths, order, 16) < 0.15 < 0.5 < padding(lengths, shuffled, 16)
    means = [lengths[order[start : start + 16]].mean() for start in range(0, 992, 16)]
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 0.3  # batches come in any order


def test_an_epoch_depends_on_seed_and_epoch_alone():
    lengths, again = np.arange(100), LengthSampler(np.arange(100), 8, seed=3)
    sampler = LengthSampler(lengths, 8, seed=3)
    first = list(sampler)
    torch.manual_seed(0)
    assert list(again) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    again.set_epoch(1)
    assert list(sampler) == list(again)


class Lengths(nn.Module):
    """Predicts the sum of a row's words."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.seen: list[list[int]] = []

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> SequenceClassifierOutput:
        if self.training:
            self.seen.append((input_ids > 0).sum(dim=1).tolist())
        logits = (input_ids.sum(dim=1, keepdim=True)) * self.scale
        return SequenceClassifierOutput(loss=((logits[:, 0] - labels) ** 2).mean() * 0, logits=logits)


class Encoder:
    """Counts the rows that are encoded; knows lengths without encoding any."""

    max_length, encoded = 100, 0

    def encode_row(self, row, skip=frozenset()):
        self.encoded += 1
        return {"input_ids": [1] * row["words"], "labels": float(row["words"])}

    def text_lengths(self, rows):
        return np.array(rows["words"])


def collate(rows):
    longest = max(len(row["input_ids"]) for row in rows)
    ids = [row["input_ids"] + [0] * (longest - len(row["input_ids"])) for row in rows]
    return {"input_ids": torch.tensor(ids), "labels": torch.tensor([row["labels"] for row in rows])}


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
def test_the_trainer_groups_rows_that_know_their_lengths_and_predicts_in_their_order(tmp_path, strategy):
    words = np.random.default_rng(0).permutation(np.repeat(np.arange(1, 17), 8))
    encoder = Encoder()
    rows = EncodedDataset(datasets.Dataset.from_dict({"words": words.tolist()}), encoder.encode_row)
    arguments = MMTabTrainingArguments(
        str(tmp_path),
        train_sampling_strategy=strategy,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=8,
        num_train_epochs=1,
        report_to="none",
        audit=False,
        remove_unused_columns=False,
        disable_tqdm=True,
    )
    trainer = MMTabTrainer(Lengths(), arguments, collate, rows)
    trainer.train()
    assert encoder.encoded == 128  # each row once: none is encoded to learn its length
    spread = np.mean([max(batch) - min(batch) for batch in trainer.model.seen])
    assert spread == 0 if strategy == "group_by_length" else spread > 5
    assert trainer.predict(rows).predictions[:, 0].tolist() == words.tolist()

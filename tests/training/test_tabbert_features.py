"""The frozen encoder of a TabBERT head runs once per window, and the results equal recomputing."""

import pytest
import torch
from toy import largest_difference, toy_arguments, weights

from hf_mmtab.models.tabbert import TabBertConfig, TabBertLstmForSequenceClassification
from hf_mmtab.training import MMTabTrainer


class Windows(torch.utils.data.Dataset):
    """Windows of 2 to 5 rows with 3 columns."""

    fingerprint = "windows"

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.windows = [
            torch.stack([torch.randint(start, end, (2 + i % 4,), generator=generator) for start, end in FIELDS], dim=1)
            for i in range(24)
        ]

    def __len__(self):
        return len(self.windows)

    def __getitem__(self, index):
        return {"input_ids": self.windows[index], "labels": index % 2}


FIELDS = [(4, 9), (9, 19), (19, 39)]


def collate(rows):
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.zeros(len(rows), longest, 3, dtype=torch.long)
    for padded, row in zip(ids, rows, strict=True):
        padded[: len(row["input_ids"])] = row["input_ids"]
    mask = ids.ne(0).any(dim=-1).long()
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([row["labels"] for row in rows])}


def train(folder, flatten, **changes):
    torch.manual_seed(0)
    sizes = {"field_hidden_size": 8, "field_num_heads": 2, "hidden_size": 16, "num_hidden_layers": 2}
    config = TabBertConfig(
        fields=["city", "amount", "shop"],
        field_ranges=[list(pair) for pair in FIELDS],
        vocab_size=39,
        num_attention_heads=2,
        intermediate_size=32,
        flatten=flatten,
        **sizes,
    )
    model = TabBertLstmForSequenceClassification(config)
    args = toy_arguments(folder, freeze={"encoder": "3 epochs"}, num_train_epochs=4, learning_rate=1e-3, **changes)
    trainer = MMTabTrainer(model, args, train_dataset=Windows(), data_collator=collate)
    calls, encode = [0], type(model).encode

    def counted(self, *inputs, **named):
        calls[0] += 1
        return encode(self, *inputs, **named)

    type(model).encode = counted
    try:
        trainer.train()
    finally:
        type(model).encode = encode
    return trainer, calls[0]


@pytest.mark.parametrize("flatten", [False, True])
def test_stored_row_states_equal_recomputing_with_windows_of_all_lengths(tmp_path, flatten):
    cached, few = train(tmp_path / "cached", flatten, feature_cache=True)
    plain, many = train(tmp_path / "plain", flatten)
    assert (few, many) == (1 + 3 + 6, 4 * 6)
    assert largest_difference(weights(cached.model), weights(plain.model)) < 1e-6
    assert cached.audit.explain("encoder").startswith("The rest of encoder has trained since step 18")

"""Run on two processes: each process writes the first rows of the windows that its loaders hand out in an epoch."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

from hf_mmtab.data.windows.shard_sampling import shard_sampler
from hf_mmtab.data.windows.sharded_rows import ShardedRows
from hf_mmtab.data.windows.splits import windows
from hf_mmtab.training import MMTabTrainer, MMTabTrainingArguments


def first_rows(items: list[dict]) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([int(item["places"][0]) for item in items])[:, None]}


def main(folder: Path, out: Path) -> None:
    rows = ShardedRows(folder)
    train = windows(rows, "train", seq_len=3, stride=1)
    train.beside = {"places": np.arange(len(rows))}
    arguments = MMTabTrainingArguments(
        str(out), per_device_train_batch_size=5, dataloader_num_workers=2, report_to="none", remove_unused_columns=False
    )
    size = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    trainer = MMTabTrainer(
        BertForSequenceClassification(size),
        arguments,
        data_collator=first_rows,
        train_dataset=train,
        train_sampler=shard_sampler(train, seed=4),
    )
    loader = trainer.get_train_dataloader()
    epochs = []
    for epoch in range(2):
        loader.set_epoch(epoch)
        epochs.append([int(row) for batch in loader for row in batch["input_ids"].flatten()])
    (out / f"seen-{arguments.process_index}.json").write_text(json.dumps(epochs))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

"""Fraud from a CSV of payments, end to end in Python: pretrain TabBERT, train a head, score the latest rows.

python scripts/examples/fraud_from_a_csv.py                                    # a small simulated table
python scripts/examples/fraud_from_a_csv.py payments.csv --entity account --label fraud
"""

import argparse
from pathlib import Path

import polars as pl
from transformers import pipeline

from hf_mmtab import (
    MMTabTrainer,
    MMTabTrainingArguments,
    TabBertCollator,
    TabBertConfig,
    TabBertForMaskedLM,
    TabBertLstmForSequenceClassification,
    TabBertProcessor,
    Table,
)
from hf_mmtab.data.shards.preparing import prepare_rows
from hf_mmtab.data.windows.splits import windows
from hf_mmtab.models.tabbert.processing.plan_guess import infer_plan

SEQ_LEN = 16  # rows of a window


def simulated(path: Path) -> Path:
    """Write payments in which a purchase at a new shop within the hour of another one is fraud."""
    import numpy as np

    rng = np.random.default_rng(0)
    rows = []
    for account in range(60):
        usual, when = rng.choice(40, 3, replace=False), 0.0
        for _ in range(100):
            fraud = rng.random() < 0.03
            when += rng.exponential(0.3 if fraud else 20)
            shop = f"shop {rng.integers(40, 80) if fraud else rng.choice(usual)}"
            rows.append((f"a{account}", when, shop, round(float(rng.lognormal(3, 1)), 2), "yes" if fraud else "no"))
    table = pl.DataFrame(rows, schema=["account", "hours", "shop", "amount", "fraud"], orient="row")
    booked = pl.datetime(2024, 1, 1) + pl.duration(seconds=(pl.col("hours") * 3600).cast(pl.Int64))
    table.with_columns(booked_at=booked).drop("hours").sort("booked_at").write_csv(path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", nargs="?", type=Path)
    parser.add_argument("--entity", default="account")
    parser.add_argument("--label", default="fraud")
    parser.add_argument("--out", type=Path, default=Path("outputs/fraud_from_a_csv"))
    parser.add_argument("--epochs", type=float, default=3)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.table or simulated(options.out / "payments.csv")

    reader = Table(path)
    reader.download_and_prepare()
    table = reader.as_dataset(split="train")
    plan = infer_plan(table.to_polars(), [options.entity], None, [options.label])  # edit it: plan.edit(fields={…})
    processor = TabBertProcessor(plan)
    rows = prepare_rows(table, processor, options.out / "rows", split="time")  # fits it on the training rows

    def train(model, data, collator, name, epochs):
        arguments = MMTabTrainingArguments(
            str(options.out / name),
            num_train_epochs=epochs,
            per_device_train_batch_size=16,
            learning_rate=2e-3,
            remove_unused_columns=False,
            save_strategy="no",
            report_to="none",
            freeze={"encoder": "forever"} if name == "head" else None,
        )
        trainer = MMTabTrainer(model, arguments, data_collator=collator, train_dataset=data, processing_class=processor)
        trainer.train()
        trainer.save_model()
        return trainer

    sizes = {"field_hidden_size": 16, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"field_num_heads": 4, "intermediate_size": 128, "next_row": True, "seq_len": SEQ_LEN}
    encoder = TabBertForMaskedLM(TabBertConfig(**processor.config_kwargs(), **sizes))
    collator = TabBertCollator(processor, mlm=True, next_row=True)
    train(encoder, windows(rows, "train", SEQ_LEN, stride=8), collator, "encoder", options.epochs)

    names = rows.label_names
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    head = TabBertLstmForSequenceClassification.from_pretrained_encoder(
        str(options.out / "encoder"), processor.fingerprint, window_label="every", label_level="row", **labels
    )
    judged = windows(rows, "train", SEQ_LEN, stride=8, label="every")
    train(head, judged, TabBertCollator(processor, row_labels=True), "head", options.epochs)

    score = pipeline("tabular-sequence-classification", model=str(options.out / "head"), device="cpu")
    order = [options.entity, str(plan.time)]
    histories = table.to_polars().sort(order).partition_by(options.entity, maintain_order=True)
    for history, answer in zip(histories[:3], score(histories[:3], top_k=None), strict=True):
        print(history[options.entity][0], {one["label"]: round(one["score"], 4) for one in answer})


if __name__ == "__main__":
    main()

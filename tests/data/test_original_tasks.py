"""The original's three tasks: its files, its label order, its missing pictures."""

import json
from pathlib import Path

import datasets
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import BertTokenizer

from hf_mmtab.data.encoded import EncodedDataset
from hf_mmtab.data.image_text import ImageText
from hf_mmtab.data.original_tasks import MMIMDB, VSNLI, Food101
from hf_mmtab.models.mmbt.collating_mmbt import MMBTCollator
from hf_mmtab.models.mmbt.image_processing_mmbt import LEGACY_MEAN, LEGACY_STD
from hf_mmtab.models.mmbt.processing_mmbt import MMBTProcessor


def build(builder: datasets.DatasetBuilder) -> datasets.DatasetDict:
    builder.download_and_prepare()
    return builder.as_dataset()


def test_mmimdb_has_the_originals_rows_and_label_order(golden, tmp_path):
    splits = build(MMIMDB(golden / "mmbt" / "data", cache_dir=str(tmp_path)))
    assert {name: len(rows) for name, rows in splits.items()} == {
        "train": 7, "validation": 7, "test": 7, "test_hard_gt": 7
    }  # fmt: skip
    expected = json.loads((golden / "mmbt" / "data" / "expected.json").read_text())["mmbt"]
    train = splits["train"]
    assert train.features["labels"].feature.names == expected["labels"]
    names = expected["labels"]
    counts = {name: sum(names.index(name) in row for row in train["labels"]) for name in names}
    assert counts == expected["label_freqs"]
    undecoded = train.cast_column("image", datasets.Image(decode=False))
    assert [row["image"] is None for row in undecoded] == [False] * 5 + [True] * 2
    assert train[1]["text"] == "Café déjà-vu?  MOVIE-night's cat, red,blue." and train[1]["id"] == 1


def test_builder_processor_and_collator_together_give_the_originals_batch(golden, tmp_path):
    rows = build(MMIMDB(golden / "mmbt" / "data", cache_dir=str(tmp_path / "cache")))["test"]
    BertTokenizer.from_pretrained(golden / "mmbt").save_pretrained(tmp_path / "bert")
    processor = MMBTProcessor.from_text_image_pretrained(
        str(tmp_path / "bert"), "torchvision:resnet152", preset="legacy", max_length=512
    )
    collate = MMBTCollator(processor, num_labels=5)
    batch = next(iter(DataLoader(EncodedDataset(rows, processor.encode_row), 7, collate_fn=collate)))
    expected = load_file(golden / "mmbt" / "data" / "expected.safetensors")
    assert torch.equal(batch["input_ids"], expected["mmbt.len512.txt"])
    assert torch.equal(batch["attention_mask"], expected["mmbt.len512.mask"])
    assert torch.equal(batch["labels"], expected["mmbt.len512.tgt"])
    mean, std = torch.tensor(LEGACY_MEAN)[:, None, None], torch.tensor(LEGACY_STD)[:, None, None]
    levels = (batch["pixel_values"] * std + mean) * 255  # (7, 3, 224, 224)
    assert (levels - expected["mmbt.len512.img"].float()).abs().max() <= 2


def test_vsnli_has_pairs_and_the_originals_label_order(golden, tmp_path):
    splits = build(VSNLI(golden / "mmbt" / "data", cache_dir=str(tmp_path)))
    assert sorted(splits) == ["test", "test_hard", "train", "validation"]
    assert splits["train"].features["label"].names == ["entailment", "neutral", "contradiction"]
    assert splits["train"].column_names == ["image", "sentence1", "sentence2", "label"]
    assert splits["train"][3]["sentence2"] == "x" and splits["train"][0]["image"].size == (300, 200)


@pytest.mark.parametrize("key", ["img", "image"])
def test_food101_accepts_both_keys_for_the_picture(tmp_path, key):
    folder = tmp_path / "food101"
    folder.mkdir()
    for name in ("train", "dev", "test"):
        rows = [{"text": "ramen recipe", key: None, "label": label} for label in ("ramen", "baklava", "ramen")]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = build(Food101(tmp_path, cache_dir=str(tmp_path / "cache")))
    assert splits["train"].features["label"].names == ["ramen", "baklava"]
    assert splits["test"]["label"][:] == [0, 1, 0] and splits["test"][0]["image"] is None


def test_builders_of_different_tasks_do_not_share_a_cache(golden, tmp_path):
    folder = golden / "mmbt" / "data" / "mmimdb"
    names = {}
    for kind in (MMIMDB, ImageText):
        builder = kind(folder, cache_dir=str(tmp_path))
        names[builder.cache_dir] = build(builder)["train"].features["labels"].feature.names
    assert sorted(names.values()) == [["L0", "L1", "L2", "L3", "L4"], ["L0", "L1", "L3", "L2", "L4"]]


def test_every_builder_has_a_data_card():
    for builder in (MMIMDB, VSNLI, Food101):
        for word in ("Rows:", "Columns:", "Classes:", "Layout:", "Licence:", "Source:"):
            assert word in builder.__doc__


def test_openclipart_is_read_and_encoded(shared_data: Path, tmp_path):
    splits = build(ImageText(shared_data / "openclipart", cache_dir=str(tmp_path)))
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 1976, "validation": 292, "test": 572}
    rows = EncodedDataset(splits["test"], lambda row, skip: {"path": row["image"]["path"]})
    assert Path(rows[0]["path"]).is_file() and len(rows) == 572

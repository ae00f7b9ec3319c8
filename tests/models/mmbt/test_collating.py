"""MMBTCollator: padding, labels, cached regions, and what is random."""

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import BertTokenizer

from hf_mmtab.models.mmbt.collating_mmbt import MMBTCollator
from hf_mmtab.models.mmbt.processing_mmbt import MMBTProcessor


@pytest.fixture(scope="module")
def processor() -> MMBTProcessor:
    words = ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "[PAD]"]
    return MMBTProcessor(None, BertTokenizer(vocab={word: index for index, word in enumerate(words)}))


def row(length: int = 3, label=1, **changes) -> dict:
    pixels = torch.arange(3 * 4 * 6, dtype=torch.float32).view(3, 4, 6)
    ids = {"input_ids": [4] * length, "attention_mask": [1] * length, "token_type_ids": [1] * length}
    return {**ids, "pixel_values": pixels, "image_mask": 1, "labels": label, **changes}


def test_texts_are_padded_to_the_longest_with_the_tokenizers_id(processor):
    batch = MMBTCollator(processor)([row(2), row(4, image_mask=0)])
    assert batch["input_ids"].tolist() == [[4, 4, 5, 5], [4, 4, 4, 4]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch["token_type_ids"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch["pixel_values"].shape == (2, 3, 4, 6) and batch["image_mask"].tolist() == [1, 0]
    assert batch["labels"].tolist() == [1, 1] and batch["labels"].dtype == torch.long


def test_lengths_can_be_rounded_up(processor):
    assert MMBTCollator(processor, pad_to_multiple_of=8)([row(3)])["input_ids"].shape == (1, 8)
    assert MMBTCollator(processor, pad_to_multiple_of=8)([row(8)])["input_ids"].shape == (1, 8)


def test_a_batch_of_empty_texts_has_one_masked_token(processor):
    batch = MMBTCollator(processor)([row(0), row(0)])
    assert batch["input_ids"].tolist() == [[5], [5]] and batch["attention_mask"].sum() == 0


def test_several_labels_become_zeros_and_ones(processor):
    batch = MMBTCollator(processor, num_labels=4)([row(label=[0, 3]), row(label=[])])
    assert batch["labels"].tolist() == [[1.0, 0.0, 0.0, 1.0], [0.0] * 4]
    with pytest.raises(ValueError, match="Expected num_labels, found None, but rows have lists of labels"):
        MMBTCollator(processor)([row(label=[0, 3])])


def test_cached_regions_pass_through_in_place_of_pixels(processor):
    rows = [{**row(), "image_regions": torch.full((3, 8), float(i))} for i in range(2)]
    for one in rows:
        del one["pixel_values"], one["labels"]
    batch = MMBTCollator(processor)(rows)
    assert batch["image_regions"].shape == (2, 3, 8) and "pixel_values" not in batch and "labels" not in batch


def test_pictures_of_different_sizes_are_an_error(processor):
    with pytest.raises(ValueError, match=r"Expected pictures of one size, found \[\(3, 4, 6\), \(3, 5, 5\)\]"):
        MMBTCollator(processor)([row(), row(pixel_values=torch.zeros(3, 5, 5))])


def test_only_rows_marked_for_it_are_augmented_and_the_seed_decides(processor):
    rows = [row(augment=True) for _ in range(40)] + [row() for _ in range(40)]
    original = row()["pixel_values"]
    for augment in ("flip", "crop"):
        collator = MMBTCollator(processor, augment=augment)
        torch.manual_seed(0)
        first = collator(rows)["pixel_values"]
        torch.manual_seed(0)
        assert torch.equal(first, collator(rows)["pixel_values"])
        assert not torch.equal(first, collator(rows)["pixel_values"])
        changed = torch.tensor([not torch.equal(picture, original) for picture in first])
        assert changed[:40].any() and not changed[40:].any()
        assert first.shape == (80, 3, 4, 6) and collator.random_inputs == {"pixel_values"}
    plain = MMBTCollator(processor)
    assert (plain(rows)["pixel_values"] == original).all() and plain.random_inputs == frozenset()


def test_a_flip_mirrors_left_and_right(processor):
    flipped = MMBTCollator(processor, augment="flip")([row(augment=True) for _ in range(20)])["pixel_values"]
    original = row()["pixel_values"]
    assert all(torch.equal(p, original) or torch.equal(p, original.flip(-1)) for p in flipped)


def test_workers_differ_from_each_other_but_not_from_a_second_run(processor):
    rows = [row(augment=True, label=i) for i in range(32)]
    collator = MMBTCollator(processor, augment="crop")

    def run() -> torch.Tensor:
        generator = torch.Generator().manual_seed(5)
        loader = DataLoader(rows, 8, collate_fn=collator, num_workers=2, generator=generator)
        return torch.cat([batch["pixel_values"] for batch in loader])

    first = run()
    assert torch.equal(first, run()) and not torch.equal(first[:8], first[8:16])


def test_wrong_settings_are_named(processor):
    with pytest.raises(ValueError, match=r"augment to be one of \['none', 'flip', 'crop'\], found 'rotate'"):
        MMBTCollator(processor, augment="rotate")
    with pytest.raises(ValueError, match=r"Expected min_crop above 0 and at most 1, found 1\.5"):
        MMBTCollator(processor, augment="crop", min_crop=1.5)

"""Several pictures of a row: how they are encoded, padded and told apart."""

import copy
from types import SimpleNamespace

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from PIL import Image
from tiny_backbones import TEXT_CONFIGS, plain_batch, tiny_baseline, tiny_batch, tiny_mmbt
from torch.testing import assert_close

from hf_mmtab.data.encoded import EncodedDataset
from hf_mmtab.image_text_baselines.frozen_linear import read_pictures
from hf_mmtab.models.mmbt import MMBTCollator, MMBTConfig, MMBTImageProcessor, MMBTProcessor
from hf_mmtab.models.mmbt.modality_dropout import drop_modalities
from hf_mmtab.tasks.fitted_lengths import choose_max_images


def several(batch: int = 2, pictures: int = 2, **kwargs) -> dict:
    """Two pictures a row; the last row has one."""
    found = tiny_batch(batch, **kwargs)
    generator = torch.Generator().manual_seed(2)
    found["pixel_values"] = torch.randn(batch, pictures, 3, 32, 32, generator=generator)
    found["image_mask"] = torch.ones(batch, pictures, dtype=torch.long)
    found["image_mask"][-1, 1:] = 0
    return found


@pytest.mark.parametrize("text", ["bert", "roberta", "distilbert", "modernbert", "deberta-v2"])
def test_the_second_picture_and_the_order_of_pictures_count(text):
    model, batch = tiny_mmbt(text, max_images=2), several()
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() == 2:
                weights *= 5  # random weights of usual size hardly tell an input from another
    first = model(**batch).logits
    other = {**batch, "pixel_values": batch["pixel_values"].clone()}
    other["pixel_values"][:, 1] = torch.randn(2, 3, 32, 32)
    assert (model(**other).logits - first).abs().amax(dim=1)[0] > 1e-6
    assert_close(model(**other).logits[1], first[1])  # its second picture is not there
    turned = {**batch, "pixel_values": batch["pixel_values"].flip(1)}
    assert (model(**turned).logits - first).abs().amax(dim=1)[0] > 1e-6


@pytest.mark.parametrize("text", TEXT_CONFIGS)
def test_nothing_depends_on_the_other_rows_of_a_batch(text):
    model, batch = tiny_mmbt(text, max_images=3, number_columns=["price"]), several()
    batch["column_numbers"] = torch.tensor([[[0.5, 0.0]], [[0.1, 0.0]]])
    alone = {name: value[1:] for name, value in batch.items()}
    alone |= {"pixel_values": alone["pixel_values"][:, :1], "image_mask": alone["image_mask"][:, :1]}
    assert_close(model(**alone).logits, model(**batch).logits[1:], rtol=1e-4, atol=1e-5)


def test_tokens_are_those_of_every_picture_and_absent_ones_are_masked_or_learned():
    batch = several()
    states = tiny_mmbt(max_images=2, num_image_embeds=2)(**batch, output_hidden_states=True).hidden_states[-1]
    assert states.shape[1] == 1 + 2 * 2 + 1 + 7  # [CLS], 2 regions of 2 pictures, [SEP], 7 words
    model = tiny_mmbt(max_images=2, null_image="learned")
    before = model(**batch).logits
    with torch.no_grad():
        model.model.null_image += torch.randn(32)
    after = model(**batch).logits
    assert_close(before[0], after[0])
    assert (before[1] - after[1]).abs().max() > 1e-6


def test_a_model_of_one_picture_reads_it_with_an_axis_of_pictures_too_and_its_weights_fit_several():
    one, batch = tiny_mmbt(), {**tiny_batch(), "image_mask": torch.tensor([1, 0])}
    config = {name: value for name, value in one.config.to_dict().items() if name != "max_images"}
    assert MMBTConfig(**config).max_images == 1  # a checkpoint that was saved without the key
    expected = one(**batch).logits
    with_axis = {**batch, "pixel_values": batch["pixel_values"][:, None], "image_mask": batch["image_mask"][:, None]}
    assert_close(one(**with_axis).logits, expected)
    more = tiny_mmbt(max_images=3)
    more.load_state_dict(one.state_dict())  # the same weights
    none = {name: value for name, value in batch.items() if "image" not in name and "pixel" not in name}
    empty = {**none, "token_type_ids": torch.ones(2, 7, dtype=torch.long)}
    assert_close(more(**batch).logits[1], more(**empty).logits[1])


def test_only_pictures_that_are_there_go_through_the_image_model_and_stored_regions_equal_them():
    model, batch = tiny_mmbt(max_images=2), several()
    expected, seen = model(**batch).logits, []
    hook = model.model.image_model.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    model(**batch)
    model(**{**batch, "image_mask": torch.zeros(2, 2)})  # none: one runs all the same, so that batch norm has a batch
    hook.remove()
    assert seen == [3, 1]
    regions = model.get_image_features(batch.pop("pixel_values"))
    assert regions.shape[:2] == (2, 2 * 3)
    assert_close(model(**batch, image_regions=regions).logits, expected)
    model.train()(**several(), labels=torch.tensor([0, 1])).loss.backward()
    assert model.model.image_model.get_parameter("embedder.embedder.convolution.weight").grad.abs().sum() > 0


@pytest.mark.parametrize("kind", ["img", "concatbow", "concatbert"])
def test_baselines_average_the_pictures_that_are_there(kind):
    model, batch = tiny_baseline(kind, max_images=2), {**several(), "token_type_ids": torch.zeros(2, 7).long()}
    found = model(**batch).logits
    one = plain_batch() | {"pixel_values": batch["pixel_values"][:, 0]}
    assert_close(found[1], model(**one).logits[1])
    regions = model.get_image_features(batch["pixel_values"]).unflatten(1, (2, -1)).mean(dim=1)
    assert_close(found[0], model(**{**one, "pixel_values": None, "image_regions": regions}).logits[0])


def test_more_pictures_than_the_model_reads_are_refused():
    with pytest.raises(ValueError, match=r"at most 1 pictures a row .*found pictures of shape \(2, 2, 3, 32, 32\)"):
        tiny_mmbt()(**several())
    batch = several()
    batch["image_mask"] = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"Expected an image_mask for each picture.*image_mask of shape \(2, 3\)"):
        tiny_mmbt(max_images=3)(**batch)
    with pytest.raises(StrictDataclassClassValidationError, match="max_images must be between 1 and 1000, got 0"):
        MMBTConfig(max_images=0)


def test_pictures_of_a_row_are_dropped_together():
    image_mask = torch.tensor([[1, 1], [1, 0], [0, 0]] * 100)
    image, text = drop_modalities(image_mask, torch.ones(300, 4), 0.5, 1.0)
    rows = {tuple(one) for one in image.tolist()}
    assert rows == {(1, 1), (1, 0), (0, 0)}
    assert text.any(dim=1).tolist() == (~image.bool().any(dim=1)).tolist()


@pytest.fixture
def processor():
    size = {"height": 8, "width": 8}
    return MMBTProcessor(MMBTImageProcessor(size=size, crop_size=size), max_images=3)


def picture(colour: int) -> Image.Image:
    return Image.new("RGB", (9, 7), (colour, 0, 0))


def test_lists_are_encoded_padded_and_cut(processor):
    found = processor(images=[[picture(0), picture(250)], None, [picture(9)] * 5, picture(7)])
    assert found["pixel_values"].shape == (4, 3, 3, 8, 8)
    assert found["image_mask"].tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 1], [1, 0, 0]]
    assert not found["pixel_values"][0, 2].any() and not found["pixel_values"][1].any()
    rows = [{"images": [None, picture(250)]}, {"images": []}, {"image": picture(0)}]
    encoded = [processor.encode_row(row) for row in rows]
    assert [row["image_mask"] for row in encoded] == [[0, 1], [0], [1]]
    batch = MMBTCollator(processor)(encoded)
    assert batch["pixel_values"].shape == (3, 2, 3, 8, 8) and batch["image_mask"].tolist() == [[0, 1], [0, 0], [1, 0]]
    assert_close(batch["pixel_values"][0, 1], found["pixel_values"][0, 1])
    assert processor.encode_row(rows[0], frozenset({"pixel_values"})) == {"image_mask": [0, 1]}


def test_each_picture_of_a_row_is_changed_at_random_on_its_own(processor):
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    row = processor.encode_row({"images": [noise] * 3}) | {"augment": True}
    torch.manual_seed(0)
    found = MMBTCollator(processor, augment="flip")([copy.deepcopy(row) for _ in range(20)])["pixel_values"]
    turned = (found != row["pixel_values"]).flatten(2).any(dim=2)  # (rows, pictures)
    assert {tuple(one) for one in turned.tolist()} >= {(True, False, True), (False, True, False)}


def test_the_number_is_saved_and_a_processor_saved_without_it_reads_one(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    assert MMBTProcessor.from_pretrained(tmp_path).max_images == 3
    path = tmp_path / "processor_config.json"
    path.write_text(path.read_text().replace('"max_images": 3,', ""))
    one = MMBTProcessor.from_pretrained(tmp_path)
    assert one.max_images == 1 and one(images=[picture(0), [picture(1)]])["pixel_values"].shape == (2, 3, 8, 8)
    with pytest.raises(
        ValueError, match=r"Expected one picture a row, found 2: .* \(max_images of its processor is 1\)"
    ):
        one(images=[[picture(0), picture(1)]])
    with pytest.raises(ValueError, match="Expected max_images of at least 1, found 0"):
        MMBTProcessor(MMBTImageProcessor(), max_images=0)


def test_auto_reads_the_most_of_a_row_up_to_a_bound_and_says_what_it_leaves_out():
    def rows(counts):
        kind = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
        values = [None if count is None else [{"bytes": None, "path": "a.png"}] * count for count in counts]
        table = pa.table({"images": pa.array(values, kind)})
        return datasets.Dataset(table).cast(datasets.Features({"images": datasets.List(datasets.Image())}))

    chosen, told = choose_max_images(rows([1, 2, 3, None]), "auto")
    assert chosen == 3 and "50.0% of the training rows have more than one." in told
    chosen, told = choose_max_images(rows([12, 2, 0, 1]), "auto")
    assert chosen == 8 and "more than one, 25.0% more than 8, whose further ones are left out." in told
    assert choose_max_images(rows([1, 2]), "auto", before=4)[0] == 4
    assert choose_max_images(rows([1, 2]), 5)[0] == 5
    assert choose_max_images(datasets.Dataset.from_dict({"image": [None]}), "auto") == (1, None)


def test_frozen_features_without_a_store_are_the_mean_of_a_rows_own_pictures(processor):
    rows = [processor.encode_row({"images": [picture(30 * place) for place in range(count)]}) for count in (1, 3, 0, 2)]
    model = tiny_mmbt(max_images=3)
    trainer = SimpleNamespace(
        frozen_features=lambda *_: None,
        model=model,
        data_collator=MMBTCollator(processor),
        args=SimpleNamespace(device="cpu"),
    )
    found = read_pictures(trainer, rows)
    for one, row in zip(found, rows, strict=True):
        expected = model.get_image_features(row["pixel_values"]).mean(dim=(0, 1)).detach().numpy()
        np.testing.assert_allclose(one, expected, atol=1e-5)


def test_a_picture_has_one_key_whether_its_row_has_several_or_one(processor):
    one, two = ({"bytes": data, "path": None} for data in (b"one", b"two"))
    several = datasets.Features({"images": datasets.List(datasets.Image())})
    rows = datasets.Dataset.from_dict({"images": [[one, two], [], [two] * 4]}, features=several)
    pictures, ends = EncodedDataset(rows, processor.encode_row).single_pictures
    assert ends.tolist() == [2, 3, 6]  # one stands for none, and three of four are read
    assert [pictures.rows[place]["image"] for place in range(6)] == [one, two, None, two, two, two]
    single = datasets.Dataset.from_dict(
        {"image": [one, two, None]}, features=datasets.Features({"image": datasets.Image()})
    )
    of_single = EncodedDataset(single, processor.encode_row)
    assert of_single.single_pictures is None
    assert pictures.row_keys(["pixel_values"])[:3] == of_single.row_keys(["pixel_values"])

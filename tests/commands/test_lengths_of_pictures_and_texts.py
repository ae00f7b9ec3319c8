"""Numbers of a recipe that the text model or the data cannot follow are told before training."""

import json
import logging
import shutil

import pytest
import yaml
from transformers import (
    AutoTokenizer,
    RobertaConfig,
    RobertaModel,
    ViTConfig,
    ViTImageProcessor,
    ViTImageProcessorPil,
    ViTModel,
)

from hf_mmtab.arguments import ImageTextDataArguments, ImageTextRunArguments, MMBTModelArguments, TabBertHeadArguments
from hf_mmtab.commands import eval_checkpoint, predict
from hf_mmtab.commands.finetune import main
from hf_mmtab.commands.runs.part_lengths import _positions
from hf_mmtab.models.checked_config import MOST_LAYERS, MOST_UNITS
from hf_mmtab.models.mmbt import MMBTImageProcessor
from hf_mmtab.recipes import build
from hf_mmtab.reports.noted import is_information
from hf_mmtab.tasks import ImageTextTask
from hf_mmtab.tasks.fitted_lengths import picture_size_note

LONG = "text_model '.*' has 32 positions"


@pytest.fixture
def unread(monkeypatch):
    """Data that must not be read."""

    def load(*_, **__):
        raise AssertionError("the data was read")

    monkeypatch.setattr(ImageTextTask, "load", load)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--max_length", "64"], f"Expected max_length of at most 33 for mmbt, found 64: {LONG}"),
        (
            ["--max_length", "33", "--architecture", "concatbert"],
            f"Expected max_length of at most 32 for concatbert, found 33: {LONG}",
        ),
        (
            ["--architecture", "img", "--compare", "bert", "--max_length", "64"],
            "Expected max_length of at most 32 for bert, found 64",
        ),
        (
            ["--architecture", "ensemble", "--ensemble_members", "[bert, img]", "--max_length", "64"],
            "Expected max_length of at most 32 for bert, found 64",
        ),
        (
            ["--text_position_start", "20"],
            f"Expected max_length of at most 13 for mmbt, found 16: {LONG}, and mmbt reads texts from position 20 on",
        ),
        (
            ["--text_position_start", "40", "--max_length", "auto"],
            "Expected text_position_start of at most 29, found 40",
        ),
        (["--pad_to_multiple_of", "64"], "Expected pad_to_multiple_of that .* 15 .* at most 32, .* found 64, .* to 64"),
        (["--max_images", "40"], "Expected at most 32 tokens in mmbt's image part, .* found 42: .*max_images: 40"),
        (["--num_image_embeds", "9", "--max_images", "4"], "found 38: 9 of each picture .*, 4 pictures"),
    ],
)
def test_more_than_the_positions_of_the_text_model_is_refused_before_data_is_read(recipe, unread, given, message):
    with pytest.raises(ValueError, match=message):
        main([str(recipe), *given])


def test_the_most_that_fits_trains_on_texts_that_need_it(recipe, pictures, tmp_path):
    folder = tmp_path / "long"
    folder.mkdir()
    for split in ("train", "dev", "test"):
        rows = [json.loads(line) for line in (pictures / f"{split}.jsonl").read_text().splitlines()][:8]
        texts = [{**row, "text": "the sea " * 40, "img": str(pictures / row["img"])} for row in rows]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    main([str(recipe), "--data", str(folder), "--max_length", "33", "--num_train_epochs", "1"])
    # auto leaves room for what batches are rounded to: 31 positions are no multiple of 8
    auto = ["--max_length", "auto", "--text_position_start", "1", "--pad_to_multiple_of", "8"]
    main([str(recipe), "--data", str(folder), *auto, "--num_train_epochs", "1", "--output_dir", str(tmp_path / "auto")])
    notes = json.loads((tmp_path / "auto/results.json").read_text())["notes"]
    assert any("texts are read up to 24 word pieces" in note for note in notes)


def test_a_finished_run_is_read_without_its_text_model(recipe, tiny_text, tmp_path, capsys):
    shutil.copytree(tiny_text, tmp_path / "text")
    given = [str(recipe), "--text_model", str(tmp_path / "text"), "--num_train_epochs", "1"]
    main(given)
    (tmp_path / "text").rename(tmp_path / "elsewhere")
    said = capsys.readouterr().out
    main(given)
    assert capsys.readouterr().out.splitlines()[-1] in said
    with pytest.raises(FileNotFoundError, match="Expected a pretrained model"):
        main([*given, "--overwrite"])


def test_positions_are_counted_as_the_model_counts_them(tiny_text, tmp_path):
    assert _positions(tiny_text) == 32
    sizes = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    RobertaModel(RobertaConfig(**sizes, intermediate_size=8, max_position_embeddings=18)).save_pretrained(tmp_path)
    assert _positions(str(tmp_path)) == 16


def test_regions_that_only_the_image_model_tells_are_refused_before_training(recipe, tmp_path, monkeypatch):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    ViTModel(ViTConfig(**sizes, image_size=32, patch_size=4)).save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    monkeypatch.setattr("hf_mmtab.commands.runs.walk.Run.new_trainer", None)
    with pytest.raises(ValueError, match=r"at most 32 tokens .* found 66: 64 of each picture \(image_pooling: none\)"):
        main([str(recipe), "--image_model", str(tmp_path / "vit"), "--image_pooling", "none"])


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (ImageTextDataArguments, {"min_crop": 0}, "Expected min_crop to be above 0 and at most 1, found 0"),
        (ImageTextDataArguments, {"min_crop": 1.5}, "Expected min_crop to be above 0 and at most 1, found 1.5"),
        (MMBTModelArguments, {"num_image_embeds": 12}, "num_image_embeds to be at least 1 and at most 9, found 12"),
        (MMBTModelArguments, {"hidden_sizes": [8, 0]}, "hidden_sizes to be at least 1 .*, found 0"),
        (MMBTModelArguments, {"hidden_sizes": [MOST_UNITS + 1]}, f"at most {MOST_UNITS}, found {MOST_UNITS + 1}"),
        (MMBTModelArguments, {"max_images": MOST_LAYERS + 1}, f"max_images to be .* at most {MOST_LAYERS}, found"),
        (TabBertHeadArguments, {"mlp_hidden_sizes": [-4]}, "mlp_hidden_sizes to be at least 1, found -4"),
        (ImageTextRunArguments, {"seeds": [1, -1]}, "seeds to be at least 0 and at most 4294967295, found -1"),
    ],
)
def test_bounds_hold_when_the_recipe_is_read_for_values_of_lists_too(kind, values, message):
    needed = {"task": "image_text", "data": "x"} if kind is ImageTextDataArguments else {}
    with pytest.raises(ValueError, match=message):
        build([kind], {**needed, **values})


@pytest.fixture
def second_pictures(pictures, tmp_path):
    """Lists of one picture a row, of two in row 6 of the test split."""
    folder = tmp_path / "lists"
    folder.mkdir()
    for split in ("train", "dev", "test"):
        rows = [json.loads(line) for line in (pictures / f"{split}.jsonl").read_text().splitlines()]
        for number, row in enumerate(rows, start=1):
            name = str(pictures / row.pop("img"))
            row["images"] = [name] * (2 if (split, number) == ("test", 6) else 1)
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_more_pictures_outside_of_training_are_told_before_training(
    recipe, second_pictures, finished_pictures, tmp_path, monkeypatch
):
    told = r"found 2: .*, and row 6 of the split test has .*test-5\.png.* 1 of 16 rows do\. .*max_images: 2\."
    with monkeypatch.context() as patch:
        patch.setattr("hf_mmtab.commands.runs.walk.Run.new_trainer", None)
        with pytest.raises(ValueError, match=told):
            main([str(recipe), "--data", str(second_pictures)])
    main([str(recipe), "--data", str(second_pictures), "--max_images", "2", "--num_train_epochs", "1"])  # the remedy
    # where scoring would have met the row, it is told before any row is read
    monkeypatch.setattr("hf_mmtab.models.mmbt.processing_mmbt.read_image", None)
    with pytest.raises(ValueError, match=r"row 6 of the data has .*test-5\.png"):
        predict.main([str(finished_pictures), str(second_pictures / "test.jsonl"), str(tmp_path / "out.csv")])
    with pytest.raises(ValueError, match=r"row 6 of the data has .*test-5\.png"):
        eval_checkpoint.main([str(finished_pictures), str(second_pictures), "--out", str(tmp_path / "judged")])


@pytest.mark.slow
def test_what_is_cut_outside_of_training_is_a_note(recipe, second_pictures, tmp_path, caplog, monkeypatch):
    for split, counts in (("train", [2] * 48), ("test", [2] * 12 + [3] * 4)):
        path = second_pictures / f"{split}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        several = [{**row, "images": row["images"][:1] * count} for row, count in zip(rows, counts, strict=True)]
        path.write_text("".join(json.dumps(row) + "\n" for row in several))
    main([str(recipe), "--data", str(second_pictures), "--num_train_epochs", "1"])
    notes = json.loads((tmp_path / "run/results.json").read_text())["notes"]
    told = "More than 2 pictures have 25.0% of the test rows (the first is row 13): the further ones are left out."
    assert told in notes
    monkeypatch.setattr(logging.getLogger("hf_mmtab"), "propagate", True)
    predict.main([str(tmp_path / "run"), str(second_pictures / "test.jsonl"), str(tmp_path / "out.csv")])
    assert told.replace("the test rows", "the given rows") in caplog.text
    eval_checkpoint.main(
        [str(tmp_path / "run"), str(second_pictures), "--out", str(tmp_path / "judged"), "--no_ablation"]
    )
    assert told in json.loads((tmp_path / "judged" / "results.json").read_text())["notes"]


@pytest.mark.parametrize("architecture", ["bert", "mmbt"])
def test_a_tokenizer_without_a_first_word_is_named_before_rows_are_read(recipe, tmp_path, architecture):
    values = yaml.safe_load(recipe.read_text())
    place = shutil.copytree(values["text_model"], tmp_path / "no_cls")
    tokenizer = AutoTokenizer.from_pretrained(place)
    tokenizer.cls_token = tokenizer.bos_token = None
    tokenizer.save_pretrained(place)
    assert AutoTokenizer.from_pretrained(place).cls_token is None
    with pytest.raises(ValueError, match="Expected a text_model whose tokenizer has a cls_token or bos_token, found"):
        main([str(recipe), "--text_model", str(place), "--architecture", architecture])


@pytest.mark.parametrize(
    ("processor", "told"),
    [
        (MMBTImageProcessor(), "224 × 224 pixels, the middle of a picture whose short edge is 256, as image_model"),
        (ViTImageProcessorPil(size={"height": 96, "width": 64}), "96 × 64 pixels, as image_model was trained; another"),
    ],
)
def test_the_size_at_which_pictures_are_read_is_said(processor, told):
    note = picture_size_note(processor)
    assert note.startswith(f"picture size: {told}") and is_information(note)


def test_a_run_says_the_size_of_its_pictures(finished_pictures):
    notes = json.loads((finished_pictures / "results.json").read_text())["notes"]
    assert sum(note.startswith("picture size: ") for note in notes) == 1

"""A run whose label hangs on the second picture of a row: from recipe to prediction."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoModelForSequenceClassification, AutoProcessor, pipeline

from hf_mmtab.commands import eval_checkpoint, export, predict
from hf_mmtab.commands.finetune import main
from hf_mmtab.data.image_text import ImageText
from hf_mmtab.data.reading.records import BadRecordError
from hf_mmtab.demo import make_demo
from hf_mmtab.explaining import explain

GIVEN = ["--learning_rate", "3.0e-3", "--num_train_epochs", "10", "--freeze", "{image_encoder: forever}"]


def write_shop(folder, pictures):
    """The label is the colour of the second picture; a row has one to three, and the first tells nothing."""
    rng = np.random.default_rng(1)
    folder.mkdir()
    for split, size in (("train", 200), ("dev", 40), ("test", 40)):
        records = []
        for index in range(size):
            is_red = rng.random() < 0.5
            colours = [rng.integers(2), is_red, rng.integers(2)][: 2 + (index % 4 == 0)]
            images = [str(pictures / f"img/{split}-{2 * rng.integers(8) + colour}.png") for colour in colours]
            records.append({"images": images, "text": "the old sea", "label": "red" if is_red else "blue"})
        if split != "test":
            records[0]["images"], records[1]["images"] = [], None  # a row without a picture
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    return folder


@pytest.fixture
def shop(pictures, tmp_path):
    return write_shop(tmp_path / "shop", pictures)


def red(folder):
    return pq.read_table(folder)["probability_red"].to_numpy()


@pytest.mark.slow
def test_the_second_picture_is_learned_saved_judged_and_predicted_with(recipe, shop, tmp_path, capsys):
    recipe.write_text(recipe.read_text().replace("ablation: false", "ablation: true"))
    main([str(recipe), "--data", str(shop), *GIVEN, "--compare", "concatbert", "frozen_linear"])
    run = tmp_path / "run/mmbt-seed1"
    results = json.loads((run / "results.json").read_text())
    assert results["metrics"]["test"]["accuracy"] > 0.9
    fall = {(one["modality"], one["how"]): one["intact"] - one["value"] for one in results["ablation"]}
    assert fall["image", "shuffle"] > 0.2 > fall["text", "shuffle"]
    told = "max_images: auto: up to 3 pictures of a row are read; 99.0% of the training rows have more than one."
    assert told in capsys.readouterr().err + "".join(results["notes"])
    assert told in (run / "report/report.html").read_text()
    averaged = json.loads((tmp_path / "run/concatbert-seed1/results.json").read_text())
    # an average cannot tell the second from the others
    assert averaged["metrics"]["test"]["accuracy"] < results["metrics"]["test"]["accuracy"]
    assert 'images=[[Image.open("first.jpg"), Image.open("second.jpg")]]' in (run / "README.md").read_text()

    processor = AutoProcessor.from_pretrained(run)
    model = AutoModelForSequenceClassification.from_pretrained(run)
    assert processor.max_images == model.config.max_images == 3
    expected = red(run / "predictions/test.parquet")
    for out in ("out.parquet", "out.csv"):
        predict.main([str(run), str(shop / "test.jsonl"), str(tmp_path / out), "--batch_size", "3"])
    np.testing.assert_allclose(red(tmp_path / "out.parquet"), expected, atol=1e-5)
    eval_checkpoint.main([str(run), str(shop), "--out", str(tmp_path / "again"), "--no_reasons"])
    np.testing.assert_allclose(red(tmp_path / "again/predictions/test.parquet"), expected, atol=1e-5)

    records = [json.loads(line) for line in (shop / "test.jsonl").read_text().splitlines()]
    examples = [{"images": one["images"], "text": one["text"]} for one in records[:3]]
    classify = pipeline("image-text-classification", model=str(run))
    answers = classify(examples, batch_size=3, top_k=None)
    found = [{one["label"]: one["score"] for one in answer}["red"] for answer in answers]
    np.testing.assert_allclose(found, expected[:3], atol=1e-5)
    inputs = processor(images=[one["images"] for one in records[:3]], text=[one["text"] for one in records[:3]])
    assert inputs["pixel_values"].shape[:2] == inputs["image_mask"].shape == (3, 3)
    np.testing.assert_allclose(model(**inputs).logits.softmax(-1)[:, 1].detach(), expected[:3], atol=1e-5)
    reasons = explain(model, processor, examples[1]).reasons
    assert [one.value for one in reasons if one.name == "picture"] == ["1", "2"]

    with pytest.raises(ValueError, match=r"found one that reads up to 3, which has no ONNX export"):
        export.main([str(run), str(tmp_path / "onnx")])
    if find_spec("gradio") is not None:  # of the extra `demo`
        with pytest.raises(ValueError, match="found one that reads up to 3, which the page"):
            make_demo(str(run))


def test_parquet_with_lists_of_bytes_trains_and_a_frozen_picture_is_computed_once(recipe, shop, tmp_path, capsys):
    for split in ("train", "dev", "test"):
        records = [json.loads(line) for line in (shop / f"{split}.jsonl").read_text().splitlines()]
        for one in records:
            one["images"] = [Path(name).read_bytes() for name in one["images"] or ()]
        pq.write_table(pa.Table.from_pylist(records), shop / f"{split}.parquet")
        (shop / f"{split}.jsonl").unlink()
    main([str(recipe), "--data", str(shop), "--max_images", "2", "--freeze", "{image_encoder: forever}"])
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert "max_images: 2: up to 2 pictures" in "".join(results["notes"])
    assert "% more than 2, whose further ones are left out" in "".join(results["notes"])
    said = capsys.readouterr()
    assert "image_regions of 17 examples computed once" in said.out + said.err  # 16 pictures, and none


def test_a_broken_second_picture_is_a_bad_record_with_file_and_line(shop, pictures, tmp_path):
    good = str(pictures / "img/train-0.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    lines = (shop / "train.jsonl").read_text().splitlines()
    lines[4] = json.dumps({"images": [good, str(tmp_path / "broken.png")], "text": "a", "label": "red"})
    (shop / "train.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(BadRecordError, match=r"picture 2 of 2: Unidentified.*train\.jsonl', line 5, column 'images'"):
        ImageText(shop, cache_dir=str(tmp_path / "cache")).download_and_prepare()
    builder = ImageText(shop, cache_dir=str(tmp_path / "cache"), on_bad_record="skip")
    builder.download_and_prepare()
    assert [one.line for one in builder.skipped] == [5] and len(builder.as_dataset("train")) == 199
    lines[4] = json.dumps({"images": [good, 7], "text": "a", "label": "red"})
    (shop / "train.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(BadRecordError, match=r"a picture as path, bytes or null, or a list of them, found .*line 5"):
        ImageText(shop, cache_dir=str(tmp_path / "cache")).download_and_prepare()


def test_one_picture_a_row_is_refused_where_rows_have_several(recipe, shop, finished_pictures, tmp_path):
    with pytest.raises(ValueError, match="Expected max_images of at least 2 for rows with up to 3 pictures, found 1"):
        main([str(recipe), "--data", str(shop), "--max_images", "1"])
    with pytest.raises(ValueError, match=r"Expected one picture a row, found \d: this model reads one"):
        predict.main([str(finished_pictures), str(shop / "test.jsonl"), str(tmp_path / "out.parquet")])
    single = tmp_path / "single.jsonl"
    single.write_text(json.dumps({"image": [], "text": "the sea"}) + "\n")
    predict.main([str(finished_pictures), str(single), str(tmp_path / "single.parquet")])  # a list of none is none


@pytest.mark.nightly
def test_an_ensemble_reads_several_pictures_as_its_members_do(recipe, shop, tmp_path):
    given = ["--architecture", "ensemble", "--ensemble_members", "[mmbt, concatbert]", "--num_train_epochs", "2"]
    main([str(recipe), "--data", str(shop), *given])
    run = tmp_path / "run/ensemble-seed1"
    predict.main([str(run), str(shop / "test.jsonl"), str(tmp_path / "out.parquet")])
    np.testing.assert_allclose(red(tmp_path / "out.parquet"), red(run / "predictions/test.parquet"), atol=1e-5)
    assert AutoProcessor.from_pretrained(run).max_images == 3

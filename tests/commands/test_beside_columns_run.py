"""A run whose label hangs on columns beside picture and text: from recipe to prediction."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from transformers import AutoModelForSequenceClassification, AutoProcessor, pipeline

from hf_mmtab.commands import eval_checkpoint, export, predict, push_to_hub
from hf_mmtab.commands.finetune import main
from hf_mmtab.data.image_text import ImageText
from hf_mmtab.data.pictures.values import ValueProblem, check_number
from hf_mmtab.models.mmbt.beside_columns import encode_columns

GIVEN = ["--number_columns", "[price]", "--category_columns", "[brand]", "--learning_rate", "3.0e-3"]


@pytest.fixture
def shop(pictures, tmp_path):
    """The label is whether the price is above 50, or the brand says so; picture and text tell nothing."""
    rng, folder = np.random.default_rng(0), tmp_path / "shop"
    folder.mkdir()
    for split, size in (("train", 200), ("dev", 40), ("test", 40)):
        records = []
        for index in range(size):
            dear, named = rng.random() < 0.5, rng.random() < 0.3
            price = f"{rng.uniform(51, 100) if dear else rng.uniform(0, 49):.2f}"
            record = {"image": str(pictures / f"img/{split}-{index % 16}.png"), "text": "the old sea"}
            record |= {"price": None if named else float(price), "brand": "dear" if named and dear else "plain"}
            records.append(record | {"label": "dear" if dear else "cheap"})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    return folder


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_cells_of_several_kinds_are_what_a_csv_would_have(suffix, keep, pictures, tmp_path):
    brands = ["acme", 1.5, "1.5", True, "", None, 7, "other"]
    prices = [3, "", None, "4.5", 2.5, 1, 0, "1e3"]
    rows = [
        {
            "image": str(pictures / "img/train-0.png"),
            "text": "t",
            "label": "ab"[place % 2],
            "brand": brand,
            "price": price,
        }
        for place, (brand, price) in enumerate(zip(brands, prices, strict=True))
    ]
    file = tmp_path / f"train.{suffix}"
    file.write_text(json.dumps(rows) if suffix == "json" else "\n".join(map(json.dumps, rows)))
    options = {"number_columns": ("price",), "category_columns": ("brand",), "keep_input_columns": keep}
    builder = ImageText(file, cache_dir=tmp_path / "cache", split_fractions=(1.0, 0.0, 0.0), **options)
    builder.download_and_prepare()
    built = builder.as_dataset(split="train")
    learned = {"brand": {"values": ["acme", "1.5", "true", "7", "other"]}, "price": {"quantiles": [0.0, 1000.0]}}
    found = [encode_columns(learned, row) for row in built]
    assert [one["column_categories"][0] for one in found] == [2, 3, 3, 4, 0, 0, 5, 6]
    assert [one["column_numbers"][0][1] for one in found] == [0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.slow
def test_columns_are_learned_saved_judged_and_predicted_with(recipe, shop, tmp_path, capsys):
    recipe.write_text(recipe.read_text().replace("ablation: false", "ablation: true"))
    main([str(recipe), "--data", str(shop), *GIVEN, "--num_train_epochs", "8", "--compare", "bert", "frozen_linear"])
    run = tmp_path / "run/mmbt-seed1"
    results = json.loads((run / "results.json").read_text())
    assert results["metrics"]["test"]["accuracy"] > 0.9
    fall = {(one["modality"], one["how"]): one["intact"] - one["value"] for one in results["ablation"]}
    assert fall["columns", "shuffle"] > 0.2 > fall["image", "shuffle"]
    others = json.loads((tmp_path / "run/bert-seed1/results.json").read_text())
    assert others["metrics"]["test"]["accuracy"] < 0.8 and "columns" not in str(others["ablation"])
    rival = pq.read_table(tmp_path / "run/frozen_linear-seed1/predictions/test.parquet")["probability_dear"].to_numpy()
    gold = np.array([json.loads(line)["label"] == "dear" for line in (shop / "test.jsonl").read_text().splitlines()])
    assert ((rival > 0.5) == gold).mean() > 0.9
    assert "from image, text and the columns brand, price." in (run / "report/report.html").read_text()
    assert "columns={'price': 1.0, 'brand': 'a'}" in (run / "README.md").read_text()

    processor = AutoProcessor.from_pretrained(run)
    assert set(processor.columns) == {"price", "brand"}
    expected = pq.read_table(run / "predictions/test.parquet")["probability_dear"].to_numpy()
    predict.main([str(run), str(shop / "test.jsonl"), str(tmp_path / "out.parquet")])
    np.testing.assert_allclose(
        pq.read_table(tmp_path / "out.parquet")["probability_dear"].to_numpy(), expected, atol=1e-5
    )
    eval_checkpoint.main([str(run), str(shop), "--out", str(tmp_path / "again"), "--no_reasons"])
    again = pq.read_table(tmp_path / "again/predictions/test.parquet")["probability_dear"].to_numpy()
    np.testing.assert_allclose(again, expected, atol=1e-5)

    records = [json.loads(line) for line in (shop / "test.jsonl").read_text().splitlines()]
    classify = pipeline("image-text-classification", model=str(run))
    answers = classify(
        [{key: one[key] for key in one if key != "label"} for one in records[:3]], batch_size=3, top_k=None
    )
    found = [{one["label"]: one["score"] for one in answer}["dear"] for answer in answers]
    np.testing.assert_allclose(found, expected[:3], atol=1e-5)
    model = AutoModelForSequenceClassification.from_pretrained(run)
    inputs = processor(
        images=[one["image"] for one in records[:2]],
        text=[one["text"] for one in records[:2]],
        columns={name: [one[name] for one in records[:2]] for name in ("price", "brand")},
    )
    assert set(inputs) == set(processor.model_input_names)
    np.testing.assert_allclose(model(**inputs).logits.softmax(-1)[:, 1].detach(), expected[:2], atol=1e-5)

    held = {file.name: file.holds for file in push_to_hub.files_to_push(run)}
    assert held["processor_config.json"] == "VALUES as they stand in the data, of brand (2); quantiles of price"

    (tmp_path / "less.jsonl").write_text(json.dumps({"image": records[0]["image"], "text": "a", "price": 3}) + "\n")
    with pytest.raises(ValueError, match=r"Expected the columns brand, price .*found no brand"):
        predict.main([str(run), str(tmp_path / "less.jsonl"), str(tmp_path / "less.parquet")])
    with pytest.raises(ValueError, match="found one that reads further columns, which has no ONNX export"):
        export.main([str(run), str(tmp_path / "onnx")])


def test_a_column_that_is_not_there_and_an_ensemble_are_refused(recipe, shop):
    arguments = [str(recipe), "--data", str(shop)]
    with pytest.raises(ValueError, match=r"Expected the columns weight in '.*train\.jsonl', .* found no weight among"):
        main([*arguments, "--number_columns", "[weight]"])
    with pytest.raises(
        ValueError, match="beside architecture: ensemble, whose members read the same inputs, found price"
    ):
        main([*arguments, "--number_columns", "[price]", "--architecture", "ensemble"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("[brand, text]", r"found 'text' of '.*', which is the text already\. Take it out there, or name another"),
        ("[brand, image]", r"found 'image' of '.*', which is the picture already"),
        ("[brand, sentence1]", r"called other than image, .*found 'sentence1' in .*\. Rename the column\."),
    ],
)
def test_a_column_that_is_read_already_is_refused_as_what_it_is(recipe, shop, given, message):
    for file in shop.glob("*.jsonl"):
        rows = [json.loads(line) | {"sentence1": "a"} for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=message):
        main([str(recipe), "--data", str(shop), "--category_columns", given])


@pytest.mark.parametrize(
    ("cell", "advice"), [("55,79", "decimal point"), ("€ 1.234,50", "decimal point"), ("cheap", "category_columns")]
)
def test_a_decimal_comma_gets_its_own_advice(cell, advice):
    with pytest.raises(ValueProblem) as told:
        check_number(cell)
    assert advice in told.value.remedy and ("category_columns" in told.value.remedy) == (cell == "cheap")


@pytest.mark.slow
def test_a_text_among_numbers_is_a_bad_record_in_training_and_in_prediction(recipe, shop, tmp_path, capsys):
    lines = (shop / "train.jsonl").read_text().splitlines()
    lines[2] = json.dumps(json.loads(lines[2]) | {"price": "cheap"})
    (shop / "train.jsonl").write_text("\n".join(lines) + "\n")
    arguments = [str(recipe), "--data", str(shop), *GIVEN]
    told = r"Expected a number, as number_columns says, found 'cheap' .*train\.jsonl', line 3, column 'price'"
    with pytest.raises(ValueError, match=told):
        main(arguments)
    main([*arguments, "--on_bad_record", "skip"])
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [(one["line"], one["column"]) for one in results["skipped"]] == [(3, "price")]
    capsys.readouterr()
    predict.main(
        [str(tmp_path / "run"), str(shop / "train.jsonl"), str(tmp_path / "out.csv"), "--on_bad_record", "skip"]
    )
    assert "199 predictions in " in capsys.readouterr().out

"""From a recipe to a saved, evaluated model."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from running import killed_at_step
from transformers import AutoModelForSequenceClassification, AutoProcessor

from hf_mmtab.commands import eval_checkpoint, predict
from hf_mmtab.commands.finetune import main
from hf_mmtab.models.mmbt import MMBTForClassification
from hf_mmtab.training.features.cache import FeatureCache


@pytest.mark.figures
def test_a_recipe_becomes_a_saved_model_with_report_card_and_predictions(recipe, tmp_path, capsys):
    main([str(recipe), "--ablation", "true"])
    run = tmp_path / "run"
    assert "Results on test (16 rows)" in capsys.readouterr().out
    results = json.loads((run / "results.json").read_text())
    assert set(results["metrics"]) == {"validation", "test"}
    assert {(row["modality"], row["how"]) for row in results["ablation"]} == {
        (modality, how) for modality in ("image", "text") for how in ("blank", "shuffle")
    }
    model = AutoModelForSequenceClassification.from_pretrained(run)
    processor = AutoProcessor.from_pretrained(run)
    assert model.config.id2label == {0: "other", 1: "same"}
    table = pq.read_table(run / "predictions" / "test.parquet").to_pylist()
    assert len(table) == 16 and table[0]["id"] == "test-0"

    # What the run wrote is what the saved checkpoint says.
    row = table[3]
    batch = processor(
        images=str(Path(json.loads(recipe_data(recipe))["data"]) / "img" / "test-3.png"), text=row["text"]
    )
    with torch.inference_mode():
        probabilities = model.eval()(**batch).logits.softmax(-1)[0]
    assert probabilities[1].item() == pytest.approx(row["probability_same"], abs=1e-5)
    accuracy = sum(r["prediction"] == r["gold"] for r in table) / len(table)
    assert results["metrics"]["test"]["accuracy"] == pytest.approx(accuracy)
    for written in ("report/report.html", "README.md", "update_audit.jsonl", "freeze_schedule.json", "recipe.yaml"):
        assert (run / written).stat().st_size > 0


def test_regressions_on_the_stored_features_stand_beside_the_models(recipe, tmp_path, monkeypatch, capsys):
    filled, plain = [], FeatureCache._fill

    def counted(self, view, *arguments):
        filled.append(len(arguments[3]))  # rows
        return plain(self, view, *arguments)

    monkeypatch.setattr(FeatureCache, "_fill", counted)
    options = ["--freeze", "{image_encoder: forever}", "--num_train_epochs", "1", "--ablation", "false"]
    main([str(recipe), *options, "--compare", "frozen_linear", "frozen_linear_image"])
    root = tmp_path / "run"
    lines = (root / "comparison.md").read_text().splitlines()
    names = [line.split("|")[1].strip() for line in lines[2:] if line.startswith("|")]
    assert names == ["mmbt", "frozen_linear", "frozen_linear_image", "majority"]
    assert re.match(r"mmbt is (better|worse|not better) than frozen_linear: accuracy [+-]0\.\d{3} \(", lines[-2])
    assert lines[-2] in capsys.readouterr().out
    page = (root / "mmbt-seed1" / "report" / "report.html").read_text()
    assert "than frozen_linear:" in page and "logistic regression on frozen features of all inputs" in page
    assert sorted(filled) == [16, 16, 48]  # nothing is computed for the regressions that a model has read before
    table = pq.read_table(root / "frozen_linear-seed1" / "predictions" / "test.parquet").to_pylist()
    assert len(table) == 16 and table[0]["id"] == "test-0"
    share = pq.read_table(root / "majority-seed1" / "predictions" / "test.parquet")["probability_same"]
    assert set(share.to_pylist()) == {0.5}  # of the training labels
    with pytest.raises(ValueError, match=r"inputs of frozen_linear_image, found bert, which has text\. Leave"):
        main([str(recipe), "--architecture", "bert", "--compare", "frozen_linear_image"])


def test_the_length_of_texts_comes_from_the_training_texts(recipe, tmp_path, capsys):
    main([str(recipe), "--max_length", "null", "--num_train_epochs", "1", "--ablation", "false"])
    run, line = tmp_path / "run", "texts are read up to 16 word pieces; no text is longer"
    assert line in capsys.readouterr().out and line in (run / "report" / "report.html").read_text()
    assert AutoProcessor.from_pretrained(run).max_length == 16


def recipe_data(recipe: Path) -> str:
    return json.dumps(yaml.safe_load(recipe.read_text()))


def test_a_finished_run_is_read_and_another_recipe_is_refused(recipe, tmp_path):
    main([str(recipe), "--num_train_epochs", "1"])
    weights = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    main([str(recipe), "--num_train_epochs", "1"])
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == weights
    with pytest.raises(ValueError, match=r"found num_train_epochs different.*--overwrite true"):
        main([str(recipe)])
    main([str(recipe), "--overwrite", "true"])
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns != weights


def test_frozen_pictures_are_computed_once_for_all_runs_and_evaluations(recipe, tmp_path, monkeypatch):
    filled, plain = [], FeatureCache._fill

    def counted(self, view, *arguments):
        filled.append(len(arguments[3]))  # rows
        return plain(self, view, *arguments)

    monkeypatch.setattr(FeatureCache, "_fill", counted)
    frozen = ["--freeze", "{image_encoder: forever}", "--num_train_epochs", "1", "--bootstrap", "0"]
    frozen += ["--reasons", "true"]
    compared = ["--architecture", "mmbt", "--compare", "img", "concatbert", "--ablation", "true"]
    main([str(recipe), *frozen, *compared])
    root, rows = tmp_path / "run", [len(Path(path).read_text().splitlines()) for path in splits_of(recipe)]
    # Each picture once, and one that is blank: no picture or text that is shuffled or blank computes any anew.
    assert sorted(filled) == sorted([*rows, 1])
    assert not list(root.glob("**/_feature_cache"))  # it can be large
    alone = tmp_path / "alone"
    main([str(recipe), *frozen, "--architecture", "img", "--output_dir", str(alone), "--feature_cache", "false"])
    of_alone, of_shared = (
        pq.read_table(run / "predictions" / "test.parquet")["probability_same"].to_pylist()
        for run in (alone, root / "img-seed1")
    )
    assert of_shared == pytest.approx(of_alone, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("freeze", ["{image_encoder: forever}", "{text_encoder: forever}"])
def test_an_ablation_and_an_evaluation_compute_no_picture_again(recipe, tmp_path, monkeypatch, freeze):
    """Neither of a picture part that is frozen, nor of one that has been trained."""
    calls, plain = [], MMBTForClassification.get_image_features

    def counted(self, pixel_values):
        calls.append(len(pixel_values))
        return plain(self, pixel_values)

    monkeypatch.setattr(MMBTForClassification, "get_image_features", counted)
    options = ["--num_train_epochs", "1", "--bootstrap", "0", "--ablation", "true"]
    main([str(recipe), "--freeze", freeze, *options])
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    calls.clear()
    options = ["--split", "test", "--bootstrap", "0", "--out", str(tmp_path / "again")]
    eval_checkpoint.main([str(tmp_path / "run"), json.loads(recipe_data(recipe))["data"], *options])
    assert sum(calls) == (8 + 16) + (1 + 1)  # 16 test pictures and a blank one, with the probes of their size
    again = json.loads((tmp_path / "again" / "results.json").read_text())
    for before, after in zip(results["ablation"], again["ablation"], strict=True):
        assert after == pytest.approx(before, abs=1e-6)


@pytest.fixture
def several(tmp_path, pictures) -> str:
    """The pictures with one or two labels each: every fifth is rare, too."""
    data = tmp_path / "several"
    data.mkdir()
    (data / "img").symlink_to(pictures / "img")
    for split in ("train", "dev", "test"):
        lines = [json.loads(line) for line in (pictures / f"{split}.jsonl").read_text().splitlines()]
        for index, line in enumerate(lines):
            line["label"] = [line["label"]] + (["rare"] if index % 5 == 0 else [])
        (data / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(data)


@pytest.mark.figures
def test_a_regression_of_several_labels_has_thresholds_of_its_own(recipe, tmp_path, several):
    main([str(recipe), "--data", several, "--num_train_epochs", "1", "--compare", "frozen_linear"])
    table = (tmp_path / "run" / "comparison.md").read_text()
    assert "| frozen_linear | " in table and "| majority | " in table and "than frozen_linear: micro-F1" in table
    rows = pq.read_table(tmp_path / "run" / "majority-seed1" / "predictions" / "test.parquet").to_pylist()
    assert len({tuple(row["prediction"]) for row in rows}) == 1
    assert rows[0]["probability_rare"] == pytest.approx(10 / 48)


def splits_of(recipe: Path) -> list[Path]:
    folder = Path(json.loads(recipe_data(recipe))["data"])
    return [folder / f"{split}.jsonl" for split in ("train", "dev", "test")]


def test_a_run_of_a_recipe_that_said_bf16_goes_on(recipe, tmp_path):
    """The recipes that ship said `bf16: true` once, and today leave the precision open."""
    main([str(recipe), "--num_train_epochs", "1", "--bf16", "true"])
    before = json.loads((tmp_path / "run" / "results.json").read_text())
    (tmp_path / "run" / "results.json").unlink()
    main([str(recipe), "--num_train_epochs", "1"])
    again = json.loads((tmp_path / "run" / "results.json").read_text())
    assert again["metrics"] == before["metrics"]
    with pytest.raises(ValueError, match="found bf16, precision different"):
        main([str(recipe), "--num_train_epochs", "1", "--precision", "fp32"])


def test_a_finished_run_says_when_its_files_are_others_now(recipe, pictures, tmp_path, caplog):
    data = tmp_path / "pictures"
    shutil.copytree(pictures, data)
    arguments = [str(recipe), "--data", str(data), "--num_train_epochs", "1"]
    main(arguments)
    main(arguments)
    assert "were changed or moved" not in caplog.text
    lines = (data / "train.jsonl").read_text().splitlines()
    (data / "train.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    main(arguments)
    assert "files were changed or moved since the run in" in caplog.text


def test_an_interrupted_run_resumes_to_the_same_weights(recipe, tmp_path):
    main([str(recipe), "--output_dir", str(tmp_path / "whole")])

    with killed_at_step(6, "enter_epoch"):
        main([str(recipe)])
    assert (tmp_path / "run" / "checkpoint-6").is_dir() and not (tmp_path / "run" / "results.json").exists()
    main([str(recipe)])
    whole = AutoModelForSequenceClassification.from_pretrained(tmp_path / "whole").state_dict()
    resumed = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


@pytest.mark.figures
@pytest.mark.slow
def test_architectures_and_seeds_are_compared_on_the_same_rows(recipe, tmp_path, capsys):
    main([str(recipe), "--compare", "bert", "--seeds", "1", "2", "--num_train_epochs", "1"])
    lines = (tmp_path / "run" / "comparison.md").read_text().splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert re.search(r"^mmbt is .*bert", "\n".join(lines), re.M)  # the sentence about text alone
    assert [line.split("|")[1].strip() for line in table[2:]] == ["mmbt", "bert", "majority"]
    assert "±" in table[2] and table[2].count("| 2 |") == 1
    assert table[0] in capsys.readouterr().out
    assert (tmp_path / "run" / "bert-seed2" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([f"c{i}" for i in range(8)], r"Expected records of validation in .*found train 8: one file is split by label"),
        (["only"] * 30, r"Expected training records of at least two classes in .*found \['only'\]"),
    ],
)
def test_labels_that_cannot_be_split_or_learned_are_told(recipe, tmp_path, labels, message):
    lines = [json.dumps({"text": "sea", "img": None, "label": label}) for label in labels]
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "train.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=message):
        main([str(recipe), "--data", str(tmp_path / "few"), "--architecture", "bert", "--freeze", "null"])


def test_thresholds_of_several_labels_are_tuned_and_saved(recipe, tmp_path, several):
    with pytest.raises(ValueError, match=r"to be loss or one of .*micro_f1.*, found 'accuracy'.*_model null"):
        main([str(recipe), "--data", several, "--metric_for_best_model", "accuracy"])
    main([str(recipe), "--data", several, "--pos_weight", "total_over_positives", "--label_smoothing_factor", "0.1"])
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert any("recipe image_text_labels is made for them." in note for note in results["notes"])
    config = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").config
    assert config.problem_type == "multi_label_classification"
    assert config.thresholds == results["thresholds"] and len(config.thresholds) == 3
    row = pq.read_table(tmp_path / "run" / "predictions" / "test.parquet").to_pylist()[0]
    names = [config.id2label[i] for i in range(3)]
    expected = [n for n, cut in zip(names, config.thresholds, strict=True) if row[f"probability_{n}"] >= cut]
    assert row["prediction"] == expected


def test_pairs_of_sentences_in_columns_of_their_own_are_two_segments(recipe, tmp_path, pictures):
    data = tmp_path / "pairs"
    data.mkdir()
    (data / "img").symlink_to(pictures / "img")
    for split in ("train", "dev", "test"):
        lines = [json.loads(line) for line in (pictures / f"{split}.jsonl").read_text().splitlines()]
        pairs = [{"photo": x["img"], "first": x["text"], "then": "a new sea", "kind": x["label"]} for x in lines]
        pairs[0]["first"] = ""  # its picture and second sentence are left
        (data / f"{split}.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    columns = ["--image_column", "photo", "--text_column", "first", "--text_pair_column", "then"]
    arguments = [str(recipe), "--data", str(data), *columns, "--label_column", "kind", "--num_train_epochs", "1"]
    with pytest.raises(ValueError, match=r"Expected a text, .*or set allow_empty_text to true"):
        main(arguments)
    main([*arguments, "--allow_empty_text", "true"])
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").config.num_segments == 3
    assert not (tmp_path / "run" / "_feature_cache").exists()
    input_file, out = data / "test.jsonl", tmp_path / "out.jsonl"
    predict.main([str(tmp_path / "run"), str(input_file), str(out)])
    assert len(out.read_text().splitlines()) == 16


def test_an_architecture_of_the_command_line_leaves_out_what_it_lacks(recipe, tmp_path):
    rates = {"model.image_projection": 1e-3, "classifier": 1e-3}
    written = yaml.safe_load(recipe.read_text()) | {"part_learning_rates": rates}
    recipe.write_text(yaml.safe_dump(written | {"architecture": "mmbt"}))
    main([str(recipe), "--architecture", "bert", "--num_train_epochs", "1"])
    assert json.loads((tmp_path / "run" / "results.json").read_text())["architecture"] == "bert"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning_rat", "1"], "found 'learning_rat' in the command line. Did you mean 'learning_rate'"),
        (["--learning_rate", "fast"], "Expected a number for --learning_rate, found 'fast'"),
        (["--architecture", "vilbert"], "Expected one of mmbt, bow, .* for --architecture, found 'vilbert'"),
        (["--compare", "[bow, img]"], "Architecture 'bow' needs 'glove_path' in the recipe"),
        (["--metric_for_best_model", "rouge"], "Expected metric_for_best_model to be loss or one of .*found 'rouge'"),
        (["--label_smoothing_factor", "2"], "label_smoothing_factor must be at least 0 and below 1"),
        (["--text_model", "package:nothing-here"], "nothing-here"),
        (["--architecture", "bow"], "Architecture 'bow' needs 'glove_path' in the recipe, found none"),
        (["--freeze", '{"image_encoder": "forever", "vision": "forever"}'], "Unknown part 'vision'. Known parts"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_with_a_remedy(recipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        main([str(recipe), *arguments])


def test_an_unknown_recipe_names_those_that_exist():
    with pytest.raises(FileNotFoundError, match=r"name of a shipped recipe \(.*openclipart.*\), found 'no-such'"):
        main(["no-such"])


@pytest.mark.slow
def test_two_processes_share_one_run_and_predict_every_row_once(recipe, tmp_path):
    # `--multi_gpu` is how accelerate starts several processes, on a machine without GPU too (gloo).
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command = [*launch, "-m", "hf_mmtab", "finetune", str(recipe), "--per_device_train_batch_size", "4"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Results on test (16 rows)") == 1
    table = pq.read_table(tmp_path / "run" / "predictions" / "test.parquet").to_pylist()
    assert [row["id"] for row in table] == [f"test-{index}" for index in range(16)]

    main([str(recipe), "--output_dir", str(tmp_path / "alone")])
    alone = pq.read_table(tmp_path / "alone" / "predictions" / "test.parquet").to_pylist()
    # Shuffled differently, so not the same weights; but the same rows, in the same order, with the same gold.
    assert [row["gold"] for row in table] == [row["gold"] for row in alone]


def test_a_saved_model_is_trained_further_with_its_own_labels_and_processor(recipe, tmp_path):
    main([str(recipe), "--num_train_epochs", "1"])
    first, again = tmp_path / "run", tmp_path / "again"
    more = ["--pretrained", str(first), "--output_dir", str(again), "--num_train_epochs", "1"]
    main([str(recipe), *more, "--learning_rate", "1e-12", "--freeze", "{}"])
    before = pq.read_table(first / "predictions" / "test.parquet").to_pylist()
    after = pq.read_table(again / "predictions" / "test.parquet").to_pylist()
    assert [row["gold"] for row in after] == [row["gold"] for row in before]
    for old, new in zip(before, after, strict=True):
        assert new["probability_same"] == pytest.approx(old["probability_same"], abs=2e-2)  # BatchNorm statistics move
    with pytest.raises(ValueError, match=r"Expected bert with single_label_classification in .* found mmbt with"):
        main([str(recipe), "--pretrained", str(first), "--architecture", "bert", "--output_dir", str(tmp_path / "b")])

"""`architecture: ensemble`: members and a linear probe, joined on validation and saved as one model."""

import json
from importlib.util import find_spec

import numpy as np
import pyarrow.parquet as pq
import pytest
from transformers import AutoModelForSequenceClassification, pipeline

from hf_mmtab.commands import eval_checkpoint, predict
from hf_mmtab.commands.finetune import architectures_of, main
from hf_mmtab.commands.runs import ensemble
from hf_mmtab.commands.runs.image_text import ImageTextRun
from hf_mmtab.commands.runs.recipe import ImageTextRecipe
from hf_mmtab.evaluation.combining import Selection
from hf_mmtab.evaluation.run_results import RunResults
from hf_mmtab.metrics.names import label_names
from hf_mmtab.training.trainer import MMTabTrainer

ARGUMENTS = ["--architecture", "ensemble", "--ensemble_members", "mmbt", "bert", "--num_train_epochs", "1"]
SHARES = {"mmbt": 0.5, "linear_probe": 0.3, "bert": 0.2}


def probabilities(file, names):
    table = pq.read_table(file)
    return np.stack([table[f"probability_{name}"].to_numpy() for name in names], axis=1)


@pytest.mark.slow
def test_an_ensemble_is_trained_chosen_and_saved_and_used_as_any_model(recipe, tmp_path, pictures, monkeypatch, capsys):
    seen, chosen = {}, ensemble.select_greedily

    def taken(candidates):
        seen.update(candidates)
        found = chosen(candidates)
        return Selection(SHARES, found.loss, found.losses)  # all members, whatever validation says

    monkeypatch.setattr(ensemble, "select_greedily", taken)
    recipe.write_text(recipe.read_text().replace("ablation: false", "ablation: true").replace("1 epoch", "forever"))
    main([str(recipe), *ARGUMENTS, "--compare", "frozen_linear"])
    root = tmp_path / "run"
    folder = root / "ensemble-seed1"
    assert list(seen) == ["mmbt", "bert", "linear_probe"]
    lines = (root / "comparison.md").read_text()
    assert [
        name for name in ("ensemble", "mmbt", "bert", "frozen_linear", "majority") if f"| {name} " not in lines
    ] == []

    # What it says is the mean of what its members say.
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    names = label_names(model.config)
    of = {one: probabilities(root / f"{one}-seed1/predictions/test.parquet", names) for one in ("mmbt", "bert")}
    joined = probabilities(folder / "predictions/test.parquet", names)
    of_probe = (joined - 0.5 * of["mmbt"] - 0.2 * of["bert"]) / 0.3
    assert np.abs(of_probe.sum(axis=1) - 1).max() < 1e-4 and of_probe.min() > -1e-4 and of_probe.max() < 1 + 1e-4
    on_validation = sum(share * seen[name].probabilities for name, share in SHARES.items())
    saved = probabilities(folder / "predictions/validation.parquet", names)
    np.testing.assert_allclose(saved, on_validation, atol=1e-4)

    results = json.loads((folder / "results.json").read_text())
    trained = [
        json.loads(one.read_text()) for one in folder.parent.glob("*-seed*/results.json") if one.parent != folder
    ]
    for name in ("minutes", "training_minutes"):
        assert results[name] > sum(one[name] for one in trained) > 0
    note = next(one for one in results["notes"] if one.startswith("ensemble:"))
    assert note.startswith("ensemble: 0.50 mmbt, 0.30 linear_probe, 0.20 bert (the mean of their probabilities)")
    assert (
        note in capsys.readouterr().out
        and "0.50 mmbt, 0.30 linear_probe" in (folder / "report/report.html").read_text()
    )
    assert "0.50 mmbt, 0.30 linear_probe, 0.20 bert" in (folder / "README.md").read_text()
    assert results["architecture"] == "ensemble" and {one["modality"] for one in results["ablation"]} == {
        "image",
        "text",
    }

    # Evaluated, asked row by row and through the pipeline, it says the same again.
    eval_checkpoint.main([str(folder), str(pictures), "--out", str(tmp_path / "again")])
    np.testing.assert_allclose(probabilities(tmp_path / "again/predictions/test.parquet", names), joined, atol=1e-5)
    predict.main([str(folder), str(pictures / "test.jsonl"), str(tmp_path / "out.parquet")])
    np.testing.assert_allclose(probabilities(tmp_path / "out.parquet", names), joined, atol=1e-5)
    first = json.loads((pictures / "test.jsonl").read_text().splitlines()[0])
    answer = pipeline("image-text-classification", model=str(folder))(
        {"image": str(pictures / first["img"]), "text": first["text"]}, top_k=None
    )
    assert {one["label"]: pytest.approx(one["score"], abs=1e-5) for one in answer} == dict(
        zip(names, joined[0], strict=True)
    )

    # Of its reasons it says what to do.
    if find_spec("captum"):
        with pytest.raises(ValueError, match=r"Expected one model to explain, found an ensemble of .* by itself"):
            predict.main([str(folder), str(pictures / "test.jsonl"), str(tmp_path / "why.parquet"), "--explain", "2"])
        assert not (tmp_path / "why.parquet").exists()

    # A finished one is only read.
    monkeypatch.setattr(MMTabTrainer, "train", None)
    monkeypatch.setattr(MMTabTrainer, "predict", None)
    main([str(recipe), *ARGUMENTS])


@pytest.mark.parametrize("members", [["bow"], ["ensemble"], []])
def test_members_that_cannot_be_are_refused_before_any_training(recipe, members):
    values = "[" + ", ".join(members) + "]"
    with pytest.raises(
        ValueError, match=r"Expected ensemble_members to name some of mmbt, img, bert, concatbert, found"
    ):
        main([str(recipe), "--architecture", "ensemble", "--ensemble_members", values])


def test_the_recipe_of_an_ensemble_trains_one_of_its_members(recipe, tmp_path):
    recipe.write_text(recipe.read_text() + "architecture: ensemble\nensemble_members: [mmbt, bert]\n")
    main([str(recipe), "--architecture", "bert", "--num_train_epochs", "1", "--ablation", "false", "--bootstrap", "0"])
    assert RunResults.read(tmp_path / "run").architecture == "bert"


def test_an_ensemble_that_is_compared_has_its_members_trained(recipe):
    kind = ImageTextRecipe.read([str(recipe), "--compare", "ensemble", "--ensemble_members", "img", "bert"], "finetune")
    assert architectures_of(kind, ImageTextRun) == ["mmbt", "img", "bert", "ensemble"]


@pytest.mark.slow
def test_a_finished_comparison_takes_further_architectures(recipe, tmp_path):
    recipe.write_text(recipe.read_text().replace("1 epoch", "forever"))  # features are stored beside the runs
    arguments = [str(recipe), "--num_train_epochs", "1", "--compare"]
    main([*arguments, "bert"])
    before = (tmp_path / "run/mmbt-seed1/results.json").stat().st_mtime_ns
    main([*arguments, "bert", "img"])
    assert "| img " in (tmp_path / "run/comparison.md").read_text()
    assert (tmp_path / "run/mmbt-seed1/results.json").stat().st_mtime_ns == before

"""Fine-tuning that starts from a linear probe, and ends with an average of its checkpoints."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from running import results_of
from transformers import AutoModelForSequenceClassification

from hf_mmtab.commands.finetune import main
from hf_mmtab.image_text_baselines.linear_start import LinearStarter
from hf_mmtab.training import MMTabTrainer
from hf_mmtab.training.checkpoint_weights import CheckpointWeights

PROBE = ["--classifier_start", "linear_probe", "--text_pooling", "auto", "--ablation", "false"]
SOUP = ["--soup", "true", "--save_strategy", "epoch", "--save_total_limit", "1", "--ablation", "false"]


@pytest.mark.parametrize(
    "architecture",
    ["mmbt", "bert", pytest.param("img", marks=pytest.mark.slow), pytest.param("concatbert", marks=pytest.mark.slow)],
)
def test_a_model_that_starts_from_a_probe_predicts_what_the_probe_does(recipe, architecture, monkeypatch, tmp_path):
    seen, plain = {}, LinearStarter.start

    def looked_at(self, *arguments):
        chosen = plain(self, *arguments)
        if seen:  # the start is put back: training made it worse
            return chosen
        logits = self.trainer.predict(self.encoded["validation"]).predictions
        seen["model"] = torch.softmax(torch.as_tensor(logits), dim=-1).numpy()
        scores = self._read("validation") @ chosen.probe.weights.T + chosen.probe.biases
        seen["probe"] = torch.softmax(torch.as_tensor(scores), dim=-1).numpy()
        seen["tried"] = chosen.tried
        return chosen

    monkeypatch.setattr(LinearStarter, "start", looked_at)
    main([str(recipe), *PROBE, "--architecture", architecture, "--num_train_epochs", "1"])
    assert np.abs(seen["model"] - seen["probe"]).max() < 1e-3  # float32
    reads_text, is_mmbt = architecture != "img", architecture == "mmbt"
    assert list(seen["tried"]) == ["cls"] + ["mean"] * reads_text + ["with an aligned projection"] * is_mmbt
    note = next(one for one in results_of(tmp_path / "run")["notes"] if one.startswith("text_pooling"))
    assert "the classifier starts from a logistic regression on the model as it starts" in note


@pytest.mark.parametrize("resumed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_that_training_made_worse_is_the_probe_that_it_started_from(recipe, tmp_path, monkeypatch, resumed):
    seen, plain = [], LinearStarter.start

    def looked_at(self, *arguments):
        chosen = plain(self, *arguments)
        seen.append(torch.softmax(torch.as_tensor(self.trainer.predict(self.encoded["validation"]).predictions), -1))
        return chosen

    monkeypatch.setattr(LinearStarter, "start", looked_at)
    # a classifier that is thrown far away
    given = [str(recipe), *PROBE, "--learning_rate", "5.0", "--part_learning_rates", "null", "--save_strategy", "epoch"]
    given += ["--soup", "true"] * (not resumed)
    main(given)
    run = tmp_path / "run"
    if resumed:
        (run / "results.json").unlink()
        main(given)
    note = next(one for one in results_of(run)["notes"] if one.startswith("The model is the linear probe"))
    assert "since training made it worse on validation: accuracy 0." in note or "accuracy 1.000 before" in note
    discarded = "Update audit, learning curves and checkpoints are of the training, which was discarded."
    assert discarded in note and (run / "update_audit.txt").read_text().startswith(f"{discarded}\n\npart")
    notes = results_of(run)["notes"]
    assert not any(one.startswith(("The run ends worse", "soup: ")) for one in notes) and not results_of(run)["soup"]
    told = "Measured at the last step of training, which was discarded; the model that was kept is that of step 0."
    card = (run / "README.md").read_text()
    assert told in (run / "report" / "report.html").read_text() and told in card.replace("\\", "")
    assert "The model is the linear probe" in card.split("## Training\n")[1].split("\n## ")[0]
    history = json.loads((run / "trainer_state.json").read_text())["log_history"]
    assert history[0]["step"] == 0 and history[0]["eval_accuracy"] > 0 and "start_was_put_back" in history[-1]
    rows = pq.read_table(run / "predictions" / "validation.parquet").to_pydict()
    found = np.stack([rows[f"probability_{name}"] for name in ("other", "same")], axis=1)
    assert len(seen) == 2 + resumed  # the start, and the start again
    assert np.abs(found - seen[0].numpy()).max() < 1e-3


def test_a_run_that_did_not_become_worse_is_kept(recipe, tmp_path):
    main([str(recipe), *PROBE, "--learning_rate", "1.0e-9", "--part_learning_rates", "null"])
    assert not any(one.startswith("The model is the linear probe") for one in results_of(tmp_path / "run")["notes"])


def test_mean_pooling_is_saved_and_a_run_that_goes_on_keeps_it(recipe, tmp_path, monkeypatch):
    arguments = [str(recipe), *PROBE, "--text_pooling", "mean", "--save_strategy", "epoch"]
    main(arguments)
    run = tmp_path / "run"
    model = AutoModelForSequenceClassification.from_pretrained(run)
    assert model.config.text_pooling == "mean" and not any("pooler" in name for name in model.state_dict())
    before = results_of(run)["metrics"]
    (run / "results.json").unlink()
    monkeypatch.setattr(LinearStarter, "start", None)  # the checkpoint says what was chosen
    main(arguments)
    assert results_of(run)["metrics"] == before


@pytest.mark.slow
def test_a_run_whose_pooling_was_chosen_goes_on_with_it(recipe, tmp_path, monkeypatch):
    plain = LinearStarter._probe
    losses = iter([2.0, 1.0, 3.0])  # cls, mean, aligned

    def ranked(self):
        fitted = plain(self)
        object.__setattr__(fitted, "loss", next(losses))
        return fitted

    monkeypatch.setattr(LinearStarter, "_probe", ranked)
    arguments = [str(recipe), *PROBE, "--save_strategy", "epoch"]
    rates = ["--part_learning_rates", '{classifier: 1.0e-3, "*text_model.pooler": 1.0e-3}']
    main([*arguments, *rates])
    run = tmp_path / "run"
    assert AutoModelForSequenceClassification.from_pretrained(run).config.text_pooling == "mean"
    before = results_of(run)["metrics"]
    (run / "results.json").unlink()
    main([*arguments, *rates])
    assert results_of(run)["metrics"] == before


def test_a_soup_is_the_mean_of_checkpoints_of_the_run(recipe, tmp_path, monkeypatch):
    kept = {}
    plain = MMTabTrainer.predict

    def flat(self, *arguments, **options):  # validation never falls: every checkpoint is taken
        output = plain(self, *arguments, **options)
        if options.get("metric_key_prefix") == "eval":
            output.metrics.update(eval_accuracy=0.5, eval_loss=1.0)
            folders = sorted((tmp_path / "run").glob("checkpoint-*"))
            kept.update({one.name: dict(CheckpointWeights(one)) for one in folders})
        return output

    monkeypatch.setattr(MMTabTrainer, "predict", flat)
    main([str(recipe), *SOUP, "--num_train_epochs", "3"])
    run = tmp_path / "run"
    soup = results_of(run)["soup"]
    assert len(soup["steps"]) == len(kept) == 3 and soup["tried"] == 2 and soup["metric"] == "accuracy"
    saved = CheckpointWeights(run)
    for name in ("classifier.weight", "model.image_projection.bias"):
        mean = torch.stack([one[name] for one in kept.values()]).mean(dim=0)
        torch.testing.assert_close(saved[name], mean, atol=1e-6, rtol=1e-5)
    kept_now = {int(one.name.rpartition("-")[2]) for one in run.glob("checkpoint-*")}
    assert kept_now == {max(soup["steps"]), soup["steps"][0]}  # the limit again: the last, and the best
    sentence = "soup: the weights are the mean of 3 checkpoints of this run (steps "
    assert any(one.startswith(sentence) for one in results_of(run)["notes"])
    assert sentence in (run / "report" / "report.html").read_text()


@pytest.mark.parametrize("accuracies, losses", [([0.9, 0.8, 0.8], [1, 1, 1]), ([0.9, 1.0, 0.9], [1, 1.1, 2])])
def test_a_soup_that_validation_does_not_like_leaves_the_weights_as_they_are(
    recipe, tmp_path, monkeypatch, accuracies, losses
):
    values, plain = iter(zip(accuracies, losses, strict=True)), MMTabTrainer.predict

    def falling(self, *arguments, **options):
        output = plain(self, *arguments, **options)
        if options.get("metric_key_prefix") == "eval":
            output.metrics.update(zip(("eval_accuracy", "eval_loss"), next(values), strict=True))
        return output

    monkeypatch.setattr(MMTabTrainer, "predict", falling)
    main([str(recipe), *SOUP, "--num_train_epochs", "3"])
    run = tmp_path / "run"
    soup = results_of(run)["soup"]
    last = CheckpointWeights(run / f"checkpoint-{soup['steps'][0]}")
    saved = CheckpointWeights(run)
    assert len(soup["steps"]) == 1 and all(torch.equal(saved[name], last[name]) for name in last)
    assert any("each of 2 other checkpoints made it or the loss worse" in one for one in results_of(run)["notes"])


NOT_SAVED = ["--save_strategy", "no", "--load_best_model_at_end", "false"]


@pytest.mark.parametrize("options, found", [(NOT_SAVED, "save_strategy: no"), (["--lora", "{}"], "adapters")])
def test_a_soup_without_whole_checkpoints_is_refused_at_once(recipe, tmp_path, options, found):
    with pytest.raises(ValueError, match=f"Expected whole checkpoints for `soup`, which averages them, found {found}"):
        main([str(recipe), "--soup", "true", *options])
    assert not (tmp_path / "run").exists()

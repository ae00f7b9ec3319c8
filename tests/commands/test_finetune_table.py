"""From a pretrained TabBERT to a judged head, new tables scored, and rows embedded."""

import csv
import json
import logging
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from running import killed_at_step, results_of
from sklearn.metrics import average_precision_score
from transformers import AutoModelForSequenceClassification
from two_processes import run_on_two_processes

from hf_mmtab.commands import embed, eval_checkpoint, predict, pretrain
from hf_mmtab.commands.finetune import load_recipe, main
from hf_mmtab.commands.runs.head_inputs import CANDIDATES
from hf_mmtab.commands.runs.table_heads import HeadRun
from hf_mmtab.commands.runs.table_notes import length_note, pretraining_note, score_note
from hf_mmtab.commands.tables.evaluating import seen_note
from hf_mmtab.commands.tables.window_blocks import WindowCut
from hf_mmtab.data.windows.encoded_rows import EncodedRows
from hf_mmtab.evaluation.scored_rows import ScoredRows
from hf_mmtab.metrics import tune_thresholds
from hf_mmtab.models.tabbert import TabBertForMaskedLM, TabBertModel, TabBertProcessor
from hf_mmtab.models.tabbert.head_settings import parts_of
from hf_mmtab.training import MMTabTrainer

SHOPS = ["bakery", "grocer", "cinema", "garage", "school"]
PLAN = {
    "entity": "who",
    "time": "when",
    "label": "odd",
    "fields": {
        "when.hour": {"kind": "time_part", "part": "hour"},
        "shop": {},
        "amount": {"kind": "money", "num_bins": 6},
    },
}
TRAINING = {
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 32,
    "learning_rate": 1.0e-2,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "load_best_model_at_end": True,
    "logging_steps": 20,
    "report_to": "none",
    "disable_tqdm": True,
    "seed": 1,
}


TWO_EPOCHS = ["--num_train_epochs", "2"]  # where the second one differs from the first


def lines_of(histories: int, first: int = 0) -> list[str]:
    """Rows of payments in any shop; what comes after a visit to the garage is odd."""
    rng = np.random.default_rng(first)
    rows = []
    for who in range(first, first + histories):
        shop = 0
        for step in range(30 + who % 7):
            odd, shop = shop == SHOPS.index("garage"), int(rng.integers(0, len(SHOPS)))
            day, hour = divmod(5 * step + who, 24)
            amount = "" if step % 9 == 4 else 10 * (shop + 1) + int(rng.integers(0, 3))
            when = f"2024-01-{1 + day:02d} {hour:02d}:{who % 60:02d}"
            rows.append((when, f"w{who}", SHOPS[shop], amount, "yes" if odd else "no", 3.0 * shop + step))
    return ["when,who,shop,amount,odd,heat", *(",".join(map(str, row)) for row in sorted(rows))]


@pytest.fixture(scope="session")
def payments(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("payments") / "payments.csv"
    path.write_text("\n".join(lines_of(16)) + "\n")
    return path


@pytest.fixture(scope="session")
def encoder(tmp_path_factory, payments) -> str:
    """Folder of a TabBERT that was pretrained on the payments for an epoch."""
    folder = tmp_path_factory.mktemp("encoder")
    sizes = {"field_hidden_size": 8, "field_num_heads": 2, "hidden_size": 16, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 16, "num_train_epochs": 1}
    values = {"task": "table", "data": str(payments), "output_dir": str(folder / "run"), "plan": PLAN}
    values |= TRAINING | sizes | {"seq_len": 6, "stride": 3}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    pretrain.main([str(folder / "recipe.yaml")])
    return str(folder / "run")


@pytest.fixture(scope="session")
def recipe(tmp_path_factory, payments, encoder) -> Path:
    values = {"task": "table", "data": str(payments), "pretrained": encoder, "seq_len": 6}
    values |= TRAINING | {"num_train_epochs": 1, "bootstrap": 50, "lstm_hidden_size": 8, "reasons": False}
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


@pytest.fixture(scope="session")
def finished(tmp_path_factory, recipe) -> Path:
    """The folder of a finished run with positives repeated, which tests only read."""
    run = tmp_path_factory.mktemp("finished") / "run"
    main([str(recipe), "--output_dir", str(run), "--upsample_positives", "0.4", "--reasons", "true", *TWO_EPOCHS])
    return run


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return AutoModelForSequenceClassification.from_pretrained(run).state_dict()


def largest_difference(one: Path, other: Path) -> float:
    first, second = weights_of(one), weights_of(other)
    return max((value - second[name]).abs().max().item() for name, value in first.items())


# ---- A run, its numbers by hand ----


@pytest.mark.figures
def test_a_recipe_becomes_a_model_with_threshold_processor_report_and_card(finished):
    config = AutoModelForSequenceClassification.from_pretrained(finished).config
    assert config.architectures == ["TabBertLstmForSequenceClassification"]
    assert (config.seq_len, config.window_label, config.id2label) == (6, "last", {0: "no", 1: "yes"})
    results = results_of(finished)
    assert results["thresholds"] == [config.threshold]
    assert set(results["metrics"]) == {"validation", "test"} and results["intervals"]["test"]
    assert results["leaks"]["test"]["sharing_labelled_rows"] == 0
    for written in ("report/report.html", "README.md", "recipe.yaml", "update_audit.jsonl"):
        assert (finished / written).stat().st_size > 0
    audit = (finished / "update_audit.txt").read_text().splitlines()
    still = {line.split()[0] for line in audit if line.endswith("frozen forever")}
    assert still == {"encoder", "embeddings", "field_encoder", "row_encoder"}
    for folder in (finished, sorted(finished.glob("checkpoint-*"))[0]):
        assert TabBertProcessor.from_pretrained(folder).fingerprint == config.processor_fingerprint


def test_the_cards_example_says_what_the_run_wrote(finished, payments, tmp_path, monkeypatch, capsys):
    lines = payments.read_text().splitlines()
    mine = [lines[0], *sorted(line for line in lines if ",w3," in line)]
    (tmp_path / "table.csv").write_text("\n".join(mine) + "\n")
    monkeypatch.chdir(tmp_path)
    run_code_of_card(finished)
    label, probability = capsys.readouterr().out.split()
    scored = ScoredRows.load(finished / "predictions" / "test.parquet")
    last = scored.scores[scored.rows == scored.rows[scored.entities == "w3"].max()].item()
    assert float(probability) == pytest.approx(last, abs=1e-6)
    assert label == ("yes" if last >= results_of(finished)["thresholds"][0] else "no")


def test_the_encoder_is_that_of_pretraining_bit_for_bit(finished, encoder):
    before = TabBertModel.from_pretrained(encoder).state_dict()
    after = weights_of(finished)
    assert all(torch.equal(value, after[f"model.{name}"]) for name, value in before.items())


@pytest.mark.parametrize("split", ["validation", "test"])
def test_every_row_of_a_split_is_judged_once_by_the_window_that_ends_with_it(finished, split):
    rows = EncodedRows(finished / "_table" / "rows")
    model = AutoModelForSequenceClassification.from_pretrained(finished).eval()
    scored = ScoredRows.load(finished / "predictions" / f"{split}.parquet")
    mine = np.flatnonzero(rows.split == ["train", "validation", "test"].index(split))
    assert sorted(scored.rows) == mine.tolist()
    for row, score, label in list(zip(scored.rows, scored.scores, scored.labels, strict=True))[::7]:
        first = max(row - 5, rows.entity_starts[rows.entity_starts <= row].max())
        ids = torch.from_numpy(rows.take(np.arange(first, row + 1)))[None]
        with torch.inference_mode():
            by_hand = model(input_ids=ids).logits.softmax(-1)[0, 1].item()
        assert by_hand == pytest.approx(score, abs=1e-6) and label == rows.labels[row]
    metrics = results_of(finished)["metrics"][split]
    assert metrics["average_precision"] == pytest.approx(average_precision_score(scored.labels, scored.scores))
    if split == "validation":
        assert model.config.threshold == tune_thresholds(scored.scores, scored.labels)[0]


def test_probabilities_are_brought_back_to_the_share_of_positives(finished, recipe, tmp_path):
    results = results_of(finished)
    assert "was brought back to the" in results["notes"][-1] and "as if it were 39.96%" in results["notes"][-1]
    still = ["--upsample_positives", "0.4", "--correct_prior", "false", *TWO_EPOCHS]
    main([str(recipe), "--output_dir", str(tmp_path / "as-trained"), *still])
    corrected, trained = weights_of(finished), weights_of(tmp_path / "as-trained")
    train = load_windows(recipe, finished, "train").window_labels()
    actual = np.array([(train == 0).mean(), (train == 1).mean()])
    shift = np.log(actual / np.array([1 - 0.4, 0.4]))
    found = (corrected["classifier.bias"] - trained["classifier.bias"]).numpy()
    assert found[1] - found[0] == pytest.approx(shift[1] - shift[0], abs=0.01)  # a share is rounded to rows
    assert torch.equal(corrected["lstm.weight_hh_l0"], trained["lstm.weight_hh_l0"])
    assert "not brought back" in results_of(tmp_path / "as-trained")["notes"][-1]


def run_code_of_card(run: Path) -> None:
    """Run the example of a card beside a `table.csv`, as it is printed."""
    card = (run / "README.md").read_text()
    code = card[card.index("```python\n") + len("```python\n") :].split("```")[0]
    exec(code.replace(f'"{run.name}"', f'"{run}"'), {})


def test_cards_go_the_whole_path_from_pretraining_to_scores_of_strangers(tmp_path, monkeypatch, capsys):
    sizes = {"field_hidden_size": 8, "field_num_heads": 2, "hidden_size": 16, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 16, "stride": 10}
    data = {"users": 6, "rows": 3000, "fraud_rate": 0.02, "seed": 5}
    shared = {"task": "card_transactions", "data": "simulated:cards", "simulate": data} | TRAINING
    shared |= {"num_train_epochs": 1, "per_device_train_batch_size": 64, "per_device_eval_batch_size": 256}
    recipes = {
        "pretrain": shared | sizes | {"output_dir": str(tmp_path / "encoder")},
        "finetune": shared
        | {"output_dir": str(tmp_path / "head"), "pretrained": str(tmp_path / "encoder"), "seq_len": 4}
        | {"upsample_positives": 0.3, "negatives_per_epoch": 0.2, "bootstrap": 20},
    }
    for name, values in recipes.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    pretrain.main([str(tmp_path / "pretrain.yaml")])
    main([str(tmp_path / "finetune.yaml")])
    head, out = tmp_path / "head", tmp_path / "eval"
    eval_checkpoint.main([str(head), "simulated:cards", "--out", str(out), "--bootstrap", "0"])
    assert results_of(out)["metrics"]["test"] == pytest.approx(results_of(head)["metrics"]["test"])

    with open(head / "_table" / "cards.csv", newline="") as cards, open(tmp_path / "new.csv", "w") as new:
        rows = list(csv.DictReader(cards))[-40:]
        writer = csv.DictWriter(new, [name for name in rows[0] if name != "Is Fraud?"], extrasaction="ignore")
        writer.writeheader()  # a user and a merchant that were never seen
        writer.writerows(row | {"User": "777", "Merchant Name": "-4242"} for row in rows)
    predict.main([str(head), str(tmp_path / "new.csv"), str(tmp_path / "scores.csv")])
    scores = (tmp_path / "scores.csv").read_text().splitlines()
    assert scores[0] == "User,Card,Timestamp,row,prediction,probability_No,probability_Yes"
    assert len(scores) == 41 and all(line.startswith("777,") for line in scores[1:])

    cards = (head / "_table" / "cards.csv").read_text().splitlines()
    mine = [line for line in cards[1:] if line.startswith("3,0,")]
    monkeypatch.chdir(tmp_path)
    Path("table.csv").write_text("\n".join([cards[0], *mine]) + "\n")
    run_code_of_card(tmp_path / "encoder")
    capsys.readouterr()
    run_code_of_card(head)
    label, probability = capsys.readouterr().out.split()
    told = pq.read_table(head / "predictions" / "test.parquet").to_pylist()
    (last,) = [row for row in told if cards[1 + row["row"]] == mine[-1]]  # `row` counts rows of the file
    assert label in ("No", "Yes") and float(probability) == pytest.approx(last["score"], abs=1e-6)


def test_an_encoder_that_was_pretrained_on_another_split_of_the_table_is_told():
    mine = {"data": "cards.csv", "split_fractions": [0.7, 0.1, 0.2]}
    assert pretraining_note({}, mine) == pretraining_note({"data": "other.csv", "split": "paper"}, mine) == []
    assert pretraining_note(mine | {"seq_len": 20}, mine | {"split": "time"}) == []
    assert length_note({}, 99) == length_note({"seq_len": 20}, 20) == []
    assert "from row 21 on are as they were drawn" in length_note({"seq_len": 20}, 30)[0]
    (note,) = pretraining_note({"data": "cards.csv", "split": "paper"}, mine)
    assert "with another split and split_fractions: it has seen, without their labels, rows" in note


def test_the_default_split_spelt_out_is_no_other_one_and_another_spelling_of_a_path_hides_none(tmp_path):
    default, spelt = ({"data": "cards.csv"}, {"data": "cards.csv", "split_fractions": [0.7, 0.1, 0.2], "split": "time"})
    assert pretraining_note(default, spelt) == pretraining_note(spelt, default) == []
    assert pretraining_note(default, spelt | {"split_seed": 3}) == []  # nothing is drawn by time
    for same in ("./cards.csv", str(Path("cards.csv").resolve()), "elsewhere/../cards.csv"):
        (note,) = pretraining_note({"data": same, "split_fractions": [0.6, 0.2, 0.2]}, default)
        assert "with another split_fractions" in note


@pytest.mark.slow
def test_two_processes_train_and_judge_as_one(recipe, tmp_path):
    still = ["--learning_rate", "0.0", "--num_train_epochs", "1", "--upsample_positives", "0.4"]
    main([str(recipe), *still, "--output_dir", str(tmp_path / "one")])
    said = run_on_two_processes(("scripts/finetune.py", recipe, *still, "--output_dir", tmp_path / "two"))
    assert said.count("Results on test") == 1
    one, two = (ScoredRows.load(tmp_path / n / "predictions" / "test.parquet") for n in ("one", "two"))
    np.testing.assert_array_equal(one.rows, two.rows)
    np.testing.assert_allclose(one.scores, two.scores, atol=1e-6)


@pytest.mark.nightly
def test_two_processes_compare_models_and_read_the_finished_runs_again(recipe, tmp_path):
    several = ["--compare", "raw_lstm", "amount", "--num_train_epochs", "1", "--bootstrap", "0"]
    several += ["--output_dir", str(tmp_path / "runs")]
    said = run_on_two_processes(("scripts/finetune.py", recipe, *several))
    table = (tmp_path / "runs" / "comparison.md").read_text()
    assert said.count(table) == 1
    names = [line.split("|")[1].strip() for line in table.splitlines()[2:] if line.startswith("|")]
    assert names == ["lstm", "raw_lstm", "amount", "majority"]
    page = tmp_path / "runs" / "lstm-seed1" / "report" / "report.html"
    page.unlink()
    assert run_on_two_processes(("scripts/finetune.py", recipe, *several)).count(table) == 1
    assert page.is_file()


def load_windows(recipe: Path, run: Path, split: str):
    loaded = load_recipe([str(recipe), "--output_dir", str(run)])
    prepared = HeadRun(loaded)
    prepared.read_table()
    return prepared.windows[split]


@pytest.mark.slow
def test_a_head_learns_what_only_the_row_before_tells(recipe, tmp_path):
    more = ["--num_train_epochs", "12", "--freeze", "{}", "--lstm_hidden_size", "16", "--seq_len", "3"]
    main([str(recipe), "--output_dir", str(tmp_path / "run"), *more])
    metrics = results_of(tmp_path / "run")["metrics"]["test"]
    assert metrics["average_precision"] > 3 * metrics["positive_rate"]


def test_a_head_may_end_as_the_mean_of_its_last_checkpoints(recipe, tmp_path):
    run = tmp_path / "run"
    main([str(recipe), "--output_dir", str(run), "--soup", "true", "--save_total_limit", "1", *TWO_EPOCHS])
    results = results_of(run)
    soup = results["soup"]
    assert soup["tried"] == 1 and soup["metric"] == "average_precision" and soup["after"] >= soup["before"]
    assert results["metrics"]["validation"]["average_precision"] == pytest.approx(soup["after"])
    assert len(list(run.glob("checkpoint-*"))) <= 2  # the last, and the best


# ---- Stored states of the frozen encoder, resuming ----


def test_stored_states_give_the_weights_and_scores_of_recomputing(recipe, tmp_path, monkeypatch):
    runs = {"stored": [], "anew": ["--feature_cache", "false"], "half": ["--feature_cache_dtype", "float16"]}
    calls = dict.fromkeys(runs, 0)
    encode = TabBertModel.forward

    def counted(self, *inputs, **named):
        calls[name] += 1
        return encode(self, *inputs, **named)

    monkeypatch.setattr(TabBertModel, "forward", counted)
    for name, arguments in runs.items():
        main([str(recipe), "--output_dir", str(tmp_path / name), *TWO_EPOCHS, *arguments])
    assert calls["stored"] < calls["anew"] / 2
    assert largest_difference(tmp_path / "stored", tmp_path / "anew") < 1e-6
    assert 0 < largest_difference(tmp_path / "stored", tmp_path / "half") < 2e-2
    for split in ("validation", "test"):
        stored, anew = (ScoredRows.load(tmp_path / n / "predictions" / f"{split}.parquet") for n in ("stored", "anew"))
        np.testing.assert_allclose(stored.scores, anew.scores, atol=1e-6)
    assert not (tmp_path / "stored" / "_feature_cache").exists()  # it can be large


@pytest.mark.parametrize(
    ("stop", "checkpoint", "arguments"),
    [
        pytest.param(13, 10, ["--upsample_positives", "0.4"], id="sampled", marks=pytest.mark.slow),
        pytest.param(8, 5, ["--freeze", '{"encoder": 0.5}', "--window_label", "any"], id="thawing"),
    ],
)
def test_an_interrupted_run_resumes_to_the_same_weights(recipe, tmp_path, stop, checkpoint, arguments):
    steps = ["--eval_strategy", "steps", "--save_strategy", "steps", "--eval_steps", "5", "--save_steps", "5"]
    steps += ["--max_steps", "20", *arguments]
    main([str(recipe), *steps, "--output_dir", str(tmp_path / "whole")])

    run = tmp_path / "run"
    with killed_at_step(stop):
        main([str(recipe), *steps, "--output_dir", str(run)])
    assert (run / f"checkpoint-{checkpoint}").is_dir() and not (run / "results.json").exists()
    main([str(recipe), *steps, "--output_dir", str(run)])
    assert largest_difference(run, tmp_path / "whole") == 0.0
    assert results_of(run)["metrics"] == results_of(tmp_path / "whole")["metrics"]
    written = (run / "model.safetensors").stat().st_mtime_ns
    main([str(recipe), *steps, "--output_dir", str(run)])  # finished: read
    assert (run / "model.safetensors").stat().st_mtime_ns == written


# ---- Other labels, other heads ----


@pytest.mark.figures
def test_one_label_per_row_judges_each_row_with_half_a_window_before_it(recipe, tmp_path):
    run = tmp_path / "run"
    main([str(recipe), "--output_dir", str(run), "--window_label", "every", "--class_weights", "balanced"])
    rows = EncodedRows(run / "_table" / "rows")
    scored = ScoredRows.load(run / "predictions" / "test.parquet")
    assert sorted(scored.rows) == np.flatnonzero(rows.split == 2).tolist()
    model = AutoModelForSequenceClassification.from_pretrained(run).eval()
    assert model.config.label_level == "row"
    windows = load_windows_of_every(recipe, run)
    index = windows.index
    for window in range(0, len(windows), 5):
        first, length = index.start[window], index.length[window]
        with torch.inference_mode():
            ids = torch.from_numpy(rows.take(np.arange(first, first + length)))[None]
            by_hand = model(input_ids=ids).logits.softmax(-1)[0, -1, 1].item()  # its last row has most context here
        assert by_hand == pytest.approx(scored.scores[scored.rows == first + length - 1].item(), abs=1e-6)


def load_windows_of_every(recipe: Path, run: Path):
    loaded = load_recipe([str(recipe), "--output_dir", str(run), "--window_label", "every"])
    prepared = HeadRun(loaded)
    prepared.read_table()
    windows = prepared.windows["test"]
    whole = windows.index.length == 6
    assert (windows.index.label_start[whole] <= 3).all() or whole.any()
    return windows


@pytest.mark.figures
def test_numbers_are_predicted_in_their_own_units(recipe, tmp_path, payments):
    run = tmp_path / "run"
    numbers = ["--label_columns", "heat", "--learning_rate", "0.05"]
    main([str(recipe), "--output_dir", str(run), *numbers])
    rows = EncodedRows(run / "_table" / "rows")
    config = AutoModelForSequenceClassification.from_pretrained(run).config
    training = np.array(rows.labels)[rows.split == 0, 0]
    assert config.problem_type == "regression" and config.id2label == {0: "heat"}
    assert config.target_mean == pytest.approx([training.mean()], rel=1e-5)
    assert config.target_std == pytest.approx([training.std()], rel=1e-5)
    metrics = results_of(run)["metrics"]["test"]
    scored = ScoredRows.load(run / "predictions" / "test.parquet")
    assert metrics["rmse"] == pytest.approx(np.sqrt(np.mean((scored.scores - scored.labels) ** 2)))
    predict.main([str(run), str(payments), str(tmp_path / "heat.parquet")])
    table = pq.read_table(tmp_path / "heat.parquet")
    told = dict(zip(table["row"].to_pylist(), table["predicted_heat"].to_pylist(), strict=True))
    place = rows.row_numbers[scored.rows] if rows.row_numbers is not None else scored.rows
    assert [told[row] for row in place.tolist()] == pytest.approx(scored.scores.reshape(-1).tolist(), abs=1e-3)


@pytest.mark.slow
def test_a_number_that_depends_on_values_inside_a_bin_is_read_from_numbers(recipe, tmp_path):
    rng, lines = np.random.default_rng(0), ["when,who,amount,worth"]
    for hour in range(500):
        amount = rng.lognormal(3, 1)
        day, time = divmod(hour, 24)
        lines.append(f"2024-01-{1 + day:02d} {time:02d}:00,one,{amount:.2f},{amount:.2f}")
    (tmp_path / "worth.csv").write_text("\n".join(lines) + "\n")
    plan = {"entity": "who", "time": "when", "label": "worth", "fields": {"amount": {"kind": "numeric", "num_bins": 3}}}
    sizes = {"field_hidden_size": 8, "field_num_heads": 2, "hidden_size": 16, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 16, "num_train_epochs": 1, "seq_len": 6}
    sizes |= {"mlm_probability": 0.5}
    values = {"task": "table", "data": str(tmp_path / "worth.csv"), "plan": plan} | TRAINING | sizes
    (tmp_path / "encoder.yaml").write_text(yaml.safe_dump(values | {"output_dir": str(tmp_path / "encoder")}))
    pretrain.main([str(tmp_path / "encoder.yaml")])
    own = ["--data", values["data"], "--pretrained", str(tmp_path / "encoder"), "--label_columns", "worth"]
    main([str(recipe), *own, "--output_dir", str(tmp_path / "run"), "--num_train_epochs", "8"])
    found = results_of(tmp_path / "run")
    tried = found["row_inputs"]["validation"]
    assert list(tried) == ["states", "states and numbers", "numbers"]
    assert found["row_inputs"]["chosen"] != "states" and min(tried.values()) < 0.6 * tried["states"]
    predict.main([str(tmp_path / "run"), values["data"], str(tmp_path / "worth.parquet")])
    told = pq.read_table(tmp_path / "worth.parquet")["predicted_worth"].to_numpy()
    scored = ScoredRows.load(tmp_path / "run" / "predictions" / "test.parquet")
    assert told[-len(scored.rows) :] == pytest.approx(scored.scores.reshape(-1), abs=1e-3)


@pytest.mark.slow
def test_a_head_that_collapses_goes_back_and_one_that_knows_less_than_the_mean_says_so(recipe, tmp_path, caplog):
    thaw = ["--freeze", '{"encoder": "forever", "classifier": "1 epoch"}', "--num_train_epochs", "2"]
    thaw += ["--part_learning_rates", '{"classifier": 300}', "--label_columns", "heat"]
    with caplog.at_level(logging.WARNING):
        main([str(recipe), "--output_dir", str(tmp_path / "back"), *thaw])
        off = ["--collapse_factor", "null", "--load_best_model_at_end", "false"]
        main([str(recipe), "--output_dir", str(tmp_path / "on"), *thaw, *off])
    back, on = results_of(tmp_path / "back")["notes"], results_of(tmp_path / "on")["notes"]
    told = [note for note in back if note.startswith("Collapse in epoch 2 (step") and "rmse" in note]
    told += [note for note in on if note.startswith("The run ends worse than it began: loss")]
    told += [note for note in on if note.startswith("This model is not better than a guess, the mean")]
    assert len(told) == 3 and "went back to its best weights" in told[0]
    pages = [(tmp_path / name / "report" / "report.html").read_text() for name in ("back", "on", "on")]
    assert all(note[:40] in page for note, page in zip(told, pages, strict=True))
    assert all(note in caplog.text for note in (told[0], told[2]))
    assert results_of(tmp_path / "back")["metrics"]["test"]["rmse"] < 100


@pytest.mark.figures
@pytest.mark.slow
def test_heads_seeds_and_baselines_are_compared_on_the_same_rows(recipe, tmp_path, capsys):
    root = tmp_path / "runs"
    several = ["--compare", "raw_lstm", "pooled", "amount", "--seeds", "1", "2", "--num_train_epochs", "1"]
    main([str(recipe), "--output_dir", str(root), *several])
    table = (root / "comparison.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in table[2:] if "|" in line] == [
        *("lstm", "raw_lstm", "pooled", "amount", "majority")
    ]
    words = (root / "comparison.md").read_text()
    assert re.search(r"\nlstm is (better|worse|not better) than amount: average precision [+-]0\.\d{3} \(", words)
    assert "±" in table[2] and table[0] in capsys.readouterr().out
    places = [
        ScoredRows.load(root / name / "predictions" / "test.parquet").rows.tolist()
        for name in ("lstm-seed1", "raw_lstm-seed2", "pooled-seed1", "amount-seed1")
    ]
    assert all(sorted(place) == sorted(places[0]) for place in places)
    assert (root / "_table" / "rows").is_dir() and not (root / "lstm-seed1" / "_table").exists()
    assert not (root / "_feature_cache").exists()
    with pytest.raises(FileNotFoundError, match=r"found a folder of several.*lstm-seed1, .*raw_lstm-seed2"):
        predict.main([str(root), str(root / "table.csv"), str(tmp_path / "scores.parquet")])
    with pytest.raises(ValueError, match=r"name some of lstm, mlp, .*, found boost"):
        main([str(recipe), "--output_dir", str(tmp_path / "other"), "--compare", "boost"])


def test_an_lstm_on_raw_cells_needs_no_checkpoint(recipe, tmp_path):
    values = {k: v for k, v in yaml.safe_load(recipe.read_text()).items() if k != "pretrained"}
    values |= {"architecture": "raw_lstm", "field_hidden_size": 4, "plan": PLAN, "num_train_epochs": 1}
    values |= {"freeze": {"encoder": "forever"}, "classification_loss": "rmse_one_hot"}
    values |= {"output_dir": str(tmp_path / "run")}
    (tmp_path / "raw.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    main([str(tmp_path / "raw.yaml")])
    config = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").config
    assert config.architectures == ["TabBertRawLstmForSequenceClassification"] and config.field_hidden_size == 4


# ---- A new table ----


@pytest.fixture(scope="session")
def strangers(tmp_path_factory) -> Path:
    """Payments of people and at a shop that were never seen, in no order, without a label."""
    lines = lines_of(5, first=100)
    header, rows = lines[0].split(","), [line.split(",") for line in lines[1:]]
    keep = [header.index(name) for name in ("when", "who", "shop", "amount")]
    rng = np.random.default_rng(0)
    rows = [[row[i] for i in keep] for row in rng.permutation(rows).tolist()]
    rows[3][2] = "museum"
    path = tmp_path_factory.mktemp("strangers") / "new.csv"
    path.write_text("\n".join(",".join(row) for row in [["when", "who", "shop", "amount"], *rows]) + "\n")
    return path


def test_a_new_table_is_scored_row_by_row_in_blocks_of_any_size(finished, strangers, tmp_path, monkeypatch):
    whole, pieces = tmp_path / "whole.parquet", tmp_path / "pieces.parquet"
    predict.main([str(finished), str(strangers), str(whole)])
    blocks = WindowCut.blocks
    monkeypatch.setattr(WindowCut, "blocks", lambda cut, rows: blocks(cut, rows, size=12))
    predict.main([str(finished), str(strangers), str(pieces), "--batch_size", "3"])
    first, second = pq.read_table(whole), pq.read_table(pieces)
    assert first.column_names == ["who", "when", "row", "prediction", "probability_no", "probability_yes"]
    lines = strangers.read_text().splitlines()[1:]
    assert sorted(first["row"].to_pylist()) == list(range(len(lines)))
    for row in first.to_pylist():
        when, who = lines[row["row"]].split(",")[:2]
        assert (f"{row['when']:%Y-%m-%d %H:%M}", row["who"]) == (when, who)
    assert first.drop_columns(["probability_no", "probability_yes"]).equals(
        second.drop_columns(["probability_no", "probability_yes"])
    )
    np.testing.assert_allclose(first["probability_yes"], second["probability_yes"], atol=1e-6)

    processor = TabBertProcessor.from_pretrained(finished)
    model = AutoModelForSequenceClassification.from_pretrained(finished).eval()
    mine = sorted(line for line in lines if ",w101," in line)[:9]
    values = [line.split(",") for line in mine]
    history = {
        "when": np.array([v[0].replace(" ", "T") for v in values], dtype="datetime64[us]"),
        "who": [v[1] for v in values],
        "shop": [v[2] for v in values],
        "amount": [float(v[3]) if v[3] else None for v in values],
    }
    with torch.inference_mode():
        inputs = processor({**history, "when": history["when"].tolist()}, max_rows=6, return_tensors="pt")
        by_hand = model(**inputs).logits.softmax(-1)[0, 1].item()
    told = [r for r in first.to_pylist() if r["who"] == "w101"][8]["probability_yes"]
    assert told == pytest.approx(by_hand, abs=1e-6)


def test_windows_side_by_side_are_scored_with_their_first_and_last_time(finished, strangers, tmp_path):
    out = tmp_path / "windows.jsonl"
    predict.main([str(finished), str(strangers), str(out), "--level", "window"])
    told = [json.loads(line) for line in out.read_text().splitlines()]
    mine = [row for row in told if row["who"] == "w101"]
    lines = sorted(line for line in strangers.read_text().splitlines() if ",w101," in line)
    assert [row["rows"] for row in mine] == [6] * (len(lines) // 6) + [6] * bool(len(lines) % 6)
    assert mine[0]["first_time"][:16] == lines[0][:16] and mine[0]["when"][:16] == lines[5][:16]
    assert mine[-1]["when"][:16] == lines[-1][:16]


def test_evaluation_repeats_the_numbers_of_the_run(finished, payments, strangers, tmp_path):
    out = tmp_path / "eval"
    eval_checkpoint.main([str(finished), str(payments), "--out", str(out), "--bootstrap", "0"])
    assert results_of(out)["metrics"]["test"] == pytest.approx(results_of(finished)["metrics"]["test"])
    assert (out / "report" / "report.html").exists() and not list(out.glob(".*draft"))
    whole = tmp_path / "all"
    asked = ["--split", "all", "--out", str(whole), "--bootstrap", "50", "--resample_by", "row"]
    eval_checkpoint.main([str(finished), str(payments), *asked])
    assert results_of(whole)["resampled_by"] == "row"
    assert results_of(whole)["judged"]["all"]["rows"] == len(payments.read_text().splitlines()) - 1
    lines = payments.read_text().splitlines()
    odd = tmp_path / "odd.csv"  # one label alone: numbered as the model does, not from 0
    odd.write_text("\n".join([lines[0], *(line for line in lines if ",yes," in line)]) + "\n")
    eval_checkpoint.main([str(finished), str(odd), "--split", "all", "--out", str(tmp_path / "odd")])
    counts = results_of(tmp_path / "odd")["judged"]["all"]
    assert counts["rows"] == counts["positives"] > 0
    odd.write_text(odd.read_text().replace(",yes,", ",maybe,"))
    with pytest.raises(ValueError, match=r"Expected labels that the model knows \(no, yes\), found maybe"):
        eval_checkpoint.main([str(finished), str(odd), "--split", "all", "--out", str(tmp_path / "other")])
    with pytest.raises(ValueError, match=r"Expected --split to be one of .*'all'\], found 'hard'"):
        eval_checkpoint.main([str(finished), str(payments), "--split", "hard", "--out", str(out)])
    with pytest.raises(ValueError, match="Expected the label columns odd in the table, found no odd among when"):
        eval_checkpoint.main([str(finished), str(strangers), "--out", str(out)])


def test_rows_are_embedded_with_the_rows_before_them(finished, encoder, strangers, tmp_path):
    for checkpoint in (encoder, finished):
        out = tmp_path / "rows.parquet"
        embed.main([str(checkpoint), str(strangers), str(out)])
        table = pq.read_table(out)
        assert table.column_names == ["who", "when", "row", "embedding"]
    found = np.stack(table["embedding"].to_numpy())
    windows = tmp_path / "windows.parquet"
    embed.main([encoder, str(strangers), str(windows), "--level", "window", "--seq_len", "1", "--float16"])
    assert len(pq.read_table(windows)) == len(found) and found.shape[1] == 16
    model = TabBertModel.from_pretrained(encoder).eval()
    with torch.inference_mode():
        processor = TabBertProcessor.from_pretrained(encoder)
        lines = sorted(line.split(",") for line in strangers.read_text().splitlines() if ",w101," in line)
        first = {"when": ["2024"], "who": ["w101"], "shop": [lines[0][2]], "amount": [float(lines[0][3] or "nan")]}
        first["when"] = np.array([lines[0][0].replace(" ", "T")], dtype="datetime64[us]").tolist()
        state = model(processor(first, return_tensors="pt")["input_ids"]).last_hidden_state[0, 0]
    place = table["who"].to_pylist().index("w101")
    np.testing.assert_allclose(found[place], state.numpy(), atol=1e-5)
    with pytest.raises(ValueError, match=r"Expected the output to end in .parquet, found 'rows.csv'"):
        embed.main([encoder, str(strangers), str(tmp_path / "rows.csv")])


# ---- What cannot work ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--architecture", "gru"],
            "Expected one of lstm, mlp, pooled, raw_lstm, boosted, fusion, auto for --architecture, found 'gru'",
        ),
        (["--window_label", "first"], "Expected one of last, any, every for --window_label, found 'first'"),
        (["--upsample_positives", "1.5"], "Expected upsample_positives above 0 and below 1, found 1.5"),
        (["--negatives_per_epoch", "0"], "Expected negatives_per_epoch above 0 and at most 1, found 0"),
        (["--plan", "card"], "Expected no plan beside `pretrained`, whose processor has a plan of its own"),
        (["--field_hidden_size", "8"], "Expected no field_hidden_size beside `pretrained`"),
        (["--label_columns", "fraud"], "Expected the label columns fraud in the table, found no fraud among when"),
        (["--label_columns", "shop"], "Expected labels that are no input, found that 'shop' read the label"),
        (["--problem_type", "regression"], "Expected labels for problem_type 'regression', found single_label"),
        (
            ["--classification_loss", "rmse_one_hot", "--class_weights", "balanced"],
            "Expected a loss cross_entropy or focal beside class_weights, found 'rmse_one_hot'",
        ),
        (
            ["--label_columns", "heat", "--upsample_positives", "0.5"],
            "Expected two classes beside upsample_positives and negatives_per_epoch, found numbers",
        ),
        (["--compare", "boost"], "Expected architecture and compare to name some of lstm, mlp"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_with_a_remedy(recipe, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        main([str(recipe), "--output_dir", str(tmp_path / "run"), *arguments])


def test_what_is_wrong_in_a_recipe_does_not_block_the_folder_for_the_corrected_one(
    recipe, encoder, payments, tmp_path, monkeypatch
):
    run, begun = tmp_path / "run", []

    def stop(trainer, **named):
        begun.append(len(trainer.train_dataset))
        raise KeyboardInterrupt

    monkeypatch.setattr(MMTabTrainer, "train", stop)
    for name, value, error in (("freeze", "{encoder: 3 weeks}", ValueError), ("report_to", "azure_ml", ImportError)):
        with pytest.raises(error, match=r"'3 weeks'|azure_ml is not installed"):
            main([str(recipe), "--output_dir", str(run), f"--{name}", value])
        assert not run.exists()
    short = tmp_path / "short.csv"
    short.write_text("\n".join(payments.read_text().splitlines()[:200]) + "\n")
    mistakes = [
        (["--data", "nowhere.csv"], FileNotFoundError, "nowhere.csv"),
        (["--entities", "[nobody]"], ValueError, "nobody"),
        (["--freeze", "{encodre: 1 epoch}"], ValueError, "Unknown part 'encodre'"),
        (["--data", str(short)], KeyboardInterrupt, "^$"),
        ([], KeyboardInterrupt, "^$"),
    ]
    pretrained = str(Path(encoder).parent / "recipe.yaml")
    common = [str(recipe), "--bootstrap", "0"]
    for command, arguments in ((pretrain.main, [pretrained]), (main, common), (main, [*common, "--compare", "mlp"])):
        begun.clear()
        for wrong, error, message in mistakes:
            with pytest.raises(error, match=message):
                command([*arguments, "--output_dir", str(run), *wrong])
        assert begun[0] < begun[1]  # of the short table, and of the whole one
        run = run.with_name(f"{run.name}-next")


def test_a_checkpoint_that_is_not_there_and_one_without_a_processor_are_named(recipe, encoder, payments, tmp_path):
    for wrong in (str(tmp_path / "nothing"), "outputs/nothing_pretrain"):
        with pytest.raises(FileNotFoundError, match=rf"checkpoint at '{wrong}', found no such folder.* Pretrain"):
            main([str(recipe), "--output_dir", str(tmp_path / "run"), "--pretrained", wrong])
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((Path(encoder) / name).read_bytes())
    for command, arguments in (
        (main, [str(recipe), "--output_dir", str(tmp_path / "run"), "--pretrained", str(bare)]),
        (embed.main, [str(bare), str(payments), str(tmp_path / "rows.parquet")]),
    ):
        with pytest.raises(FileNotFoundError, match=r"processor beside the model in .*Copy it and the tabbert_"):
            command(arguments)


def test_a_third_label_is_named_with_its_rows(recipe, payments, tmp_path):
    lines = payments.read_text().splitlines()
    lines[5] = lines[5].replace(",no,", ",maybe,").replace(",yes,", ",maybe,")
    (tmp_path / "three.csv").write_text("\n".join(lines) + "\n")
    arguments = ["--data", str(tmp_path / "three.csv"), "--negatives_per_epoch", "0.5"]
    with pytest.raises(ValueError, match=r"two classes .*found 3, .*'maybe' \(1\), 'no' \(\d+\), 'yes'.*a slip"):
        main([str(recipe), "--output_dir", str(tmp_path / "run"), *arguments])


def test_a_mean_score_far_from_the_share_of_positives_is_told():
    assert score_note({"mean_score": 0.021, "positive_rate": 0.0038})[0].startswith(
        "The mean predicted probability is 2.10%, and 0.38% of the test rows"
    )
    assert score_note({"mean_score": 0.01, "positive_rate": 0.0038}) == [] == score_note({"rmse": 1.0})


@pytest.mark.slow
def test_what_the_head_reads_is_chosen_on_validation_once_and_recorded(recipe, encoder, tmp_path, monkeypatch):
    values = yaml.safe_load((Path(encoder).parent / "recipe.yaml").read_text())
    values |= {"next_row": True, "output_dir": str(tmp_path / "encoder")}
    (tmp_path / "encoder.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    pretrain.main([str(tmp_path / "encoder.yaml")])
    common = [str(recipe), "--pretrained", str(tmp_path / "encoder"), "--bootstrap", "0"]
    encoded, forward = [], TabBertModel.forward

    def counted(self, input_ids, **named):
        encoded.append(len(input_ids))
        return forward(self, input_ids, **named)

    with monkeypatch.context() as patch:
        patch.setattr(TabBertModel, "forward", counted)
        main([*common, "--output_dir", str(tmp_path / "auto")])
    found = results_of(tmp_path / "auto")
    choice = found["row_inputs"]
    # the encoder reads each window once for all candidates and the run itself, and eight to know the size of a store
    assert sum(encoded) == sum(found["windows"].values()) + 2 * 8

    assert list(choice["validation"]) == ["states", "surprise", "both", "surprise and statistics"]
    assert choice["chosen"] == max(choice["validation"], key=choice["validation"].get)
    assert choice["metric"] == "average_precision"
    assert found["metrics"]["validation"]["average_precision"] == pytest.approx(max(choice["validation"].values()))
    assert any(f"The head reads {choice['chosen']} of each row" in note for note in found["notes"])
    config = AutoModelForSequenceClassification.from_pretrained(tmp_path / "auto").config
    inputs = CANDIDATES[choice["chosen"]]
    assert parts_of(config.row_inputs) == parts_of(inputs)
    assert not list(tmp_path.glob("auto/_feature_cache"))

    main([*common, "--output_dir", str(tmp_path / "named"), "--row_inputs", *inputs])
    assert results_of(tmp_path / "named")["row_inputs"] is None
    assert largest_difference(tmp_path / "auto", tmp_path / "named") == 0


def test_dates_beyond_the_training_period_are_unknown_told_and_do_not_lift_the_scores(
    recipe, encoder, payments, tmp_path, caplog
):
    month = {"when.month": {"kind": "time_part", "part": "month"}}
    values = yaml.safe_load((Path(encoder).parent / "recipe.yaml").read_text())
    values |= {"plan": {**PLAN, "fields": {**month, **PLAN["fields"]}}, "output_dir": str(tmp_path / "encoder")}
    (tmp_path / "encoder.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    pretrain.main([str(tmp_path / "encoder.yaml")])
    run = tmp_path / "run"
    main([str(recipe), "--output_dir", str(run), "--pretrained", str(tmp_path / "encoder")])
    assert results_of(run)["unseen"] == []
    lines = payments.read_text().replace("2024-01-", "2024-07-")  # the same weekdays do not matter: no such field
    (tmp_path / "moved.csv").write_text(lines)
    logging.getLogger("hf_mmtab").addHandler(caplog.handler)
    predict.main([str(run), str(payments), str(tmp_path / "then.parquet")])
    assert "Values that training never had" not in caplog.text
    predict.main([str(run), str(tmp_path / "moved.csv"), str(tmp_path / "moved.parquet")])
    assert "in the new rows: when.month 100.0% (training 0.0%)." in caplog.text
    arguments = [str(run), str(tmp_path / "moved.csv"), "--split", "all", "--out", str(tmp_path / "eval")]
    eval_checkpoint.main([*arguments, "--bootstrap", "0"])
    logging.getLogger("hf_mmtab").removeHandler(caplog.handler)

    assert results_of(tmp_path / "eval")["unseen"] == [{"field": "when.month", "training": 0.0, "here": 1.0}]
    assert "Values that training never had" in (tmp_path / "eval" / "report" / "report.html").read_text()
    then, moved = (
        pq.read_table(tmp_path / f"{name}.parquet")["probability_yes"].to_numpy() for name in ("then", "moved")
    )
    assert moved.mean() == pytest.approx(then.mean(), rel=0.25)
    assert np.corrcoef(then, moved)[0, 1] > 0.9


def test_judging_the_table_of_training_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "those that it learned from too" in seen_note("cards.csv", str(tmp_path / "cards.csv"), "all")[0]
    assert seen_note("cards.csv", "cards.csv", "test") == [] == seen_note("cards.csv", "new.csv", "all")


def test_labels_of_one_class_alone_are_told_before_training(recipe, payments, tmp_path):
    lines = payments.read_text().replace(",yes,", ",no,").splitlines()
    late = len(lines) - 3
    lines[late] = lines[late].replace(",no,", ",yes,")
    (tmp_path / "few.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"at least two classes in the \d+ train windows, found \d+ of 'no', 0 of"):
        main([str(recipe), "--output_dir", str(tmp_path / "run"), "--data", str(tmp_path / "few.csv")])


def test_checkpoints_that_are_not_what_is_needed_are_named(recipe, encoder, payments, tmp_path):
    values = {k: v for k, v in yaml.safe_load(recipe.read_text()).items() if k != "pretrained"}
    (tmp_path / "none.yaml").write_text(yaml.safe_dump(values | {"plan": PLAN}, sort_keys=False))
    with pytest.raises(ValueError, match="Expected `pretrained`, a TabBERT checkpoint, for architecture 'lstm'"):
        main([str(tmp_path / "none.yaml"), "--output_dir", str(tmp_path / "run")])
    with pytest.raises(ValueError, match=r"Expected a fine-tuned TabBERT in .*found TabBertForMaskedLM. Fine-tune"):
        predict.main([encoder, str(payments), str(tmp_path / "out.csv")])
    mixed = tmp_path / "mixed"
    TabBertForMaskedLM.from_pretrained(encoder).save_pretrained(mixed)
    TabBertProcessor.from_pretrained(encoder).__class__(PLAN).fit(
        {
            "when": np.array(["2024-01-01", "2024-01-02"], dtype="datetime64[us]").tolist(),
            "who": ["w1", "w1"],
            "shop": ["bakery", "cinema"],
            "amount": [1.0, 2.0],
        }
    ).save_pretrained(mixed)
    with pytest.raises(ValueError, match=re.compile("Expected the processor with fingerprint .* found")):
        main([str(recipe), "--output_dir", str(tmp_path / "mix"), "--pretrained", str(mixed)])


def test_help_behind_a_recipe_lists_the_keys_of_its_task(recipe, capsys):
    with pytest.raises(SystemExit) as stopped:
        load_recipe([str(recipe), "--help"])
    assert stopped.value.code == 0
    assert "--upsample_positives" in (shown := capsys.readouterr().out) and "--image_model" not in shown

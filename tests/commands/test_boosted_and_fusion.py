"""Trees on statistics of the past as a model, alone and joined with a sequence model: trained, saved, used anywhere."""

import builtins
import json
import logging as python_logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from running import killed, killed_at_call, left_as_they_are
from safetensors.torch import load_file
from sklearn.metrics import average_precision_score
from transformers import AutoModelForSequenceClassification, pipeline

from hf_mmtab.arguments import TableDataArguments
from hf_mmtab.commands import embed, eval_checkpoint, predict, prepare, pretrain, push_to_hub
from hf_mmtab.commands.finetune import main
from hf_mmtab.commands.runs import head_choice, head_inputs, head_training, table_heads
from hf_mmtab.commands.runs.fusion import _logistic, ahead, far_better_than_stack, folds, labels_before, rolling, worth
from hf_mmtab.commands.tables.orderings import read_orderings
from hf_mmtab.data.windows.encoded_rows import EncodedRows
from hf_mmtab.evaluation.scored_rows import ScoredRows
from hf_mmtab.exporting import export_checkpoint
from hf_mmtab.models.tabbert import TabBertForMaskedLM, TabBertProcessor
from hf_mmtab.models.tabbert.modeling_tabbert_boosted import CANDIDATES, OF_NUMBERS
from hf_mmtab.serving import Predictor
from hf_mmtab.statistics.old_labels import warn_once
from hf_mmtab.tasks import TableTask, get_task
from hf_mmtab.tasks.checkpoints import data_arguments, recipe_of
from hf_mmtab.training import MMTabTrainer

SHOPS = ["bakery", "grocer", "cinema", "garage", "school", "market"]
PLAN = {
    "entity": ["who", "card"],
    "time": "when",
    "label": "odd",
    "fields": {
        "when.gap": {"kind": "time_gap", "num_bins": 4},
        "shop": {},
        "amount": {"kind": "numeric", "num_bins": 6},
    },
}
TRAINING = {
    "per_device_train_batch_size": 16, "per_device_eval_batch_size": 32, "learning_rate": 1.0e-2, "logging_steps": 20,
    "eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True, "report_to": "none",
    "disable_tqdm": True, "seed": 1, "seq_len": 8, "stride": 4, "task": "table", "bootstrap": 20, "plan": PLAN,
    "num_train_epochs": 1, "reasons": False,
}  # fmt: skip
REASONS = ["--reasons", "true"]
OF_HEADS = {"bootstrap": None, "reasons": None}


def write_recipe(folder, name, **values):
    kept = {key: value for key, value in (TRAINING | values).items() if value is not None}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(kept, sort_keys=False))
    return str(folder / f"{name}.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Payments that are odd where the holder was never at the shop before, and an encoder of them."""
    folder = tmp_path_factory.mktemp("fusion")
    rng = np.random.default_rng(0)
    rows = []
    for who in range(20):
        usual, met = rng.choice(len(SHOPS), 2, replace=False), set()
        for step in range(60):
            shop = int(rng.choice(usual) if rng.random() < 0.85 else rng.integers(0, len(SHOPS)))
            hours = 7 * step + who
            when = f"2024-01-{1 + hours // 24:02d} {hours % 24:02d}:{who:02d}"
            odd = "yes" if shop not in met and met else "no"
            met = met | {shop} if len(met) < 3 else {shop}
            rows.append((when, f"w{who}", step % 2, SHOPS[shop], 10 * shop + int(rng.integers(0, 3)), odd, step % 5))
    lines = ["when,who,card,shop,amount,odd,heat", *(",".join(map(str, row)) for row in sorted(rows))]
    (folder / "payments.csv").write_text("\n".join(lines) + "\n")
    sizes = {"field_hidden_size": 8, "field_num_heads": 2, "hidden_size": 16, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 16, "next_row": True}
    data = str(folder / "payments.csv")
    pretrain.main(
        [write_recipe(folder, "pretrain", data=data, output_dir=str(folder / "encoder"), **OF_HEADS, **sizes)]
    )
    head = {"data": data, "plan": None, "pretrained": str(folder / "encoder"), "lstm_hidden_size": 8}
    write_recipe(folder, "boosted", data=data, architecture="boosted", window_label="every")
    write_recipe(folder, "fusion", **head, architecture="fusion", window_label="every", row_inputs="surprise")
    joint = {"row_inputs": ["surprise", "windowed_surprise", "statistics"], "statistics": ["values", "rhythm"]}
    write_recipe(folder, "joint", **head, architecture="lstm", window_label="last", **joint)
    return folder


@pytest.fixture(scope="module", params=["boosted", pytest.param("fusion", marks=pytest.mark.slow), "joint"])
def run(request, folder):
    return finished(folder, request.param)


def finished(folder, name) -> Path:
    """Return the folder of the run of a recipe, which is trained once."""
    if not (folder / name / "results.json").exists():
        main([str(folder / f"{name}.yaml"), "--output_dir", str(folder / name), *REASONS])
    return folder / name


def test_a_saved_model_scores_a_table_as_its_run_did(run, folder, tmp_path):
    own = ScoredRows.load(run / "predictions" / "test.parquet")
    table = pq.read_table(run / "predictions" / "test.parquet")
    predict.main([str(run), str(folder / "payments.csv"), str(tmp_path / "scores.parquet")])
    found = pq.read_table(tmp_path / "scores.parquet").to_pandas().set_index("row")["probability_yes"]
    np.testing.assert_allclose(found.loc[table["row"].to_numpy()], own.scores, atol=1e-5)
    out = tmp_path / "judged"
    eval_checkpoint.main([str(run), str(folder / "payments.csv"), "--out", str(out), "--bootstrap", "0"])
    judged = ScoredRows.load(out / "predictions" / "test.parquet")
    np.testing.assert_allclose(judged.scores, own.scores, atol=1e-5)
    if run.name == "boosted":
        assert average_precision_score(own.labels, own.scores) > 0.9  # statistics tell it
    again = AutoModelForSequenceClassification.from_pretrained(run)
    again.save_pretrained(tmp_path / "copy")
    names = {path.name for path in run.glob("*_trees_*.txt")}
    assert {path.name for path in (tmp_path / "copy").glob("*_trees_*.txt")} == names
    # of few positive rows two boosters each
    own = {"boosted": {"statistics"}, "fusion": {"statistics", "fused"}, "joint": set()}[run.name]
    assert names == {f"{name}_trees_{number}.txt" for name in own for number in (0, 1)}


def test_what_a_push_sends_scores_as_the_run_did(run, folder, tmp_path):
    files = push_to_hub.files_to_push(run)
    for file in files:
        copy = tmp_path / "pushed" / file.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.source if isinstance(file.source, bytes) else file.source.read_bytes())
    for place, name in ((run, "own"), (tmp_path / "pushed", "pushed")):
        predict.main([str(place), str(folder / "payments.csv"), str(tmp_path / f"{name}.parquet")])
    assert pq.read_table(tmp_path / "own.parquet").equals(pq.read_table(tmp_path / "pushed.parquet"))
    held = {file.name: file.holds for file in files}
    if run.name != "fusion":
        assert held["tabbert_statistics.json"].startswith("VALUES as they stand in the data and how often each occurs")
    assert all("boosted trees" in text for name, text in held.items() if "_trees_" in name)
    shutil.copyfile(run / "results.json", tmp_path / "pushed" / "results.json")
    for text in ("hello: world\n", None):  # paths are reduced with the recipe's values
        (tmp_path / "pushed" / "recipe.yaml").write_text(text) if text else (
            tmp_path / "pushed" / "recipe.yaml"
        ).unlink()
        with pytest.raises(
            ValueError, match=r"Expected the recipe of the run in '.*recipe\.yaml', found (one without|none)"
        ):
            push_to_hub.push_run(tmp_path / "pushed", "me/x", dry_run=True)
    (tmp_path / "pushed" / "results.json").write_text('{"hello": 1}')
    with pytest.raises(
        ValueError, match=r"Expected whole files in '.*pushed', found results\.json damaged \(JSON of something else"
    ):
        push_to_hub.push_run(tmp_path / "pushed", "me/x", dry_run=True)


@pytest.mark.parametrize("lost", ["report", "results.json"])
def test_a_finished_run_writes_what_it_lost_again(run, folder, lost, caplog):
    pytest.importorskip("captum")
    before = json.loads((run / "results.json").read_text())
    reasons = (run / "report" / "report.html").read_text().count("log odds of yes:<")
    assert reasons
    shutil.rmtree(run / lost) if (run / lost).is_dir() else (run / lost).unlink()
    main([str(folder / f"{run.name}.yaml"), "--output_dir", str(run), *REASONS])
    assert (run / "report" / "report.html").read_text().count("log odds of yes:<") == reasons
    assert json.loads((run / "results.json").read_text())["metrics"] == before["metrics"]
    assert "could not be written" not in caplog.text


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_forked_workers_of_the_pipeline_give_the_answers_of_the_parent(folder):
    script = Path(__file__).with_name("forked_pipeline.py")
    done = subprocess.run(
        [sys.executable, script, folder / "payments.csv", finished(folder, "boosted"), finished(folder, "joint")],
        env={name: value for name, value in os.environ.items() if name != "POLARS_MAX_THREADS"},  # as users have it
        capture_output=True,
        text=True,
        timeout=240,  # what hangs fails
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_pipeline_scores_a_history_as_predict_scores_a_table_of_it_alone(run, folder, tmp_path):
    table = polars.read_csv(folder / "payments.csv", try_parse_dates=True)
    history = table.filter((polars.col("who") == "w3") & (polars.col("card") == 1)).sort("when")
    history.write_csv(tmp_path / "one.csv")
    predict.main([str(run), str(tmp_path / "one.csv"), str(tmp_path / "one.parquet")])
    expected = pq.read_table(tmp_path / "one.parquet").sort_by("row")["probability_yes"].to_numpy()
    found = pipeline("tabular-sequence-classification", model=str(run))(history, rows="every", top_k=None)
    scores = [next(one["score"] for one in row if one["label"] == "yes") for row in found]
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def assert_served(model, out, folder):
    """Export a model, and compare its answers with the pipeline's on histories of any length."""
    said = export_checkpoint(str(model), out)
    table = polars.read_csv(folder / "payments.csv", try_parse_dates=True).sort("when")
    histories = [one for (_, card), one in table.group_by(["who", "card"], maintain_order=True) if card][:6]
    histories += [histories[0][:1], histories[1][:3]]
    judge, served = pipeline("tabular-sequence-classification", model=str(model)), Predictor(out)

    def scores(answers):
        listed = [one if isinstance(one, list) else [one] for one in answers]
        return [[label["score"] for label in sorted(one, key=lambda x: x["label"])] for one in listed]

    for rows in ("every", "last"):
        expected = [judge(one, rows=rows, top_k=None) for one in histories]
        found = served.many(histories, rows=rows, top_k=None, batch_size=7)
        flat = expected if rows == "last" else [one for own in expected for one in own]
        flat_found = found if rows == "last" else [one for own in found for one in own]
        # A number of the network within rounding of a tree's split falls on either side of it, by processor.
        apart = np.abs(np.array(scores(flat_found)) - np.array(scores(flat)))
        assert np.mean(apart > 1e-4) < 0.01 and apart.max() < 0.01
    return said


@pytest.mark.slow
def test_an_export_answers_as_the_pipeline_does(run, folder, tmp_path):
    said = assert_served(run, tmp_path / "out", folder)
    fusion = json.loads((run / "config.json").read_text()).get("fusion") or {}
    has_network = run.name != "boosted" and fusion.get("chosen") != "boosted"  # a fusion may be its trees alone
    assert (tmp_path / "out" / "model.onnx").exists() == has_network
    assert any("onnxruntime differs from torch" in one for one in said) == has_network
    assert any("those of the who) count rows of other histories" in one for one in said)
    if run.name == "boosted":
        with pytest.raises(ValueError, match=r"Expected a network to quantise .* Leave --int8 out"):
            export_checkpoint(str(run), tmp_path / "int8", int8=True)


# `sequence` is a head that other tests export, `stack` is `rank_average` but for the ranks.
LIKE_OTHERS = ("sequence", "stack")


@pytest.mark.slow
@pytest.mark.parametrize(
    "chosen", [pytest.param(one, marks=pytest.mark.nightly) if one in LIKE_OTHERS else one for one in CANDIDATES]
)
def test_each_way_of_a_fusion_is_exported(chosen, folder, tmp_path):
    copy = shutil.copytree(finished(folder, "fusion"), tmp_path / "model")
    config = json.loads((copy / "config.json").read_text())
    config["fusion"]["chosen"] = chosen
    (copy / "config.json").write_text(json.dumps(config))
    assert_served(copy, tmp_path / "out", folder)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert ("model.onnx" in names) == (chosen != "boosted")
    trees = {"sequence": [], "trees": ["fused"]}.get(chosen, ["statistics"])
    written = {name for name in names if "_trees_" in name}
    assert written == {f"{name}_trees_{number}.txt" for name in trees for number in (0, 1)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "chosen", [one if one == "average" else pytest.param(one, marks=pytest.mark.nightly) for one in OF_NUMBERS]
)
def test_a_fusion_of_numbers_is_exported(chosen, folder, tmp_path):
    own = ["--label_columns", "heat", "--types", "{heat: float}", "--bootstrap", "0", "--window_label", "last"]
    out = folder / "fused_heat"
    if not (out / "results.json").exists():
        main([str(folder / "fusion.yaml"), *own, "--output_dir", str(out)])
    copy = shutil.copytree(out, tmp_path / "model")
    config = json.loads((copy / "config.json").read_text())
    config["fusion"] = {"chosen": chosen, "weights": {"average": [0.5, 0.5, 0.0]}}
    (copy / "config.json").write_text(json.dumps(config))
    assert_served(copy, tmp_path / "out", folder)


@pytest.mark.slow
@pytest.mark.parametrize("run", ["boosted", "joint"], indirect=True)
def test_predict_explains_the_rows_that_are_called_positive(run, folder, tmp_path, capsys):
    pytest.importorskip("captum")
    table = tmp_path / "table.csv"  # of a third of the holders: a reason of a network takes fifty passes
    polars.read_csv(folder / "payments.csv").filter(polars.col("who") < "w15").write_csv(table)
    outputs = {}
    for name, extra in (("plain", []), ("explained", ["--explain", "2"])):
        predict.main([str(run), str(table), str(tmp_path / f"{name}.parquet"), *extra])
        outputs[name] = pq.read_table(tmp_path / f"{name}.parquet")
    told = outputs["explained"]
    assert told.select(outputs["plain"].column_names).equals(outputs["plain"])
    positive = np.array(told["prediction"].to_pylist()) == "yes"
    reasons = np.array([reason is not None for reason in told["reason_1"].to_pylist()])
    assert positive.any() and not reasons[~positive].any()
    assert reasons[positive].mean() > 0.9  # a row may have no reason that raises its score
    first, second = (told[f"reason_{place}_adds"].to_numpy()[reasons] for place in (1, 2))
    assert np.nan_to_num(first - second).min() >= 0
    said = f"{positive.sum():,} of {len(positive):,} rows are called yes, {reasons.sum():,} of them have reasons"
    assert said in capsys.readouterr().out
    cautious = shutil.copytree(run, tmp_path / "cautious")
    config = json.loads((cautious / "config.json").read_text())
    (cautious / "config.json").write_text(json.dumps(config | {"threshold": 1.0}))
    predict.main([str(cautious), str(table), str(tmp_path / "none.parquet"), "--explain", "2"])
    assert f"0 of {len(positive):,} rows are called yes, so that no reasons are written" in capsys.readouterr().out


def test_later_rows_and_labels_change_no_score_of_earlier_ones(run, folder, tmp_path):
    table = polars.read_csv(folder / "payments.csv", try_parse_dates=True).sort("when")
    kept = int(len(table) * 0.7)
    early = table[:kept].with_columns(polars.lit("no").alias("odd"))
    early.write_csv(tmp_path / "early.csv")
    table.write_csv(tmp_path / "all.csv")
    scores = {}
    for name in ("early", "all"):
        predict.main([str(run), str(tmp_path / f"{name}.csv"), str(tmp_path / f"{name}.parquet")])
        found = pq.read_table(tmp_path / f"{name}.parquet").sort_by("row")
        scores[name] = found["probability_yes"].to_numpy()[:kept]
    np.testing.assert_allclose(scores["early"], scores["all"], atol=1e-5)


def test_what_a_model_reads_travels_with_it(run):
    config = json.loads((run / "config.json").read_text())
    saved = TabBertProcessor.from_pretrained(run).statistics
    assert saved["names"] == config["statistics"]
    model = AutoModelForSequenceClassification.from_pretrained(run)
    ids = torch.tensor([start for start, _ in config["field_ranges"]]).expand(1, 3, -1)
    with pytest.raises(ValueError, match=r"Expected statistics of shape \(batch, rows, \d+\), found none"):
        model(ids, times=torch.arange(3)[None])
    if run.name != "boosted":
        with pytest.raises(ValueError, match="Expected the times of the rows for windowed_surprise, found none"):
            model(ids, statistics=torch.zeros(1, 3, len(saved["names"])))


def test_new_rows_scored_with_a_state_get_the_scores_of_the_whole_table(run, folder, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(python_logging.getLogger("hf_mmtab"), "propagate", True)
    table = polars.read_csv(folder / "payments.csv").sort("when", maintain_order=True)
    table.write_csv(tmp_path / "all.csv")
    predict.main([str(run), str(tmp_path / "all.csv"), str(tmp_path / "all.parquet")])
    whole = pq.read_table(tmp_path / "all.parquet").sort_by("row")["probability_yes"].to_numpy()
    found = []
    for number, (first, count) in enumerate([(0, 700), (700, 3), (703, 497)]):
        part = table[first : first + count]
        (part if number != 1 else part.drop("odd")).write_csv(tmp_path / f"{number}.csv")
        arguments = [str(run), str(tmp_path / f"{number}.csv"), str(tmp_path / f"{number}.parquet")]
        predict.main([*arguments, "--state", str(tmp_path / "state")])
        scores = pq.read_table(tmp_path / f"{number}.parquet").sort_by("row")
        assert scores["row"].to_pylist() == list(range(count))
        found.append(scores["probability_yes"].to_numpy())
    np.testing.assert_allclose(np.concatenate(found), whole, atol=1e-5)
    if run.name == "boosted":
        assert "happened before the newest row of the state" not in caplog.text
        table[:5].with_columns(who=polars.lit("somebody new")).write_csv(tmp_path / "late.csv")
        late = [
            str(run),
            str(tmp_path / "late.csv"),
            str(tmp_path / "late.parquet"),
            "--state",
            str(tmp_path / "state"),
        ]
        predict.main(late)
        told = "5 of 5 new rows happened before the newest row of the state (2024-01-19 00:19:00)"
        assert told in caplog.text and "(group lately, group usual, those of the who)" in caplog.text
        with pytest.raises(ValueError, match="Expected --level row beside --state"):
            predict.main([*arguments, "--state", str(tmp_path / "state"), "--level", "window"])


def test_embed_writes_the_statistics_that_a_model_reads(run, folder, tmp_path):
    embed.main([str(run), str(folder / "payments.csv"), str(tmp_path / "s.parquet"), "--what", "statistics"])
    found = pq.read_table(tmp_path / "s.parquet")
    names = json.loads((run / "config.json").read_text())["statistics"]
    assert found.column_names == ["who", "card", "when", "row", *(f"statistic: {name}" for name in names)]
    assert found["statistic: who/card: rows before"].to_pylist()[:3] == [0, 1, 2]


@pytest.fixture(scope="module", params=["boosted", "joint"])
def lagged(request, folder):
    """A run whose statistics are of old labels too, some of which are unknown."""
    table = polars.read_csv(folder / "payments.csv").sort("when", maintain_order=True)
    unknown = polars.int_range(polars.len()) % 7 == 3
    table = table.with_columns(odd=polars.when(~unknown).then(polars.col("odd")))
    table.write_csv(folder / "lagged.csv")
    out = folder / f"lagged_{request.param}"
    arguments = ["--data", str(folder / "lagged.csv"), "--label_lag", "2 days", "--statistics", "[labels, rhythm]"]
    main([str(folder / f"{request.param}.yaml"), *arguments, "--output_dir", str(out)])
    return out


def scored(run, table, tmp_path, name, *more):
    table.write_csv(tmp_path / f"{name}.csv")
    predict.main([str(run), str(tmp_path / f"{name}.csv"), str(tmp_path / f"{name}.parquet"), *more])
    return pq.read_table(tmp_path / f"{name}.parquet").sort_by("row")["probability_yes"].to_numpy()


def test_old_labels_are_read_wherever_a_table_is_scored(lagged, folder, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(python_logging.getLogger("hf_mmtab"), "propagate", True)
    table = polars.read_csv(folder / "lagged.csv")
    whole = scored(lagged, table, tmp_path, "whole")
    own = ScoredRows.load(lagged / "predictions" / "test.parquet")
    rows = pq.read_table(lagged / "predictions" / "test.parquet")["row"].to_numpy()
    np.testing.assert_allclose(whole[rows], own.scores, atol=1e-5)
    # the last two days' labels move nothing; older ones do; without any label the command says so
    when = table["when"].str.to_datetime("%Y-%m-%d %H:%M")
    recent = (when > when.max() - timedelta(days=2)).to_numpy()
    emptied = table.with_columns(odd=polars.when(~polars.Series(recent)).then(polars.col("odd")))
    np.testing.assert_array_equal(scored(lagged, emptied, tmp_path, "recent"), whole)
    assert "takes all of them as unknown" not in caplog.text
    warn_once.cache_clear()
    without = scored(lagged, table.drop("odd"), tmp_path, "without")
    assert "The table has no column 'odd'" in caplog.text and "takes all of them as unknown" in caplog.text
    assert np.abs(without - whole).max() > 1e-3
    empty = table.with_columns(odd=polars.lit(None, dtype=polars.String))
    np.testing.assert_array_equal(scored(lagged, empty, tmp_path, "empty"), without)
    embed.main([str(lagged), str(folder / "lagged.csv"), str(tmp_path / "s.parquet"), "--what", "statistics"])
    known = pq.read_table(tmp_path / "s.parquet").sort_by("row")["statistic: yes: known labels at this shop"]
    first = (when < when.min() + timedelta(days=2)).to_numpy()
    assert not known.to_numpy()[first].any() and known.to_numpy()[~first].mean() > 5


def test_a_state_keeps_labels(lagged, folder, tmp_path):
    table = polars.read_csv(folder / "lagged.csv")
    whole = scored(lagged, table, tmp_path, "whole")
    state = ("--state", str(tmp_path / "state"))
    found = [scored(lagged, table[:900], tmp_path, "first", *state)]
    found.append(scored(lagged, table[900:910].drop("odd"), tmp_path, "second", *state))
    empty = table[910:].with_columns(odd=polars.lit(None, dtype=polars.String))
    found.append(scored(lagged, empty, tmp_path, "third", *state))
    when = table["when"].str.to_datetime("%Y-%m-%d %H:%M")
    same = (when < when[900] + timedelta(days=2)).to_numpy()
    assert same[910:].any()
    np.testing.assert_allclose(np.concatenate(found)[same], whole[same], atol=1e-5)


def test_a_lag_without_a_time_column_or_with_another_unit_is_refused(folder, tmp_path):
    def refused(*more):
        main([str(folder / "boosted.yaml"), "--output_dir", str(tmp_path / "refused"), *more])

    with pytest.raises(ValueError, match="Expected label_lag as a number above 0 and a unit"):
        refused("--label_lag", "7 moons")
    with pytest.raises(
        ValueError, match=r"statistics of labels beside label_lag, found none .*\(rhythm, row\). Add lab"
    ):
        refused("--label_lag", "7 days", "--statistics", "[rhythm, row]")
    with pytest.raises(ValueError, match="label_lag below the time that the rows span, 18 days, found 9 weeks"):
        refused("--label_lag", "9 weeks")
    plan = {**PLAN, "time": None, "fields": {"shop": {}, "amount": {"kind": "numeric"}}}
    with pytest.raises(ValueError, match="Expected a time column beside label_lag"):
        refused("--label_lag", "7 days", "--plan", yaml.safe_dump(plan, default_flow_style=True))
    raw = ["--architecture", "raw_lstm", "--row_inputs", "[states, windowed_surprise]"]
    with pytest.raises(ValueError, match="Expected a time column beside row_inputs: windowed_surprise"):
        refused(*raw, "--plan", yaml.safe_dump(plan, default_flow_style=True))


def notes_of(run):
    return json.loads((run / "results.json").read_text())["notes"]


@pytest.mark.slow
def test_many_positive_labels_are_a_reason_to_thaw_and_the_console_says_how(folder, tmp_path, monkeypatch):
    recipe = [str(folder / "joint.yaml"), "--row_inputs", "surprise", "--statistics", "auto", "--bootstrap", "0"]
    for count in (10_000, 10):
        monkeypatch.setattr(head_training, "MANY_POSITIVES", count)
        main([*recipe, "--output_dir", str(tmp_path / str(count))])
    said = "worth a trial to thaw it: freeze: {encoder: 2 epochs}, part_learning_rates: {encoder: 3.0e-03}."
    assert [any(said in note for note in notes_of(tmp_path / name)) for name in ("10000", "10")] == [False, True]


@pytest.mark.slow
def test_a_thawed_encoder_learns_with_an_auxiliary_loss(folder, tmp_path):
    recipe = [str(folder / "joint.yaml"), "--row_inputs", "surprise", "--statistics", "auto", "--bootstrap", "0"]
    thaws = ["--freeze", "{encoder: 1 epoch}", "--num_train_epochs", "2"]
    weights = {}
    for name, own in {"with": ["--auxiliary_next_row", "5.0"], "without": []}.items():
        main([*recipe, *thaws, *own, "--output_dir", str(tmp_path / name)])
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / name)
        weights[name] = model.model.row_encoder.encoder.layer[0].output.dense.weight
        assert model.config.auxiliary_next_row == (5.0 if own else 0.0)
    assert not torch.allclose(weights["with"], weights["without"])
    score = pipeline("tabular-sequence-classification", model=str(tmp_path / "with"))
    table = polars.read_csv(folder / "payments.csv", try_parse_dates=True)
    assert score(table.filter((polars.col("who") == "w3") & (polars.col("card") == 1)).sort("when"))["score"] > 0
    assert not any("worth a trial" in note for note in notes_of(tmp_path / "with"))
    auxiliary = [*recipe, "--output_dir", str(tmp_path / "refused"), "--auxiliary_next_row", "0.1"]
    with pytest.raises(ValueError, match="Expected an encoder that thaws beside auxiliary_next_row"):
        main(auxiliary)
    with pytest.raises(
        ValueError, match=r"own loss beside auxiliary_next_row, found loss: model and class_weights: \[1"
    ):
        main([*auxiliary, *thaws, "--class_weights", "[1.0, 2.0]"])
    raw = {"architecture": "raw_lstm", "auxiliary_next_row": 0.1, "output_dir": str(tmp_path / "raw")}
    with pytest.raises(ValueError, match="beside auxiliary_next_row, found architecture raw_lstm, which has none"):
        main([write_recipe(tmp_path, "raw", data=str(folder / "payments.csv"), **raw)])


@pytest.fixture(scope="module")
def by_shop(folder):
    """An encoder of the payments of each shop."""
    out = folder / "by_shop"
    sizes = {"field_hidden_size": 8, "field_num_heads": 2, "hidden_size": 16, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 16, "next_row": True, **OF_HEADS}
    plan = {
        **PLAN,
        "entity": ["shop"],
        "fields": {"when.gap": {"kind": "time_gap", "num_bins": 4}, "who": {}, "amount": {}},
    }
    data = str(folder / "payments.csv")
    pretrain.main([write_recipe(folder, "by_shop", data=data, output_dir=str(out), **sizes | {"plan": plan})])
    return out


@pytest.fixture(scope="module", params=["boosted", "joint"])
def ordered(request, folder, by_shop):
    """A run that reads how unexpected rows are among those of their shop; its encoder is away afterwards."""
    out = folder / f"ordered_{request.param}"
    own = ["--orderings", f"{{shop: {by_shop}}}", "--statistics", "[orderings, rhythm]", "--output_dir", str(out)]
    main([str(folder / f"{request.param}.yaml"), *own])
    return out


@pytest.mark.slow
def test_another_ordering_travels_with_the_model_and_sees_no_later_row(ordered, folder, by_shop, tmp_path):
    by_shop.rename(folder / "away")
    try:
        table = polars.read_csv(folder / "payments.csv")
        whole = scored(ordered, table, tmp_path, "whole")
        own = ScoredRows.load(ordered / "predictions" / "test.parquet")
        rows = pq.read_table(ordered / "predictions" / "test.parquet")["row"].to_numpy()
        np.testing.assert_allclose(whole[rows], own.scores, atol=1e-5)
        eval_checkpoint.main(
            [str(ordered), str(folder / "payments.csv"), "--out", str(tmp_path / "j"), "--bootstrap", "0"]
        )
        judged = ScoredRows.load(tmp_path / "j" / "predictions" / "test.parquet")
        np.testing.assert_allclose(judged.scores, own.scores, atol=1e-5)
        early = table.sort("when", maintain_order=True)[:800]
        shuffled = table.sort("when", maintain_order=True)
        np.testing.assert_allclose(
            scored(ordered, early, tmp_path, "early"), scored(ordered, shuffled, tmp_path, "sorted")[:800], atol=1e-5
        )
        state = ("--state", str(tmp_path / "state"))
        parts = [
            scored(ordered, shuffled[:800], tmp_path, "a", *state),
            scored(ordered, shuffled[800:], tmp_path, "b", *state),
        ]
        np.testing.assert_allclose(np.concatenate(parts), scored(ordered, shuffled, tmp_path, "c"), atol=1e-5)
        embed.main([str(ordered), str(folder / "payments.csv"), str(tmp_path / "s.parquet"), "--what", "statistics"])
        found = pq.read_table(tmp_path / "s.parquet")
        parts = [found[f"statistic: shop: surprise of {field}"].to_numpy() for field in ("when.gap", "who", "amount")]
        np.testing.assert_allclose(sum(parts), found["statistic: shop: surprise of all"].to_numpy(), rtol=1e-4)
        assert all(part.std() > 0 for part in parts)
        processor = TabBertProcessor.from_pretrained(ordered)
        processor.save_pretrained(tmp_path / "copy")
        assert TabBertProcessor.from_pretrained(tmp_path / "copy").orderings == {
            "shop": str(tmp_path / "copy" / "ordering_shop")
        }
    finally:
        (folder / "away").rename(by_shop)
    with pytest.raises(ValueError, match=r"reads how unexpected rows are in other orderings \(shop\)"):
        pipeline("tabular-sequence-classification", model=str(ordered))


def test_the_surprise_of_another_ordering_is_that_of_its_encoder(folder, by_shop, tmp_path):
    """Row by row: the loss of each cell from the rows of the same shop before it, in windows of 8."""
    table = read_table_of(folder, tmp_path)
    read_orderings(table, {"shop": str(by_shop)})
    data = polars.read_csv(folder / "payments.csv", try_parse_dates=True).with_row_index("row")
    processor = TabBertProcessor.from_pretrained(by_shop)
    model = TabBertForMaskedLM.from_pretrained(by_shop).eval()
    numbers = np.arange(len(data)) if table.rows.row_numbers is None else np.array(table.rows.row_numbers)
    found = table.ordered["shop: surprise of who"]
    start, _ = model.config.field_ranges[1]
    for shop in SHOPS[:2]:
        history = data.filter(polars.col("shop") == shop).sort("when", maintain_order=True)[:8]
        ids = processor(history.drop("row").to_arrow(), return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = model(ids).field_logits[1]
        expected = torch.nn.functional.cross_entropy(logits[0], ids[0, :, 1] - start, reduction="none")
        places = [int(np.flatnonzero(numbers == row)[0]) for row in history["row"]]
        np.testing.assert_allclose(found[places], expected.numpy(), rtol=1e-4)


def read_table_of(folder, tmp_path):
    task = get_task("table", TableTask)
    data = data_arguments(recipe_of(str(folder / "encoder")), task, str(folder / "payments.csv"), "raise")
    return task.prepare(data, tmp_path / "table", str(folder / "encoder"))


def test_an_ordering_of_rows_in_shards_is_that_of_the_table(folder, by_shop, tmp_path):
    """Row by row, also where a history of the shop lies in several shards; the table must still be the same."""
    table = tmp_path / "payments.csv"
    shutil.copyfile(folder / "payments.csv", table)
    boosted = [str(folder / "boosted.yaml"), "--data", str(table), "--bootstrap", "0"]
    own = ["--orderings", f"{{shop: {by_shop}}}", "--statistics", "[orderings, rhythm]"]
    rows = ["--rows", str(tmp_path / "rows")]
    prepare.main([*boosted, *rows, "--shards", "3", "--keep_values", "true"])
    task, source = get_task("table", TableTask), {"task": "table", "data": str(table)}
    whole = task.prepare(TableDataArguments(**source, plan=PLAN), tmp_path / "whole")
    shards = task.prepare(TableDataArguments(**source, rows=rows[1]), tmp_path / "none")
    for one in (whole, shards):
        read_orderings(one, {"shop": str(by_shop)})
    assert shards.rows.num_shards == 3 and [*shards.ordered] == [*whole.ordered]
    for name, values in shards.ordered.items():
        found, expected = np.empty(1200), np.empty(1200)
        found[shards.rows.row_numbers[:]] = values
        expected[slice(None) if whole.rows.row_numbers is None else np.array(whole.rows.row_numbers)] = whole.ordered[
            name
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    main([*boosted, *own, *rows, "--output_dir", str(tmp_path / "shards")])
    assert "shop: surprise of who" in json.loads((tmp_path / "shards" / "config.json").read_text())["statistics"]

    text = table.read_text()
    for changed, message in (
        (text + text.splitlines()[-1] + "\n", r"found another in .*payments.csv' \(1,201\)"),
        (text.replace("2024-01-03 07:", "2024-01-03 09:"), r"found another in .*payments.csv' \(1,200\)"),
    ):
        table.write_text(changed)
        with pytest.raises(ValueError, match=rf"Expected the table that was encoded .*{message}\. Prepare it anew"):
            main([*boosted, *own, *rows, "--output_dir", str(tmp_path / "changed")])
    table.unlink()
    with pytest.raises(FileNotFoundError, match=r"beside `orderings`, .* found none at '.*payments.csv'. Put it back"):
        main([*boosted, *own, *rows, "--output_dir", str(tmp_path / "gone")])


def test_the_encoder_of_an_ordering_is_a_file_of_the_run(folder, by_shop, tmp_path, capsys):
    out = tmp_path / "run"
    own = ["--orderings", f"{{shop: {by_shop}}}", "--statistics", "orderings", "--bootstrap", "0"]
    command = [str(folder / "boosted.yaml"), "--output_dir", str(out)]
    main([*command, *own])
    push_to_hub.main([str(out), "me/run", "--dry_run"])
    told = capsys.readouterr().out
    assert "ordering_shop/model.safetensors" in told and "ordering_shop/preprocessor_config.json" in told
    main([*command, "--bootstrap", "0", "--overwrite", "true"])
    assert not (out / "ordering_shop").exists() and (out / "results.json").is_file()


def test_orderings_that_cannot_be_are_refused(folder, by_shop, tmp_path):
    def refused(name, orderings, *more):
        main([str(folder / f"{name}.yaml"), "--output_dir", str(tmp_path / "no"), "--orderings", orderings, *more])

    with pytest.raises(ValueError, match="Expected an encoder of the rows in another order"):
        refused("boosted", f"{{same: {folder / 'encoder'}}}")
    with pytest.raises(ValueError, match="Expected orderings as names of letters, digits and _"):
        refused("boosted", f"{{by/shop: {by_shop}}}")
    with pytest.raises(FileNotFoundError, match="found no such folder"):
        refused("boosted", f"{{shop: {tmp_path / 'absent'}}}")
    for key, value in (("orderings", f"{{shop: {by_shop}}}"), ("label_lag", "7 days"), ("statistics", "amount")):
        with pytest.raises(
            ValueError, match=f"reads statistics beside {key}, found architecture lstm with row_inputs su"
        ):
            refused("joint", "{}", "--row_inputs", "surprise", "--statistics", "auto", f"--{key}", value)
    with pytest.raises(ValueError, match=r"Expected eval_stride of at most seq_len \(10\) .*, found 20"):
        refused("boosted", "{}", "--seq_len", "10", "--eval_stride", "20")
    with pytest.raises(ValueError, match="Expected label_lag as a number above 0 and a unit"):
        refused("joint", "{}", "--row_inputs", "surprise", "--statistics", "auto", "--label_lag", "soon")


def test_the_column_plan_may_choose_the_statistics(folder, tmp_path):
    plan = yaml.safe_dump({**PLAN, "statistics": ["rhythm", "*: shop: surprise"]}, default_flow_style=True)
    boosted = [str(folder / "boosted.yaml"), "--bootstrap", "0", "--plan", plan]
    main([*boosted, "--output_dir", str(tmp_path / "plan")])
    main([*boosted, "--statistics", "values", "--output_dir", str(tmp_path / "recipe")])  # comes before the plan's
    names = [json.loads((tmp_path / run / "config.json").read_text())["statistics"] for run in ("plan", "recipe")]
    assert {name.rpartition(": ")[2] for name in names[0]} >= {"rows before", "surprise"}
    assert not any("mean surprise" in name for name in names[0]) and any("mean surprise" in name for name in names[1])
    predict.main([str(tmp_path / "plan"), str(folder / "payments.csv"), str(tmp_path / "scores.parquet")])
    whole = pq.read_table(tmp_path / "scores.parquet").sort_by("row")["probability_yes"].to_numpy()
    own = ScoredRows.load(tmp_path / "plan" / "predictions" / "test.parquet")
    rows = pq.read_table(tmp_path / "plan" / "predictions" / "test.parquet")["row"].to_numpy()
    np.testing.assert_allclose(whole[rows], own.scores, atol=1e-5)
    with pytest.raises(ValueError, match="found 'rythm', which fits none"):
        main([*boosted[:-1], plan.replace("rhythm", "rythm"), "--output_dir", str(tmp_path / "misspelt")])


def test_keys_that_another_architecture_cannot_use(folder, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(python_logging.getLogger("hf_mmtab"), "propagate", True)
    raw = ["--architecture", "raw_lstm", "--bootstrap", "0", "--output_dir", str(tmp_path / "raw")]
    recipe = folder / "joint.yaml"
    known = yaml.safe_load(recipe.read_text()) | {"row_inputs": "auto", "statistics": "auto", "plan": None}
    for key, value in (("label_lag", "7 days"), ("auxiliary_next_row", 0.1)):  # typed: they were meant for it
        path = write_recipe(tmp_path, f"typed_{key}", **known)
        with pytest.raises(ValueError, match=rf"beside {key}, found architecture raw_lstm"):
            main([path, *raw, f"--{key}", str(value)])
        with pytest.raises(ValueError, match=rf"beside {key}, found architecture raw_lstm"):
            main([path, *raw, f"--{key}={value}"])
    written = write_recipe(tmp_path, "of_lstm", **known, label_lag="7 days")  # for the recipe's lstm
    main([written, *raw, "--seq_len", "10", "--stride", "40"])
    assert "label_lag has no effect on architecture raw_lstm" in caplog.text
    assert any("75% of the rows of a long history are in no window" in note for note in notes_of(tmp_path / "raw"))
    details = json.loads((tmp_path / "raw" / "results.json").read_text())["details"]
    assert details["read before a judged row"].endswith("for one row in ten")


def test_a_fusion_says_what_validation_chose_and_fits_nothing_on_its_own_answers(folder):
    if not (folder / "fusion").is_dir():
        main([str(folder / "fusion.yaml"), "--output_dir", str(folder / "fusion")])
    fusion = json.loads((folder / "fusion" / "config.json").read_text())["fusion"]
    found = fusion["validation"]
    assert set(found) == {"boosted", "sequence", "rank_average", "stack", "trees"}
    notes = json.loads((folder / "fusion" / "results.json").read_text())["notes"]
    assert any(note.startswith(f"Scores are those of {fusion['chosen'].replace('_', ' ')}") for note in notes)
    assert any(note.startswith("Fusion: ") for note in notes) == (fusion["chosen"] == "trees")
    told = [note for note in notes if note.startswith("On validation the fusion is ahead of boosted trees alone by ")]
    assert len(told) == (fusion["chosen"] != "boosted")
    assert any("mean of 3, each trained from its own seed, since " in note for note in notes)
    scored = ScoredRows.load(folder / "fusion" / "predictions" / "validation.parquet")
    assert average_precision_score(scored.labels, scored.scores) == pytest.approx(found[fusion["chosen"]], abs=1e-6)

    times = np.repeat(np.arange(10), 2)
    spans = list(rolling(times, 3))
    for begin, end in spans:
        assert (times < begin).any() and not ((times < begin) & (times >= begin) & (times < end)).any()
    covered = sum(((times >= begin) & (times < end)).astype(int) for begin, end in spans)
    assert set(covered[times >= spans[0][0]]) == {1} and not covered[times < spans[0][0]].any()
    rows = EncodedRows(folder / "fusion" / "_table" / "rows")
    moment = int(np.median(rows.time))
    hidden = labels_before(rows, moment)
    assert (hidden.labels[rows.time >= moment] == -100).all()
    assert (hidden.labels[rows.time < moment] == rows.labels[rows.time < moment]).all()
    assert not (rows.labels == -100).any()


def test_a_fusion_that_is_hardly_ahead_of_its_trees_says_so():
    rng = np.random.default_rng(0)
    labels = (rng.random(400) < 0.1).astype(int)
    boosted = rng.normal(0, 1, 400) + labels
    entity = np.arange(400) // 10
    slightly = worth(ahead(labels, boosted + rng.normal(0, 0.01, 400), boosted, entity))
    assert "may be chance: architecture boosted may do as well" in slightly
    assert worth(ahead(labels, boosted + 3 * labels, boosted, entity)).endswith(" average precision.")


@pytest.mark.parametrize("best", [None, "boosted", "sequence", "rank_average", "trees"])
def test_another_way_than_the_stack_is_taken_only_if_it_is_ahead_by_more_than_chance(best):
    rng = np.random.default_rng(1)
    labels = (rng.random(600) < 0.1).astype(int)
    stack = rng.normal(0, 1, 600) + labels
    scores = {name: stack + rng.normal(0, 0.02, 600) for name in CANDIDATES} | {"stack": stack}
    if best is not None:
        scores[best] = stack + 3 * labels
    assert far_better_than_stack(labels, scores, np.arange(600) // 10) == (best or "stack")


@pytest.mark.parametrize("noise", [0, 1])
def test_a_half_that_ranks_the_other_way_round_gets_no_weight(noise):
    rng = np.random.default_rng(2)
    labels = (rng.random(4000) < 0.1).astype(int)
    halves = np.stack([rng.normal(0, 1, 4000) + 2 * labels] * 2, axis=1)
    halves[:, noise] = rng.normal(0, 1, 4000) - 0.3 * labels
    *weights, bias = _logistic(halves, labels)
    assert weights[noise] == 0 and weights[1 - noise] > 1 and bias < 0
    halves[:, noise] = rng.normal(0, 1, 4000) + labels
    assert min(_logistic(halves, labels)[:2]) > 0.5


@pytest.mark.parametrize("positives", [[], [3], [97], [0, 3], [96, 97]])
def test_a_fusion_needs_both_classes_before_and_after_a_moment(positives):
    times, labels = np.arange(100), np.zeros(100, dtype=int)
    labels[positives] = 1
    assert folds(times, labels, 2) == []
    labels[[3, 50, 90]] = 1
    (first, before, after), (second, _, _) = folds(times, labels, 2)
    assert first < second and before.sum() + after.sum() == second
    assert {*labels[before]} == {0, 1}


def test_too_few_positives_are_told_before_training_and_auto_does_without_a_fusion(
    folder, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr("hf_mmtab.commands.runs.fusion.folds", lambda *_: [])
    own = [str(folder / "fusion.yaml"), "--output_dir", str(tmp_path / "out")]
    with monkeypatch.context() as patch:
        patch.setattr("hf_mmtab.commands.runs.walk.Run.new_trainer", lambda *_: pytest.fail("training began"))
        with pytest.raises(ValueError, match=r"before and after a moment to fit a fusion, found \d+ positive"):
            main(own)
        with pytest.raises(ValueError, match="Expected no fusion_folds with a label of numbers, found it"):
            main(
                [
                    *own,
                    "--label_columns",
                    "heat",
                    "--types",
                    "{heat: float}",
                    "--window_label",
                    "last",
                    "--fusion_folds",
                    "3",
                ]
            )
    main([*own, "--architecture", "auto"])
    notes = json.loads((tmp_path / "out" / "results.json").read_text())["notes"]
    assert any(note.startswith(("The head is boosted, by ", "The head is lstm, by ")) for note in notes)


@pytest.mark.slow
def test_a_fusion_computes_what_its_frozen_encoder_gives_once(folder, tmp_path):
    own = ["--freeze", "{encoder: forever}", "--feature_cache_dir", str(tmp_path / "cache")]
    main([str(folder / "fusion.yaml"), *own, "--output_dir", str(tmp_path / "out")])
    assert len([*(tmp_path / "cache").glob("encoder-*")]) == 3  # training, validation and test; folds find them


@pytest.mark.slow
def test_members_are_trained_beside_the_lstm_that_a_run_without_them_trains(folder, tmp_path):
    own = [str(folder / "joint.yaml"), "--num_train_epochs", "1", "--bootstrap", "0"]
    alone = tmp_path / "alone"
    main([*own, "--output_dir", str(alone)])
    main([*own, "--lstm_members", "3", "--output_dir", str(tmp_path / "three")])
    first, three = (load_file(out / "model.safetensors") for out in (alone, tmp_path / "three"))
    assert all(torch.equal(weight, three[name]) for name, weight in first.items())
    members = [three[f"members.{number}.numbers.projection.weight"] for number in range(2)]
    assert not torch.equal(*members) and not torch.equal(members[0], three["numbers.projection.weight"])
    assert "The LSTM is the mean of 3, each trained from its own seed, as lstm_members says." in notes_of(
        tmp_path / "three"
    )
    scores = [ScoredRows.load(out / "predictions" / "test.parquet").scores for out in (alone, tmp_path / "three")]
    assert np.abs(scores[0] - scores[1]).max() > 1e-4
    out = str(tmp_path / "refused")
    for thawing in (
        ["--freeze", "{encoder: 50%}"],
        ["--freeze", "{encoder: forever, row_encoder: 50%}"],
        ["--gradual_unfreezing", "{row_encoder: 1 epoch}"],
        ["--lora", "{r: 2}"],
    ):
        with pytest.raises(ValueError, match="frozen for the whole run beside lstm_members: 2, which share it"):
            main([*own, "--lstm_members", "2", *thawing, "--output_dir", out])
    main([*own, "--lstm_members", "1", "--freeze", "{encoder: 50%}", "--output_dir", out])
    raw = ["--architecture", "raw_lstm", "--row_inputs", "null", "--statistics", "null"]
    main([*own, *raw, "--lstm_members", "2", "--output_dir", str(tmp_path / "raw")])  # told to have no effect


@pytest.mark.slow
def test_a_fitted_fusion_of_members_goes_on_learning_and_smoothed_labels_train(folder, tmp_path):
    own = ["--label_smoothing_factor", "0.1", "--lstm_members", "2", "--fusion_method", "stack"]
    main([str(folder / "fusion.yaml"), *own, "--output_dir", str(tmp_path / "out")])
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").train()
    ids = torch.tensor([[[start for start, _ in model.config.field_ranges]] * 3])
    given = {
        "statistics": torch.zeros(1, 3, len(model.config.statistics)),
        "times": torch.zeros(1, 3, dtype=torch.long),
    }
    loss = model(ids, labels=torch.tensor([[0, 1, 0]]), **given).loss
    assert loss.isfinite()


@pytest.mark.slow
def test_a_recipe_says_how_halves_are_joined_and_what_is_scored_out_of_fold_has_the_same_prior(
    folder, tmp_path, monkeypatch
):
    corrected = []
    correct = table_heads.correct_bias
    monkeypatch.setattr(table_heads, "correct_bias", lambda *given: (corrected.append(given), correct(*given))[1])
    own = ["--fusion_method", "trees", "--fusion_folds", "2", "--negatives_per_epoch", "0.5"]
    main([str(folder / "fusion.yaml"), *own, "--output_dir", str(tmp_path / "out")])
    assert len(corrected) == 5  # two folds and three members
    assert json.loads((tmp_path / "out" / "config.json").read_text())["fusion"]["chosen"] == "trees"
    notes = json.loads((tmp_path / "out" / "results.json").read_text())["notes"]
    assert any(note.startswith("Scores are those of trees, as fusion_method says; average precision") for note in notes)


def test_trees_alone_are_described_by_rows_and_a_fusion_by_what_its_lstm_reads(folder, tmp_path, monkeypatch):
    for name in ("boosted", "fusion"):
        if not (folder / name).is_dir():
            main([str(folder / f"{name}.yaml"), "--output_dir", str(folder / name)])
    page = (folder / "boosted" / "report" / "report.html").read_text()
    assert "judged is every row, by statistics of all rows before it" in page and "Window" not in page.split("<h2")[0]
    fit = table_heads.fit_boosted
    monkeypatch.setattr(table_heads, "fit_boosted", lambda *given: (time.sleep(0.7), fit(*given)))
    main([str(folder / "boosted.yaml"), "--output_dir", str(tmp_path / "slow")])
    assert 60 * json.loads((tmp_path / "slow" / "results.json").read_text())["training_minutes"] > 0.7
    results = json.loads((folder / "fusion" / "results.json").read_text())
    assert results["details"]["read by the LSTM before a judged row"].endswith("for one row in ten")


def test_boosted_trees_predict_numbers_and_single_rows(folder, tmp_path):
    recipe = [str(folder / "boosted.yaml"), "--window_label", "last", "--label_columns", "heat"]
    main([*recipe, "--types", "{heat: float}", "--output_dir", str(tmp_path / "heat"), "--bootstrap", "0"])
    found = json.loads((tmp_path / "heat" / "results.json").read_text())
    assert found["metrics"]["test"]["rmse"] < 1.6
    predict.main([str(tmp_path / "heat"), str(folder / "payments.csv"), str(tmp_path / "heat.csv")])
    assert (tmp_path / "heat.csv").read_text().startswith("who,card,when,row,predicted_heat\n")


@pytest.mark.slow
def test_several_runs_of_an_architecture_that_the_command_line_names_show_reasons(folder, tmp_path):
    pytest.importorskip("captum")
    own = ["--architecture", "boosted", "--row_inputs", "null", "--bootstrap", "0", "--seeds", "1", "2", *REASONS]
    main([str(folder / "fusion.yaml"), *own, "--compare", "raw_lstm", "--output_dir", str(tmp_path)])
    told = {
        path.parents[1].name: "log odds of yes:<" in path.read_text() for path in tmp_path.glob("*/report/report.html")
    }
    assert told == {f"{name}-seed{seed}": name == "boosted" for name in ("boosted", "raw_lstm") for seed in (1, 2)}


@pytest.mark.slow
def test_a_fusion_in_a_comparison_shows_reasons(folder, tmp_path):
    pytest.importorskip("captum")
    own = ["--bootstrap", "0", "--compare", "boosted_history", "--output_dir", str(tmp_path), *REASONS]
    main([str(folder / "fusion.yaml"), *own, "--architecture", "auto"])
    assert "log odds of yes:<" in (tmp_path / "auto-seed1" / "report" / "report.html").read_text()


@pytest.mark.parametrize(
    ("architecture", "plan"),
    [
        ("boosted", "guessed"),
        ("raw_lstm", "named"),
        pytest.param("boosted", "named", marks=pytest.mark.nightly),  # each value is in one of the others
        pytest.param("raw_lstm", "guessed", marks=pytest.mark.nightly),
    ],
)
def test_an_encoder_that_is_absent_and_not_needed_is_left_out(architecture, plan, folder, tmp_path, caplog):
    text = (folder / "fusion.yaml").read_text().replace(str(folder / "encoder"), "outputs/never_pretrained")
    (tmp_path / "recipe.yaml").write_text(text)
    own = ["--architecture", architecture, "--row_inputs", "null", "--bootstrap", "0"]
    roles = ["--entity_columns", "who", "--time_column", "when", "--label_columns", "odd"]
    own += roles if plan == "guessed" else ["--plan", str(tmp_path / "plan.yaml")]
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(PLAN))
    main([str(tmp_path / "recipe.yaml"), *own, "--output_dir", str(tmp_path / "out")])
    assert caplog.text.count("Left out: the encoder 'outputs/never_pretrained' of the recipe") == 1
    assert yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text()).get("pretrained") is None
    kind = {"boosted": "TabBertBoosted", "raw_lstm": "RawLstm"}[architecture]
    assert kind in (tmp_path / "out" / "config.json").read_text()


@pytest.mark.parametrize("architecture", ["boosted", "raw_lstm"])
def test_an_encoder_that_is_named_on_the_command_line_must_be_there(architecture, folder, tmp_path):
    recipe = [str(folder / "fusion.yaml"), "--output_dir", str(tmp_path / "out"), "--row_inputs", "null"]
    with pytest.raises(FileNotFoundError, match="Expected a TabBERT checkpoint at 'outputs/absent'"):
        main([*recipe, "--architecture", architecture, "--pretrained", "outputs/absent"])
    text = (folder / "fusion.yaml").read_text().replace(str(folder / "encoder"), "outputs/absent")
    (tmp_path / "recipe.yaml").write_text(text)
    for more in (["--architecture", "lstm"], ["--architecture", architecture, "--compare", "lstm"]):
        with pytest.raises(FileNotFoundError, match="Expected a TabBERT checkpoint at 'outputs/absent'"):
            main([str(tmp_path / "recipe.yaml"), *recipe[1:], *more])


def test_an_encoder_that_is_there_gives_its_columns_to_trees(folder, tmp_path, caplog):
    recipe = [str(folder / "fusion.yaml"), "--architecture", "boosted", "--row_inputs", "null", "--bootstrap", "0"]
    main([*recipe, "--output_dir", str(tmp_path / "out")])
    assert "Left out: the encoder" not in caplog.text
    plans = [
        json.loads((one / "preprocessor_config.json").read_text()) for one in (folder / "encoder", tmp_path / "out")
    ]
    assert plans[0]["plan"] == plans[1]["plan"]


def test_what_trees_cannot_do_is_named_before_training(folder, tmp_path, monkeypatch):
    def refused(name, *more):
        main([str(folder / f"{name}.yaml"), "--output_dir", str(tmp_path / "refused"), *more])

    with pytest.raises(ValueError, match="Expected window_label last or every for architecture boosted"):
        refused("boosted", "--window_label", "any")
    with pytest.raises(ValueError, match="two classes or of numbers for architecture fusion, found 5 classes"):
        refused("fusion", "--label_columns", "heat")
    with pytest.raises(ValueError, match="found 'nothing', which fits none"):
        refused("boosted", "--statistics", "nothing")
    _without_lightgbm(monkeypatch)
    with pytest.raises(ImportError, match="pip install lightgbm"):
        refused("boosted")


def _without_lightgbm(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "lightgbm":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)


@pytest.mark.parametrize(
    ("recipe", "more", "expected"),
    [("fusion", [], "fusion"), ("boosted", [], "boosted"), ("fusion", ["--window_label", "any"], "lstm")],
    ids=["two classes", "no encoder", "a window as a whole"],
)
def test_auto_takes_the_head_that_suits_the_label(folder, tmp_path, recipe, more, expected):
    more = [*more, "--architecture", "auto", "--fusion_folds", "1", "--row_inputs", "states", "--bootstrap", "0"]
    more += REASONS if expected == "fusion" else []
    main([str(folder / f"{recipe}.yaml"), "--output_dir", str(tmp_path / "run"), *more])
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert found["architecture"] == expected
    kinds = {"fusion": "TabBertFusion", "boosted": "TabBertBoosted", "lstm": "TabBertLstm"}
    assert json.loads((tmp_path / "run" / "config.json").read_text())["architectures"] == [
        f"{kinds[expected]}ForSequenceClassification"
    ]
    if expected == "fusion":  # the chosen head is the recipe's own: its report tells reasons
        pytest.importorskip("captum")
        assert "log odds of yes:<" in (tmp_path / "run" / "report" / "report.html").read_text()


@pytest.mark.parametrize(("of_lstm", "expected"), [pytest.param(1.0, "lstm", marks=pytest.mark.slow), (0.0, "boosted")])
def test_auto_takes_trees_or_the_lstm_for_many_classes_by_validation(folder, tmp_path, monkeypatch, of_lstm, expected):
    monkeypatch.setattr(head_choice, "best_on_validation", lambda run, inputs: ("macro_f1", True, of_lstm))
    label = ["--label_columns", "heat", "--window_label", "last"]
    more = ["--row_inputs", "states", "--architecture", "auto", "--seeds", "1", "2", "--bootstrap", "0"]
    main([str(folder / "fusion.yaml"), "--output_dir", str(tmp_path / "heat"), *label, *more])
    choice = json.loads((tmp_path / "heat" / "_table" / "architecture.json").read_text())
    assert (choice["metric"], choice["chosen"]) == ("macro_f1", expected)
    results = [json.loads((tmp_path / "heat" / f"auto-seed{seed}" / "results.json").read_text()) for seed in (1, 2)]
    assert [one["architecture"] for one in results] == [expected] * 2
    told = f"The head is {expected}, by macro_f1 on validation (lstm "
    assert any(note.startswith(told) for note in results[1]["notes"])
    if expected == "boosted":  # the same trees, on the same statistics
        assert results[0]["metrics"]["validation"]["macro_f1"] == pytest.approx(choice["validation"]["boosted"])


def test_a_metric_that_the_labels_do_not_have_is_named_before_anything_is_trained(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(head_choice, "best_on_validation", lambda *_: pytest.fail("trained"))
    more = ["--label_columns", "heat", "--metric_for_best_model", "average_precision", "--architecture", "auto"]
    with pytest.raises(
        ValueError, match=r"macro_f1, .*which labels of 5 classes \(0, 1, 2, 3, 4\) have, found 'average"
    ):
        main([str(folder / "fusion.yaml"), "--output_dir", str(tmp_path / "heat"), *more])


def test_a_class_that_hardly_occurs_is_told(folder, tmp_path, caplog):
    lines = (folder / "payments.csv").read_text().splitlines()
    lines[2] = lines[2].replace(",yes,", ",maybe,").replace(",no,", ",maybe,")
    (tmp_path / "payments.csv").write_text("\n".join(lines) + "\n")
    more = ["--data", str(tmp_path / "payments.csv"), "--bootstrap", "0", "--reasons", "false"]
    main([str(folder / "boosted.yaml"), "--output_dir", str(tmp_path / "run"), *more])
    assert "The label has 3 classes, some of them hardly ever in training ('maybe' 1, 'no' " in caplog.text


@pytest.mark.parametrize("level", ["last", pytest.param("every", marks=pytest.mark.slow)])
def test_numbers_are_predicted_by_the_mean_of_both_halves(folder, tmp_path, level):
    label = ["--label_columns", "heat", "--types", "{heat: float}", "--window_label", level]
    more = ["--row_inputs", "states", "--architecture", "auto", "--bootstrap", "0"]
    main([str(folder / "fusion.yaml"), "--output_dir", str(tmp_path / "run"), *label, *more])
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    fusion = json.loads((tmp_path / "run" / "config.json").read_text())["fusion"]
    assert found["architecture"] == "fusion" and fusion["chosen"] == "average"
    assert found["metrics"]["validation"]["rmse"] == pytest.approx(fusion["validation"]["average"], rel=1e-5)
    assert fusion["validation"]["average"] <= max(fusion["validation"][half] for half in ("boosted", "sequence"))
    own = pq.read_table(tmp_path / "run" / "predictions" / "test.parquet")
    predict.main([str(tmp_path / "run"), str(folder / "payments.csv"), str(tmp_path / "heat.parquet")])
    again = pq.read_table(tmp_path / "heat.parquet").to_pandas().set_index("row")
    np.testing.assert_allclose(again.loc[own["row"].to_numpy(), "predicted_heat"], own["score_0"], atol=1e-5)
    lines = (folder / "payments.csv").read_text().splitlines()
    (tmp_path / "one.csv").write_text("\n".join([lines[0], *(line for line in lines if ",w3,1," in line)]) + "\n")
    predict.main([str(tmp_path / "run"), str(tmp_path / "one.csv"), str(tmp_path / "why.parquet"), "--explain", "2"])
    told = pq.read_table(tmp_path / "why.parquet").to_pandas()
    assert told["reason_1"].notna().mean() > 0.9 and (told["reason_1_adds"] < 0).any()  # of a number either way


def test_the_trees_of_a_regression_read_all_statistics_where_its_lstm_reads_the_rows_own_numbers(
    folder, tmp_path, monkeypatch
):
    def numbers_are_best(run, inputs):
        return "rmse", False, float(inputs != ["statistics"])

    monkeypatch.setattr(head_inputs, "best_on_validation", numbers_are_best)
    more = ["--label_columns", "heat", "--types", "{heat: float}", "--window_label", "last", "--row_inputs", "auto"]
    main([str(folder / "fusion.yaml"), "--output_dir", str(tmp_path / "run"), *more, "--bootstrap", "0"])
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["network_statistics"] == ["amount"] and len(config["statistics"]) > 20
    trees = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").boosters["statistics"][0]
    assert trees.num_feature() == len(config["statistics"])
    predict.main([str(tmp_path / "run"), str(folder / "payments.csv"), str(tmp_path / "heat.parquet")])
    own = pq.read_table(tmp_path / "run" / "predictions" / "test.parquet")
    again = pq.read_table(tmp_path / "heat.parquet").to_pandas().set_index("row")
    np.testing.assert_allclose(again.loc[own["row"].to_numpy(), "predicted_heat"], own["score_0"], atol=1e-5)


def test_the_folder_of_a_killed_trial_goes_at_the_next_start(folder, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    recipe = write_recipe(
        tmp_path, "own", data=str(folder / "payments.csv"), pretrained=str(folder / "encoder"), plan=None,
        architecture="lstm", window_label="every", row_inputs="auto", output_dir=str(tmp_path / "out"),
    )  # fmt: skip
    with left_as_they_are(), killed_at_call(MMTabTrainer, "train", 1):
        main([recipe])
    assert not [*(tmp_path / "tmp").iterdir()]
    assert [*(tmp_path / "out").glob(".trial-*")]
    with killed(MMTabTrainer, "train", lambda *_: not [*(tmp_path / "out").glob(".trial-*")][1:]):
        main([recipe])
    assert not [*(tmp_path / "out").glob(".trial-*")]


def test_auto_is_the_lstm_where_lightgbm_is_absent(folder, tmp_path, monkeypatch, caplog):
    _without_lightgbm(monkeypatch)
    more = ["--architecture", "auto", "--row_inputs", "states", "--bootstrap", "0"]
    main([str(folder / "fusion.yaml"), "--output_dir", str(tmp_path / "run"), *more])
    assert json.loads((tmp_path / "run" / "results.json").read_text())["architecture"] == "lstm"
    assert "architecture: auto is lstm here" in caplog.text and "pip install lightgbm" in caplog.text


@pytest.fixture(scope="module")
def trees(folder):
    if not (folder / "boosted").is_dir():
        main([str(folder / "boosted.yaml"), "--output_dir", str(folder / "boosted")])
    return folder / "boosted"


@pytest.mark.parametrize("hashed", [True, False], ids=["hash", "earlier version"])
def test_damaged_trees_are_named(trees, tmp_path, hashed):
    cut = shutil.copytree(trees, tmp_path / "cut", ignore=shutil.ignore_patterns("checkpoint-*", "_table", "report"))
    config = json.loads((cut / "config.json").read_text())
    assert list(config["trees_sha256"]) == ["statistics_trees_0.txt", "statistics_trees_1.txt"]
    if not hashed:
        del config["trees_sha256"]
        (cut / "config.json").write_text(json.dumps(config))
    file, text = cut / "statistics_trees_0.txt", (trees / "statistics_trees_0.txt").read_bytes()
    damages = [b"", b"tree\nnothing", *(text[: len(text) * part // 7] for part in range(1, 7))]
    damages += [text.replace(b"threshold=", b"threshold=x", 1)] if hashed else []
    for damage in damages:  # LightGBM ends the process on some of them
        file.write_bytes(damage)
        with pytest.raises(ValueError, match=r"Expected boosted trees in .*statistics_trees_0\.txt', found a damaged"):
            AutoModelForSequenceClassification.from_pretrained(cut)
    file.unlink()
    with pytest.raises(ValueError, match=r"Expected the whole model in .*, found no statistics_trees_0\.txt"):
        push_to_hub.files_to_push(cut)

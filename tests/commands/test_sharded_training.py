"""Training on rows in shards: as on the table itself, each window once, resumed within an epoch; what is refused."""

import json
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from running import killed_at_step, results_of
from sharding import in_shards
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification
from two_processes import run_on_two_processes

from hf_mmtab.commands import drift, finetune, predict, prepare, pretrain
from hf_mmtab.data.windows.encoded_rows import EncodedRows
from hf_mmtab.data.windows.splits import windows
from hf_mmtab.models.tabbert import TabBertProcessor

SHOPS = ["bakery", "grocer", "cinema", "garage", "school"]
PLAN = {
    "entity": "who",
    "time": "when",
    "label": "odd",
    "fields": {"shop": {}, "amount": {"kind": "money", "num_bins": 6}, "gap": {"kind": "time_gap", "num_bins": 4}},
}
SIZES = {
    "field_hidden_size": 16,
    "field_num_heads": 2,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
TRAINING = {
    "num_train_epochs": 2,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 16,
    "learning_rate": 5.0e-3,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "load_best_model_at_end": True,
    "report_to": "none",
    "use_cpu": True,
    "seed": 1,
}


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A table, a model that was pretrained on it, and its rows in one shard and in nine."""
    folder, rng = tmp_path_factory.mktemp("sharded"), np.random.default_rng(0)
    lines = ["when,who,shop,amount,odd"]
    for who in range(30):
        for step in range(1 if who % 7 == 3 else 20 + who):
            shop = int(rng.integers(0, len(SHOPS)))
            when = f"2024-{1 + step // 25:02d}-{1 + step % 25:02d} {(who + step * step) % 24:02d}:00"
            odd = "yes" if shop == 3 and rng.random() < 0.6 else "no"
            lines.append(f"{when},w{who},{SHOPS[shop]},{10 * (shop + 1) + rng.integers(0, 3)},{odd}")
    (folder / "payments.csv").write_text("\n".join(lines) + "\n")
    of_table = {"task": "table", "data": str(folder / "payments.csv"), "seq_len": 6}
    values = {**of_table, "plan": PLAN, "stride": 3, "mlm_probability": 0.3, **SIZES, **TRAINING, "next_row": True}
    (folder / "pretrain.yaml").write_text(yaml.safe_dump(values | {"output_dir": str(folder / "encoder")}))
    head = {"lstm_hidden_size": 8, "lstm_num_layers": 1, "window_label": "every", "bootstrap": 0, **TRAINING}
    head |= {"pretrained": str(folder / "encoder"), "output_dir": str(folder / "head"), "reasons": False}
    (folder / "finetune.yaml").write_text(yaml.safe_dump(of_table | head))
    pretrain.main([str(folder / "pretrain.yaml")])
    table = folder / "encoder" / "_table"
    rows, processor = EncodedRows(table / "rows"), TabBertProcessor.from_pretrained(table / "processor")
    in_shards(rows, processor, folder / "one", [])
    cuts = [3, 4, 4, 10, 11, 17, 24, 30]  # some of one row, some of none
    in_shards(rows, processor, folder / "nine", cuts)
    cells = pa.csv.read_csv(folder / "payments.csv").select(["shop", "amount"])
    in_shards(rows, processor, folder / "one_with_values", [], cells)
    in_shards(rows, processor, folder / "nine_with_values", cuts, cells)
    return folder


def run(made: Path, command, out: Path, *more: object, rows: str | None = None) -> Path:
    """Run a recipe; return its folder."""
    name = command.__name__.rpartition(".")[2]
    given = ["--rows", str(made / rows)] if rows else []
    command.main([str(made / f"{name}.yaml"), *given, "--output_dir", str(out), *map(str, more)])
    return out


def weights_of(folder: Path, kind=AutoModelForMaskedLM) -> dict[str, torch.Tensor]:
    return kind.from_pretrained(folder).state_dict()


def assert_same_weights(one: Path, other: Path, kind=AutoModelForMaskedLM) -> None:
    ours, theirs = weights_of(one, kind), weights_of(other, kind)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("rows", ["one", pytest.param("encoder/_table/rows", marks=pytest.mark.slow)])
def test_pretraining_on_one_shard_is_pretraining_on_the_table(made, tmp_path, rows):
    folder = run(made, pretrain, tmp_path / "run", rows=rows)

    assert_same_weights(folder, made / "encoder")
    ours, theirs = results_of(folder), results_of(made / "encoder")
    for name in ("metrics", "fields", "windows", "leaks", "unseen", "details", "cell_errors"):
        assert ours[name] == theirs[name], name
    assert not (folder / "_table").exists()  # nothing is encoded again


def test_several_shards_are_judged_as_the_table(made, tmp_path):
    still = ["--learning_rate", "0.0", "--num_train_epochs", "1"]
    table = run(made, pretrain, tmp_path / "table", *still)
    shards = run(made, pretrain, tmp_path / "shards", *still, rows="nine")

    assert_same_weights(shards, table)
    ours, theirs = results_of(shards), results_of(table)
    for name in ("windows", "leaks", "unseen", "details"):
        assert ours[name] == theirs[name], name
    for split in ("validation", "test"):
        assert ours["metrics"][split] == pytest.approx(theirs["metrics"][split], rel=1e-6)
        for one, other in zip(ours["fields"][split], theirs["fields"][split], strict=True):
            assert one.pop("field") == other.pop("field") and one == pytest.approx(other, rel=1e-6)
    assert ours["cell_errors"] == theirs["cell_errors"] and ours["cell_errors"]


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_an_interrupted_run_on_shards_resumes_within_an_epoch_to_the_same_weights(made, tmp_path, workers):
    steps = ["--eval_strategy", "steps", "--save_strategy", "steps", "--eval_steps", "4", "--save_steps", "4"]
    steps += ["--dropout", "0.1", "--dataloader_num_workers", workers]
    whole = run(made, pretrain, tmp_path / "whole", *steps, rows="nine")

    with killed_at_step(6):
        run(made, pretrain, tmp_path / "stopped", *steps, rows="nine")
    state = json.loads((tmp_path / "stopped" / "checkpoint-4" / "trainer_state.json").read_text())
    assert 0 < state["epoch"] < 1
    resumed = run(made, pretrain, tmp_path / "stopped", *steps, rows="nine")
    assert_same_weights(resumed, whole)
    assert results_of(resumed)["metrics"] == results_of(whole)["metrics"]


@pytest.mark.parametrize("label", ["every", pytest.param("last", marks=pytest.mark.slow)])
def test_a_head_on_one_shard_is_the_head_on_the_table(made, tmp_path, label):
    more = ["--window_label", label, "--row_inputs", "states"]
    table = run(made, finetune, tmp_path / "table", *more)
    shard = run(made, finetune, tmp_path / "shard", *more, rows="one")

    assert_same_weights(shard, table, AutoModelForSequenceClassification)
    assert results_of(shard)["metrics"] == results_of(table)["metrics"]
    for split in ("validation", "test"):
        found = [pq.read_table(one / "predictions" / f"{split}.parquet") for one in (table, shard)]
        assert found[0].equals(found[1]) and found[0].num_rows > 50
    page = (shard / "report" / "report.html").read_text()
    assert "garage" in page  # histories behind the worst errors, from ids


SLOW_INPUTS = [pytest.param(name, marks=pytest.mark.slow) for name in ("windowed_surprise", "surprise", "both")]


@pytest.mark.parametrize("inputs", ["states", *SLOW_INPUTS])
def test_a_head_on_several_shards_scores_as_on_the_table(made, tmp_path, inputs):
    more = ["--learning_rate", "0.0", "--num_train_epochs", "1", "--row_inputs", inputs, "--save_strategy", "no"]
    more += ["--load_best_model_at_end", "false"]
    folders = [
        run(made, finetune, tmp_path / "table", *more),
        run(made, finetune, tmp_path / "shards", *more, rows="nine"),
    ]
    tables = [pq.read_table(folder / "predictions" / "test.parquet").sort_by("row") for folder in folders]
    for name in ("entity", "time", "row", "label"):
        assert tables[0][name].equals(tables[1][name]), name
    scores = [table["score"].to_numpy() for table in tables]
    assert np.abs(scores[0] - scores[1]).max() < 1e-6 and np.ptp(scores[0]) > 0


@pytest.mark.slow
def test_a_share_of_the_labels_is_that_of_the_table(made, tmp_path):
    more = ["--label_share", "0.3", "--row_inputs", "states", "--num_train_epochs", "1", "--window_label", "last"]
    found = [run(made, finetune, tmp_path / str(rows), *more, rows=rows) for rows in (None, "nine")]
    assert results_of(found[1])["windows"] == results_of(found[0])["windows"]
    all_rows = EncodedRows(made / "encoder" / "_table" / "rows")
    assert 0 < results_of(found[0])["windows"]["train"] < 0.5 * len(windows(all_rows, "train", 6, 1, "last"))


def test_positives_are_drawn_as_often_from_shards(made, tmp_path):
    more = ["--upsample_positives", "0.5", "--negatives_per_epoch", "0.5", "--row_inputs", "states"]
    folder = run(made, finetune, tmp_path / "run", *more, rows="nine")
    assert results_of(folder)["metrics"]["test"]["roc_auc"] > 0.7


@pytest.mark.slow
def test_inputs_that_need_no_values_are_chosen_among(made, tmp_path):
    folder = run(made, finetune, tmp_path / "run", "--row_inputs", "auto", "--num_train_epochs", "1", rows="nine")
    assert set(results_of(folder)["row_inputs"]["validation"]) == {"states", "surprise", "both"}


@pytest.mark.slow
def test_drift_compares_with_the_rows_in_shards(made, tmp_path):
    folder = run(made, pretrain, tmp_path / "run", "--num_train_epochs", "1", rows="nine")
    page = tmp_path / "drift.html"
    drift.main([str(folder), str(made / "payments.csv"), str(page), "--generated"])
    assert "rows of payments.csv" in page.read_text()


STILL = ["--learning_rate", "0.0", "--num_train_epochs", "1", "--dataloader_num_workers", "2"]


@pytest.fixture(scope="module")
def two_processes(made, tmp_path_factory) -> Path:
    """What two processes with two workers each wrote: the windows that they saw, and a run."""
    folder = tmp_path_factory.mktemp("two")
    run_on_two_processes(
        ("tests/commands/windows_seen.py", made / "nine", folder),
        (
            "scripts/pretrain.py",
            made / "pretrain.yaml",
            "--rows",
            made / "nine",
            "--output_dir",
            folder / "run",
            *STILL,
        ),
    )
    return folder


@pytest.mark.slow
def test_two_processes_with_two_workers_each_read_every_window_once(made, two_processes):
    rows = EncodedRows(made / "encoder" / "_table" / "rows")
    seen = [json.loads((two_processes / f"seen-{rank}.json").read_text()) for rank in (0, 1)]
    wanted = windows(rows, "train", seq_len=3, stride=1).index.start.tolist()
    for epoch in (0, 1):
        both = [*seen[0][epoch], *seen[1][epoch]]
        assert len(seen[0][epoch]) == len(seen[1][epoch])
        repeated = len(both) - len(wanted)  # accelerate fills the last batch of each process
        assert sorted(set(both)) == sorted(set(wanted)) and 0 <= repeated < 10
        assert len(set(seen[0][epoch]) & set(seen[1][epoch])) <= repeated
    assert seen[0][0] != seen[0][1]


@pytest.mark.slow
def test_two_processes_train_and_judge_shards_as_one_does(made, two_processes, tmp_path):
    one = run(made, pretrain, tmp_path / "one", *STILL, rows="nine")
    for split in ("validation", "test"):
        ours, theirs = results_of(two_processes / "run"), results_of(one)
        assert ours["metrics"][split] == pytest.approx(theirs["metrics"][split], abs=1e-5)
        assert [s["cells"] for s in ours["fields"][split]] == [s["cells"] for s in theirs["fields"][split]]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--split", "entity"], r"Expected a recipe of the rows in .*nine' \(split 'time'\), found split 'entity'"),
        (["--entity_columns", "shop"], r"\(entity_columns \['who'\]\), found entity_columns \['shop'\]. Take"),
        (["--split_fractions", "0.8", "0.1", "0.1"], r"split_fractions \[0.7, 0.1, 0.2\]\), found split_fractions"),
    ],
)
def test_a_recipe_of_other_rows_is_refused(made, tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        run(made, pretrain, tmp_path / "run", *more, rows="nine")


def test_what_prepare_recorded_is_compared_key_by_key(made, tmp_path):
    folder = tmp_path / "rows"
    prepare.main([str(made / "pretrain.yaml"), "--rows", str(folder), "--shards", "3"])
    recorded = json.loads((folder / "rows.json").read_text())["recipe"]
    assert recorded["data"] and recorded["plan"] == PLAN
    run(made, pretrain, tmp_path / "run", "--num_train_epochs", "1", "--rows", folder)
    others = (
        ["--data", "other.csv"], ["--max_rows", "5"], ["--num_bins", "3"], ["--entities", "a1"],
        ["--plan_edits", "{shop: null}"],
    )  # fmt: skip
    for more in others:
        with pytest.raises(ValueError, match=rf"{more[0][2:]} .*\), found {more[0][2:]} .*or prepare the table with"):
            run(made, pretrain, tmp_path / "refused", *more, "--rows", folder)
    shutil.rmtree(folder / "processor")
    with pytest.raises(ValueError, match=r"Expected the processor of the rows in .*processor', found no such folder"):
        run(made, pretrain, tmp_path / "refused", "--rows", folder)


def test_rows_of_another_processor_than_the_checkpoints_are_refused(made, tmp_path):
    other = yaml.safe_load((made / "pretrain.yaml").read_text())
    other |= {"output_dir": str(tmp_path / "other"), "num_bins": 3, "num_train_epochs": 1}
    (tmp_path / "pretrain.yaml").write_text(yaml.safe_dump(other))
    pretrain.main([str(tmp_path / "pretrain.yaml")])
    with pytest.raises(ValueError, match=r"Expected rows that the processor of .*other' encoded \(\w+\), found those"):
        run(made, finetune, tmp_path / "run", "--pretrained", tmp_path / "other", rows="nine")


@pytest.mark.parametrize("architecture", ["boosted", pytest.param("fusion", marks=pytest.mark.slow)])
def test_trees_on_shards_with_values_are_those_of_the_table(made, tmp_path, architecture):
    pytest.importorskip("lightgbm")
    more = ["--architecture", architecture, "--row_inputs", "states", "--window_label", "last", "--num_train_epochs", 1]
    more += ["--label_lag", "2 days"]
    table = run(made, finetune, tmp_path / "table", *more)
    expected = pq.read_table(table / "predictions" / "test.parquet")
    statistics = TabBertProcessor.from_pretrained(table).statistics
    assert expected.num_rows > 50 and {"lately", "usual", "labels"} <= set(statistics["groups"])
    several = ["nine_with_values"] if architecture == "boosted" else []  # windows of several shards come shuffled
    for rows in ["one_with_values", *several]:
        shards = run(made, finetune, tmp_path / rows, *more, rows=rows)
        assert results_of(shards)["metrics"] == results_of(table)["metrics"]
        assert pq.read_table(shards / "predictions" / "test.parquet").equals(expected)
        assert TabBertProcessor.from_pretrained(shards).statistics == statistics


def test_trees_on_shards_with_values_score_tables(made, tmp_path):
    pytest.importorskip("lightgbm")
    more = ["--architecture", "auto", "--pretrained", "null", "--window_label", "last", "--compare", "boosted_history"]
    folder = run(made, finetune, tmp_path / "run", *more, rows="nine_with_values")
    assert results_of(folder / "auto-seed1")["metrics"]["test"]["roc_auc"] > 0.7
    predict.main([str(folder / "auto-seed1"), str(made / "payments.csv"), str(tmp_path / "scores.parquet")])
    scored = pq.read_table(tmp_path / "scores.parquet").sort_by("row")
    own = pq.read_table(folder / "auto-seed1" / "predictions" / "test.parquet").sort_by("row")
    found = scored.take(own["row"])["probability_yes"].to_numpy()
    np.testing.assert_allclose(found, own["score"].to_numpy(), rtol=1e-5)


@pytest.mark.slow
def test_inputs_and_heads_that_read_statistics_are_tried_on_shards_with_values(made, tmp_path):
    pytest.importorskip("lightgbm")
    more = ["--architecture", "auto", "--row_inputs", "auto", "--num_train_epochs", "1", "--window_label", "last"]
    folder = run(made, finetune, tmp_path / "run", *more, rows="nine_with_values")
    assert results_of(folder)["architecture"] == "fusion"
    assert "surprise and statistics" in results_of(folder)["row_inputs"]["validation"]


@pytest.mark.parametrize(
    "more",
    [["--row_inputs", "statistics"], ["--architecture", "boosted"], ["--compare", "boosted_rows"]],
    ids=lambda more: more[1],
)
def test_what_needs_the_tables_values_is_refused(made, tmp_path, more):
    with pytest.raises(ValueError, match=r"Expected the values of the table, .* found rows that hold ids alone"):
        run(made, finetune, tmp_path / "run", *more, rows="nine")


def test_a_folder_without_finished_rows_is_refused(made, tmp_path):
    with pytest.raises(ValueError, match=r"Expected encoded rows \(rows.json and shards\) in '.*', found none. Make"):
        run(made, pretrain, tmp_path / "run", rows="encoder")
    folder = tmp_path / "rows"
    shutil.copytree(made / "nine", folder)
    (folder / "rows.json").unlink()
    with pytest.raises(ValueError, match="found shards alone: `prepare` did not finish"):
        run(made, pretrain, tmp_path / "run", "--rows", folder)


def test_a_damaged_shard_ends_a_run_with_its_name(made, tmp_path):
    folder = tmp_path / "rows"
    shutil.copytree(made / "nine", folder)
    shard = folder / "shards" / "00003.arrow"
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"Expected [\d,]+ bytes in '.*00003.arrow', found .*: the file is damaged"):
        run(made, pretrain, tmp_path / "run", "--rows", folder)


def test_rows_without_labels_train_no_head(made, tmp_path):
    table = made / "encoder" / "_table"
    rows, processor = EncodedRows(table / "rows"), TabBertProcessor.from_pretrained(table / "processor")
    rows.labels = None
    in_shards(rows, processor, tmp_path / "rows", [3])
    with pytest.raises(ValueError, match=r"Expected labelled rows in '.*', found none with a label. Name the label"):
        run(made, finetune, tmp_path / "run", "--rows", tmp_path / "rows")


def test_encoded_rows_are_no_data(made, tmp_path):
    processor = TabBertProcessor.from_pretrained(made / "encoder")
    ids = processor.encode(
        {"when": [datetime(2024, 1, 1)] * 9, "who": ["w1"] * 9, "shop": ["school"] * 9, "amount": [1.0] * 9}
    )
    (tmp_path / "ids").mkdir()
    pq.write_table(ids, tmp_path / "ids" / "part.parquet")
    folders = [made / "nine", made / "nine" / "shards", made / "encoder" / "_table" / "rows"]
    for data in (*folders, tmp_path / "ids", tmp_path / "ids" / "part.parquet", made / "nine/shards/00000.arrow"):
        remedy = "`--rows FOLDER`" if "ids" in str(data) else "`--rows /"
        with pytest.raises(ValueError, match=f"found rows that are encoded already.*{remedy}"):
            run(made, pretrain, tmp_path / "run", "--data", data)


def test_a_recipe_may_name_rows_alone(made, tmp_path):
    values = yaml.safe_load((made / "pretrain.yaml").read_text())
    for key in ("data", "plan"):
        del values[key]
    values |= {"rows": str(made / "nine"), "output_dir": str(tmp_path / "run"), "num_train_epochs": 1}
    (tmp_path / "pretrain.yaml").write_text(yaml.safe_dump(values))
    pretrain.main([str(tmp_path / "pretrain.yaml")])
    assert results_of(tmp_path / "run")["data"] == str(made / "nine")
    values.pop("rows")
    (tmp_path / "pretrain.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match=r"Expected a value for data \(or rows, of encoded ones\)"):
        pretrain.main([str(tmp_path / "pretrain.yaml")])

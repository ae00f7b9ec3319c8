"""From a recipe and a table to a pretrained TabBERT with its processor."""

import itertools
import json
import logging
import re
import shlex
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from running import killed_at_step, results_of
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoProcessor
from two_processes import run_on_two_processes

from hf_mmtab.commands import drift, generate
from hf_mmtab.commands.pretrain import load_recipe, main
from hf_mmtab.data.windows.encoded_rows import EncodedRows
from hf_mmtab.models.tabbert import TabBertForMaskedLM, TabBertProcessor
from hf_mmtab.models.tabbert.processing.plan_guess import infer_plan
from hf_mmtab.tasks.guessed_plan import doubts
from hf_mmtab.training import MMTabTrainer

SHOPS = ["bakery", "grocer", "cinema", "garage", "school"]


@pytest.fixture(scope="session")
def table(tmp_path_factory) -> Path:
    """Twelve histories of 25 to 36 rows: shops come in a fixed turn, amounts follow the shop."""
    rng = np.random.default_rng(0)
    rows = []
    for who in range(12):
        for step in range(25 + who):
            shop = (who + step) % len(SHOPS)
            day, hour = divmod(who + 7 * step, 24)
            amount = 10 * (shop + 1) + rng.integers(0, 3)
            label = "yes" if rng.random() < 0.1 else "no"
            when = f"2024-01-{1 + day:02d} {hour:02d}:00"
            rows.append((when, f"w{who}", SHOPS[shop], "" if step % 9 == 4 else amount, label))
    path = tmp_path_factory.mktemp("table") / "payments.csv"
    lines = ["when,who,shop,amount,odd", *(",".join(map(str, row)) for row in sorted(rows))]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def recipe(tmp_path, table) -> Path:
    """A recipe of two epochs on the tiny table."""
    values = {
        "task": "table",
        "data": str(table),
        "output_dir": str(tmp_path / "run"),
        "plan": {
            "entity": "who",
            "time": "when",
            "label": "odd",
            "fields": {
                "when.hour": {"kind": "time_part", "part": "hour"},
                "shop": {},
                "amount": {"kind": "numeric", "num_bins": 6},
            },
        },
        "seq_len": 6,
        "stride": 3,
        "mlm_probability": 0.3,
        "field_hidden_size": 16,
        "field_num_heads": 2,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 5,
        "learning_rate": 5.0e-3,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "load_best_model_at_end": True,
        "logging_steps": 2,
        "report_to": "none",
        "seed": 1,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


@pytest.fixture(scope="session")
def finished(tmp_path_factory, table) -> Path:
    """The folder of a finished run, which tests only read."""
    folder = tmp_path_factory.mktemp("finished")
    main([str(recipe.__wrapped__(folder, table)), "--report_to", "none"])
    return folder / "run"


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return TabBertForMaskedLM.from_pretrained(run).state_dict()


def windows_by_hand(run: Path, split: str) -> list[np.ndarray]:
    """Row numbers of the windows of six rows: whole ones from the start of a segment, and one that ends with it."""
    rows = EncodedRows(run / "_table" / "rows")
    number = ["train", "validation", "test"].index(split)
    windows = []
    bounds = [*rows.entity_starts.tolist(), len(rows)]
    for first, end in itertools.pairwise(bounds):
        mine = [row for row in range(first, end) if rows.split[row] == number]
        windows += [np.array(mine[i : i + 6]) for i in range(0, len(mine) - 5, 6)]
        if len(mine) % 6:
            windows.append(np.arange(max(first, mine[-1] - 5), mine[-1] + 1))
    return windows


def masked_windows(run: Path, split: str):
    """Yield each window of a split as it is masked at every evaluation: its rows, and the collator's batch of one."""
    values = load_recipe([str(run.parent / "recipe.yaml")])
    rows = EncodedRows(run / "_table" / "rows")
    collator = values.task.masking(values.run, AutoProcessor.from_pretrained(run), values.training.seed)
    number = ["train", "validation", "test"].index(split)
    for window in windows_by_hand(run, split):
        context = int((np.asarray(rows.split)[window] < number).sum())
        yield window, collator([{"input_ids": rows.take(window), "label_start": context}])


@pytest.mark.figures
def test_a_recipe_becomes_a_model_with_its_processor_report_and_card(finished):
    results = results_of(finished)
    assert set(results["metrics"]) == set(results["fields"]) == {"validation", "test"}
    assert [score["field"] for score in results["fields"]["test"]] == ["when.hour", "shop", "amount"]
    for written in ("report/report.html", "README.md", "recipe.yaml", "column_plan.yaml", "update_audit.jsonl"):
        assert (finished / written).stat().st_size > 0
    page, card = (finished / "report/report.html").read_text(), (finished / "README.md").read_text()
    for text in (page, card):
        assert "Cells, field by field" in text
        assert "are judged on rows that training windows contain" in text
    history = json.loads((finished / "trainer_state.json").read_text())["log_history"]
    assert [entry["epoch"] for entry in history if "eval_accuracy/shop" in entry] == [1.0, 2.0]


def test_the_processor_is_saved_with_the_model_and_with_each_checkpoint(finished):
    model = AutoModelForMaskedLM.from_pretrained(finished)
    checkpoint = sorted(finished.glob("checkpoint-*"))[0]
    for folder in (finished, checkpoint):
        processor = AutoProcessor.from_pretrained(folder)
        assert isinstance(processor, TabBertProcessor)
        model.check_processor(processor.fingerprint)
    other = TabBertProcessor({"fields": {"shop": {}}}).fit({"shop": ["a", "b"]})
    with pytest.raises(ValueError, match="Expected the processor with fingerprint"):
        model.check_processor(other.fingerprint)


def test_the_cards_example_fills_a_masked_cell(finished, table, tmp_path, monkeypatch, capsys):
    lines = table.read_text().splitlines()
    mine = [lines[0], *(line for line in lines if ",w3," in line)]
    (tmp_path / "table.csv").write_text("\n".join(mine) + "\n")
    monkeypatch.chdir(tmp_path)
    card = (finished / "README.md").read_text()
    code = card[card.index("```python\n") + len("```python\n") :].split("```")[0]
    exec(code.replace(f'"{finished.name}"', f'"{finished}"'), {})
    row = eval(capsys.readouterr().out)
    assert list(row) == ["when.hour", "shop", "amount"] and row["shop"] == mine[-1].split(",")[2]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_losses_and_accuracies_are_those_counted_by_hand(finished, split):
    model = TabBertForMaskedLM.from_pretrained(finished).eval()
    losses: dict[str, list[float]] = {name: [] for name in model.config.fields}
    right: dict[str, list[bool]] = {name: [] for name in model.config.fields}
    for _, batch in masked_windows(finished, split):
        with torch.inference_mode():
            scores = model(batch["input_ids"], batch["attention_mask"]).field_logits
        for field, (name, (start, _)) in enumerate(zip(model.config.fields, model.config.field_ranges, strict=True)):
            for row, label in enumerate(batch["labels"][0, :, field].tolist()):
                if label != -100:
                    logits = scores[field][0, row].double()
                    losses[name].append((logits.logsumexp(0) - logits[label - start]).item())
                    right[name].append(int(logits.argmax()) + start == label)

    found = results_of(finished)
    metrics, fields = found["metrics"][split], {score["field"]: score for score in found["fields"][split]}
    for name in model.config.fields:
        assert metrics[f"loss/{name}"] == pytest.approx(np.mean(losses[name]), abs=1e-5)
        assert metrics[f"accuracy/{name}"] == pytest.approx(np.mean(right[name]))
        assert (fields[name]["cells"], fields[name]["accuracy"]) == (len(right[name]), metrics[f"accuracy/{name}"])
    assert metrics["masked_loss"] == pytest.approx(sum(np.mean(each) for each in losses.values()), abs=1e-5)
    assert metrics["accuracy"] == pytest.approx(np.mean([*itertools.chain(*right.values())]))


def test_the_two_guesses_are_those_counted_by_hand(finished):
    rows = EncodedRows(finished / "_table" / "rows")
    processor = AutoProcessor.from_pretrained(finished)
    ids = rows.take(np.arange(len(rows)))
    training = ids[np.asarray(rows.split) == 0]
    usual = [np.bincount(training[:, field]).argmax() for field in range(3)]
    starts = set(rows.entity_starts.tolist())
    by_usual: list[list[bool]] = [[], [], []]
    by_copy: list[list[bool]] = [[], [], []]
    for window, batch in masked_windows(finished, "test"):
        for place, row in enumerate(window.tolist()):
            for field in range(3):
                if (label := int(batch["labels"][0, place, field])) != -100:
                    by_usual[field].append(label == usual[field])
                    by_copy[field].append(label == (usual[field] if row in starts else ids[row - 1, field]))

    for field, score in enumerate(results_of(finished)["fields"]["test"]):
        assert score["most_frequent"] == pytest.approx(np.mean(by_usual[field]))
        assert score["previous_row"] == pytest.approx(np.mean(by_copy[field]))
        assert score["values"] == processor.field_ranges[field][1] - processor.field_ranges[field][0]


def test_the_surest_wrong_cell_of_each_field_is_the_one_found_by_hand(finished):
    model, processor = (TabBertForMaskedLM.from_pretrained(finished).eval(), AutoProcessor.from_pretrained(finished))
    rows = EncodedRows(finished / "_table" / "rows")
    wrong: dict[str, dict[float, tuple[int, int, int, np.ndarray]]] = {}
    for window, batch in masked_windows(finished, "test"):
        with torch.inference_mode():
            scores = model(batch["input_ids"], batch["attention_mask"]).field_logits
        for field, (name, (start, _)) in enumerate(zip(processor.fields, processor.field_ranges, strict=True)):
            for place, label in enumerate(batch["labels"][0, :, field].tolist()):
                chances = scores[field][0, place].softmax(0)
                guess = int(chances.argmax()) + start
                if label not in (-100, guess):
                    cell = int(window[place]), label, guess, batch["input_ids"][0, place].numpy()
                    wrong.setdefault(name, {})[float(chances.max())] = cell

    found = results_of(finished)["cell_errors"]
    assert {error["field"] for error in found} == set(wrong) and len(found) >= 2
    assert [error["probability"] for error in found] == sorted((e["probability"] for e in found), reverse=True)
    page = (finished / "report/report.html").read_text()
    number = {place: int(row) for place, row in enumerate(np.asarray(rows.row_numbers))}
    assert len({error["row"] for error in found}) == len(found)
    for error in found:
        cells = wrong[error["field"]]
        probability = min(cells, key=lambda one: abs(one - error["probability"]))
        assert error["probability"] == pytest.approx(probability, abs=1e-5)
        surer = [number[cell[0]] for sure, cell in cells.items() if sure > probability]
        assert set(surer) <= {other["row"] for other in found}  # shown for another field
        row, label, guess, read = cells[probability]
        assert error["row"] == number[row]
        who = rows.entity_names["who"][int(np.searchsorted(rows.entity_starts, row, "right")) - 1]
        assert error["entity"] == f"who {who}"
        field = processor.fields.index(error["field"])
        ids = np.tile(read, (3, 1))
        ids[1:, field] = label, guess
        as_read, true, predicted = processor.decode(ids, 3)[error["field"]].to_pylist()
        assert (error["true"], error["predicted"]) == (true, predicted)
        history = error["history"]
        assert history["columns"][0] == history["asked"] == error["field"]
        shown = history["rows"][history["judged"]][0]
        assert shown == (as_read if as_read in ("[MASK]", true) else f"{as_read} (was {true})")
        assert f"<h3>{error['field']}</h3>" in page
    assert '<td class="asked">' in page and 'alt="Accuracy of each field' in page


def test_pretraining_learns_a_field_that_follows_from_the_rows_around_it(finished):
    shop = results_of(finished)["fields"]["test"][1]
    assert shop["previous_row"] == 0.0  # shops come in turn
    assert shop["accuracy"] > shop["most_frequent"] + 0.15


def test_every_evaluation_judges_the_same_cells_and_every_epoch_masks_others(recipe, tmp_path, monkeypatch):
    seen: dict[str, list[torch.Tensor]] = {"training": [], "evaluation": []}
    step = MMTabTrainer.compute_loss

    def noted(trainer, model, inputs, **kwargs):
        seen["training" if model.training else "evaluation"].append(inputs["labels"].clone())
        return step(trainer, model, inputs, **kwargs)

    monkeypatch.setattr(MMTabTrainer, "compute_loss", noted)
    whole = ["--per_device_train_batch_size", "1000", "--per_device_eval_batch_size", "1000"]
    main([str(recipe), *whole, "--train_sampling_strategy", "sequential"])
    first, second = seen["training"]
    assert not torch.equal(first, second)
    validation = seen["evaluation"][0]
    assert torch.equal(validation, seen["evaluation"][1])


def test_a_finished_run_is_read_and_another_recipe_is_refused(recipe, tmp_path):
    main([str(recipe), "--num_train_epochs", "1"])
    weights = tmp_path / "run" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    main([str(recipe), "--num_train_epochs", "1"])
    assert weights.stat().st_mtime_ns == written
    with pytest.raises(ValueError, match=r"found num_train_epochs different.*--overwrite true"):
        main([str(recipe)])
    main([str(recipe), "--overwrite", "true"])
    assert weights.stat().st_mtime_ns != written


STEPS = ["--eval_strategy", "steps", "--save_strategy", "steps", "--eval_steps", "3", "--save_steps", "3"]
STEPS += ["--dropout", "0.1", "--per_device_train_batch_size", "12"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, table) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    main([str(recipe.__wrapped__(folder, table)), *STEPS])
    return folder / "run"


@pytest.mark.parametrize(("stop", "checkpoint"), [(4, 3), (7, 6)], ids=["within an epoch", "after an epoch"])
def test_an_interrupted_run_resumes_to_the_same_weights(recipe, uninterrupted, tmp_path, stop, checkpoint):
    with killed_at_step(stop):
        main([str(recipe), *STEPS])
    run = tmp_path / "run"
    assert (run / f"checkpoint-{checkpoint}").is_dir() and not (run / "results.json").exists()
    rows = (run / "_table" / "rows" / "rows.json").stat().st_mtime_ns
    main([str(recipe), *STEPS])
    assert (run / "_table" / "rows" / "rows.json").stat().st_mtime_ns == rows  # encoded once
    whole, resumed = weights_of(uninterrupted), weights_of(run)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert results_of(run)["metrics"] == results_of(uninterrupted)["metrics"]
    told = f"The run went on from checkpoint-{checkpoint}: its minutes are those since then."
    assert told in results_of(run)["notes"] and told in (run / "report" / "report.html").read_text()


def test_a_table_that_changed_under_an_interrupted_run_is_told(recipe, table, tmp_path, monkeypatch, caplog):
    copy = tmp_path / "payments.csv"
    copy.write_text(table.read_text())

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(MMTabTrainer, "train", interrupt)
    for content in (table.read_text(), table.read_text().replace(",cinema,", ",theatre,")):
        copy.write_text(content)
        logging.getLogger("hf_mmtab").addHandler(caplog.handler)
        with pytest.raises(KeyboardInterrupt):
            main([str(recipe), "--data", str(copy)])
    assert "The table's files were changed or moved since this run began: 366 rows" in caplog.text
    processor = AutoProcessor.from_pretrained(tmp_path / "run" / "_table" / "processor")
    row = {"when": [datetime(2024, 1, 1)], "who": ["w1"], "shop": ["theatre"], "amount": [1.0]}
    assert processor.encode(row)["shop"].to_pylist() == [processor.unknown_ids()[1]]  # ids of the first start


def test_pretraining_goes_on_from_a_checkpoint_with_its_processor(recipe, finished, tmp_path):
    values = yaml.safe_load(recipe.read_text())
    sizes = ("field_hidden_size", "field_num_heads", "hidden_size", "num_hidden_layers", "num_attention_heads")
    values = {k: v for k, v in values.items() if k not in (*sizes, "intermediate_size", "plan")}
    values |= {"pretrained": str(finished), "num_train_epochs": 1, "learning_rate": 0.0}
    recipe.write_text(yaml.safe_dump(values, sort_keys=False))
    main([str(recipe)])
    before, after = weights_of(finished), weights_of(tmp_path / "run")
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    for key, value in (("plan", '{"fields": {"shop": {}}}'), ("hidden_size", "64")):
        with pytest.raises(ValueError, match=f"Expected no {key} beside `pretrained`"):
            main([str(recipe), f"--{key}", value, "--output_dir", str(tmp_path / key)])


def test_a_plan_is_guessed_edited_and_written(recipe, tmp_path):
    values = {k: v for k, v in yaml.safe_load(recipe.read_text()).items() if k != "plan"}
    values |= {
        "entity_columns": ["who"],
        "label_columns": ["odd"],
        "plan_edits": {"when.weekday": None, "shop": {"min_count": 2}},
        "num_bins": 4,
        "num_train_epochs": 1,
        "entities": ["w1", "w5", "w9"],
    }
    recipe.write_text(yaml.safe_dump(values, sort_keys=False))
    main([str(recipe)])
    plan = yaml.safe_load((tmp_path / "run" / "column_plan.yaml").read_text())
    assert (plan["entity"], plan["time"], plan["label"]) == (["who"], "when", ["odd"])
    assert "when.weekday" not in plan["fields"] and plan["fields"]["shop"]["min_count"] == 2
    assert plan["fields"]["when.gap"]["num_bins"] == 4
    rows = EncodedRows(tmp_path / "run" / "_table" / "rows")
    assert sorted(rows.entity_names["who"].to_list()) == ["w1", "w5", "w9"]


@pytest.mark.parametrize(
    "unset", [("--plan", "null"), pytest.param(("--plan=null",), marks=pytest.mark.slow)], ids=["two", "one"]
)
def test_a_guessed_plan_says_what_became_what_and_what_is_in_doubt(recipe, table, tmp_path, caplog, capsys, unset):
    data = tmp_path / "payments.csv"
    data.write_text(table.read_text().replace("when,who,shop,amount,odd", "when,account,shop,amount,is_fraud"))
    logging.getLogger("hf_mmtab").addHandler(caplog.handler)
    caplog.set_level(logging.INFO)
    main([str(recipe), "--data", str(data), *unset, "--num_train_epochs", "1"])
    logging.getLogger("hf_mmtab").removeHandler(caplog.handler)
    told = caplog.text
    assert "entity: none\n  time: when\n  label: none\n  fields: when.month (time_part)" in told
    assert "No entity column: all rows are one history; name it with entity_columns" in told
    assert "By its name it may be account (12 values)." in told
    assert "Column 'is_fraud' looks like a label and is an input" in told
    plan = tmp_path / "run" / "column_plan.yaml"
    said = capsys.readouterr().out
    assert f"Column plan: {plan}. To change it: edit the file, then the same command with `--plan {plan}" in said
    assert "rows of 1 history;" in said


def test_a_guess_says_that_year_month_day_and_hour_are_one_time():
    parts = {"Year": [2013, 2014], "Month": [1, 2], "Day": [3, 4], "hour": [5, 6]}
    sample = pl.DataFrame(parts | {"amount": [1.5, 2.5]})
    told = doubts(infer_plan(sample), sample)
    assert any(one.startswith("Columns Year, Month, Day, hour look like the parts of one time") for one in told)
    months = sample.select("Month", "amount")
    assert not any("one time" in one for one in doubts(infer_plan(months), months))


def test_a_guess_doubts_text_that_looks_like_decimal_commas():
    sample = pl.DataFrame({"day": [1, 2, 3], "price": ["9,66", "1.234,50", None], "size": ["1,234", "5,678", "9,012"]})
    [found] = [one for one in doubts(infer_plan(sample, None, "day", None), sample) if "decimal" in one]
    assert found.startswith("Column 'price' looks like numbers with a decimal comma")
    assert "`--types '{price: decimal_comma}'`" in found


def test_a_guess_with_its_roles_named_leaves_no_doubt():
    sample = pl.DataFrame({"account": ["a", "a", "b"], "day": [1, 2, 3], "fraud": [0, 1, 0], "n": [1, 2, 1]})
    assert doubts(infer_plan(sample, "account", "day", "fraud"), sample) == []
    found = doubts(infer_plan(sample, "account", None, None), sample)
    assert [one.split(":")[0] for one in found] == [
        "No time column",
        "Column 'fraud' looks like a label and is an input",
    ]
    assert doubts(infer_plan(sample.drop("fraud"), "account", "day"), sample)[0].startswith("No label column")


def test_an_edited_plan_is_told_and_honoured_when_the_run_starts_anew_with_it(recipe, tmp_path):
    command = [str(recipe), "--num_train_epochs", "1"]
    main(command)
    run, plan = tmp_path / "run", tmp_path / "run" / "column_plan.yaml"
    first = (run / "results.json").read_text()
    main(command)  # as the run wrote it: a finished run is read
    assert (run / "results.json").read_text() == first
    edited = yaml.safe_load(plan.read_text())
    edited["fields"].pop("when.hour")
    plan.write_text(yaml.safe_dump(edited, sort_keys=False))
    for more in ([], ["--plan", str(plan)]):
        with pytest.raises(ValueError, match=rf"found it edited.*`--plan {plan} --overwrite true`"):
            main([*command, *more])
    main([*command, "--plan", str(plan), "--overwrite", "true"])
    assert list(TabBertProcessor.from_pretrained(run).plan.to_dict()["fields"]) == ["shop", "amount"]
    second = (run / "results.json").read_text()
    main([*command, "--plan", str(plan)])
    assert (run / "results.json").read_text() == second != first


def test_cards_in_a_file_run_with_the_recipe_of_simulated_ones(tmp_path):
    recipe = load_recipe(
        ["simulated_cards_pretrain", "--data", "card.csv", "--simulate", "null", "--output_dir", str(tmp_path)]
    )
    assert recipe.data.simulate is None and "simulate" not in recipe.values
    assert recipe.task.data_root(recipe.data, tmp_path) == Path("card.csv").resolve()


def test_the_command_in_the_card_can_be_pasted(recipe):
    given = [str(recipe), "--plan_edits", "{shop: {min_count: 2}}", "--license", "it's mine"]
    assert shlex.split(load_recipe(given).command)[4:] == given


def test_cards_are_simulated_where_the_recipe_says_so(recipe, tmp_path):
    values = {k: v for k, v in yaml.safe_load(recipe.read_text()).items() if k != "plan"}
    values |= {
        "task": "card_transactions",
        "data": "simulated:cards",
        "simulate": {"users": 5, "rows": 600, "seed": 3},
        "num_train_epochs": 1,
        "preset": "paper",
        "plan": "paper_card",
        "split": "paper",
        "num_hidden_layers": 1,
        "field_num_heads": 8,
    }
    sizes = ("hidden_size", "num_attention_heads", "intermediate_size")
    recipe.write_text(yaml.safe_dump({k: v for k, v in values.items() if k not in sizes}, sort_keys=False))
    main([str(recipe)])
    run = tmp_path / "run"
    assert len(EncodedRows(run / "_table" / "rows")) == 600
    config = TabBertForMaskedLM.from_pretrained(run).config
    assert (config.hidden_size, config.num_attention_heads) == (12 * 16, 12)
    results = results_of(run)
    assert results["leaks"]["test"]["sharing_labelled_rows"] > 0
    assert "[SEP]" not in [score["field"] for score in results["fields"]["test"]]
    assert ModelCard.load(run / "README.md").data.license == "apache-2.0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning_rat", "1"], "found 'learning_rat' in the command line. Did you mean 'learning_rate'"),
        (["--seq_length", "9"], "found 'seq_length' in the command line. Did you mean"),
        (["--task", "image_text"], "`task` to be one of table, card_transactions, prsa, found 'image_text'"),
        (["--split", "random"], "Expected one of time, entity, paper for --split, found 'random'"),
        (["--data", "simulated:cards"], "Expected task: card_transactions for data: simulated:cards"),
        (["--simulate", '{"rows": 5}'], "Expected data: simulated:cards beside `simulate`"),
        (["--simulate", "{rows: 5}"], "Remove one of them: `--simulate null`"),
        (["--simulate", "rows: 5"], "Expected a mapping for simulate, found 'rows: 5'"),
        (["--plan_edits", "{shop: [1}"], "Expected a mapping .* after --plan_edits"),
        (["--entities", "w1", "nobody"], "Expected entities of column 'who', found no row of nobody"),
        (["--plan_edits", '{"city": null}'], "Expected plan_edits to remove fields of the plan .*found city"),
        (["--seq_len", "90", "--pad_windows", "false"], "Expected windows of 90 rows in the train split"),
        (
            ["--preset", "paper", "--field_hidden_size", "8"],
            "Expected preset: paper to say the sizes, found .*hidden_size: .*--hidden_size null",
        ),
        (["--preset", "paper", "--field_hidden_size", "7"], "found .*field_hidden_size: 7"),
        (["--mlm_probability", "0"], "Expected cells to be masked, found mlm_probability 0 and whole_row_masking 0"),
        (["--max_gap", "0"], "Expected max_gap in seconds, above 0, found 0"),
        (["--entities", "nobody"], "found no row of nobody. There are w0, w1, w10, w11, w2 and 7 more"),
        (["--mlm_probability", "1.5"], "Expected mlm_probability to be at least 0 and at most 1, found 1.5"),
        (
            ["--numeric", "both", "--plan_edits", "{when.hour: null, amount: null}"],
            "beside numeric: both, found .*shop",
        ),
        (
            ["--architecture", "gpt2", "--numeric", "both", "--data", "nowhere.csv"],
            "Expected no .*numeric beside architecture: gpt2",
        ),
        (["--time_column", "date"], re.escape("Expected columns ['date'], found")),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_with_a_remedy(recipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        main([str(recipe), *arguments])


def test_a_finished_run_says_when_its_files_are_others_now(recipe, table, tmp_path, caplog):
    copy = tmp_path / "copy.csv"
    copy.write_text(table.read_text())
    arguments = [str(recipe), "--data", str(copy), "--num_train_epochs", "1"]
    main(arguments)
    main(arguments)
    assert "were changed or moved" not in caplog.text
    copy.write_text("\n".join(table.read_text().splitlines()[:-3]) + "\n")
    before = results_of(tmp_path / "run")
    main(arguments)
    assert "files were changed or moved since the run in" in caplog.text
    assert results_of(tmp_path / "run") == before


def test_rows_that_were_left_out_are_listed_in_the_report(recipe, table, tmp_path):
    lines = table.read_text().splitlines()
    lines[5] = lines[5].rsplit(",", 3)[0]
    (tmp_path / "broken.csv").write_text("\n".join(lines) + "\n")
    main([str(recipe), "--data", str(tmp_path / "broken.csv"), "--on_bad_record", "skip", "--num_train_epochs", "1"])
    page = (tmp_path / "run" / "report" / "report.html").read_text()
    assert "1 input record was left out" in page and "broken.csv&#39;, line 6" in page


def test_a_leak_is_marked_in_the_report(recipe, tmp_path):
    main([str(recipe), "--split", "paper", "--num_train_epochs", "1"])
    page = (tmp_path / "run" / "report" / "report.html").read_text()
    assert page.count('<p class="leak">') == 2 and "Leak: a model may remember these rows" in page


def test_a_file_where_the_folder_should_be_is_told(recipe, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ValueError, match=r"Expected a folder as output_dir, found a file at .*taken"):
        main([str(recipe), "--output_dir", str(tmp_path / "taken")])


def test_a_start_that_came_to_nothing_does_not_claim_the_folder(recipe, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Expected a table, or a folder of files"):
        main([str(recipe), "--data", str(tmp_path / "absent.csv")])
    assert (tmp_path / "run" / "recipe.yaml").exists()
    with pytest.raises(ValueError, match="Expected windows of 90 rows"):  # after the table was encoded
        main([str(recipe), "--seq_len", "90", "--pad_windows", "false"])
    assert (tmp_path / "run" / "_table").exists()
    main([str(recipe), "--num_train_epochs", "1"])
    assert (tmp_path / "run" / "results.json").exists()


def test_a_table_without_rows_is_named(recipe, tmp_path):
    (tmp_path / "bare.csv").write_text("when,who,shop,amount,odd\n")
    with pytest.raises(ValueError, match=r"Expected rows in '.*bare.csv', found none[.] Give a table with rows"):
        main([str(recipe), "--data", str(tmp_path / "bare.csv")])


def test_unknown_keys_of_simulate_are_named(recipe, tmp_path):
    with pytest.raises(ValueError, match=r"keys of `simulate` among users, rows.*found people"):
        main(
            [str(recipe), *("--task", "card_transactions", "--data", "simulated:cards", "--simulate", '{"people": 5}')]
        )


@pytest.mark.nightly
def test_two_processes_evaluate_as_one(recipe, tmp_path):
    still = ["--learning_rate", "0.0", "--num_train_epochs", "1", "--per_device_eval_batch_size", "4"]
    main([str(recipe), *still, "--output_dir", str(tmp_path / "one")])
    said = run_on_two_processes(("scripts/pretrain.py", recipe, *still, "--output_dir", tmp_path / "two"))
    assert said.count("Masked cells of test") == 1
    one, two = results_of(tmp_path / "one"), results_of(tmp_path / "two")
    for split in ("validation", "test"):
        assert two["metrics"][split] == pytest.approx(one["metrics"][split], abs=1e-5)
        assert [s["cells"] for s in two["fields"][split]] == [s["cells"] for s in one["fields"][split]]


@pytest.mark.figures
def test_tabgpt_goes_the_same_walk_and_generates(recipe, tmp_path):
    of_tabbert = ["--field_hidden_size", "null", "--field_num_heads", "null"]
    with pytest.raises(ValueError, match="Expected no field_hidden_size, field_num_heads beside architecture: gpt2"):
        main([str(recipe), "--architecture", "gpt2", "--output_dir", str(tmp_path / "refused")])
    folder = tmp_path / "gpt"
    main([str(recipe), "--architecture", "gpt2", "--output_dir", str(folder), *of_tabbert])
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    model.check_processor(processor.fingerprint)
    assert model.config.max_rows == 6 and model.config.n_embd == 32
    losses = [
        entry["eval_masked_loss"]
        for entry in json.loads((folder / "trainer_state.json").read_text())["log_history"]
        if "eval_masked_loss" in entry
    ]
    assert losses[-1] < losses[0]
    results = json.loads((folder / "results.json").read_text())
    assert results["architecture"] == "tabgpt2" and results["cell_errors"]
    assert "one after another" in (folder / "report" / "report.html").read_text()
    card = (folder / "README.md").read_text()
    assert "a GPT-2 predicts each from those before it" in card and "model.generate_rows(" in card
    generate.main([str(folder), str(tmp_path / "rows.csv"), "--rows", "3"])
    assert pl.read_csv(tmp_path / "rows.csv").columns == ["who", "when", "shop", "amount"]
    page = [str(folder), str(tmp_path / "rows.csv"), str(tmp_path / "page.html"), "--generated"]
    with pytest.raises(ValueError, match=r"at least 50 generated rows, training rows and test rows, found \(3, "):
        drift.main(page)
    many = [str(folder), str(tmp_path / "many.csv"), "--rows", "9", "--condition"]
    generate.main([*many, yaml.safe_load(recipe.read_text())["data"]])
    drift.main([page[0], many[1], *page[2:]])
    assert "tells generated rows from the run&#39;s test rows with AUC 0." in (tmp_path / "page.html").read_text()
    shutil.rmtree(folder / "_table")
    with pytest.raises(ValueError, match=r"Expected the run's own rows in .*_table"):
        drift.main([page[0], many[1], *page[2:]])

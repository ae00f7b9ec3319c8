"""A folder of several runs keeps in its table what earlier calls finished, and fits no baseline twice."""

import json
import logging
import re
import shutil
from pathlib import Path

import pytest
import yaml

from hf_mmtab.commands import predict
from hf_mmtab.commands.finetune import main
from hf_mmtab.commands.runs.image_text import ImageTextRun
from hf_mmtab.commands.runs.table_heads import HeadRun
from hf_mmtab.image_text_baselines.frozen_linear import FrozenLinear
from hf_mmtab.training.features.cache import FeatureCache

QUICK = ["--num_train_epochs", "1", "--bootstrap", "20", "--reasons", "false"]


def table_of(root: Path) -> dict[str, list[str]]:
    """Name of a row → its cells but the last, the minutes."""
    lines = [line for line in (root / "comparison.md").read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    return {row[0]: row[1:-1] for row in cells}


def minutes_of(root: Path) -> dict[str, str]:
    """Name of a row → the last cell, its minutes."""
    lines = [line.split("|") for line in (root / "comparison.md").read_text().splitlines() if line.startswith("| ")]
    return {cells[1].strip(): cells[-2].strip() for cells in lines[1:]}


def times_of_reports(root: Path) -> list[int]:
    """When the comparison, the report and the card were written."""
    names = ("comparison.md", "mmbt-seed1/report/report.html", "mmbt-seed1/README.md")
    return [(root / name).stat().st_mtime_ns for name in names]


def refused(*_, **__):
    raise AssertionError("a finished baseline is fitted again")


def test_rows_of_finished_pictures_runs_stay_and_their_features_are_not_computed_again(recipe, tmp_path, monkeypatch):
    root, quick = tmp_path / "run", [*QUICK, "--ablation", "false", "--freeze", "{image_encoder: forever}"]
    main([str(recipe), *quick, "--compare", "bert", "frozen_linear"])
    before, minutes, written = table_of(root), minutes_of(root), times_of_reports(root)
    assert list(before) == list(minutes) == ["mmbt", "bert", "frozen_linear", "majority"]
    for part in (FrozenLinear, FeatureCache):
        monkeypatch.setattr(part, "run" if part is FrozenLinear else "_fill", refused)
    for compare in (["bert", "frozen_linear"], ["frozen_linear"], ["bert"]):
        main([str(recipe), *quick, "--compare", *compare])
        assert table_of(root) == before and minutes_of(root) == minutes and "–" not in minutes.values(), compare
        assert (times_of_reports(root) == written) == (compare == ["bert", "frozen_linear"])  # the same call: only read
    with pytest.raises(FileNotFoundError, match=r"found the predictions of a baseline: .* no model of it is saved"):
        predict.main([str(root / "frozen_linear-seed1"), str(tmp_path / "run"), str(tmp_path / "out.csv")])


def test_a_baseline_is_fitted_anew_after_its_run_was(recipe, tmp_path, monkeypatch):
    main([str(recipe), *QUICK, "--ablation", "false", "--compare", "frozen_linear"])
    fitted, plain = [], ImageTextRun.fit_baseline

    def counted(self, name, seed):
        fitted.append(name)
        return plain(self, name, seed)

    monkeypatch.setattr(ImageTextRun, "fit_baseline", counted)
    results = tmp_path / "run" / "mmbt-seed1" / "results.json"
    results.write_bytes(results.read_bytes())  # written after the baseline
    main([str(recipe), *QUICK, "--ablation", "false", "--compare", "frozen_linear"])
    assert fitted == ["frozen_linear"]


def test_seeds_and_baselines_of_heads_stay_and_others_are_named(runs, monkeypatch, capsys):
    values = {**yaml.safe_load(Path("lstm.yaml").read_text()), "output_dir": "several", "row_inputs": ["states"]}
    Path("heads.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    main(["heads.yaml", *QUICK, "--compare", "raw_lstm", "amount", "--seeds", "1", "2"])
    before = table_of(Path("several"))
    assert list(before) == ["lstm", "raw_lstm", "amount", "majority"] and before["lstm"][-1] == "2"
    monkeypatch.setattr(HeadRun, "fit_baseline", refused)
    main(["heads.yaml", *QUICK, "--compare", "raw_lstm"])  # seed 1 alone
    assert table_of(Path("several")) == before
    capsys.readouterr()
    main(["heads.yaml", *QUICK, "--learning_rate", "2.0e-2", "--seeds", "7", "8"])
    text = Path("several/comparison.md").read_text()
    assert list(table_of(Path("several"))) == ["lstm", "majority"]
    assert text in capsys.readouterr().out + "\n"
    for name, why in {
        "lstm-seed1": r"another recipe \(learning_rate\)",
        "raw_lstm-seed2": r"another recipe \(learning_rate\)",
        "amount-seed1": "fitted beside runs of which some have another recipe or other data",
    }.items():
        assert re.search(rf"^Left out: {name}, {why}. Its files lie in 'several/{name}'.$", text, re.M)


def other_data(recipe: Path, tmp_path: Path) -> list[str]:
    """Return the arguments of a small comparison on a copy of the recipe's data."""
    values = yaml.safe_load(recipe.read_text())
    shutil.copytree(values["data"], tmp_path / "own")
    return [str(recipe), "--data", str(tmp_path / "own"), *QUICK, "--ablation", "false", "--audit", "false"]


def lines_of(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def write_lines(file: Path, records: list[dict]) -> None:
    file.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.mark.slow
def test_runs_on_data_that_was_changed_since_stay_out_of_the_table(recipe, tmp_path):
    command, root = other_data(recipe, tmp_path), tmp_path / "run"
    main([*command, "--compare", "bert", "img"])
    test = tmp_path / "own" / "test.jsonl"
    write_lines(test, lines_of(test)[::-1])
    main([*command, "--seed", "2", "--compare", "img"])
    text = (root / "comparison.md").read_text()
    assert table_of(root)["mmbt"][-1] == table_of(root)["img"][-1] == "1"
    for name in ("mmbt-seed1", "img-seed1", "bert-seed1"):
        assert f"Left out: {name}, trained before the data's files were changed or moved." in text
    # what is asked for is not judged by other rows either
    with pytest.raises(ValueError, match=r"of which row 0 has another .*: the data's files were changed since"):
        main([*command, "--seed", "1", "--compare", "img"])


@pytest.mark.slow
def test_a_run_that_cannot_be_read_is_left_out_with_the_reason(recipe, tmp_path):
    command, root = other_data(recipe, tmp_path), tmp_path / "run"
    main([*command, "--compare", "bert", "img"])
    (root / "bert-seed1" / "recipe.yaml").unlink()
    (root / "img-seed1" / "predictions" / "test.parquet").unlink()
    with pytest.raises(ValueError, match="Architecture 'concatbow' needs 'glove_path' in the recipe, found none"):
        main([*command, "--seed", "3", "--compare", "concatbow"])
    assert not (root / "mmbt-seed3" / "results.json").exists()  # told before anything is trained
    main([*command, "--seed", "2", "--compare", "img"])
    text = (root / "comparison.md").read_text()
    assert "Left out: bert-seed1, whose recipe.yaml is gone or damaged." in text
    assert "Left out: img-seed1, whose predictions are gone." in text


def test_an_interrupted_run_says_that_its_data_was_changed(recipe, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("hf_mmtab"), "propagate", True)
    command = [*other_data(recipe, tmp_path), "--num_train_epochs", "2", "--save_strategy", "epoch"]
    monkeypatch.setattr(ImageTextRun, "calibrate", refused)  # as if it was killed there
    for changed in (False, True):
        if changed:
            train = tmp_path / "own" / "train.jsonl"
            write_lines(train, lines_of(train)[:-2])
        caplog.clear()
        for _ in range(2):
            with pytest.raises(AssertionError, match="fitted again"):
                main(command)
            assert ("from its last checkpoint on it is trained on them as they are now" in caplog.text) == changed
            changed = False
            caplog.clear()

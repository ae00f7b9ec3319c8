"""A folder of several runs keeps in its table what earlier calls finished, and fits no baseline twice."""

import re
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


def refused(*_, **__):
    raise AssertionError("a finished baseline is fitted again")


def test_rows_of_finished_pictures_runs_stay_and_their_features_are_not_computed_again(recipe, tmp_path, monkeypatch):
    root, quick = tmp_path / "run", [*QUICK, "--ablation", "false", "--freeze", "{image_encoder: forever}"]
    main([str(recipe), *quick, "--compare", "bert", "frozen_linear"])
    before = table_of(root)
    assert list(before) == ["mmbt", "bert", "frozen_linear", "majority"]
    for part in (FrozenLinear, FeatureCache):
        monkeypatch.setattr(part, "run" if part is FrozenLinear else "_fill", refused)
    for compare in (["bert", "frozen_linear"], ["frozen_linear"], ["bert"]):
        main([str(recipe), *quick, "--compare", *compare])
        assert table_of(root) == before, compare
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
        "amount-seed1": "fitted beside runs of which some have another recipe",
    }.items():
        assert re.search(rf"^Left out: {name}, {why}. Its files lie in 'several/{name}'.$", text, re.M)

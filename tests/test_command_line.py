"""`hf-mmtab` before a command runs: help, version, misspelt commands."""

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import hf_mmtab
from hf_mmtab.__main__ import COMMANDS
from hf_mmtab.commands.flags import CONVERTED, PARSERS, RESAMPLED, parse
from hf_mmtab.converting.to_ours import CONVERTERS
from hf_mmtab.data.simulated_cards import main as make_card_table
from hf_mmtab.evaluation import row_evaluation

ROOT = Path(hf_mmtab.__file__).parents[1]


def hf_mmtab_says(*arguments):
    command = [sys.executable, "-X", "importtime", "-m", "hf_mmtab", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    errors = [line for line in done.stderr.splitlines() if not line.startswith("import time")]
    assert "hf_mmtab" in imported and not imported & {"torch", "transformers", "numpy", "datasets"}
    return done.returncode, done.stdout, "\n".join(errors)


def test_help_and_version_are_told_without_heavy_imports():
    code, out, _ = hf_mmtab_says("--help")
    assert code == 0 and all(f"  {name} " in out for name in COMMANDS) and "Exit status" in out
    assert hf_mmtab_says("--version")[:2] == (0, f"hf-mmtab {hf_mmtab.__version__}\n")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("finetun", "finetune"),
        ("eval-checkpoint", "eval_checkpoint"),
        ("pushtohub", "push_to_hub"),
        ("version", "--version"),
    ],
)
def test_a_misspelt_command_is_told_with_the_one_that_was_meant(given, meant):
    code, out, errors = hf_mmtab_says(given, "recipe.yaml")
    assert (code, out) == (2, "") and f"found {given!r}. Did you mean {meant}?" in errors


def test_without_a_command_the_usage_is_an_error():
    code, _, errors = hf_mmtab_says()
    assert code == 2 and errors.startswith("usage: hf-mmtab COMMAND")


@pytest.mark.slow
def test_a_command_runs_with_the_classes_registered():
    code = (
        "import sys; sys.argv = ['hf-mmtab', 'predict', 'absent', 'no', 'o.csv']; import hf_mmtab.__main__ as main\n"
        "assert 'torch' not in sys.modules\n"
        "try:\n    main.main()\nexcept SystemExit as end:\n    assert end.code == 1\n"
        "from transformers import CONFIG_MAPPING; assert 'mmbt' in CONFIG_MAPPING\n"
        "import hf_mmtab; assert hf_mmtab.MMBTProcessor.__name__ == 'MMBTProcessor'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "absent" in done.stderr


def test_help_and_mistakes_of_a_command_are_told_without_heavy_imports():
    code, out, _ = hf_mmtab_says("predict", "--help")
    assert code == 0 and "--explain" in out and "usage: hf-mmtab predict" in out
    code, out, errors = hf_mmtab_says("eval_checkpoint", "run", "data")
    assert (code, out) == (2, "") and "required: --out" in errors


@pytest.mark.parametrize("command", PARSERS)
def test_a_parser_says_what_its_module_says(command):
    assert PARSERS[command]().description == inspect.cleandoc(import_module(f"hf_mmtab.commands.{command}").__doc__)


def test_choices_are_those_of_the_code():
    assert set(CONVERTED) == set(CONVERTERS) and RESAMPLED == row_evaluation.RESAMPLED


def test_the_home_folder_is_followed_where_no_shell_did_it(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    options = parse("eval_checkpoint", ["~/model", "data.csv", "--out=~/runs/a", "--label_column=~odd"])
    assert (options.checkpoint, options.out, options.label_column) == ("/home/ann/model", "/home/ann/runs/a", "~odd")
    assert parse("report", ["~/a", "b", "--out", "~"]).runs == ["/home/ann/a", "b"]
    converted = parse("convert_checkpoint", ["mmbt", "~/old.pt", "new"])
    assert (converted.src, converted.dst) == (Path("/home/ann/old.pt"), Path("new"))


@pytest.mark.parametrize(
    ("command", "options", "said"),
    [
        ("generate", ["--batch_size", "0"], "expected a whole number from 1, found '0'"),
        ("generate", ["--seed", "-1"], "expected a whole number from 0, found '-1'"),
        *[
            ("generate", ["--temperature", text], f"expected a finite number above 0, found '{text}'")
            for text in ("inf", "nan", "0", "-1", "1e999", "warm", "")
        ],
        ("generate", ["--start", "tomorrow"], "expected a time without a zone, such as 2020-01-31"),
        ("generate", ["--start", "2024-05-01T10:00:00+02:00"], "expected a time without a zone"),
        ("predict", ["--explain", "-1"], "expected a whole number from 0 to 1000, found '-1'"),
        ("embed", ["--seq_len", "1.5"], "expected a whole number from 1, found '1.5'"),
        ("report", ["--bootstrap", "-1"], "expected a whole number from 0, found '-1'"),
        ("predict", ["--batch_size", "9" * 30], "expected a whole number from 1 to 2147483647, found '999"),
        ("predict", ["--num_workers", "100000"], "expected a whole number from 0 to 512, found '100000'"),
        ("predict", ["--explain", "9" * 9], "expected a whole number from 0 to 1000"),
        ("demo", ["--port", "70000"], "expected a whole number from 1 to 65535"),
    ],
)
def test_numbers_that_no_command_could_follow_are_refused(command, options, said, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(command, ["a", "b", *(["c"] if command in ("predict", "embed") else []), *options])
    assert ended.value.code == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--fraud-rate", "nan"], "fraud_rate must be between 0 and 0.2, got nan"),
        (["--fraud-rate", "inf"], "fraud_rate must be between 0 and 0.2, got inf"),
        (["--users", "0"], "users must be between 1 and rows=100000, got 0"),
        (["--seed", "-1"], "seed must be at least 0, got -1"),
        (["--rows", "9" * 20], "too large"),
    ],
)
def test_numbers_that_no_table_of_cards_has_are_refused(tmp_path, options, said, capsys):
    with pytest.raises(SystemExit) as ended:
        make_card_table([*options, "--out", str(tmp_path / "cards.csv")])
    assert ended.value.code == 2 and said in capsys.readouterr().err and not (tmp_path / "cards.csv").exists()

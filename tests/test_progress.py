"""Progress without a terminal is a line now and then; completion knows commands, recipes and keys."""

import io
import subprocess
import sys

import datasets.utils
import pytest
from transformers import TrainerState

from hf_mmtab import progress
from hf_mmtab.commands import completion, flags
from hf_mmtab.progress import make_bars_plain, progress_bar
from hf_mmtab.training.callbacks import NamedProgress


def test_without_a_terminal_progress_is_plain_lines(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    with progress_bar(total=4, desc="Scoring", unit=" rows") as bar:
        for _ in range(4):
            bar.update(1)
    told = capsys.readouterr().err
    assert "\r" not in told
    lines = told.splitlines()
    assert lines[0].startswith("Scoring: 0 of 4 rows (0 %)")
    assert any(line.startswith("Scoring: 3 of 4 rows (75 %), ") for line in lines)


def test_a_short_job_writes_no_line(capsys):
    for _ in progress_bar(range(5), desc="Computing"):
        pass
    assert capsys.readouterr().err == ""


def test_the_bars_of_a_library_are_plain_lines_too(monkeypatch, capsys):
    class Bars(datasets.utils.tqdm):
        pass

    monkeypatch.setattr(progress, "SECONDS", 0.0)
    make_bars_plain(Bars)
    for _ in Bars(range(3), desc="Map"):
        pass
    with Bars(desc="Generating", unit=" rows") as bar:  # of an unknown number
        bar.update(5)
    told = capsys.readouterr().err
    assert "\r" not in told and "Map: 2 of 3it (67 %), " in told and "Generating: 5 rows, 00:00 gone\n" in told
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    make_bars_plain(terminal := type("Bars", (datasets.utils.tqdm,), {}))
    assert "__init__" not in vars(terminal)


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for _ in progress_bar(range(2), desc="Computing"):
        pass
    assert "\r" in capsys.readouterr().err


def test_the_time_before_the_first_step_is_not_that_of_steps():
    """Features that are computed once took minutes there, and the bar told of forty hours left."""
    bars, state = NamedProgress(), TrainerState(max_steps=10, is_world_process_zero=True)
    bars.on_train_begin(None, state, None)
    bars.training_bar.start_t -= 300
    bars.training_bar.last_print_t -= 300
    bars.on_step_begin(None, state, None)
    assert bars.training_bar.format_dict["elapsed"] < 100
    bars.training_bar.close()


@pytest.mark.parametrize("shell", flags.SHELLS)
def test_completion_knows_commands_recipes_and_keys(shell, capsys):
    pytest.importorskip("shtab")
    completion.main([shell])
    script = capsys.readouterr().out
    for word in ("finetune", "drift", "openclipart", "--learning_rate", "--row_inputs", "--on_bad_record", "--int8"):
        assert word in script, word
    assert "--adam_epsilon" not in script  # only under --help-all


def test_the_script_of_bash_completes(tmp_path, capsys):
    pytest.importorskip("shtab")
    completion.main(["bash"])
    (tmp_path / "script").write_text(capsys.readouterr().out)
    for words, expected in {
        "finetune openc": ["openclipart"],
        "pretrain simulated_cards_f": [],
        "finetune openclipart --on_bad_record s": ["skip"],
        "finetune openclipart --allow_empty_text t": ["true"],
        "finetune openclipart --prec": ["--precision"],
        "finetune openclipart --architecture concat": ["concatbert", "concatbow"],
        "finetune openclipart --eval_strategy e": ["epoch"],
        "finetune openclipart --task mm": ["mmimdb"],
    }.items():
        *before, word = words.split()
        asked = f"source ./script; COMP_WORDS=(hf-mmtab {words}); COMP_CWORD={len(before) + 1}; "
        asked += 'f=$(complete -p hf-mmtab | sed "s/.*-F //; s/ .*//"); '
        asked += f'$f hf-mmtab {word} {before[-1]}; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", asked], cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout.split() == expected, (words, done.stderr)


def test_a_process_that_runs_a_thousand_commands_has_bars_still(monkeypatch):
    monkeypatch.setattr("sys.stderr", io.StringIO())
    own = type("Bars", (datasets.utils.tqdm,), {})
    for _ in range(2 * sys.getrecursionlimit()):
        make_bars_plain(own)
    assert list(own(range(3), disable=True)) == [0, 1, 2]

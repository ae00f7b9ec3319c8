"""SIGTERM, of a scheduler or `kill`, in each phase of a run: one line, status 143, and the same command goes on."""

import functools
import os
import signal
import sys
import time
from importlib import import_module

import pytest
from running import results_of

from hf_mmtab import __main__ as entry
from hf_mmtab.commands import console, pretrain
from hf_mmtab.commands.console import run
from hf_mmtab.commands.runs import walk
from hf_mmtab.commands.runs.pretraining import PretrainingRun
from hf_mmtab.data.table import Table
from hf_mmtab.training import MMTabTrainer

PHASES = {
    "reading": (Table, "download_and_prepare"),
    "preparing": (PretrainingRun, "trainer_arguments"),
    "training": (MMTabTrainer, "training_step"),
    "evaluating": (MMTabTrainer, "evaluate"),
    "saving a checkpoint": (MMTabTrainer, "save_model"),
    "saving the model": (walk, "_save"),
    "reporting": (walk, "write_run_report"),
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_run_that_is_told_to_end_says_so_and_goes_on(phase, runs, monkeypatch, capsys):
    owner, name = PHASES[phase]
    plain, before = getattr(owner, name), signal.getsignal(signal.SIGTERM)

    def ended(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return plain(*arguments, **options)

    command = ["pretrain.yaml", "--output_dir", "new", "--num_train_epochs", "1"]
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(owner, name, ended)
        run(pretrain.main, command)
    assert stopped.value.code == 143
    assert capsys.readouterr().err.endswith(
        "\nTerminated. The same command goes on, training from its last checkpoint.\n"
    )
    assert signal.getsignal(signal.SIGTERM) is before
    assert not (runs / "new" / "results.json").exists()
    run(pretrain.main, command)
    assert results_of(runs / "new")["metrics"]


AFTER = {
    "pretrain": "goes on, training from its last checkpoint",
    "finetune": "goes on, training from its last checkpoint",
    "prepare": "goes on where it stopped",
    "push_to_hub": "sends what the Hub does not have yet",
}


@pytest.mark.parametrize("name", [name for name in entry.COMMANDS if name != "serve"])  # which uvicorn ends
def test_each_command_says_what_the_same_one_does_then(name, capsys):
    @functools.wraps(import_module(f"hf_mmtab.commands.{name}").main)
    def ended(_):
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as stopped:
        run(ended, [])
    assert stopped.value.code == 143
    assert capsys.readouterr().err == f"\nTerminated. The same command {AFTER.get(name, 'starts anew')}.\n"


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["plain", "ignored"])
def ctrl_c(request):
    """What Ctrl-C does when a command is called; it is ignored under nohup."""
    before = signal.signal(signal.SIGINT, request.param)
    yield request.param
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_packages_are_imported_shows_no_traceback(ctrl_c, monkeypatch):
    seen, plain = {}, entry.import_module

    def imported(name):
        seen[name] = signal.getsignal(signal.SIGINT)
        return plain(name)

    monkeypatch.setattr(entry, "import_module", imported)
    monkeypatch.setattr(console, "run", lambda command, arguments: seen.update(run=signal.getsignal(signal.SIGINT)))
    monkeypatch.setattr(sys, "argv", ["hf-mmtab", "pretrain"])
    entry.main()
    assert seen["hf_mmtab.api"] == (signal.SIG_DFL if ctrl_c is signal.default_int_handler else signal.SIG_IGN)
    assert seen["run"] == ctrl_c


def test_a_process_that_a_command_forked_ends_alone(capsys):
    def command(_):
        ready, told = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(told, b"x")  # Python drops a signal that comes before it has set up the new process
            while True:  # not `pause`, before which a signal may come
                time.sleep(0.01)
        os.read(ready, 1)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143

    run(command, [])
    assert capsys.readouterr().err == ""

"""What tests of commands share: to run one, also one that is killed, and to look at what it left."""

import itertools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from hf_mmtab.training import MMTabTrainer

SHORT = ("--num_train_epochs", "1", "--ablation", "false", "--bootstrap", "0", "--reasons", "false")


class Killed(BaseException):
    """Stands for signal 9."""


def command(name: str, *arguments: object) -> None:
    import_module(f"hf_mmtab.commands.{name}").main([str(argument) for argument in arguments])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def results_of(run: Path) -> dict:
    return json.loads((run / "results.json").read_text())


@contextmanager
def killed(owner: Any, name: str, when: Callable[..., bool]) -> Iterator[None]:
    """Kill the block, which must come so far, at the first call of a function for which `when` holds."""
    plain = getattr(owner, name)

    def call(*arguments, **options):
        if when(*arguments):
            raise Killed
        return plain(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(owner, name, call)
        yield


@contextmanager
def left_as_they_are() -> Iterator[None]:
    """Leave temporary folders of the block where they are, as a kill does, which no code of ours outlives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile.TemporaryDirectory, "cleanup", lambda made: made._finalizer.detach())
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        yield


def killed_at_call(owner: Any, name: str, number: int) -> AbstractContextManager[None]:
    """Kill the block at a call of a function, counted from 1."""
    calls = itertools.count(1)
    return killed(owner, name, lambda *_: next(calls) == number)


def killed_at_step(step: int, name: str = "training_step") -> AbstractContextManager[None]:
    """Kill a training after so many optimizer steps, where the trainer's method of this name is called."""
    return killed(MMTabTrainer, name, lambda trainer, *_: trainer.state.global_step >= step)

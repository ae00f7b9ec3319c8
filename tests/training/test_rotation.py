"""What goes when old checkpoints are removed: files as they were written, under any clock, and no file of a person."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hf_mmtab.training.checkpoints import (
    MANIFEST_NAME,
    damaged_files,
    last_complete_checkpoint,
    rotate_checkpoints,
    write_manifest,
)

FILES = {"model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json", MANIFEST_NAME}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with checkpoints of the steps 1 to 3."""
    for step in (1, 2, 3):
        folder = tmp_path / "run" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        save_file({"a": torch.ones(step)}, folder / "model.safetensors")
        for name in ("optimizer.pt", "scheduler.pt"):
            torch.save({"step": step}, folder / name)
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
        write_manifest(folder)
    return tmp_path / "run"


def as_of_version_0_1(manifest: Path) -> None:
    """Take the times out of a list of files, and keep the time of the list."""
    content = {
        name: {"size": one["size"], "blake2b": one["blake2b"]} for name, one in json.loads(manifest.read_text()).items()
    }
    time_ns = manifest.stat().st_mtime_ns
    manifest.write_text(json.dumps(content))
    os.utime(manifest, ns=(time_ns, time_ns))


def edit(file: Path, days: int) -> None:
    """Change a file under a clock that is so many days ahead."""
    file.write_bytes(b'{"global_step": 1}  ')
    os.utime(file, (time.time() + 86_400 * days,) * 2)


def left(run: Path) -> dict[str, set[str]]:
    return {folder.name: {path.name for path in folder.iterdir()} for folder in run.iterdir()}


@pytest.mark.parametrize("older", [False, True])
def test_a_checkpoint_that_nobody_changed_goes_whole(run: Path, older: bool) -> None:
    if older:
        as_of_version_0_1(run / "checkpoint-1" / MANIFEST_NAME)
        assert damaged_files(run / "checkpoint-1") == []
    rotate_checkpoints(run, 2, None)
    assert left(run) == {"checkpoint-2": FILES, "checkpoint-3": FILES}


# Version 0.1 knew no times: an earlier one was taken for the time of writing.
@pytest.mark.parametrize(("older", "days"), [(False, -9), (False, 9), (True, 9)])
def test_a_file_that_a_person_changed_stays_under_any_clock(run: Path, older: bool, days: int) -> None:
    if older:
        as_of_version_0_1(run / "checkpoint-1" / MANIFEST_NAME)
    edit(run / "checkpoint-1" / "trainer_state.json", days)
    rotate_checkpoints(run, 2, None)
    assert left(run) == {"checkpoint-1": {"trainer_state.json"}, "checkpoint-2": FILES, "checkpoint-3": FILES}
    assert damaged_files(run / "checkpoint-1") == ["no weights"]  # what is left is no checkpoint
    for step in (2, 3):
        shutil.rmtree(run / f"checkpoint-{step}")
    assert last_complete_checkpoint(run) is None


def test_checkpoints_of_a_copied_run_have_other_times_and_go_whole(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "copy", copy_function=shutil.copyfile)  # as `cp -r`: the times of now
    edit(tmp_path / "copy" / "checkpoint-2" / "optimizer.pt", 0)
    rotate_checkpoints(tmp_path / "copy", 1, None)
    assert left(tmp_path / "copy") == {"checkpoint-2": {"optimizer.pt"}, "checkpoint-3": FILES}
    assert damaged_files(tmp_path / "copy" / "checkpoint-2")


def test_a_removal_that_is_cut_short_leaves_nothing_that_passes_for_whole(run: Path, monkeypatch) -> None:
    plain, calls = Path.unlink, []

    def unlink(path: Path, *arguments: object, **options: object) -> None:
        calls.append(path.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        plain(path, *arguments, **options)

    for _ in range(4):  # each time a file goes; the last time the list is left alone
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Path, "unlink", unlink)
            rotate_checkpoints(run, 2, None)
        calls.clear()
        assert damaged_files(run / "checkpoint-1")
    rotate_checkpoints(run, 2, None)
    assert left(run) == {"checkpoint-2": FILES, "checkpoint-3": FILES}

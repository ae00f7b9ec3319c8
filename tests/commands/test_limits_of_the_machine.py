"""What the machine cannot do: a disk that fills up, too little memory, names that are too long."""

import errno
import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from hf_mmtab.commands.console import run
from hf_mmtab.data.reading.library_errors import plain_errors
from hf_mmtab.files import make_folder, write_array, write_whole
from hf_mmtab.locking import lock_folder
from hf_mmtab.training.checkpoint_weights import CheckpointWeights

NUMBERS = np.arange(4_000)  # 32,000 bytes
LIMIT = 1 << 14
TABLE = pl.DataFrame({"amount": np.random.default_rng(0).normal(size=20_000)})

WRITERS: dict[str, Callable[[Path], object]] = {
    "bytes": lambda path: write_whole(path, NUMBERS.tobytes()),
    "array": lambda path: write_array(path, NUMBERS),
    "array with header": lambda path: write_array(path, NUMBERS, header=True),
    "safetensors": lambda path: save_file({"a": torch.from_numpy(NUMBERS)}, path),
    "torch": lambda path: torch.save(torch.from_numpy(NUMBERS), path),
    "ipc": lambda path: TABLE.write_ipc(path),
    "parquet": lambda path: TABLE.write_parquet(path),
    "csv": lambda path: TABLE.write_csv(path),
    "arrow": lambda path: pq.write_table(TABLE.to_arrow(), path),
}


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let this process write no larger file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_told(writer: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped, files_of_at_most(LIMIT):
        run(lambda _: WRITERS[writer](tmp_path / "file.bin"), [])
    assert stopped.value.code == 1
    assert "make room and run the same command again" in capsys.readouterr().err


def test_a_full_disk_is_told_with_the_output_folder(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def command(_: object) -> None:
        with lock_folder(tmp_path / "run", True), files_of_at_most(LIMIT):
            save_file({"a": torch.from_numpy(NUMBERS)}, tmp_path / "run" / "file.bin")

    with pytest.raises(SystemExit):
        run(command, [])
    assert f"in {str(tmp_path / 'run')!r})" in capsys.readouterr().err


def test_a_file_in_place_of_a_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        run(lambda _: os.listdir(tmp_path / "file" / "datasets"), [])
    assert "file/datasets', found a file there. Choose another place" in capsys.readouterr().err


@pytest.mark.parametrize("call", [tempfile.mkdtemp, tempfile.TemporaryDirectory, tempfile.NamedTemporaryFile])
def test_no_place_for_temporary_files_is_told(
    call: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "file")])
    with pytest.raises(SystemExit):
        run(lambda _: call(), [])
    told = capsys.readouterr().err
    assert f"has room, found none (['{tmp_path / 'file'}']). Name one in TMPDIR" in told


def test_another_error_is_not_called_a_full_disk(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(RuntimeError, match="size"):
        run(lambda _: torch.zeros(2) @ torch.zeros(3), [])

    def command(_: object) -> None:
        raise ValueError("Expected 3 columns, found 2.")

    with pytest.raises(SystemExit):
        run(command, [])
    assert "make room" not in capsys.readouterr().err


@pytest.mark.parametrize("size", [(1 << 45,), (1 << 22, 1 << 23)])
def test_too_little_memory_is_told(size: tuple[int, ...], capsys: pytest.CaptureFixture) -> None:
    for make in (torch.empty, np.empty):
        with pytest.raises(SystemExit):
            run(lambda _, make=make: make(size), [])
        assert "Expected memory for model and batch" in capsys.readouterr().err


def test_a_name_too_long_is_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        run(lambda _: (tmp_path / ("x" * 300)).mkdir(), [])
    assert "at most 255 bytes" in capsys.readouterr().err


def test_a_place_that_refuses_is_told_with_a_remedy(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def refused(_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "a/cache")

    with pytest.raises(SystemExit):
        run(refused, [])
    assert "found 'a/cache', which refuses it" in capsys.readouterr().err
    (tmp_path / "link").symlink_to(tmp_path / "absent" / "place")
    with pytest.raises(OSError, match=r"link' takes none \(a link that leads nowhere\)"):
        make_folder(tmp_path / "link")


def test_an_error_of_ours_is_told_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def command(_: object) -> None:
        raise ValueError("Expected a number, found 'no space left, out of memory'.")

    def better(_: object) -> None:
        raise OSError("Expected a place where files can be made.") from PermissionError(errno.EACCES, "no", "a")

    for one, told in ((command, "ValueError: Expected a number"), (better, "OSError: Expected a place where")):
        with pytest.raises(SystemExit):
            run(one, [])
        assert told in capsys.readouterr().err


def test_a_file_has_the_rights_that_the_process_asks_for_now(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_whole(tmp_path / "mine", "a")
        os.umask(0o022)
        write_whole(tmp_path / "ours", "a")
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("mine", "ours")] == [0o600, 0o644]


@contextmanager
def more_open_files_of_at_most(count: int) -> Iterator[None]:
    os.close(free := os.dup(0))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


READERS: dict[str, Callable[[Path], object]] = {
    "file": lambda path: path.read_bytes(),
    "weights": lambda path: CheckpointWeights(path / "model.safetensors"),
    "data": lambda path: _read_data(path),
}


def _read_data(path: Path) -> None:
    with plain_errors(path):
        open(path).close()


@pytest.mark.parametrize("reader", READERS)
def test_too_many_open_files_are_no_damaged_file(reader: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    path = tmp_path if reader == "weights" else tmp_path / "model.safetensors"
    with pytest.raises(SystemExit), more_open_files_of_at_most(reader == "weights"):
        run(lambda _: READERS[reader](path), [])
    assert "found a limit on how many may be open" in (told := capsys.readouterr().err)
    assert "ulimit -n" in told and "cut off" not in told and "write it anew" not in told


def test_a_place_that_may_not_be_written_is_no_fault_of_the_data(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def command(_: object) -> None:
        with plain_errors(tmp_path / "t.csv"):
            raise OSError(errno.EROFS, "Read-only file system", "cache/datasets")

    with pytest.raises(SystemExit):
        run(command, [])
    assert "may read and write, found 'cache/datasets', which refuses it" in capsys.readouterr().err


def test_a_limit_on_threads_is_told(capsys: pytest.CaptureFixture) -> None:
    def command(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.raises(SystemExit):
        run(command, [])
    assert "found too little (can't start new thread)" in capsys.readouterr().err


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_DATASETS_CACHE", "HOME"])
@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null/deep", "/sys/kernel"])
def test_a_cache_that_cannot_be_made_is_told_with_its_variable(variable, place, capsys, monkeypatch):
    cache = f"{place}/.cache/huggingface" if variable == "HOME" else place
    home = cache if variable != "HF_DATASETS_CACHE" else "/tmp"
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", home)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", f"{home}/hub")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache if home == "/tmp" else f"{home}/datasets")
    monkeypatch.setattr("datasets.config.HF_MODULES_CACHE", f"{home}/modules")
    for name in ("HF_HOME", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    if variable != "HOME":
        monkeypatch.setenv(variable, place)
    wanted = "HF_HOME" if variable == "HOME" else variable
    with pytest.raises(SystemExit):
        run(lambda _: os.makedirs(f"{cache}/tables"), [])
    told = capsys.readouterr().err
    assert "Expected a folder for caches that can be made and written, found '" in told
    assert f"Name another one in {wanted}, and run the same command again." in told


def test_a_file_that_is_gone_is_no_cache_that_cannot_be_made(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
    with pytest.raises(SystemExit):
        run(lambda _: (tmp_path / "gone").read_text(), [])
    assert "found none (any more)" in capsys.readouterr().err

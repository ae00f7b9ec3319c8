"""Inputs that are no data: devices, pipes, sockets, the root, what may not be read. Told at once, before any waits."""

import os
import re
import socket
import time
from importlib import import_module
from pathlib import Path

import pytest

from hf_mmtab.commands.damaged_files import damaged_file
from hf_mmtab.commands.outputs import check_output
from hf_mmtab.commands.runs import reads
from hf_mmtab.commands.runs.reads import real_places

OUTPUTS = {"predict": "out.csv", "embed": "out.parquet", "drift": "out.html"}
NOT_READ = "Expected a file or folder to read, found {} at "


def call(name: str, data: str, checkpoint: str = "model") -> None:
    if name == "report":
        arguments = [data, "--out", "page"]
    elif name == "eval_checkpoint":
        arguments = [checkpoint, data, "--out", "judged"]
    else:
        arguments = [checkpoint, data, OUTPUTS[name]]
    import_module(f"hf_mmtab.commands.{name}").main(arguments)


@pytest.fixture
def odd(tmp_path, monkeypatch) -> dict[str, tuple[str, str]]:
    """Kind of input → its path, and what a message calls it."""
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    os.mkfifo("pipe")
    os.mkfifo("pipe.csv")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
    found = {"zero": ("/dev/zero", "a device"), "null": ("/dev/null", "a device"), "pipe": ("pipe", "a pipe")}
    found |= {"pipe.csv": ("pipe.csv", "a pipe"), "socket": ("socket", "a socket")}
    return found | {"root": ("/", "the root of the file system")}


@pytest.mark.parametrize("name", [*OUTPUTS, "eval_checkpoint", "report"])
@pytest.mark.parametrize("kind", ["zero", "null", "pipe", "pipe.csv", "socket", "root"])
def test_what_is_neither_file_nor_folder_is_named_at_once(odd, name, kind):
    path, called = odd[kind]
    began = time.process_time()
    with pytest.raises(ValueError, match=re.escape(f"{NOT_READ.format(called)}{path!r}")):
        call(name, path)
    assert time.process_time() - began < 5
    assert not (Path("judged").exists() or Path("page").exists())


@pytest.mark.parametrize("path", ["/proc", "/proc/self/maps", "/sys"])
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a system with /proc")
def test_so_is_what_the_system_tells_of_itself_also_beside_an_output_that_is_there(tmp_path, path):
    (tmp_path / "out.csv").write_text("a\n1\n")
    began = time.process_time()
    with pytest.raises(ValueError, match=re.escape(f"{NOT_READ.format('what the system tells of itself')}{path!r}")):
        check_output(tmp_path / "out.csv", [path])
    assert time.process_time() - began < 1


@pytest.mark.parametrize("kind", ["zero", "pipe.csv", "socket", "root"])
def test_a_run_names_what_is_no_data_before_its_folder_is_made(odd, kind):
    path, called = odd[kind]
    recipe = ["simulated_cards_pretrain", "--data", path, "--simulate", "null", "--output_dir", "run"]
    with pytest.raises(ValueError, match=re.escape(f"{NOT_READ.format(called)}{path!r}")):
        import_module("hf_mmtab.commands.pretrain").main(recipe)
    assert not Path("run").exists()


def test_a_checkpoint_that_is_a_pipe_is_named_too(odd):
    Path("table.csv").write_text("a\n1\n")
    with pytest.raises(ValueError, match=r"found a pipe at 'pipe'"):
        call("predict", "table.csv", checkpoint="pipe")


@pytest.mark.parametrize("name", [*OUTPUTS, "eval_checkpoint", "report"])
def test_what_may_not_be_read_is_named_with_a_remedy(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("table.csv").write_text("a\n1\n")
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **how: Path(path).name != "table.csv" and may(path, mode))
    with pytest.raises(PermissionError, match=r"found none of its rights at 'table.csv'.*chmod"):
        call(name, "table.csv")


def test_a_file_of_a_model_that_may_not_be_read_is_not_called_damaged(fixtures, tmp_path, monkeypatch):
    run = fixtures / "runs_0_1" / "lstm"
    name = "model.safetensors"
    assert (run / name).is_file() and damaged_file(run) is None
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **how: Path(path).name != name and may(path, mode))
    told = damaged_file(run)
    assert told is not None and f"found no right to read {name}" in told and "elete" not in told


def test_folders_and_links_that_vanish_while_they_are_looked_at_are_passed_over(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to("gone")
    (tmp_path / "data" / "folder").mkdir()
    whole = os.path.realpath

    def vanished(path, **how):
        if str(path).endswith("link"):
            raise ProcessLookupError("No such process")
        return whole(path, **how)

    monkeypatch.setattr(reads.os.path, "realpath", vanished)
    top = tmp_path / "data"
    assert list(real_places(top)) == [top.resolve()]


def test_links_are_looked_through_only_where_an_output_is_there(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link.csv").symlink_to(tmp_path / "out.csv")
    check_output(tmp_path / "out.csv", [tmp_path / "data"])
    (tmp_path / "out.csv").write_text("a\n1\n")
    with pytest.raises(ValueError, match=r"where a link in there leads to"):
        check_output(tmp_path / "out.csv", [tmp_path / "data"])

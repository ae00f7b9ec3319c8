"""A command never destroys what it did not make, and "finished" is written last."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from running import SHORT, command, contents, killed, killed_at_step

from hf_mmtab import files
from hf_mmtab.commands.runs.own_files import is_run
from hf_mmtab.evaluation.run_results import RunResults
from hf_mmtab.training.callbacks import MovedBest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output_dir", "."], "which is or holds the working folder"),
        (["--output_dir", ".."], "which is or holds the working folder"),
        (["--output_dir", "~"], "which is or holds your home folder"),
        (["--output_dir", "pictures"], "holds what this run reads .data"),
        (["--output_dir", "tiny-text"], "holds what this run reads .text_model"),
        (["--output_dir", "mmbt", "--pretrained", "mmbt"], "holds what this run reads .pretrained"),
        (["--output_dir", "mmbt", "--data", "mmbt/predictions"], "holds what this run reads .data"),
        (["--output_dir", "foreign"], "to hold a run of this package, found other files"),
        (["--output_dir", "link"], "holds what this run reads .data"),
    ],
)
def test_overwrite_refuses_what_is_no_run_or_is_read(runs, monkeypatch, arguments, message):
    (runs / "foreign").mkdir()
    (runs / "foreign" / "recipe.yaml").write_text("dish: soup\n")
    (runs / "foreign" / "thesis.tex").write_text("years of work")
    (runs / "link").symlink_to(runs / "pictures", target_is_directory=True)
    if arguments[1] == "~":
        home = runs / "home"
        home.mkdir()
        (home / "letters.txt").write_text("dear")
        monkeypatch.setenv("HOME", str(home))
        arguments = ["--output_dir", str(home)]
    before = contents(runs)
    with pytest.raises(ValueError, match=message):
        command("finetune", "pictures.yaml", "--overwrite", "true", *arguments)
    assert contents(runs) == before


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("pictures", r"dev\.jsonl, test\.jsonl, train\.jsonl"),
        ("lists", "the data itself"),
        (".", r"payments\.csv"),
        ("link", r"dev\.jsonl"),
    ],
)
def test_several_runs_do_not_lie_among_data(runs, place, found):
    (runs / "link").symlink_to(runs / "pictures", target_is_directory=True)
    (runs / "lists").mkdir()
    for file in (runs / "pictures").glob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        (runs / "lists" / f"{file.stem}.json").write_text(json.dumps(rows))
    data, before = "lists" if place == "lists" else "pictures", contents(runs)
    with pytest.raises(ValueError, match=rf"Expected output_dir .* to hold runs and no data, found {found}.* Choose"):
        command("finetune", "pictures.yaml", "--data", data, "--output_dir", place, "--compare", "bert", *SHORT)
    assert contents(runs) == before


@pytest.mark.parametrize("place", ["home", "large"])
def test_a_folder_that_is_refused_is_not_searched(runs, monkeypatch, place):
    deep = runs / place / "letters" / "of-1999"
    deep.mkdir(parents=True)
    (runs / "home").mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(runs / "home"))
    listed: list[str] = []
    with monkeypatch.context() as patch:
        for name in ("scandir", "listdir"):
            read = getattr(os, name)
            patch.setattr(os, name, lambda folder=".", read=read: listed.append(str(folder)) or read(folder))
        for overwrite in ("true", "false"):
            for name, recipe in (("finetune", "pictures"), ("finetune", "lstm"), ("pretrain", "pretrain")):
                with pytest.raises(ValueError, match=r"your home folder|found other files"):
                    command(name, f"{recipe}.yaml", "--output_dir", place, "--overwrite", overwrite)
        with pytest.raises(ValueError, match=r"may be replaced|with other files"):
            command("export", "mmbt", runs / "home")
    assert str(deep) not in {str(Path(folder).absolute()) for folder in listed} and place in listed


@pytest.mark.parametrize("place", ["payments.csv", "/proc"])
def test_an_output_where_no_file_can_be_made_is_named(runs, place):
    for arguments in (
        ("predict", "lstm", "payments.csv", f"{place}/x.csv"),
        ("drift", "lstm", "payments.csv", f"{place}/x.html"),
        ("finetune", "pictures.yaml", "--output_dir", f"{place}/run", *SHORT),
    ):
        none = f"Expected a place where files can be made, found that .*{place}' takes none"
        in_a_file = "Expected a folder as output_dir, found a file at 'payments.csv'"
        with pytest.raises(
            (OSError, ValueError), match=in_a_file if "--output_dir" in arguments and "." in place else none
        ):
            command(*arguments)


def test_overwrite_refuses_the_folder_of_its_own_recipe_file(runs):
    shutil.copy(runs / "pictures.yaml", runs / "mmbt" / "mine.yaml")
    with pytest.raises(ValueError, match=r"holds what this run reads \(recipe"):
        command("finetune", "mmbt/mine.yaml", "--overwrite", "true")
    assert (runs / "mmbt" / "results.json").exists()


def test_overwrite_replaces_a_run_and_leaves_every_other_file(runs, caplog):
    foreign = {
        "notes.txt": "mine", "report/slides.pdf": "mine", "predictions/labels.csv": "mine", "sub/data.jsonl": "mine",
        "checkpoint-best/keep.bin": "mine",
    }  # fmt: skip
    for name, text in foreign.items():
        (runs / "mmbt" / name).parent.mkdir(parents=True, exist_ok=True)
        (runs / "mmbt" / name).write_text(text)
    old = (runs / "mmbt" / "model.safetensors").read_bytes()
    command("finetune", "pictures.yaml", *SHORT, "--overwrite", "true", "--seed", "5")
    assert {name: (runs / "mmbt" / name).read_text() for name in foreign} == foreign
    assert (runs / "mmbt" / "model.safetensors").read_bytes() != old
    assert yaml.safe_load((runs / "mmbt" / "recipe.yaml").read_text())["seed"] == 5
    assert "that no run made are left there" in caplog.text


@pytest.mark.slow
def test_overwrite_of_several_runs_leaves_every_other_file(runs):
    several = ("--seeds", "1", "2", "--output_dir", "several", *SHORT)
    command("finetune", "pictures.yaml", *several)
    assert is_run(runs / "several")
    for name in ("notes.txt", "mmbt-seed1/notes.txt"):
        (runs / "several" / name).write_text("mine")
    command("finetune", "pictures.yaml", *several, "--overwrite", "true")
    assert (runs / "several" / "notes.txt").read_text() == "mine"
    assert (runs / "several" / "mmbt-seed1" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "lstm", "payments.csv", "payments.csv"], "found 'payments.csv' for both"),
        (["predict", "lstm", "payments.csv", "./again.csv"], "for both"),
        (["predict", "lstm", "payments.csv", "hard.csv"], "for both"),
        (["predict", "lstm", "tables", "tables/scores.csv"], "outside the folder 'tables'"),
        (["predict", "lstm", "payments.csv", "mmbt/scores.csv"], "outside of saved models and runs"),
        (["predict", "mmbt", "pictures/test.jsonl", "lstm/predictions/x.jsonl"], "outside of saved models"),
        (["embed", "tabbert", "payments.csv", "tabbert/rows.parquet"], "outside"),
        (["eval_checkpoint", "mmbt", "pictures", "--out", "mmbt"], "other than the input"),
        (["eval_checkpoint", "mmbt", "pictures", "--out", "lstm"], "outside of saved models"),
        (["eval_checkpoint", "mmbt", "pictures", "--out", "pictures"], "other than the input"),
        (["eval_checkpoint", "mmbt", "pictures", "--out", "study"], "found 'results.json' of something else"),
    ],
)
def test_an_output_that_would_replace_an_input_or_a_run_is_refused_before_any_work(runs, arguments, message):
    (runs / "again.csv").symlink_to(runs / "payments.csv")
    os.link(runs / "payments.csv", runs / "hard.csv")
    (runs / "tables").mkdir()
    shutil.copy(runs / "payments.csv", runs / "tables" / "payments.csv")
    (runs / "study").mkdir()
    (runs / "study" / "results.json").write_text('{"mine": true}')
    before = contents(runs)
    with pytest.raises(ValueError, match=message):
        command(*arguments)
    assert contents(runs) == before


# test_killed_runs.py kills within a checkpoint, the report and results.json, and at every write among the slow tests.
WRITTEN = ["test.parquet", *(pytest.param(name, marks=pytest.mark.slow) for name in ("recipe.yaml", "README.md"))]


@pytest.mark.parametrize("name", WRITTEN)
def test_a_kill_while_a_file_is_written_leaves_a_folder_that_the_same_command_finishes(runs, name):
    arguments = ["pictures.yaml", *SHORT, "--output_dir", "new"]
    with killed(files.os, "replace", lambda source, target: Path(target).name == name):
        command("finetune", *arguments)
    assert not (runs / "new" / "results.json").exists()
    command("finetune", *arguments)
    made = {path for path in contents(runs / "new") if "checkpoint" not in path}
    assert {"results.json", "README.md", "report/report.html", "predictions/test.parquet"} <= made
    assert not [path for path in made if path.endswith("partial")]


@pytest.mark.nightly
def test_a_process_that_dies_within_a_write_is_finished_by_the_same_command(runs):
    code = (
        "import os, sys; from pathlib import Path; import hf_mmtab.files as files; replace = os.replace\n"
        "def die(a, b):\n"
        "    if Path(b).name == 'results.json': os._exit(9)\n"
        "    replace(a, b)\n"
        "files.os.replace = die\n"
        "from hf_mmtab.commands.finetune import main; main(sys.argv[1:])"
    )
    arguments = ["pictures.yaml", *SHORT, "--output_dir", "new"]
    assert subprocess.run([sys.executable, "-c", code, *arguments], cwd=runs).returncode == 9
    command("finetune", *arguments)
    assert not list((runs / "new").rglob("*partial")) and (runs / "new" / "results.json").exists()


@pytest.mark.parametrize("absent", ["report/report.html", "README.md", "report"])
def test_a_report_or_card_that_is_gone_is_written_again(runs, absent):
    command("finetune", "mmbt/recipe.yaml")
    before = (runs / "mmbt" / "README.md").read_text()
    path = runs / "mmbt" / absent
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    weights = (runs / "mmbt" / "model.safetensors").stat().st_mtime_ns
    command("finetune", "mmbt/recipe.yaml")
    assert path.exists()
    if absent != "README.md":  # a card of an earlier version is worded otherwise
        assert (runs / "mmbt" / "README.md").read_text() == before
    assert (runs / "mmbt" / "model.safetensors").stat().st_mtime_ns == weights


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("results.json", "", r"results.json damaged \(an empty file\)\. Delete it: the run's own command"),
        ("results.json", '{"architecture": "mm', "results.json damaged"),
        ("results.json", "[1, 2]", r"results.json damaged \(JSON of something else, without architecture\)"),
        ("recipe.yaml", "task: [image", r"recipe.yaml damaged .*Write it again"),
        ("predictions/test.parquet", None, "found no .*test.parquet"),
        ("config.json", None, "found no .*config.json"),
    ],
)
def test_a_damaged_file_of_a_run_is_named_with_its_remedy(runs, file, content, message):
    path = runs / "mmbt" / file
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises((ValueError, OSError), match=message):
        command("finetune", "pictures.yaml")


def test_a_second_start_in_the_same_folder_is_refused_while_the_first_runs(runs):
    (runs / "new").mkdir()
    with (
        FileLock(runs / "new" / ".hf_mmtab.lock"),
        pytest.raises(BlockingIOError, match="Wait for it, or choose another output_dir"),
    ):
        command("finetune", "pictures.yaml", "--output_dir", "new")
    command("finetune", "pictures.yaml", "--output_dir", "new", *SHORT)
    assert RunResults.read(runs / "new") is not None


LONGER = ("pictures.yaml", "--ablation", "false", "--bootstrap", "0", "--reasons", "false", "--output_dir")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, fixtures) -> Path:
    """A run that ended, `whole`, and `new`, which was killed after its second checkpoint."""
    folder = tmp_path_factory.mktemp("killed") / "runs"
    shutil.copytree(fixtures / "runs_0_1", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        command("finetune", *LONGER, "whole")
        with killed_at_step(4):
            command("finetune", *LONGER, "new")
    return folder


@pytest.mark.parametrize("damage", ["cut", "gone", "changed"])
def test_a_run_goes_on_from_the_last_whole_checkpoint(stopped, tmp_path, caplog, monkeypatch, damage):
    runs = shutil.copytree(stopped, tmp_path / "runs")
    monkeypatch.chdir(runs)
    last = runs / "new" / "checkpoint-4"
    if damage == "gone":
        (last / "optimizer.pt").unlink()
    else:
        file = last / "model.safetensors"
        content = file.read_bytes()
        file.write_bytes(content[:-100] if damage == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    command("finetune", *LONGER, "new")
    assert "checkpoint-4 is passed over: it is damaged" in caplog.text
    assert "Resuming from new/checkpoint-2" in caplog.text.replace(os.sep, "/")
    ours, whole = (json.loads((runs / name / "results.json").read_text()) for name in ("new", "whole"))
    assert ours["metrics"] == whole["metrics"]


def test_a_run_that_was_moved_goes_on_where_it_is(stopped, tmp_path, caplog, monkeypatch):
    runs = shutil.copytree(stopped, tmp_path / "runs")
    monkeypatch.chdir(runs)
    state = runs / "new" / "checkpoint-4" / "trainer_state.json"
    best = Path(json.loads(state.read_text())["best_model_checkpoint"]).name
    assert best in ("checkpoint-2", "checkpoint-4")
    for name in ("new", "whole"):
        (runs / name).rename(runs / f"moved_{name}")
    kept, found = MovedBest.on_train_begin, []

    def look(callback, args, state, control, **kwargs):
        kept(callback, args, state, control, **kwargs)
        found.append(state.best_model_checkpoint)

    monkeypatch.setattr(MovedBest, "on_train_begin", look)
    command("finetune", *LONGER, "moved_new")
    assert found == [f"moved_new/{best}"]
    assert "The run in moved_new was moved there from new" in caplog.text
    assert "Loading the best model from moved_new" in caplog.text
    command("finetune", *LONGER, "moved_whole")
    assert "moved_whole holds this run already" in caplog.text
    ours, whole = (json.loads((runs / name / "results.json").read_text()) for name in ("moved_new", "moved_whole"))
    assert ours["metrics"] == whole["metrics"]
    assert yaml.safe_load((runs / "moved_new" / "recipe.yaml").read_text())["output_dir"] == "moved_new"
    with pytest.raises(ValueError, match="found seed different"):
        command("finetune", *LONGER, "moved_new", "--seed", "9")

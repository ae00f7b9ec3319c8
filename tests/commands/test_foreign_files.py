"""Files that a command did not make stay, whatever their names and wherever they lie."""

import json
import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from filelock import FileLock
from running import command

from hf_mmtab.commands.outputs import check_output_file
from hf_mmtab.commands.runs.own_files import remove_folder, remove_run
from hf_mmtab.data.simulated_cards import main as make_card_table
from hf_mmtab.locking import LOCK_FILE, lock_folder
from hf_mmtab.training.checkpoints import last_complete_checkpoint, write_manifest

FOREIGN = (
    "cards.csv", "_table/labels.csv", "_table/rows/notes.txt", "_feature_cache/mine/data-0.bin", "report/figures/a.png",
    "predictions/mine.parquet", "checkpoint-2/notes.md", "checkpoint-best/model.safetensors", ".draft.txt.partial",
    "my-seed1/notes.txt", "model.safetensors.bak",
)  # fmt: skip


def write_foreign(run: Path) -> None:
    for name in FOREIGN:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("mine")


@pytest.mark.parametrize("run", ["lstm", "mmbt", "lstm-interrupted", "tabbert"])
def test_files_of_other_names_stay_where_a_run_is_removed(runs, run):
    made = [path for path in (runs / run).rglob("*") if path.is_file()]
    write_foreign(runs / run)
    remove_run(runs / run, {})
    assert {name: (runs / run / name).read_text() for name in FOREIGN} == dict.fromkeys(FOREIGN, "mine")
    assert {path.name for path in made if path.exists()} <= {"recipe.yaml", "column_plan.yaml"}


@pytest.mark.parametrize("name", ["_table", "_feature_cache"])
def test_a_folder_is_emptied_of_what_runs_wrote(runs, name):
    write_foreign(runs / "lstm")
    remove_folder(runs / "lstm", name)
    assert all((runs / "lstm" / foreign).exists() for foreign in FOREIGN)
    assert not (runs / "lstm" / name / "processor").exists()
    shutil.rmtree(runs / "lstm" / name)
    (runs / "elsewhere").mkdir()
    (runs / "elsewhere" / "cards.csv").write_text("mine")
    (runs / "lstm" / name).symlink_to(runs / "elsewhere")
    remove_folder(runs / "lstm", name)
    assert (runs / "elsewhere" / "cards.csv").read_text() == "mine"


def test_a_link_to_another_folder_in_a_run_is_refused(runs):
    (runs / "elsewhere").mkdir()
    (runs / "mmbt" / "checkpoint-2").symlink_to(runs / "elsewhere")
    with pytest.raises(ValueError, match=r"checkpoint-2' is a link to another folder"):
        command("finetune", "pictures.yaml", "--overwrite", "true")
    assert (runs / "mmbt" / "results.json").exists()


def test_a_project_with_a_recipe_and_a_readme_is_no_run(runs):
    project = runs / "project"
    project.mkdir()
    values = yaml.safe_load((runs / "pictures.yaml").read_text()) | {"output_dir": str(project)}
    (project / "recipe.yaml").write_text(yaml.safe_dump(values))
    (project / "README.md").write_text("My project")
    values["output_dir"] = "."
    (project / "recipe.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match="to be empty or to hold a run of this recipe, found other files"):
        command("finetune", "project/recipe.yaml", "--output_dir", "project")
    assert (project / "README.md").read_text() == "My project"


def test_a_recipe_file_alone_in_the_output_folder_is_not_replaced(runs):
    alone = runs / "alone"
    alone.mkdir()
    text = (runs / "pictures.yaml").read_text() + "# my remark\n"
    (alone / "recipe.yaml").write_text(text)
    with pytest.raises(ValueError, match="found output_dir, seed different"):
        command("finetune", "alone/recipe.yaml", "--output_dir", "alone", "--seed", "77")
    assert (alone / "recipe.yaml").read_text() == text


@pytest.mark.parametrize("name", ["comparison.md", "_feature_cache", "_table"])
def test_several_runs_are_refused_beside_files_that_they_would_replace(runs, name):
    (runs / "root").mkdir()
    (runs / "root" / name).write_text("mine")
    with pytest.raises(ValueError, match=rf"to hold runs or nothing that they write, found {name} of something"):
        command("finetune", "pictures.yaml", "--seeds", "1", "2", "--output_dir", "root")
    assert (runs / "root" / name).read_text() == "mine"


def test_several_runs_are_not_removed_while_another_process_works_on_them(runs):
    shutil.copytree(runs / "mmbt", runs / "root" / "mmbt-seed1")
    with FileLock(runs / "root" / ".hf_mmtab.lock"), pytest.raises(BlockingIOError, match="is running there"):
        command("finetune", "pictures.yaml", "--seeds", "1", "2", "--output_dir", "root", "--overwrite", "true")
    assert (runs / "root" / "mmbt-seed1" / "results.json").exists()


@pytest.mark.parametrize(
    ("name", "content", "is_ours"),
    [
        ("p.csv", "id,prediction,probability_a,probability_b\n", True),
        ("p.csv", "entity,time,row,predicted_a,predicted_b\n", True),
        ("p.jsonl", '{"id": 1, "prediction": "a", "probability_a": 0.5, "probability_b": 0.5}\n', True),
        ("p.csv", "", True),
        ("p.csv", "id,prediction\n1,mine by hand\n", False),
        ("p.csv", "id,prediction,probability_of_rain\n1,wet,0.5\n", False),
        ("p.csv", "who,row,predicted_group\n1,2,3\n", False),
        ("p.csv", "id,predicted_a,predicted_b\n1,2,3\n", False),
        ("p.csv", "who,when,row,statistic: amount\n", False),
        ("p.csv", "id,price\n1,2\n", False),
        ("p.jsonl", '{"id": 1}\n', False),
        ("p.jsonl", "[1, 2]\n", False),
        ("p.parquet", "no parquet", False),
        ("p.csv", "\x00\x01", False),
    ],
)
def test_only_a_file_of_this_models_predictions_is_replaced_by_predictions(tmp_path, name, content, is_ours):
    (tmp_path / name).write_text(content)
    if is_ours:
        check_output_file(tmp_path / name, [], ["a", "b"])
    else:
        with pytest.raises(ValueError, match=r"found another file at .*Choose another output"):
            check_output_file(tmp_path / name, [], ["a", "b"])
    assert (tmp_path / name).read_text() == content


@pytest.mark.parametrize(
    ("columns", "is_ours"),
    [
        ({"row": [1], "embedding": [[0.5, 1.0]]}, True),
        ({"row": [1], "statistic: amount": [0.5]}, True),
        ({"row": [1], "embedding": ["mine"]}, False),
        ({"embedding": [[0.5, 1.0]]}, False),
    ],
)
def test_only_a_file_of_embeddings_is_replaced_by_embeddings(tmp_path, columns, is_ours):
    pq.write_table(pa.table(columns), tmp_path / "e.parquet")
    if is_ours:
        check_output_file(tmp_path / "e.parquet", [])
    else:
        with pytest.raises(ValueError, match="Expected a new output or embeddings of an earlier call"):
            check_output_file(tmp_path / "e.parquet", [])


def test_a_pipe_is_not_replaced_by_an_output(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to("pipe.csv")
    for name in ("pipe.csv", "link.csv"):
        with pytest.raises(ValueError, match=r"found a pipe or device at .*\.csv'\. Name another"):
            check_output_file(tmp_path / name, [], ["a", "b"])
    assert (tmp_path / "pipe.csv").is_fifo()


def test_only_a_table_of_cards_is_replaced_by_cards(tmp_path, capsys):
    out = tmp_path / "cards.csv"
    few = ["--users", "2", "--rows", "20", "--out", str(out)]
    make_card_table(few)
    made = out.read_bytes()
    make_card_table(few)
    assert out.read_bytes() == made
    out.write_text("my,table\n")
    with pytest.raises(SystemExit):
        make_card_table(few)
    assert out.read_text() == "my,table\n" and "found another file at" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["model.safetensors", "optimizer.pt", "rng_state.pth", "gone"])
def test_a_checkpoint_of_an_earlier_version_that_is_cut_is_passed_over(runs, caplog, damage):
    folder = runs / "mmbt-interrupted"
    assert last_complete_checkpoint(folder) == str(folder / "checkpoint-2")
    if damage == "gone":
        (folder / "checkpoint-2" / "optimizer.pt").unlink()
    else:
        file = folder / "checkpoint-2" / damage
        os.truncate(file, file.stat().st_size * 2 // 3)
    assert last_complete_checkpoint(folder) is None
    assert f"checkpoint-2 is passed over: it is damaged ({'no optimizer.pt' if damage == 'gone' else damage}" in (
        caplog.text
    )


def test_a_checkpoint_whose_best_model_is_damaged_is_passed_over(runs, caplog):
    folder = runs / "mmbt-interrupted"
    for step in (4, 6):
        later = folder / f"checkpoint-{step}"
        shutil.copytree(folder / "checkpoint-2", later)
        state = json.loads((later / "trainer_state.json").read_text())
        state |= {"global_step": step, "best_model_checkpoint": str(Path("moved") / "checkpoint-4")}
        (later / "trainer_state.json").write_text(json.dumps(state))
        write_manifest(later)
    assert last_complete_checkpoint(folder) == str(folder / "checkpoint-6")
    os.truncate(folder / "checkpoint-4" / "model.safetensors", 1000)
    assert last_complete_checkpoint(folder) == str(folder / "checkpoint-2")
    assert "model.safetensors in place of" in caplog.text and "in checkpoint-4, its best model" in caplog.text


@pytest.mark.parametrize("name", ["trainer_state.json", "freeze_schedule.json"])
@pytest.mark.parametrize("content", ["", '{"log_hist', "[1]"])
def test_a_damaged_file_is_named_where_the_report_is_written(runs, name, content, caplog):
    (runs / "mmbt" / name).write_text(content)
    command("finetune", "mmbt/recipe.yaml")
    assert f"Expected a JSON mapping in 'mmbt/{name}'" in caplog.text and "Delete that file" in caplog.text


@pytest.mark.parametrize("name", [".lock", ".lock.owner"])
def test_somebody_elses_lock_stays(runs, name):
    (runs / "new").mkdir()
    (runs / "new" / name).write_text("mine")
    with pytest.raises(ValueError, match="found other files"):
        command("finetune", "pictures.yaml", "--output_dir", "new")
    with lock_folder(runs / "new", True):
        pass
    assert (runs / "new" / name).read_text() == "mine"


@pytest.mark.parametrize("name", [".hf_mmtab.lock", ".hf_mmtab.lock.owner", "..hf_mmtab.lock.owner.hf_mmtab-partial"])
def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path, name):
    (tmp_path / "theirs.txt").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "theirs.txt")
    refused = pytest.raises(ValueError, match="Expected an empty file or none")
    with refused if name == LOCK_FILE else nullcontext(), lock_folder(tmp_path / "run", True):
        pass
    if name == LOCK_FILE:
        (tmp_path / "run" / name).unlink()
        (tmp_path / "run" / name).hardlink_to(tmp_path / "theirs.txt")
        with refused, lock_folder(tmp_path / "run", True):
            pass
    assert (tmp_path / "theirs.txt").read_text() == "mine"

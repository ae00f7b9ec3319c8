"""No file is a run's by its name alone: what a run did not write, or somebody changed since, is never replaced."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from running import SHORT, command, contents, killed_at_call

import hf_mmtab
from hf_mmtab.commands.damaged_files import damaged_file
from hf_mmtab.commands.push_to_hub import files_to_push
from hf_mmtab.commands.runs import walk
from hf_mmtab.commands.runs.inventory import foreign_names, own_names, read_inventory
from hf_mmtab.commands.runs.own_files import is_run, refuse_foreign, remove_run
from hf_mmtab.commands.runs.own_names import CHOSEN
from hf_mmtab.model_card.usage_code import usage_code
from hf_mmtab.publishing import make_standalone
from hf_mmtab.publishing.public_files import _rename_model
from hf_mmtab.training import MMTabTrainer


@pytest.fixture(scope="module")
def made(tmp_path_factory, fixtures) -> Path:
    """A folder with a finished run of this version, `new`, beside older ones."""
    folder = tmp_path_factory.mktemp("made") / "runs"
    shutil.copytree(fixtures / "runs_0_1", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        command("finetune", "pictures.yaml", "--output_dir", "new", *SHORT)
    return folder


@pytest.fixture
def runs(made, tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "runs"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    return folder


def test_a_run_lists_what_it_wrote_and_a_copy_of_it_is_told_by_the_hashes(runs):
    listed = read_inventory(runs / "new")
    assert listed is not None and {"model.safetensors", "README.md", "report/report.html"} <= set(listed)
    assert any(name.startswith("checkpoint-") for name in listed)
    shutil.copytree(runs / "new", runs / "copy", copy_function=shutil.copyfile)  # with other times
    assert foreign_names(runs / "copy") == []
    remove_run(runs / "copy", {})
    assert set(contents(runs / "copy")) == {"recipe.yaml", ".hf_mmtab.json", ".hf_mmtab.lock"}


FOREIGN = (
    "vocab.json", "merges.txt", "comparison.md", "lstm-seed2/README.md", "lstm-seed2/config.json", "_table/cards.csv",
    "checkpoint-123/config.json", "report/figures/fields.png", "predictions/test_hard.parquet",
)  # fmt: skip


@pytest.mark.parametrize("name", [*FOREIGN, "README.md", "model.safetensors"])
def test_a_file_that_is_called_as_a_runs_and_is_none_is_named_and_kept(runs, name):
    file = runs / "new" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes((runs / "mmbt" / name).read_bytes() if name == "model.safetensors" else b"mine")
    before = contents(runs)
    again = ["pictures.yaml", "--output_dir", "new", *SHORT, "--overwrite", "true"]
    with pytest.raises(ValueError, match=f"files of others, or changed since.*: {name}"):
        command("finetune", *again)
    assert contents(runs) == before


def test_a_run_that_goes_on_does_not_replace_a_card_that_somebody_edited(runs):
    (runs / "new" / "README.md").write_text("my own words")
    (runs / "new" / "results.json").unlink()
    with pytest.raises(ValueError, match=r"changed since.*README.md"):
        command("finetune", "pictures.yaml", "--output_dir", "new", *SHORT)
    assert (runs / "new" / "README.md").read_text() == "my own words"


def test_a_report_that_is_written_again_stays_the_runs(runs):
    (runs / "new" / "README.md").unlink()
    command("finetune", "pictures.yaml", "--output_dir", "new", *SHORT)
    refuse_foreign(runs / "new")
    assert "README.md" in own_names(runs / "new")


@pytest.mark.parametrize("overwrite", ["true", "false"])
def test_a_recipe_by_hand_makes_no_run_of_what_lies_beside_it(runs, overwrite):
    mine = runs / "mine"
    values = yaml.safe_load((runs / "pictures.yaml").read_text()) | {"output_dir": "mine"}
    files = {"README.md": "my notes", "report/report.html": "my report", "vocab.txt": "mine", ".README.md.partial": "x"}
    files["recipe.yaml"] = "# precious\n" + yaml.safe_dump(values)
    for name, text in files.items():
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_text(text)
    assert not is_run(mine)
    with pytest.raises(ValueError, match="found other files"):
        command("finetune", "mine/recipe.yaml", *SHORT, "--overwrite", overwrite)
    assert {name: (mine / name).read_text() for name in files} == files


def test_another_recipe_does_not_replace_one_written_by_hand(runs):
    (runs / "mine").mkdir()
    text = "# precious\n" + (runs / "pictures.yaml").read_text()
    (runs / "mine" / "recipe.yaml").write_text(text)
    for overwrite in ("true", "false"):
        with pytest.raises(ValueError, match="hoose another output_dir"):
            command("finetune", "pictures.yaml", "--output_dir", "mine", "--seed", "9", "--overwrite", overwrite)
        assert (runs / "mine" / "recipe.yaml").read_text() == text


def test_a_recipe_by_hand_alone_in_its_folder_is_followed_and_kept(runs):
    (runs / "mine").mkdir()
    values = yaml.safe_load((runs / "pictures.yaml").read_text()) | {"output_dir": "mine"}
    values |= {"num_train_epochs": 1, "ablation": False, "bootstrap": 0}
    text = "# precious\n" + yaml.safe_dump(values)
    (runs / "mine" / "recipe.yaml").write_text(text)
    command("finetune", "mine/recipe.yaml", "--overwrite", "true")
    assert (runs / "mine" / "recipe.yaml").read_text() == text and is_run(runs / "mine")


def link_in_data(runs: Path) -> list[str]:
    shutil.copytree(runs / "pictures", runs / "data")
    rows = [json.loads(line) for line in (runs / "data" / "train.jsonl").read_text().splitlines()]
    (runs / "new" / "predictions" / "train.parquet").unlink(missing_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), runs / "new" / "predictions" / "train.parquet")
    (runs / "data" / "train.jsonl").unlink()
    (runs / "data" / "train.parquet").symlink_to(runs / "new" / "predictions" / "train.parquet")
    return ["--data", "data"]


def picture_of_data(runs: Path) -> list[str]:
    shutil.copytree(runs / "pictures", runs / "data")
    lines = (runs / "data" / "train.jsonl").read_text().splitlines()
    picture = next((runs / "new" / "report" / "figures").glob("*.png"))
    key = "img" if "img" in json.loads(lines[0]) else "image"
    lines[0] = json.dumps(json.loads(lines[0]) | {key: "../new/report/figures/" + picture.name})
    (runs / "data" / "train.jsonl").write_text("\n".join(lines) + "\n")
    return ["--data", "data"]


def linked_model(runs: Path) -> list[str]:
    (runs / "start").mkdir()
    for file in (runs / "new").iterdir():
        if file.is_file():
            (runs / "start" / file.name).symlink_to(file)
    return ["--pretrained", "start", "--text_model", "null", "--image_model", "null"]


@pytest.mark.parametrize("reads", [link_in_data, picture_of_data, linked_model])
def test_overwrite_refuses_what_is_read_through_links_or_named_in_the_data(runs, reads):
    more = reads(runs)
    before = contents(runs)
    with pytest.raises(ValueError, match="holds what this run reads"):
        command("finetune", "pictures.yaml", "--output_dir", "new", *SHORT, *more, "--overwrite", "true")
    assert contents(runs) == before


@pytest.mark.parametrize(
    "name", ["vocab.json", "comparison.md", "lstm-seed2/README.md", "_table/cards.csv", "checkpoint-123/config.json"]
)
def test_in_a_run_of_an_earlier_version_too_a_name_alone_does_not_count(runs, name):
    (runs / "lstm" / name).parent.mkdir(exist_ok=True)
    (runs / "lstm" / name).write_text("mine")
    assert damaged_file(runs / "lstm") is None
    with pytest.raises(ValueError, match=f"files of others, or changed since.*: {name}"):
        remove_run(runs / "lstm", {})
    assert (runs / "lstm" / name).read_text() == "mine"


def test_what_validation_chose_before_goes_with_the_run(runs):
    for key in CHOSEN:
        (runs / "lstm" / "_table" / f"{key}.json").write_text("{}")
    remove_run(runs / "lstm", {})
    assert not (runs / "lstm" / "_table").exists()


@pytest.mark.parametrize("run", ["new", "mmbt"])
@pytest.mark.parametrize("name", ["brokenconfig.json", "lstm-seed2/config.json", "notes/data.json"])
def test_a_damaged_file_of_somebody_else_is_not_a_runs(runs, run, name):
    (runs / run / name).parent.mkdir(exist_ok=True)
    (runs / run / name).write_text("{")
    assert damaged_file(runs / run) is None


@pytest.mark.parametrize(
    ("state", "out", "message"),
    [
        ("link", "o.csv", "outside of saved models and runs"),
        ("payments.csv", "o.csv", "Expected a folder as --state, found a file"),
        ("tables", "o.csv", "other than the input"),
        ("st", "st/history.parquet", "Expected an output outside of --state"),
        ("held", "o.csv", "does not hold the input"),
        ("st", "linked.csv", "where a link in there leads to"),
    ],
)
def test_a_state_is_refused_before_any_work_where_it_would_spoil_something(runs, state, out, message):
    (runs / "link").symlink_to(runs / "mmbt")
    for folder in ("tables", "held/tables"):
        (runs / folder).mkdir(parents=True)
        shutil.copy(runs / "payments.csv", runs / folder / "payments.csv")
    (runs / "linked.csv").write_text("")
    (runs / "tables" / "more.csv").symlink_to(runs / "linked.csv")
    before = contents(runs)
    given = "held/tables" if state == "held" else "tables"
    with pytest.raises(ValueError, match=message):
        command("predict", "lstm", given, out, "--state", state)
    assert contents(runs) == before


def test_predictions_are_written_through_a_link(runs):
    (runs / "out.csv").symlink_to(runs / "real.csv")
    for _ in range(2):
        command("predict", "lstm", "payments.csv", "out.csv")
        assert (runs / "out.csv").is_symlink() and (runs / "real.csv").stat().st_size > 100
    draft = runs / ".other.csv.hf_mmtab-draft" / "work"
    draft.mkdir(parents=True)
    (draft / "other.csv").write_text("mine")
    with pytest.raises(ValueError, match="what this command wrote there, found a link or files of something else"):
        command("predict", "lstm", "payments.csv", "other.csv")
    assert (draft / "other.csv").read_text() == "mine"


def test_a_dry_run_changes_nothing(runs):
    (runs / "new" / "myconfig.json").write_text('{"a": [1,2],   "b": "x"}')
    (runs / "new" / "brokenconfig.json").write_text("{")
    before = contents(runs)
    command("push_to_hub", "new", "me/model", "--standalone", "--dry_run")
    assert contents(runs) == before


def test_code_of_a_model_replaces_no_other_code_and_no_other_configuration(runs):
    texts = {"myconfig.json": '{"a": [1,2],   "b": "x"}', "hf_mmtab_processing_mmbt.py": "# mine"}
    for name, text in texts.items():
        (runs / "new" / name).write_text(text)
    with pytest.raises(ValueError, match=r"Expected no other code .* found hf_mmtab_processing_mmbt\.py"):
        make_standalone("new")
    assert (runs / "new" / "hf_mmtab_classes.py").exists()
    (runs / "new" / "hf_mmtab_processing_mmbt.py").unlink()
    make_standalone("new")
    assert (runs / "new" / "myconfig.json").read_text() == texts["myconfig.json"]


def test_a_card_names_the_model_of_the_hub_whatever_its_folder_is_called_today(runs):
    (runs / "new").rename(runs / "renamed")
    [card] = [one.source.decode() for one in files_to_push(runs / "renamed", "me/model") if one.name == "README.md"]
    assert card.count('from_pretrained("me/model")') == 2 and "hf_mmtab predict me/model " in card
    assert '"new"' not in card and "predict new" not in card


def test_a_card_of_a_pipeline_names_the_model_of_the_hub():
    card = _rename_model(usage_code({"model_type": "tabbert", "statistics": ["values"]}, "kunde-meier"), "me/fraud")
    assert 'pipeline("tabular-sequence-classification", model="me/fraud")' in card and "meier" not in card


@pytest.mark.slow
def test_several_runs_keep_lists_of_their_own_and_replace_no_file_of_others(runs):
    (runs / "several").mkdir()
    text = "# precious\n" + (runs / "pictures.yaml").read_text()
    (runs / "several" / "recipe.yaml").write_text(text)
    again = ["several/recipe.yaml", "--seeds", "1", "2", "--output_dir", "several", *SHORT]
    command("finetune", *again, "--overwrite", "true")
    assert (runs / "several" / "recipe.yaml").read_text() == text
    assert foreign_names(runs / "several") == [] and {"comparison.md"} <= set(read_inventory(runs / "several") or ())
    (runs / "several" / "mmbt-seed2" / "README.md").write_text("my own words")
    command("finetune", *again)  # reads the second run alone
    for name in ("mmbt-seed1/README.md", "comparison.md"):
        before = (runs / "several" / name).read_text()
        (runs / "several" / name).write_text("my own words")
        with pytest.raises(ValueError, match="changed since"):
            command("finetune", *again)
        assert (runs / "several" / name).read_text() == "my own words"
        (runs / "several" / name).write_text(before)
    with pytest.raises(ValueError, match=r"changed since.*mmbt-seed2/README\.md"):
        command("finetune", *again, "--overwrite", "true")
    (runs / "several" / "mmbt-seed2" / "README.md").unlink()
    command("finetune", *again, "--overwrite", "true")


def test_of_report_and_card_only_the_absent_one_is_written_again(runs):
    again = ["pictures.yaml", "--output_dir", "new", *SHORT]
    (runs / "new" / "README.md").write_text("my own words")
    shutil.rmtree(runs / "new" / "report")
    command("finetune", *again)
    assert (runs / "new" / "README.md").read_text() == "my own words"
    page = runs / "new" / "report" / "report.html"
    assert page.read_text().rstrip().endswith("</html>")
    page.write_text("my page</html>")
    (runs / "new" / "README.md").unlink()
    command("finetune", *again)
    assert page.read_text() == "my page</html>"
    assert (runs / "new" / "README.md").read_text().startswith("---\n")


@pytest.mark.parametrize("name", ["_table/cards.csv", "_table/rows/field0.bin", "_table/row_inputs.json"])
def test_a_folder_that_only_looks_like_a_run_is_refused(runs, name):
    file = runs / "mine" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    for more in ([], ["--overwrite", "true"]):
        with pytest.raises(ValueError, match="Expected output_dir"):
            command("finetune", "pictures.yaml", "--output_dir", "mine", *SHORT, *more)
    assert contents(runs / "mine") == {name: b"mine"}


def test_predictions_of_others_where_a_baseline_would_write_are_kept(runs):
    file = runs / "mine" / "majority-seed1" / "predictions" / "test.parquet"
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(ValueError, match="found majority-seed1 of something else"):
        command("finetune", "pictures.yaml", "--output_dir", "mine", *SHORT, "--seeds", "1", "2")
    assert file.read_text() == "mine"


def test_a_text_in_the_recipe_that_is_called_like_the_output_folder_is_nothing_that_the_run_reads(runs):
    again = ["pictures.yaml", "--output_dir", "mmbt", "--architecture", "mmbt", "--run_name", "mmbt", *SHORT]
    shutil.rmtree(runs / "mmbt")
    command("finetune", *again)
    command("finetune", *again, "--overwrite", "true")
    assert (runs / "mmbt" / "results.json").is_file()


def test_a_removal_that_was_killed_keeps_what_comes_then_and_is_finished_by_the_same_command_without_overwrite(runs):
    again = ["pictures.yaml", "--output_dir", "new", *SHORT]
    with killed_at_call(Path, "unlink", 12):
        command("finetune", *again, "--overwrite", "true")
    mine = runs / "new" / "vocab.json"
    mine.write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"files of others.*: vocab\.json"):
        command("finetune", *again, "--overwrite", "true")
    assert mine.read_bytes() == b"mine"
    mine.unlink()
    command("finetune", *again)
    for name in ("update_audit.jsonl", "update_audit.png", "report/report.html", "results.json"):
        assert (runs / "new" / name).is_file(), name
    assert foreign_names(runs / "new") == []


def test_a_report_of_several_runs_replaces_no_page_of_others(runs):
    (runs / "page").mkdir()
    (runs / "page" / "report.html").write_text("mine")
    with pytest.raises(ValueError, match=r"found report\.html"):
        command("report", runs / "new", "--out", runs / "page")
    assert (runs / "page" / "report.html").read_text() == "mine"


def test_a_run_with_its_code_beside_it_is_still_the_runs(runs):
    assert hf_mmtab.make_standalone("new")
    assert foreign_names(runs / "new") == []


@pytest.fixture(scope="module")
def killed(made) -> Path:
    """A run of this version, beside those of `made`, that was killed after its first checkpoint, before the second."""
    with pytest.MonkeyPatch.context() as patch, killed_at_call(walk, "announce", 2):
        patch.chdir(made)
        command("finetune", "pictures.yaml", "--output_dir", "half", *SHORT, "--save_steps", "1", *EVERY_STEP)
    half = (made / "half").rename(made.parent / "half")
    assert (half / "checkpoint-1" / "model.safetensors").exists()
    return half


@pytest.fixture
def interrupted(killed, runs) -> Path:
    return shutil.copytree(killed, runs / "half")


EVERY_STEP = ("--save_strategy", "steps", "--eval_strategy", "steps", "--eval_steps", "1", "--save_total_limit", "2")
OWN = (
    "config.json",
    "tokenizer_config.json",
    "report/report.html",
    "predictions/test.parquet",
    "checkpoint-1/merges.txt",
)


@pytest.mark.parametrize("name", [*FOREIGN, *OWN, "README.md", "model.safetensors"])
def test_an_interrupted_run_neither_removes_nor_replaces_what_somebody_put_there(interrupted, name):
    own = set(own_names(interrupted))
    (interrupted / name).parent.mkdir(parents=True, exist_ok=True)
    (interrupted / name).write_bytes(b"mine")
    assert foreign_names(interrupted) == [name] and set(own_names(interrupted)) == own
    before = contents(interrupted)
    for more in ("--overwrite", "true"), ():
        given = ("pictures.yaml", "--output_dir", "half", *SHORT, "--save_steps", "1", *EVERY_STEP, *more)
        with pytest.raises(ValueError, match=f"files of others, or changed since.*: {name}"):
            command("finetune", *given)
        assert contents(interrupted) == before


def test_an_interrupted_run_goes_on_and_lists_all_that_it_wrote(interrupted):
    command("finetune", "pictures.yaml", "--output_dir", "half", *SHORT, "--save_steps", "1", *EVERY_STEP)
    listed = read_inventory(interrupted)
    assert listed is not None and {"README.md", "checkpoint-2/files.json", "model.safetensors"} <= set(listed)
    assert foreign_names(interrupted) == []


def test_what_somebody_puts_beside_a_run_that_goes_on_is_not_replaced_at_its_end(runs, monkeypatch):
    trained = MMTabTrainer.train

    def train(self, *arguments, **options):
        result = trained(self, *arguments, **options)
        (runs / "other" / "README.md").write_text("mine")
        return result

    monkeypatch.setattr(MMTabTrainer, "train", train)
    with pytest.raises(ValueError, match=r"files of others.*: README.md"):
        command("finetune", "pictures.yaml", "--output_dir", "other", *SHORT)
    assert (runs / "other" / "README.md").read_text() == "mine"
    monkeypatch.undo()
    monkeypatch.chdir(runs)
    (runs / "other" / "README.md").unlink()
    command("finetune", "pictures.yaml", "--output_dir", "other", *SHORT)
    assert foreign_names(runs / "other") == []


JUDGE = ("eval_checkpoint", "new", "pictures", "--no_ablation", "--bootstrap", "0", "--out", "judged")


@pytest.mark.parametrize("name", ["report/report.html", "report/figures/fields.png", "predictions/train.parquet"])
def test_an_evaluation_replaces_no_file_of_others(runs, name):
    command(*JUDGE)
    command(*JUDGE, "--split", "validation")  # its own are replaced
    assert (runs / "judged" / "predictions" / "test.parquet").exists() and not is_run(runs / "judged")
    (runs / "judged" / name).write_bytes(b"mine")
    (runs / "judged" / "notes.txt").write_bytes(b"mine too")
    before = contents(runs / "judged")
    with pytest.raises(ValueError, match=f"Expected --out 'judged' to hold what a run wrote there, .*: {name}"):
        command(*JUDGE)
    assert contents(runs / "judged") == before

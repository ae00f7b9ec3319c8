"""A damaged file of a run or a saved model is named with its folder and a remedy, whichever command meets it."""

import json
import os
import re
from pathlib import Path

import pytest
import yaml
from running import Killed, command

from hf_mmtab.commands import console, finetune, predict
from hf_mmtab.commands import damaged_files as damaged_files_of_runs
from hf_mmtab.commands.damaged_files import damage_named, damaged_file
from hf_mmtab.commands.outputs import check_output_folder, draft_of
from hf_mmtab.commands.runs.inventory import begin_inventory, write_inventory
from hf_mmtab.data.windows.encoded_rows import EncodedRows
from hf_mmtab.locking import lock_folder
from hf_mmtab.models.tabbert import TabBertProcessor
from hf_mmtab.training.checkpoints import MANIFEST_NAME, damaged_files, last_complete_checkpoint

DATA = {"mmbt": ("pictures/test.jsonl", "pictures"), "lstm": ("payments.csv", "payments.csv")}
RECIPES = {"mmbt": "pictures.yaml", "lstm": "lstm.yaml", "tabbert": "pretrain.yaml"}
READABLE = (".json", ".jsonl", ".yaml", ".safetensors", ".parquet", ".arrow")


def readers(run: str):
    """The commands that read a run: its own, and those for a saved model."""
    yield ("pretrain" if run == "tabbert" else "finetune"), RECIPES[run]
    yield "push_to_hub", run, "a/b", "--dry_run"
    if run == "tabbert":
        yield "embed", run, "payments.csv", "out.parquet"
    else:
        new, split = DATA[run]
        yield "predict", run, new, "out.csv"
        yield "eval_checkpoint", run, split, "--out", "judged", "--no_ablation", "--bootstrap", "0"


@pytest.mark.parametrize("run", RECIPES)
def test_every_file_of_a_run_that_is_cut_or_empty_is_found(runs, run):
    files = [path for path in sorted((runs / run).rglob("*")) if path.suffix in READABLE]
    assert len(files) > 8 and damaged_file(runs / run) is None
    for path in files:
        content, name = path.read_bytes(), path.relative_to(runs / run).as_posix()
        for size in (0, len(content) // 2):
            path.write_bytes(content[:size])
            if size and path.suffix in (".yaml", ".jsonl"):
                continue  # half of the lines may be whole lines
            sentence = damaged_file(runs / run)
            assert sentence is not None and f"found {name} damaged" in sentence and run in sentence
            assert "Delete" in sentence or "Write it again" in sentence or "Correct" in sentence
        path.write_bytes(content)


@pytest.mark.parametrize("run", RECIPES)
@pytest.mark.parametrize("name", ["config.json", "processor", "model.safetensors", "recipe.yaml"])
def test_every_command_names_the_damaged_file_that_it_meets(runs, run, name):
    found = {"processor": "processor_config.json" if run == "mmbt" else "tabbert_values.json"}.get(name, name)
    path = runs / run / found
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for arguments in readers(run):
        with pytest.raises(ValueError, match=r"Expected .*") as raised:
            command(*arguments)
        assert found in str(raised.value) and run in str(raised.value), arguments


FOREIGN = {
    "lstm/tabbert_values.json": ("[1]", "Expected a mapping with fields in '.*tabbert_values.json', found a list"),
    "lstm/tabbert_statistics.json": ('{"hello": 1}', r"_statistics.json damaged .JSON .*, without counts.*Delete"),
    "lstm/preprocessor_config.json": ('{"hello": 1}', r"sor_config.json damaged .JSON .* without feat.*Delete"),
    "payments.csv": (Path("payments.csv"), "file or folder at 'payments.csv', found that it cannot be followed"),
    "out.csv": (Path("out.csv"), "file or folder at 'out.csv', found that it cannot be followed"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_wrong_in_a_file_ends_in_a_sentence_and_in_no_traceback(runs, capsys, name):
    content, message = FOREIGN[name]
    (runs / name).unlink(missing_ok=True)
    if isinstance(content, Path):
        (runs / name).symlink_to(content)
    else:
        (runs / name).write_text(content)
    with pytest.raises(SystemExit):
        console.run(predict.main, ["lstm", "payments.csv", "out.csv"])
    assert re.search(rf"ValueError: .*{message}", capsys.readouterr().err)


OF_MODEL = {
    "lstm": ("config.json", "model.safetensors", "preprocessor_config.json", "tabbert_values.json"),
    "mmbt": ("config.json", "model.safetensors", "processor_config.json", "tokenizer_config.json"),
}


@pytest.mark.parametrize("how", ["gone", "a folder", "of something else"])
@pytest.mark.parametrize("run", OF_MODEL)
def test_a_file_of_a_model_that_is_not_there_or_not_its_own_is_named_with_a_remedy(runs, run, how):
    (runs / run / "checkpoint-2").mkdir()
    (runs / run / "checkpoint-2" / "config.json").write_text("{}\n")
    for name in OF_MODEL[run]:
        path = runs / run / name
        content = path.read_bytes()
        path.unlink()
        if how == "a folder":
            path.mkdir()
        elif how == "of something else":
            path.write_text('{"hello": [1, 2, 3]}\n')
        with pytest.raises((FileNotFoundError, ValueError), match=r"^Expected .*found .*") as raised:
            command("predict", run, DATA[run][0], f"{run}.csv")
        told = str(raised.value)
        assert name in told and re.search(r"Copy|copy|Put it back|Delete|Pass the folder", told)
        assert "checkpoint-2" not in told and "huggingface.co" not in told
        path.rmdir() if how == "a folder" else path.unlink(missing_ok=True)
        path.write_bytes(content)


def test_trees_that_are_not_there_are_named(runs):
    values = json.loads((runs / "lstm" / "config.json").read_text())
    values["architectures"] = ["TabBertBoostedForSequenceClassification"]
    (runs / "lstm" / "config.json").write_text(json.dumps(values))
    with pytest.raises(FileNotFoundError, match=r"found no statistics_trees_0.txt. Put it back"), damage_named("lstm"):
        raise OSError("lstm does not appear to have a file named statistics_trees_0.txt")


def test_results_that_are_a_folder_are_named(runs):
    (runs / "lstm" / "results.json").unlink()
    (runs / "lstm" / "results.json").mkdir()
    message = r"results of a finished run in '.*lstm/results.json', found .* Delete it"
    push = ("push_to_hub", "lstm", "a/b", "--dry_run")
    for reader in (("finetune", "lstm.yaml"), ("report", "lstm", "mmbt", "--out", "page"), push):
        with pytest.raises(ValueError, match=message):
            command(*reader)


@pytest.mark.parametrize("words", ['{"hello": [1]}', '{"shop": [1]}', '{"shop": 1}', "{}"])
def test_values_of_another_processor_are_refused_with_their_file(runs, words):
    (runs / "lstm" / "tabbert_values.json").write_text(words)
    with pytest.raises(ValueError, match=r"Expected the values of processor .* in tabbert_values.json .*: copy all"):
        TabBertProcessor.from_pretrained("lstm")


@pytest.mark.parametrize("run", ["lstm", "mmbt"])
@pytest.mark.parametrize("size", [0, 700])
def test_damaged_predictions_and_results_are_named_by_the_runs_own_command(runs, run, size):
    for name in ("predictions/test.parquet", "results.json"):
        content = (runs / run / name).read_bytes()
        (runs / run / name).write_bytes(content[:size])
        with pytest.raises(ValueError, match=rf"{Path(name).name}.*Delete"):
            command("finetune", RECIPES[run])
        (runs / run / name).write_bytes(content)


@pytest.mark.parametrize("name", ["rows.json", "time.bin", "field1.bin", "entity_starts.bin", "entities.arrow"])
def test_damaged_rows_are_named_with_the_folder_to_delete(runs, name):
    rows = runs / "lstm" / "_table" / "rows"
    for size in (rows.joinpath(name).stat().st_size // 2, 0):
        os.truncate(rows / name, size)
        with pytest.raises(ValueError, match=rf"{name}.*Delete the folder .*rows"):
            EncodedRows(rows)


TOKENIZER = ("added_tokens.json", "special_tokens_map.json", "tokenizer_config.json")


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"x": "\xff"}'], ids=["cut", "a list", "latin-1"])
@pytest.mark.parametrize("place, name", [(one, name) for one in ("mmbt", "tiny-text") for name in TOKENIZER])
def test_a_damaged_file_of_a_tokenizer_is_named_whoever_wrote_it(runs, place, name, content):
    commands = {
        "mmbt": ("predict", "mmbt", "pictures/test.jsonl", "o.csv"),
        "tiny-text": ("finetune", "pictures.yaml", "--output_dir", "other"),
    }
    if place == "mmbt":  # as of this version, with a list of its files
        begin_inventory(runs / place)
        write_inventory(runs / place)
    (runs / place / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"Expected .* in '{place}', found {name} damaged .*(Copy|Delete|move) it"):
        command(*commands[place])


def test_an_error_of_something_else_stays_as_it_is(runs):
    with pytest.raises(KeyError, match="mine"), damage_named(runs / "lstm", None, "user/model"):
        raise KeyError("mine")
    (runs / "lstm" / "trainer_state.json").write_text("")  # without which a run is whole
    with pytest.raises(ValueError, match="Expected rows"), damage_named(runs / "lstm"):
        raise ValueError("Expected rows, found none.")
    (runs / "lstm" / "config.json").write_text("")
    with pytest.raises(ValueError, match=r"config.json damaged"), damage_named(runs / "lstm"):
        raise ValueError("Expected rows, found none.")


@pytest.mark.parametrize("run", RECIPES)
def test_half_a_recipe_that_is_still_a_mapping_is_damaged(runs, run):
    record = runs / run / "recipe.yaml"
    text = record.read_text()
    middle = text.index("\ndata:")
    for content in (text[:middle], text[: middle - 1], ""):
        record.write_text(content)
        assert not content or isinstance(yaml.safe_load(content), dict)
        for arguments in readers(run):
            with pytest.raises(ValueError, match=r"Expected .*") as raised:
                command(*arguments)
            assert "recipe.yaml" in str(raised.value) and "damaged" in str(raised.value), arguments
            assert "Write it again from your own recipe file" in str(raised.value), arguments


@pytest.mark.parametrize("more", [["lstm.yaml"], ["pictures.yaml", "--architecture", "img", "--ablation", "false"]])
def test_a_checkpoint_without_its_processor_is_not_whole(runs, more):
    command("finetune", *more, "--output_dir", "new", "--max_steps", "2", "--bootstrap", "0")
    checkpoint = Path(last_complete_checkpoint("new") or "")
    name = "preprocessor_config.json" if more[0] == "lstm.yaml" else "processor_config.json"
    assert name in json.loads((checkpoint / MANIFEST_NAME).read_text())
    (checkpoint / name).unlink()
    assert damaged_files(checkpoint) == [f"no {name}"]


# ---- Drafts and locks of predict, embed and eval_checkpoint ----


def leave_draft(out: Path) -> Path:
    """What a killed `predict` leaves beside its output, and a file of somebody else among it."""
    draft = out.with_name(f".{out.name}.hf_mmtab-draft")
    (draft / "work" / "_table" / "rows.17.part").mkdir(parents=True)
    (draft / ".hf_mmtab.lock").touch()
    for name in (f"work/{out.name}", "work/_table/rows.17.part/time.bin"):
        (draft / name).write_bytes(b"half")
    return draft


def test_what_a_killed_command_left_beside_its_output_goes_at_the_next_start(runs):
    other = leave_draft(runs / "other.csv")
    mine = leave_draft(runs / "out.csv")
    command("predict", "lstm", "payments.csv", "out.csv")
    assert (runs / "out.csv").stat().st_size > 100 and not mine.exists()
    assert (other / "work" / "_table" / "rows.17.part" / "time.bin").exists()
    (leave_draft(runs / "out.csv") / "thesis.tex").write_text("mine")
    command("predict", "lstm", "payments.csv", "out.csv")
    assert [path.name for path in mine.iterdir()] == ["thesis.tex"]


def test_an_output_is_whole_or_not_there_and_written_by_one_process(tmp_path):
    out = tmp_path / "out.csv"
    with pytest.raises(Killed), draft_of(out) as draft:
        (draft / out.name).write_text("half")
        with pytest.raises(BlockingIOError, match="Wait for it, or choose another output"), draft_of(out):
            pass
        raise Killed
    assert not list(tmp_path.iterdir())


def test_two_evaluations_in_one_folder_and_folders_of_others_are_refused(runs):
    with lock_folder(runs / "judged", True), pytest.raises(BlockingIOError, match="choose another --out"):
        command("eval_checkpoint", "lstm", "payments.csv", "--out", "judged", "--bootstrap", "0")
    check_output_folder("judged", [])
    (runs / "mine" / "predictions").mkdir(parents=True)
    with pytest.raises(ValueError, match="found 'predictions' of something else"):
        check_output_folder("mine", [])
    for place in ("lstm-interrupted", "lstm-interrupted/judged"):
        with pytest.raises(ValueError, match="outside of saved models and runs"):
            check_output_folder(place, [])


@pytest.mark.parametrize(("given", "name"), [([], "several"), (["--hub_model_id", "acme/x"], "acme/x")])
def test_each_of_several_runs_is_sent_to_a_repository_of_its_own(runs, monkeypatch, given, name):
    sent = []
    for step in ("execute", "publish"):
        monkeypatch.setattr(finetune, step, lambda one: sent.append(getattr(one, "recipe", one).training.hub_model_id))
    monkeypatch.setattr(finetune, "compare", lambda *_: "")
    several = ["--seeds", "1", "2", "--compare", "bert", "--push_to_hub", "true", *given]
    command("finetune", "pictures.yaml", "--output_dir", "several", *several)
    ends = ["mmbt-seed1", "mmbt-seed2", "bert-seed1", "bert-seed2", "mmbt-seed1"]  # the first one with the comparison
    assert sent == [f"{name}-{end}" for end in ends]


@pytest.mark.parametrize("error", [MemoryError("out of memory"), PermissionError("not allowed")])
def test_a_file_that_the_machine_cannot_read_is_not_called_damaged(tmp_path, monkeypatch, error):
    (tmp_path / "config.json").write_text("{}")

    def fail(path):
        raise error

    monkeypatch.setitem(damaged_files_of_runs._READERS, ".json", fail)
    assert damaged_file(tmp_path) is None
    with pytest.raises(type(error), match=str(error)), damage_named(tmp_path):
        raise error

"""A file that somebody puts into the folder of a run, at whatever moment, is never taken for the run's."""

from pathlib import Path

import pytest
from running import SHORT, command

from hf_mmtab.commands.runs import walk
from hf_mmtab.commands.runs.image_text import ImageTextRun
from hf_mmtab.commands.runs.inventory import foreign_names, read_inventory
from hf_mmtab.reports import page
from hf_mmtab.training import MMTabTrainer

# Called as what runs write, and not written by this one.
FOREIGN = (
    "vocab.json", "merges.txt", "comparison.md", "lstm-seed2/README.md", "checkpoint-123/config.json",
    "report/figures/fields.png", "predictions/test_hard.parquet", "statistics_trees_0.txt",
    "runs/mine/events.out.tfevents.1.mine",  # nothing is reported to TensorBoard
)  # fmt: skip
OTHERS = ("notes.txt", "report/notes.txt", "checkpoint-123/notes.md", "predictions/mine.parquet")  # called otherwise
GIVEN = ("pictures.yaml", "--output_dir", "new", *SHORT)
MOMENTS = {
    "training": (MMTabTrainer, "training_step"),
    "judging": (ImageTextRun, "judge"),
    "predictions": (ImageTextRun, "write_predictions"),
    "drawing": (page, "_draw"),
    "after the report": (walk, "send_report"),
    "listing": (walk, "write_inventory"),
    "results": (walk, "write_whole"),
}


def put(folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"mine")


def put_at(patch: pytest.MonkeyPatch, moment: str, folder: Path, names: tuple[str, ...]) -> None:
    """Put files into a folder at the first call of what a moment names."""
    owner, name = MOMENTS[moment]
    plain = getattr(owner, name)

    def call(*arguments, **options):
        if not (folder / names[0]).exists():
            put(folder, names)
        return plain(*arguments, **options)

    patch.setattr(owner, name, call)


def are_mine(folder: Path, names: tuple[str, ...]) -> bool:
    return all((folder / name).read_bytes() == b"mine" for name in names)


@pytest.mark.figures
@pytest.mark.parametrize("moment", [*MOMENTS, pytest.param("the end", marks=pytest.mark.slow)])
def test_files_that_are_put_there_while_a_run_goes_on_are_named_and_kept(runs, moment):
    with pytest.MonkeyPatch.context() as patch:
        if moment != "the end":
            put_at(patch, moment, runs / "new", FOREIGN + OTHERS)
        command("finetune", *GIVEN)
    if moment == "the end":
        put(runs / "new", FOREIGN + OTHERS)
    assert set(foreign_names(runs / "new")) == set(FOREIGN)
    assert read_inventory(runs / "new").keys() & {*FOREIGN, *OTHERS} == set()
    with pytest.raises(ValueError, match=r"files of others.*checkpoint-123/config\.json"):
        command("finetune", *GIVEN, "--overwrite", "true")
    assert are_mine(runs / "new", FOREIGN + OTHERS)
    if moment not in ("training", "the end"):
        return  # told apart by the list, whenever they came
    for name in FOREIGN:
        (runs / "new" / name).unlink()
    command("finetune", *GIVEN, "--overwrite", "true")
    assert are_mine(runs / "new", OTHERS) and foreign_names(runs / "new") == []
    modes = {(runs / "new" / name).stat().st_mode & 0o777 for name in ("config.json", "model.safetensors")}
    assert len(modes) == 1  # safetensors makes files that their owner alone may read


def test_a_file_that_the_run_would_replace_stops_it_and_stays(runs):
    stops = [
        ("training", "config.json"),
        ("judging", "predictions/test.parquet"),
        ("drawing", "report/figures/confusion.png"),
        ("drawing", "report/report.html"),
        ("predictions", "README.md"),
    ]
    for moment, name in stops:  # each start gets further than the one before
        with pytest.MonkeyPatch.context() as patch:
            put_at(patch, moment, runs / "new", (name,))
            with pytest.raises(ValueError, match=f"files of others.*: {name}"):
                command("finetune", *GIVEN)
        assert are_mine(runs / "new", (name,)) and not (runs / "new" / "results.json").exists()
        (runs / "new" / name).unlink()
    command("finetune", *GIVEN)
    assert foreign_names(runs / "new") == []
    assert {name for _, name in stops} <= (read_inventory(runs / "new") or {}).keys()


def test_a_file_of_a_run_that_somebody_edited_is_theirs(runs):
    command("finetune", *GIVEN)
    for name in ("results.json", "report/report.html", "README.md", "config.json"):
        written = (runs / "new" / name).read_bytes()
        (runs / "new" / name).write_bytes(written + b"\n")
        with pytest.raises(ValueError, match=f"changed since.*: {name}"):
            command("finetune", *GIVEN, "--overwrite", "true")
        assert (runs / "new" / name).read_bytes() == written + b"\n"
        (runs / "new" / name).write_bytes(written)


def test_checkpoints_that_are_removed_take_no_files_of_others_with_them(runs):
    names = (
        "checkpoint-1/notes.md",
        "checkpoint-1/merges.txt",
        "checkpoint-99/notes.md",
        "checkpoint-best/config.json",
    )
    every = ("--save_strategy", "steps", "--eval_strategy", "steps", "--eval_steps", "1", "--save_steps", "1")
    save = MMTabTrainer._save_checkpoint

    def saved(self, *arguments, **options):
        save(self, *arguments, **options)
        if self.state.global_step == 1:
            put(runs / "new", names)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MMTabTrainer, "_save_checkpoint", saved)
        more = ("--save_total_limit", "1", "--soup", "true", "--load_best_model_at_end", "false")
        command("finetune", *GIVEN, *every, *more)
    assert are_mine(runs / "new", names)
    assert {path.name for path in (runs / "new" / "checkpoint-1").iterdir()} == {"notes.md", "merges.txt"}
    assert foreign_names(runs / "new") == ["checkpoint-1/merges.txt"]

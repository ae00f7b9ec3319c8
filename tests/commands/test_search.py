"""`search:` tries values on validation, trains the run with the best, and goes on where it was interrupted."""

import json
import tempfile

import pytest
import yaml
from running import killed_at_call, left_as_they_are
from test_boosted_and_fusion import TRAINING

from hf_mmtab.commands.finetune import load_recipe, main
from hf_mmtab.commands.runs import search as searching
from hf_mmtab.commands.runs.search import searched
from hf_mmtab.commands.runs.table_heads import HeadRun
from hf_mmtab.locking import lock_folder

pytest.importorskip("optuna")

SPACE = {"learning_rate": [1.0e-4, 3.0e-2], "lstm_hidden_size": [4, 8, 12], "classifier_dropout": [0.0, 0.5]}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    lines = ["when,who,card,shop,amount,odd"]
    for i in range(240):
        shop = "cinema" if i % 7 == 3 else ["bakery", "grocer"][i % 2]
        when = f"2024-01-{1 + i // 24:02d} {i % 24:02d}:00"
        lines.append(f"{when},w{i % 6},{i % 2},{shop},{10 + i % 5},{'yes' if shop == 'cinema' else 'no'}")
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    values = TRAINING | {"data": str(folder / "t.csv"), "architecture": "raw_lstm", "window_label": "last"}
    values |= {"search": SPACE, "search_trials": 3}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    return str(folder / "recipe.yaml")


@pytest.mark.slow
def test_the_best_of_validation_trains_the_run_and_a_second_start_only_reads(recipe, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    main([recipe, "--output_dir", str(out)])
    found = json.loads((tmp_path / "out.search.json").read_text())
    assert found["space"] == SPACE and len(found["trials"]) == 3
    for trial in found["trials"]:
        values = trial["values"]
        assert 1e-4 <= values["learning_rate"] <= 3e-2 and values["lstm_hidden_size"] in SPACE["lstm_hidden_size"]
        assert trial["metric"] == "average_precision" and trial["greater_is_better"]
    best = max(found["trials"], key=lambda one: one["value"])["values"]
    written = yaml.safe_load((out / "recipe.yaml").read_text())
    assert {key: written[key] for key in SPACE} == best
    assert "search" not in written
    monkeypatch.setattr(searching, "_judge", None)  # nothing is tried again
    capsys.readouterr()
    main([recipe, "--output_dir", str(out)])
    assert "average precision" in capsys.readouterr().out


def test_an_interrupted_search_goes_on_after_its_last_trial(recipe, tmp_path, monkeypatch):
    judged = []

    def judge(recipe, run_type, values, shared):
        judged.append(values)
        if len(judged) == 3:
            raise KeyboardInterrupt
        return "rmse", abs(values["learning_rate"] - 0.01), False

    monkeypatch.setattr(searching, "_judge", judge)
    loaded = load_recipe([recipe, "--output_dir", str(tmp_path), "--search_trials", "5"])
    with pytest.raises(KeyboardInterrupt):
        searched(loaded, HeadRun)
    again = searched(loaded, HeadRun)
    assert len(judged) == 3 + 3  # two were finished
    assert judged[3] == judged[2]
    tried = json.loads((tmp_path.with_name(tmp_path.name + ".search.json")).read_text())["trials"]
    closest = min(tried, key=lambda one: one["value"])["values"]
    assert again.values["learning_rate"] == closest["learning_rate"]
    with pytest.raises(ValueError, match=r"Expected the trials of this search in .* found those of another one"):
        searched(loaded.variant(None, search={"learning_rate": [0.1, 0.2]}), HeadRun)


def test_what_a_killed_search_had_read_goes_at_the_next_start(recipe, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    loaded = load_recipe([recipe, "--output_dir", str(tmp_path / "out")])
    with left_as_they_are(), killed_at_call(HeadRun, "new_trainer", 1):
        searched(loaded, HeadRun)
    assert not [*(tmp_path / "tmp").iterdir()]  # where nobody would look for it
    draft = tmp_path / ".out.search.json.hf_mmtab-draft"
    assert [*draft.glob("work/_table/rows/rows.json")]
    with lock_folder(draft, True), pytest.raises(BlockingIOError):
        searched(loaded, HeadRun)
    monkeypatch.setattr(searching, "_judge", lambda *_: ("rmse", 1.0, False))
    searched(loaded, HeadRun)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.search.json", "tmp"]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("{lerning_rate: [0.1, 0.2]}", "lerning_rate"),
        ("{learning_rate: 0.1}", "Expected search.learning_rate to be"),
        ("{learning_rate: [a, b]}", "learning_rate"),
        ("{learning_rate: [-1, 1]}", "Expected values of learning_rate in search.learning_rate, found -1"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_before_any_training(recipe, tmp_path, space, message):
    with pytest.raises(ValueError, match=message):
        main([recipe, "--output_dir", str(tmp_path / "out"), "--search", space])
    assert not (tmp_path / "out").exists()


def test_trees_are_not_searched(recipe, tmp_path):
    with pytest.raises(ValueError, match="Expected an architecture that trains by gradients"):
        main([recipe, "--output_dir", str(tmp_path), "--architecture", "boosted"])


def test_foreign_files_are_refused_before_anything_is_tried(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(searching, "_judge", None)
    (tmp_path / "out.search.json").write_text('{"my": 1}')
    with pytest.raises(ValueError, match=r"Expected the trials of a search in .*, found something else"):
        main([recipe, "--output_dir", str(tmp_path / "out")])
    assert (tmp_path / "out.search.json").read_text() == '{"my": 1}'
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="to be empty or to hold a run of this recipe"):
        main([recipe, "--output_dir", str(tmp_path / "mine")])
    assert not (tmp_path / "mine.search.json").exists()


@pytest.mark.parametrize("key", ["output_dir", "data", "label_columns", "overwrite", "seed", "split", "compare"])
def test_keys_that_make_trials_incomparable_are_refused_before_any_training(recipe, tmp_path, key):
    loaded = load_recipe([recipe, "--output_dir", str(tmp_path), "--search", json.dumps({key: ["a", "b"]})])
    with pytest.raises(ValueError, match=f"Expected keys of the model and its training in `search`, found {key}"):
        searched(loaded, HeadRun)

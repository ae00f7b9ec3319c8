"""`recipe_rows`: epochs that suit the number of training rows."""

import pytest

from hf_mmtab.commands.finetune import load_recipe, main
from hf_mmtab.commands.runs.epochs import fit_epochs
from hf_mmtab.evaluation.run_results import RunResults
from hf_mmtab.training import MMTabTrainingArguments

FREEZE = {"image_encoder": "forever", "text_encoder": "2 epochs", "a": ["1 epoch to 4 epochs", "10 steps"], "b": 0.5}


@pytest.mark.parametrize(
    ("rows", "epochs"), [(736, 8), (500, 8), (2000, 8), (300, 15), (40, 24), (40_000, 2), (4000, 4), (1_000_000, 2)]
)
def test_epochs_change_with_the_square_root_of_the_rows_beyond_a_factor_of_two(tmp_path, rows, epochs):
    training = MMTabTrainingArguments(str(tmp_path), num_train_epochs=8, freeze=FREEZE)
    note = fit_epochs(training, 1000, rows)
    assert training.num_train_epochs == epochs
    assert (note is None) == (epochs == 8)
    changed = {**FREEZE, "text_encoder": "25%", "a": ["12.5% to 50%", "10 steps"]}
    assert training.freeze == (FREEZE if epochs == 8 else changed)


def test_the_note_tells_steps_and_what_decides_otherwise(tmp_path):
    training = MMTabTrainingArguments(str(tmp_path), num_train_epochs=8, per_device_train_batch_size=16)
    note = fit_epochs(training, 1000, 40_000)
    assert note.startswith(
        "num_train_epochs: 2 in place of 8, 5,000 steps in place of 20,000: 40,000 training rows are more"
    )
    assert "recipe_rows" in note
    for other in ({"max_steps": 10}, {"num_train_epochs": 1}):
        training = MMTabTrainingArguments(str(tmp_path), **other)
        assert fit_epochs(training, 1000, 40_000) is None
    assert fit_epochs(MMTabTrainingArguments(str(tmp_path)), None, 40_000) is None


def test_a_run_says_what_it_chose_and_epochs_on_the_command_line_stay(recipe, tmp_path, capsys):
    recipe.write_text(recipe.read_text() + "recipe_rows: 200\n")  # there are 48
    main([str(recipe)])
    note = next(
        one for one in RunResults.read(tmp_path / "run").notes if one.startswith("num_train_epochs: 4 in place")
    )
    assert note in capsys.readouterr().out and note[:40] in (tmp_path / "run/report/report.html").read_text()
    assert load_recipe([str(recipe), "--num_train_epochs", "2"]).run.recipe_rows is None
    assert load_recipe([str(recipe), "--num_train_epochs", "2", "--recipe_rows", "9"]).run.recipe_rows == 9
    assert load_recipe([str(recipe), "--seed", "2"]).run.recipe_rows == 200

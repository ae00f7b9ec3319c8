"""`pretrain RECIPE.yaml [--key value …]`: TabBERT learns a table by recovering masked cells, or TabGPT by predicting
each cell from those before it (`architecture: gpt2`).

The table is read, split, encoded to disk and cut into windows; the best checkpoint is saved with its processor, and
every field's accuracy stands beside what two guesses without a model are worth. A run that was interrupted resumes.
"""

from collections.abc import Sequence

from .console import say, start_logging
from .runs.pretraining import PretrainingRun
from .runs.recipe import PretrainingRecipe
from .runs.walk import execute


def main(arguments: Sequence[str]) -> None:
    """Pretrain as the recipe and the command line say."""
    start_logging()
    recipe = load_recipe(arguments)
    results = execute(PretrainingRun(recipe))
    say(results.summary, recipe.training.process_index == 0)


def load_recipe(arguments: Sequence[str]) -> PretrainingRecipe:
    """Read the recipe of a run.

    Raises:
        ValueError: misspelt key, value of the wrong type, no such task.
    """
    return PretrainingRecipe.read(arguments, "pretrain")

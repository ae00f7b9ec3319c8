"""`finetune RECIPE.yaml [--field value …]`: train, keep the best checkpoint, tune thresholds, evaluate, report.

One run is one architecture with one seed. `compare` and `seeds` make several runs of one recipe, each in a folder of
its own, and a table of them on the same test rows. A run that was interrupted resumes; one that is finished is read.
What happens in a run is up to the recipe's `task`: see `finetune_image_text` and `finetune_table`.
"""

import shutil
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..arguments import RunArguments
from ..recipes import read_recipe
from ..table_arguments import TabBertHeadArguments, TableRunArguments
from ..tasks import ImageTextTask, TableTask, get_task
from . import finetune_image_text, finetune_table
from .console import say, start_logging
from .run_folder import Recipe, load_recipe_of


def main(arguments: Sequence[str] | None = None) -> None:
    """Fine-tune as the recipe and the command line say."""
    start_logging()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    first = load_recipe(arguments)
    family: Any = finetune_table if isinstance(first.task, TableTask) else finetune_image_text
    architectures = [
        name
        for name in dict.fromkeys([first.model.architecture, *first.run.compare])
        if name not in family.BASELINES
    ]
    if unknown := [name for name in architectures if name not in family.ARCHITECTURES]:
        known = ", ".join([*family.ARCHITECTURES, *family.BASELINES])
        raise ValueError(
            f"Expected architecture and compare to name some of {known}, found {', '.join(unknown)}. On the "
            "command line several stand side by side: `--compare bert img`."
        )
    has_recipe = bool(arguments) and not arguments[0].startswith("-")
    written_for = (read_recipe(arguments[0]) if has_recipe else {}).get("architecture", architectures[0])
    seeds = first.run.seeds or [first.training.seed]
    root = Path(first.training.output_dir)
    speaks = first.training.process_index == 0
    if len(seeds) == 1 and set(first.run.compare) <= {first.model.architecture}:
        say(family.finetune(first, is_reference=first.model.architecture == written_for)["summary"], speaks)
        return
    if first.run.overwrite and speaks:
        shutil.rmtree(root, ignore_errors=True)
    finished: dict[str, list[dict[str, Any]]] = {name: [] for name in architectures}
    for architecture in architectures:
        for seed in seeds:
            folder = root / f"{architecture}-seed{seed}"
            overrides = ["--architecture", architecture, "--seed", str(seed), "--output_dir", str(folder)]
            recipe = load_recipe([*arguments, *overrides])
            recipe.shared = root
            finished[architecture].append(family.finetune(recipe, is_reference=architecture == written_for))
    if speaks:
        say(family.compare(root, first, finished))


def load_recipe(arguments: Sequence[str]) -> Recipe:
    """Build the dataclasses of one run; which they are is up to the recipe's `task`.

    `RECIPE.yaml --help` lists the keys that a recipe of that task may have.

    Raises:
        ValueError: misspelt key, value of the wrong type, no such task.
    """
    values = read_recipe(arguments[0]) if arguments and not arguments[0].startswith("-") else {}
    given = dict(pairwise(arguments))
    task: Any = get_task(given.get("--task", values.get("task", ImageTextTask.default)))
    if any(flag in arguments for flag in ("-h", "--help")):
        arguments = ["--help"]
    if isinstance(task, ImageTextTask):
        return load_recipe_of(arguments, "finetune", ImageTextTask, RunArguments)
    return load_recipe_of(arguments, "finetune", TableTask, TableRunArguments, TabBertHeadArguments)

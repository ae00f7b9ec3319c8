"""`finetune RECIPE.yaml [--key value …]`: train, keep the best checkpoint, tune thresholds, evaluate, report.

One run is one architecture with one seed. `compare` and `seeds` make several runs of one recipe, each in a folder of
its own, and a table of them on the same test rows. A run that was interrupted resumes; one that is finished is read.
"""

from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any

from transformers.utils import logging

from ..arguments import ENSEMBLE
from ..evaluation.run_results import RunResults
from ..locking import lock_folder
from ..recipes import read_recipe
from ..tasks import ImageTextTask, TableTask, get_task
from .console import say, start_logging
from .damaged_files import damage_named
from .outputs import check_store
from .runs.comparison import compare
from .runs.ensemble import EnsembleRun
from .runs.folder import publish, reads_of, refuse_shared_folder
from .runs.image_text import ImageTextRun
from .runs.inventory import announce, begin_inventory, files_listed, has_inventory
from .runs.own_files import is_run, refuse_foreign, remove_drafts, remove_run
from .runs.own_names import CACHE_FOLDER
from .runs.recipe import HeadRecipe, ImageTextRecipe
from .runs.search import searched
from .runs.table_heads import HeadRun
from .runs.walk import execute

logger = logging.get_logger(__name__)


def main(arguments: Sequence[str]) -> None:
    """Fine-tune as the recipe and the command line say."""
    start_logging()
    recipe = load_recipe(arguments)
    run_type: Any = HeadRun if isinstance(recipe, HeadRecipe) else ImageTextRun
    if (store := recipe.training.feature_cache_dir) is not None:
        starts = [getattr(recipe.model, name, None) for name in ("pretrained", "text_model", "image_model")]
        check_store(store, [str(one) for one in (recipe.data.data, *starts) if one is not None], own=recipe.folder)
    architectures = architectures_of(recipe, run_type)
    tell_idle_keys(recipe, arguments, architectures)
    recipe = searched(recipe, run_type)
    written_for = read_recipe(arguments[0]).get("architecture", architectures[0])
    if written_for == ENSEMBLE:
        written_for = next(name for name in architectures if name != ENSEMBLE)
    seeds = list(dict.fromkeys(recipe.run.seeds or [recipe.training.seed]))
    speaks = recipe.training.process_index == 0
    if len(seeds) == len(architectures) == 1 and set(recipe.run.compare) <= {recipe.model.architecture}:
        if seeds != [recipe.training.seed]:
            recipe = recipe.variant(None, seed=seeds[0])
        run = run_type(recipe, is_reference=recipe.model.architecture == written_for)
        say(execute(run).summary, speaks)
        return
    root = recipe.folder
    finished: dict[str, list[RunResults]] = {name: [] for name in architectures}
    runs = {}
    if speaks:
        refuse_shared_folder(recipe)
    with lock_folder(root, speaks), files_listed(root, speaks):
        if speaks:
            if is_run(root):
                remove_drafts(root)
                if recipe.run.overwrite:
                    remove_run(root, reads_of(recipe))
                refuse_foreign(root, of_runs_inside=False)  # each run looks at its own
            if has_inventory(root):
                announce(root, CACHE_FOLDER)  # further runs may be added to finished ones
            else:
                begin_inventory(root)
        for name in sorted(architectures, key=lambda name: name == ENSEMBLE):  # its members are trained first
            for seed in seeds:
                folder = str(root / f"{name}-seed{seed}")
                own = {"architecture": name, "seed": seed, "output_dir": folder}
                if recipe.training.push_to_hub:
                    base = recipe.training.hub_model_id or root.resolve().name
                    own["hub_model_id"] = f"{base}-{name}-seed{seed}"
                variant = recipe.variant(root, **own)
                kind: Any = EnsembleRun if name == ENSEMBLE else run_type
                runs[name, seed] = run = kind(variant, is_reference=name == written_for)
                run.tells_reasons = name == architectures[0]
        for (name, _), run in runs.items():
            if name != ENSEMBLE:  # its members are not trained yet
                run.check()  # before hours of training the others
        for (name, _), run in runs.items():
            finished[name].append(execute(run))
        if speaks:
            with damage_named(root):
                reference = runs[architectures[0], seeds[0]]
                say(compare(reference, root, finished))
                publish(reference.recipe)  # again, since its report now has the comparison


def architectures_of(recipe: ImageTextRecipe | HeadRecipe, run_type: type[ImageTextRun | HeadRun]) -> list[str]:
    """Return the architectures that a recipe trains: its own first, then an ensemble's members and those to compare.

    Raises:
        ValueError: naming the known ones.
    """
    own = recipe.model.architecture
    members = []
    if isinstance(recipe, ImageTextRecipe) and ENSEMBLE in (own, *recipe.run.compare):
        members = EnsembleRun.members_of(recipe)
    named = dict.fromkeys([own, *members, *recipe.run.compare])
    trained = [name for name in named if name == own or name not in run_type.baselines]
    if unknown := [name for name in trained if name not in run_type.architectures]:
        known = ", ".join([*run_type.architectures, *run_type.baselines])
        raise ValueError(
            f"Expected architecture and compare to name some of {known}, found {', '.join(unknown)}. On the "
            "command line several stand side by side: `--compare bert img`."
        )
    for name in named:
        if name in run_type.baselines:
            run_type.check_baseline(name, own)
    return trained


def tell_idle_keys(
    recipe: ImageTextRecipe | HeadRecipe, arguments: Sequence[str], architectures: Sequence[str]
) -> None:
    """Warn of keys on the command line that none of the trained architectures reads."""
    for field in fields(recipe.model):
        readers = field.metadata.get("of")
        typed = any(word.partition("=")[0] == f"--{field.name}" for word in arguments)
        if typed and readers and not set(readers) & set(architectures):
            logger.warning(
                f"{field.name} has no effect on architecture {', '.join(architectures)}: it is a key of "
                f"{', '.join(readers)}."
            )


def load_recipe(arguments: Sequence[str]) -> ImageTextRecipe | HeadRecipe:
    """Read the recipe of a run; its `task` says which kind it is.

    `RECIPE.yaml --help` lists the keys that a recipe of that task may have.

    Raises:
        ValueError: misspelt key, value of the wrong type, no such task.
    """
    values = read_recipe(arguments[0]) if arguments and not arguments[0].startswith("-") else {}
    given = dict(pairwise(arguments))
    name = given.get("--task", values.get("task", ImageTextTask.default))
    kind = HeadRecipe if isinstance(get_task(name), TableTask) else ImageTextRecipe
    return kind.read(arguments, "finetune")

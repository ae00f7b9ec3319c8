"""The folder of a run: whose it is, whether it is finished, and what its checkpoints hold."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ...arguments import ENSEMBLE
from ...evaluation.run_results import RunResults
from ...locking import LOCK_FILE, refuse_file
from ...models.tabbert.processing.plan_presets import resolve_plan
from ...recipes import read_recipe, write_recipe
from ...tasks import ImageTextTask
from ...tasks.checkpoints import RECIPE_FILE
from ...training.arguments import PART_ARGUMENTS, MMTabTrainingArguments
from ...training.checkpoints import numbered_checkpoints
from ...training.parts import has_part
from ...training.precision import go_on_as_before
from ..console import say
from ..push_to_hub import push_run
from ..standalone import make_standalone
from .inventory import INVENTORY_FILE, begin_inventory, facts_of, is_half_removed
from .own_files import is_run, refuse_foreign, refuse_removal, remove_drafts, remove_folder, remove_run
from .own_names import CACHE_FOLDER, COMPARISON_FILE, RUN_OF_SEVERAL, TABLE_FOLDER, is_draft
from .reads import first_inside, paths_read, refuse_needed
from .recipe import Recipe, recorded

logger = logging.get_logger(__name__)

# Of tables and of pictures with texts; other settings may lie beside runs as .json or .txt.
_DATA = re.compile(r".*\.(csv|tsv|jsonl|ndjson|parquet|arrow)(\.gz)?", re.IGNORECASE)
_TRAINED = re.compile(r"checkpoint-\d+|config\.json|.*\.safetensors|trainer_state\.json|results\.json")


def inline_plan(recipe: Recipe) -> None:
    """Replace a plan file that lies in the output folder by what it says: starting anew there deletes the file."""
    plan = getattr(recipe.data, "plan", None)
    if not isinstance(plan, str) or not Path(plan).is_file():
        return
    if Path(plan).resolve().is_relative_to(recipe.folder.resolve()):
        recipe.data.plan = recipe.values["plan"] = resolve_plan(plan).to_dict()


def _names_in(folder: Path) -> set[str]:
    """Return what lies in a folder, without locks, drafts and the inventory."""
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    return {n for n in names if not (n.startswith(LOCK_FILE) or is_draft(n) or n == INVENTORY_FILE)}


def refuse_folder(recipe: Recipe) -> None:
    """Refuse an output folder that a run may not use, before anything is written there.

    Raises:
        ValueError: if it is a file, or holds something else than a run.
    """
    folder = recipe.folder
    refuse_file(folder)
    inline_plan(recipe)
    names = _names_in(folder)
    if not names or _begins_at(recipe, names):
        return
    if recipe.run.overwrite:
        _refuse_start_anew(recipe)
    elif not is_run(folder) and names != {RECIPE_FILE}:  # a recipe alone is compared with this one
        raise ValueError(
            f"Expected output_dir {str(folder)!r} to be empty or to hold a run of this recipe, found other files. "
            "Choose another output_dir."
        )


def _begins_at(recipe: Recipe, names: set[str]) -> bool:
    """Whether nothing lies in the output folder but a recipe, written by hand, and this run follows it."""
    record = recipe.folder / RECIPE_FILE
    return names == {RECIPE_FILE} and not is_run(recipe.folder) and _read_record(record) == recorded(recipe.values)


def refuse_shared_folder(recipe: Recipe) -> None:
    """Refuse a folder in which runs would get folders of their own, if they would replace other files beside these.

    Raises:
        ValueError: naming the files.
    """
    folder = recipe.folder
    refuse_file(folder)
    names = _names_in(folder)
    if names and recipe.run.overwrite and (names != {RECIPE_FILE} or is_run(folder)):
        _refuse_start_anew(recipe)
        return
    if any(_TRAINED.fullmatch(name) for name in names) and is_run(folder):
        raise ValueError(
            f"Expected output_dir {str(folder)!r} to hold runs, found the files of one run: others would lie in it. "
            "Choose another output_dir, or repeat that run alone: `--compare null --seeds null`."
        )
    data = [path for key, path in paths_read(recipe.values).items() if key.partition(" ")[0] == "data"]
    held = sorted(name for name in names if _DATA.fullmatch(name) and (folder / name).is_file())
    if names and not is_run(folder) and (held or any(folder.samefile(path) for path in data)):
        found = ", ".join(held[:5]) + (f" and {len(held) - 5} more" if len(held) > 5 else "") or "the data itself"
        raise ValueError(
            f"Expected output_dir {str(folder)!r} to hold runs and no data, found {found}. Choose another output_dir, "
            "for example a folder in it."
        )
    others = names & {COMPARISON_FILE, TABLE_FOLDER, CACHE_FOLDER}
    others |= {name for name in names if RUN_OF_SEVERAL.fullmatch(name)}
    if others and not is_run(folder):
        raise ValueError(
            f"Expected output_dir {str(folder)!r} to hold runs or nothing that they write, found "
            f"{', '.join(sorted(others))} of something else. Choose another output_dir."
        )


def resume_or_refuse(recipe: Recipe) -> RunResults | None:
    """Look at what lies in the output folder.

    Returns:
        The results of a finished run of this very recipe; None if there is something to do.

    Raises:
        ValueError: if the folder holds a run of another recipe, of which something is trained.
    """
    folder, record, mine = recipe.folder, recipe.folder / RECIPE_FILE, recorded(recipe.values)
    if recipe.training.process_index == 0:
        ours, names = is_run(folder), _names_in(folder)
        if ours:
            remove_drafts(folder)
        if ours and (recipe.run.overwrite or is_half_removed(folder)):
            remove_run(folder, reads_of(recipe))
            if not record.exists() or _read_record(record) != mine:
                write_recipe(record, mine)
        elif not record.exists():
            begin_inventory(folder)
            write_recipe(record, mine)
        elif ours and not _has_trained(names) and not _is_record(recipe) and _read_record(record) != mine:
            reads = reads_of(recipe)  # an earlier start came to nothing
            remove_run(folder, reads)
            refuse_needed(recipe.shared_folder / TABLE_FOLDER, reads)
            remove_folder(recipe.shared_folder, TABLE_FOLDER)  # read as the other recipe said
            write_recipe(record, mine)
    with recipe.training.main_process_first(desc="reading the output folder"):
        before = _read_record(record)
    go_on_as_before(before, mine, recipe.training)
    changed = sorted(key for key in {*before, *mine} if before.get(key) != mine.get(key))
    results = RunResults.read(folder)
    if changed == ["output_dir"]:
        logger.info(f"The run in {folder} was moved there from {before.get('output_dir')}.")
        if results is None and recipe.training.process_index == 0:
            write_recipe(record, mine)
    elif changed:
        raise ValueError(
            f"Expected the run in {str(folder)!r} to have this recipe, found {', '.join(changed)} different. "
            "Choose another output_dir, or pass --overwrite true to start anew."
        )
    if results is None and recipe.training.process_index == 0:
        refuse_foreign(folder)
        # A table says so itself, when it is encoded anew.
        digest = recipe.task.data_digest(recipe.data) if isinstance(recipe.task, ImageTextTask) else None
        if numbered_checkpoints(folder):
            _warn_if_changed_meanwhile(facts_of(folder).get("data_digest"), digest, folder)
        begin_inventory(folder, data_digest=digest)
    return results


def _has_trained(names: Collection[str]) -> bool:
    """Whether a folder with these names in it holds what training gave, or runs that may."""
    return any(_TRAINED.fullmatch(name) or RUN_OF_SEVERAL.fullmatch(name) for name in names)


def _read_record(record: Path) -> dict[str, Any]:
    """Read the recipe that a run wrote.

    Raises:
        ValueError: if the file is damaged.
    """
    try:
        return recorded(read_recipe(record))
    except ValueError as error:
        raise ValueError(
            f"Expected the recipe that the run wrote in {str(record)!r}, found a damaged file ({error}). Write it "
            "again from your own recipe file, or choose another output_dir."
        ) from error


def _refuse_start_anew(recipe: Recipe) -> None:
    """Raise a ValueError unless the output folder may be emptied: neither recipe nor data name something in there."""
    folder, task = recipe.folder, recipe.task
    refuse_removal(folder, reads_of(recipe))
    named = task.named_pictures(recipe.data) if isinstance(task, ImageTextTask) else ()
    if picture := first_inside(named, folder):
        refuse_needed(folder, {"a picture of the data": picture})


def reads_of(recipe: Recipe) -> dict[str, Path]:
    """Return what a run reads: the paths in its recipe, and the recipe file, unless it is the run's own record."""
    reads = paths_read(recipe.values)
    if recipe.file is not None and recipe.file.exists() and not _is_record(recipe):
        reads["recipe"] = recipe.file
    return reads


def _is_record(recipe: Recipe) -> bool:
    """Whether the recipe was read from the run's own record."""
    file, own = recipe.file, recipe.folder / RECIPE_FILE
    return file is not None and file.exists() and own.exists() and file.samefile(own)


def _warn_if_changed_meanwhile(before: str | None, digest: str | None, folder: Path) -> None:
    if None not in (before, digest) and before != digest:
        logger.warning(
            f"The data's files were changed or moved since the run in {folder} began: from its last checkpoint on it "
            "is trained on them as they are now. To train on them from the start, pass --overwrite true."
        )


def warn_if_data_changed(done: RunResults, digest: str | None, folder: Path) -> None:
    """Warn that the files of a finished run are others now.

    Args:
        done: its results, with the digest of the files that it read.
        digest: of the files as they are; None: nothing to compare.
        folder: of the run.
    """
    before = done.data_digest
    if before is not None and digest is not None and before != digest:
        logger.warning(
            f"The data's files were changed or moved since the run in {folder}: its results are of the files before. "
            "To train on them as they are now, pass --overwrite true or choose another output_dir."
        )


def select_by(
    training: MMTabTrainingArguments, metric: str, greater_is_better: bool = True, known: Collection[str] | None = None
) -> None:
    """Keep the best checkpoint by the task's metric, where the recipe names no other.

    Args:
        training: its arguments are changed.
        metric: of the task.
        greater_is_better: whether more of it is better.
        known: metrics that an evaluation gives; None: not looked at.

    Raises:
        ValueError: if the recipe names a metric that no evaluation of this data gives.
    """
    if known is not None:
        check_metric(training, known, "which these labels have")
    if training.load_best_model_at_end and training.metric_for_best_model in (None, "loss"):
        training.metric_for_best_model, training.greater_is_better = metric, greater_is_better


def selected_by(training: MMTabTrainingArguments, selection: tuple[str, bool]) -> tuple[str, bool]:
    """Return the metric that the best checkpoint is kept by, and whether more of it is better.

    Args:
        training: of the run.
        selection: what holds where the recipe names no metric.
    """
    named = training.metric_for_best_model
    return (named.removeprefix("eval_"), bool(training.greater_is_better)) if named else selection


def check_metric(training: MMTabTrainingArguments, known: Collection[str], which: str, of_fields: bool = True) -> None:
    """Raise a ValueError if the best checkpoint is to be kept by a metric that no evaluation gives.

    Args:
        training: its `metric_for_best_model` is looked at.
        known: metrics.
        which: of labels these are, for the message.
        of_fields: whether `known` holds those of single targets and fields (`METRIC/NAME`) too.
    """
    chosen = (training.metric_for_best_model or "loss").removeprefix("eval_")
    if chosen not in {"loss", *known} and (of_fields or "/" not in chosen):
        raise ValueError(
            f"Expected metric_for_best_model to be loss or one of {', '.join(sorted(known))}, {which}, found "
            f"{chosen!r}. Name one of them, or take it out: `--metric_for_best_model null`."
        )


def leave_out_absent_parts(recipe: Recipe, known: Sequence[str], model: Any, is_reference: bool) -> None:
    """Drop schedule entries of parts that this architecture does not have, and say so.

    Args:
        recipe: of the run; its training arguments are changed.
        known: parts that architectures of the task may have; another name stays, and is an error later.
        model: of this architecture.
        is_reference: whether the recipe was written for this architecture; for another one every part that it
            lacks is left out.
    """
    for name in PART_ARGUMENTS:
        entries = getattr(recipe.training, name)
        for part in list(entries or {}):
            lacks = part in known and part not in model.freezable_modules
            if lacks or (not is_reference and not has_part(model, part)):
                del entries[part]
                if recipe.model.architecture != ENSEMBLE:  # in which nothing is trained
                    logger.info(f"{recipe.model.architecture} has no {part}; its {name} entry is left out.")


def publish(recipe: Recipe) -> None:
    """Make a finished run stand alone, and upload it, where the recipe asks for it: again, if that failed before.

    A repository is private unless the recipe says `hub_private_repo: false`.
    """
    training, folder = recipe.training, recipe.folder
    if recipe.run.standalone and training.process_index == 0:
        make_standalone(folder)
    if training.push_to_hub and training.process_index == 0:
        address = push_run(
            folder,
            training.hub_model_id or folder.resolve().name,
            private=training.hub_private_repo is not False,
            revision=training.hub_revision,
            token=training.hub_token,
            examples=recipe.run.examples,
        )
        say(f"Uploaded: {address}")

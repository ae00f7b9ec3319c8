"""The folder of a run: whose it is, whether it is finished, and what its checkpoints hold."""

import dataclasses
import json
import shlex
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from ..models.tabbert.plan_presets import resolve_plan
from ..recipes import parse_recipe, read_recipe, write_recipe
from ..tasks import Task, get_task
from ..training import MMTabTrainingArguments
from ..training.parts import has_part
from .push_to_hub import push_run
from .run_report import RECIPE_FILE, RESULT_FILE

# Trainer pushes no folder with such a name to the Hub
TABLE_FOLDER, CACHE_FOLDER = "_table", "_feature_cache"

logger = logging.get_logger(__name__)

PER_PART = ("freeze", "gradual_unfreezing", "part_learning_rates", "layerwise_lr_decay", "thaw_warmup")


@dataclasses.dataclass
class Recipe:
    """One run: its task, its dataclasses, the flat values that they came from, and the command that repeats it.

    `shared` is the folder of several runs of one recipe; what is the same for all of them may lie there.
    """

    task: Any
    data: Any
    model: Any
    run: Any
    training: MMTabTrainingArguments
    values: dict[str, Any]
    command: str
    shared: Path | None = None


class SaveProcessor(TrainerCallback):
    """Save a processor without a tokenizer beside each checkpoint: Trainer itself takes a tokenizer for given."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.processor.save_pretrained(
                Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            )


def load_recipe_of(
    arguments: Sequence[str],
    command: str,
    family: type[Task],
    run_arguments: type,
    model_arguments: type | None = None,
) -> Recipe:
    """Build the dataclasses of one run; which they are is up to the recipe's `task`.

    Args:
        arguments: the command line behind the command's name.
        command: that is running.
        family: of the tasks that it can work with.
        run_arguments: dataclass of the keys that are the command's own.
        model_arguments: dataclass of the keys that describe the model; default: the task's.

    Raises:
        ValueError: misspelt key, value of the wrong type, no such task.
    """
    values = read_recipe(arguments[0]) if arguments and not arguments[0].startswith("-") else {}
    task = get_task(values.get("task", family.default), family)
    model_arguments = model_arguments or task.model_arguments
    types = (task.data_arguments, model_arguments, run_arguments, MMTabTrainingArguments)
    (data, model, run, training), values = parse_recipe(types, arguments, command)
    keep_plan_inside(training.output_dir, data, values)
    told = f"python -m hf_mmtab {command} {shlex.join(arguments)}"
    return Recipe(get_task(data.task, family), data, model, run, training, values, told)


def keep_plan_inside(output_dir: str | None, data: Any, values: dict[str, Any]) -> None:
    """Read a plan file that lies in the output folder now: starting anew there deletes it.

    Args:
        output_dir: of the run.
        data: dataclass of the data; its `plan` becomes a mapping, as does that of `values`.
        values: of the recipe.
    """
    plan = getattr(data, "plan", None)
    if output_dir is None or not isinstance(plan, str) or not Path(plan).is_file():
        return
    if Path(plan).resolve().is_relative_to(Path(output_dir).resolve()):
        data.plan = values["plan"] = resolve_plan(plan).to_dict()


def resume_or_refuse(recipe: Recipe, folder: Path) -> dict[str, Any] | None:
    """Look at what lies in the output folder.

    Returns:
        The results of a finished run of this very recipe; None if there is something to do.

    Raises:
        ValueError: if the folder holds a run of another recipe.
    """
    record, done = folder / RECIPE_FILE, folder / RESULT_FILE
    mine = {
        key: value for key, value in recipe.values.items() if key not in ("overwrite", "compare", "seeds")
    }
    if folder.exists() and not folder.is_dir():
        raise ValueError(
            f"Expected a folder as output_dir, found a file at {str(folder)!r}. Choose another one."
        )
    if recipe.training.process_index == 0:
        if recipe.run.overwrite and folder.exists():
            shutil.rmtree(folder)
        if not record.exists():
            if folder.exists() and any(folder.iterdir()):
                raise ValueError(
                    f"Expected output_dir {str(folder)!r} to be empty or to hold a run of this recipe, found other "
                    "files. Choose another output_dir, or pass --overwrite true to delete what is there."
                )
            write_recipe(record, mine)
        elif {path.name for path in folder.iterdir()} <= {RECIPE_FILE, TABLE_FOLDER} and read_recipe(
            record
        ) != mine:
            shutil.rmtree(folder / TABLE_FOLDER, ignore_errors=True)
            write_recipe(record, mine)  # an earlier start came to nothing: a wrong path or split, say
    with recipe.training.main_process_first(desc="reading the output folder"):
        before = read_recipe(record)
    if before != mine:
        changed = sorted(key for key in {*before, *mine} if before.get(key) != mine.get(key))
        raise ValueError(
            f"Expected the run in {str(folder)!r} to have this recipe, found {', '.join(changed)} different. "
            "Choose another output_dir, or pass --overwrite true to start anew."
        )
    return json.loads(done.read_text(encoding="utf-8")) if done.exists() else None


def tell_changed_data(done: dict[str, Any], digest: str | None, folder: Path) -> None:
    """Warn that the files of a finished run are others now.

    Args:
        done: its results, which hold the digest of the files that it read.
        digest: of the files as they are; None: nothing to compare.
        folder: of the run.
    """
    before = done.get("data_digest")
    if before is not None and digest is not None and before != digest:
        logger.warning(
            f"The data's files were changed or moved since the run in {folder}: its results are of the files before. "
            "To train on them as they are now, pass --overwrite true or choose another output_dir."
        )


def select_by(
    training: MMTabTrainingArguments,
    metric: str,
    greater_is_better: bool = True,
    known: Collection[str] | None = None,
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
    chosen = (training.metric_for_best_model or "loss").removeprefix("eval_")
    if known is not None and chosen not in {"loss", *known}:
        raise ValueError(
            f"Expected metric_for_best_model to be loss or one of {', '.join(sorted(known))}, which these labels have, "
            f"found {chosen!r}. Name one of them, or take it out: `--metric_for_best_model null`."
        )
    if training.load_best_model_at_end and training.metric_for_best_model in (None, "loss"):
        training.metric_for_best_model, training.greater_is_better = metric, greater_is_better


def leave_out_absent_parts(recipe: Recipe, known: Sequence[str], model: Any, is_reference: bool) -> None:
    """Drop schedule entries of parts that this architecture does not have, and say so.

    Args:
        recipe: of the run; its training arguments are changed.
        known: parts that architectures of the task may have; another name stays, and is an error later.
        model: of this architecture.
        is_reference: whether the recipe was written for this architecture; for another one every part that it
            lacks is left out.
    """
    for name in PER_PART:
        entries = getattr(recipe.training, name)
        for part in list(entries or {}):
            lacks = part in known and part not in model.freezable_modules
            if lacks or (not is_reference and not has_part(model, part)):
                del entries[part]
                logger.info(f"{recipe.model.architecture} has no {part}; its {name} entry is left out.")


def push_if_asked(recipe: Recipe, folder: Path, trainer: Any) -> None:
    """Upload a finished run where `push_to_hub` asks for it; Trainer's own upload would put its card over ours."""
    training = recipe.training
    if training.push_to_hub and trainer.is_world_process_zero():
        push_run(
            folder,
            str(trainer.hub_model_id),
            private=bool(training.hub_private_repo),
            revision=training.hub_revision,
            token=training.hub_token,
        )

"""A recipe as the typed arguments of one run."""

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, cast

from transformers.utils import logging
from typing_extensions import Self

from ...arguments import (
    ENSEMBLE,
    DataArguments,
    ImageTextDataArguments,
    ImageTextRunArguments,
    MMBTModelArguments,
    ModelArguments,
    PretrainingArguments,
    RunArguments,
    TabBertHeadArguments,
    TabBertModelArguments,
    TableDataArguments,
    TableRunArguments,
)
from ...recipes import build, find_recipe, parse_recipe, read_overrides
from ...table_baselines import BASELINES
from ...tasks import ImageTextTask, TableTask, get_task
from ...tasks.saved_processor import open_processor
from ...tasks.table_heads import WITHOUT_ENCODER
from ...training import MMTabTrainingArguments
from .absent_inputs import without_absent_input
from .reads import paths_read

logger = logging.get_logger(__name__)

Data = TypeVar("Data", bound=DataArguments)
Model = TypeVar("Model", bound=ModelArguments)
RunKeys = TypeVar("RunKeys", bound=RunArguments)
Task = TypeVar("Task", ImageTextTask, TableTask)


@dataclass
class Recipe(Generic[Task, Data, Model, RunKeys]):
    """The typed arguments of one run.

    Args:
        data: which data.
        model: which model.
        run: what the run does around training.
        training: arguments of the trainer.
        values: the resolved recipe, for the record.
        command: that repeats the run.
        shared: folder of several runs of one recipe, for what is the same in all of them; None: a run by itself.
        file: that the recipe was read from.
    """

    data: Data
    model: Model
    run: RunKeys
    training: MMTabTrainingArguments
    values: dict[str, Any]
    command: str
    shared: Path | None = None
    file: Path | None = None

    types: ClassVar[tuple[type, ...]]  # of data, model, run and training
    family: ClassVar[type]  # of the tasks

    @classmethod
    def read(cls, arguments: Sequence[str], command: str) -> Self:
        """Read `RECIPE.yaml [--key value …]`.

        Args:
            arguments: the command line behind the command's name.
            command: that is running.

        Raises:
            FileNotFoundError: no such recipe.
            ValueError: misspelt key, value of the wrong type, a device or the like in place of data.
        """
        groups, values = parse_recipe(cls.types, arguments, command)
        paths_read(values)
        data, model, run, training = groups
        repeat = f"python -m hf_mmtab {command} {shlex.join(arguments)}"
        recipe = cls(data, model, run, training, values, repeat, file=find_recipe(arguments[0]))
        return recipe.as_given(read_overrides(arguments[1:], cls.types))

    def as_given(self, overrides: Collection[str]) -> Self:
        """Return the recipe without a key of its file that does not suit the keys on the command line."""
        return self

    def variant(self, shared: Path | None, **changes: Any) -> Self:
        """Return the recipe with other values for some keys.

        Args:
            shared: folder of several runs, of which this is one; None: it is one by itself. The command that repeats
                one of several is that of all: alone, it would train anew.
            changes: key → value.
        """
        words: list[str] = shlex.split(self.command)
        if shared is None:
            words = [*without_options(words, changes), *_options(changes)]
        return self._of({**self.values, **changes}, shlex.join(words), shared)

    def without(self, key: str) -> Self:
        """Return the recipe of a run by itself without one of its keys, whose default then holds."""
        return self._of({name: value for name, value in self.values.items() if name != key}, self.command)

    def _of(self, values: dict[str, Any], command: str, shared: Path | None = None) -> Self:
        data, model, run, training = build(self.types, values)
        return type(self)(data, model, run, training, values, command, shared, self.file)

    @property
    def task(self) -> Task:
        """How the data is read."""
        return cast(Task, get_task(self.data.task, self.family))

    @property
    def folder(self) -> Path:
        """The output folder."""
        return Path(str(self.training.output_dir))

    @property
    def shared_folder(self) -> Path:
        """Where what several runs have in common is kept."""
        return self.shared or self.folder


def without_options(words: Sequence[str], names: Collection[str]) -> list[str]:
    """Return the words of a command line without some `--name value …` and `--name=value`."""
    kept, dropped = [], False
    for word in words:
        if word.startswith("--"):
            dropped = word[2:].partition("=")[0] in names
        if not dropped:
            kept.append(word)
    return kept


def _options(values: Mapping[str, Any]) -> list[str]:
    return [word for key, value in values.items() for word in (f"--{key}", str(value))]


class ImageTextRecipe(Recipe[ImageTextTask, ImageTextDataArguments, MMBTModelArguments, ImageTextRunArguments]):
    """Fine-tuning on pictures with texts."""

    types = (ImageTextDataArguments, MMBTModelArguments, ImageTextRunArguments, MMTabTrainingArguments)
    family = ImageTextTask

    def as_given(self, overrides: Collection[str]) -> Self:
        """Epochs on the command line are those of the run, whatever its rows; nothing reads an input that is absent."""
        recipe = self
        if self.run.recipe_rows is not None and "num_train_epochs" in overrides and "recipe_rows" not in overrides:
            recipe = recipe.without("recipe_rows")
        if changes := without_absent_input(recipe):
            recipe = recipe._of({**recipe.values, **changes}, recipe.command)
        return recipe


class HeadRecipe(Recipe[TableTask, TableDataArguments, TabBertHeadArguments, TableRunArguments]):
    """Fine-tuning a head on windows of a table's rows."""

    types = (TableDataArguments, TabBertHeadArguments, TableRunArguments, MMTabTrainingArguments)
    family = TableTask

    def as_given(self, overrides: Collection[str]) -> Self:
        """Leave out an absent encoder that no architecture needs."""
        name, trained = self.model.pretrained, {self.model.architecture, *self.run.compare}
        given = "pretrained" in overrides
        if name is None or given or not trained <= {*WITHOUT_ENCODER, *BASELINES} or _is_there(name):
            return self
        logger.warning(
            f"Left out: the encoder {name!r} of the recipe, found no such checkpoint. Architecture "
            f"{self.model.architecture} needs none; columns are read by the recipe's plan, or by a guessed one."
        )
        return self.without("pretrained")


class PretrainingRecipe(Recipe[TableTask, TableDataArguments, TabBertModelArguments, PretrainingArguments]):
    """Pretraining on a table."""

    types = (TableDataArguments, TabBertModelArguments, PretrainingArguments, MMTabTrainingArguments)
    family = TableTask


def _is_there(name: str) -> bool:
    """Tell whether a folder, whatever it holds, or a checkpoint on the Hub has this name."""
    if Path(name).is_dir():
        return True
    try:
        open_processor(name)
    except FileNotFoundError:
        return False
    return True


# Keys that do not say which run it is: whether to start anew, its siblings, and where it is sent (a token is a secret).
_NOT_RECORDED = (
    "overwrite", "compare", "seeds", "push_to_hub", "hub_private_repo", "hub_model_id", "hub_token", "hub_revision",
    "report_to", "examples", "standalone", "search", "search_trials", "reasons",
)  # fmt: skip


def recorded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a recipe that say which run it is."""
    others = () if values.get("architecture") == ENSEMBLE else ("ensemble_members",)
    return {key: value for key, value in values.items() if key not in (*_NOT_RECORDED, *others)}

"""A saved TabBERT: whether a checkpoint is one, the recipe beside it, and its head."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import cached_file, logging

from ..arguments import PlanArguments, TableDataArguments
from ..models.tabbert import TabBertConfig, TabGPT2Config
from ..recipes import build, read_recipe
from .table import TableTask

logger = logging.get_logger(__name__)

RECIPE_FILE = "recipe.yaml"
OWN_TYPES = ("mmbt", "tabbert", "tabgpt")  # how the model_type of this package's models begins


def is_table_checkpoint(name: str) -> bool:
    """Tell whether a folder or Hub name holds a TabBERT or a TabGPT.

    Raises:
        FileNotFoundError: if there is no saved model.
    """
    return isinstance(saved_config(name), TabBertConfig | TabGPT2Config)


def saved_config(name: str) -> Any:
    """Return the configuration of a saved model in a folder or on the Hub.

    Raises:
        FileNotFoundError: if there is no saved model.
    """
    try:
        return AutoConfig.from_pretrained(name)
    except TypeError as error:  # of transformers, before our class is known
        raise ValueError(
            f"Expected a config.json of a saved model in {name!r}, found a model_type or auto_map of another type "
            f"({error}). Copy it again from where the model came from."
        ) from error
    except (OSError, ValueError) as error:
        if (Path(name) / "config.json").is_file():
            raise  # it says what is wrong in there
        folders = [file.parent for file in Path(name).glob("*/config.json")]
        if inside := sorted(str(one) for one in folders if not one.name.startswith(f"{PREFIX_CHECKPOINT_DIR}-")):
            raise FileNotFoundError(
                f"Expected a saved model in {name!r}, found a folder of several: `compare` and several `seeds` give "
                f"each its own. Name one of {', '.join(inside)}."
            ) from error
        if (Path(name) / "predictions").is_dir():
            raise FileNotFoundError(
                f"Expected a saved model in {name!r}, found the predictions of a baseline: it is fitted for a "
                "comparison alone, and no model of it is saved. Name the folder of a model that was trained."
            ) from error
        found = "a folder without config.json" if Path(name).is_dir() else "no such folder"
        raise FileNotFoundError(
            f"Expected a saved model (a folder with config.json, or a Hub name) at {name!r}, found {found}, and "
            f"nothing on the Hub ({str(error).strip().splitlines()[0]}). Pass the folder that training or conversion "
            "wrote."
        ) from error


def recipe_of(name: str) -> dict[str, Any]:
    """Return the recipe beside a checkpoint; empty if there is none.

    Raises:
        ValueError: if the file is damaged.
    """
    file = cached_file(name, RECIPE_FILE, _raise_exceptions_for_missing_entries=False)
    if not file:
        return {}
    if not Path(file).read_bytes().endswith(b"\n"):  # half of a mapping is a mapping too
        raise ValueError(
            f"Expected the recipe of a run in {str(file)!r}, found a damaged file: its last line is cut off. Write it "
            "again from your own recipe file."
        )
    return read_recipe(file)


def data_arguments(
    recipe: dict[str, Any], task: TableTask, data: str, on_bad_record: str, separator: str | None = None
) -> TableDataArguments:
    """Return how to read another table as the recipe's: its types, label columns, split and windows.

    The column plan is left out, since the checkpoint's processor has one.
    """
    plan = {one.name for one in fields(PlanArguments)} - {"label_columns"}
    values = {name: value for name, value in recipe.items() if name not in plan}
    if recipe.get("data") != data:
        values["simulate"] = None
    values |= {"task": task.name, "data": data, "on_bad_record": on_bad_record, "max_rows": None, "rows": None}
    values |= {} if separator is None else {"separator": separator}
    return build([TableDataArguments], values, of_finished=True)[0]


def load_head(name: str) -> Any:
    """Load a fine-tuned TabBERT.

    Raises:
        ValueError: for a checkpoint of pretraining, which has no head.
    """
    config = AutoConfig.from_pretrained(name)
    if isinstance(config, TabGPT2Config):
        raise ValueError(
            f"Expected a fine-tuned TabBERT in {name!r}, found a TabGPT, which scores no rows: `hf-mmtab generate`."
        )
    architectures = config.architectures or []
    if not any("ForSequenceClassification" in architecture for architecture in architectures):
        raise ValueError(
            f"Expected a fine-tuned TabBERT in {name!r}, found {', '.join(architectures) or 'no architecture'}. "
            "Fine-tune it first: `python -m hf_mmtab finetune RECIPE.yaml --pretrained ...`."
        )
    return load_classifier(name)


def load_classifier(name: str) -> Any:
    """Load a classifier or regression of either family in float32, whose configuration says what its labels are."""
    kind = saved_config(name).model_type
    if not kind.startswith(OWN_TYPES):
        raise ValueError(
            f"Expected a model of this package in {name!r} (the folder that `hf-mmtab finetune` wrote, or its name on "
            f"the Hub), found one of model_type {kind!r}. Fine-tune first, from that model if it reads texts or "
            f"pictures: `hf-mmtab finetune RECIPE.yaml --text_model` or `--image_model {name}`."
        )
    model = AutoModelForSequenceClassification.from_pretrained(name, dtype="float32")
    if model.config.problem_type is None:  # of an earlier version's Trainer, which did not say it
        model.config.problem_type = "single_label_classification"
        logger.warning(
            f"The configuration in {name!r} names no problem_type: each row is taken to have one of "
            f"{model.config.num_labels} labels. Write it into config.json if that is wrong."
        )
    return model

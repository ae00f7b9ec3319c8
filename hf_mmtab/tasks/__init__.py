"""Task name → data, processor, model, collator. The only place that knows both families."""

from typing import Any, TypeVar

from ..data.card_transactions import CardTransactions
from ..data.image_text import ImageText
from ..data.original_tasks import MMIMDB, VSNLI, Food101
from ..data.prsa import PRSA
from ..data.table import Table
from ..training.channels_last import place_convolutions
from .image_text import ALL_ROWS, IMAGE_TEXT_PARTS, ImageTextTask
from .image_text_labels import label_ids_of_model
from .prepared_table import PreparedTable
from .table import TableTask

Task = TypeVar("Task", ImageTextTask, TableTask)

TASKS: dict[str, ImageTextTask | TableTask] = {
    task.name: task
    for task in (
        ImageTextTask("image_text", ImageText),
        ImageTextTask("mmimdb", MMIMDB),
        ImageTextTask("food101", Food101),
        ImageTextTask("vsnli", VSNLI),
        TableTask("table", Table),
        TableTask("card_transactions", CardTransactions, preset="card"),
        TableTask("prsa", PRSA, preset="prsa"),
    )
}


def get_task(name: str, family: type[Task] | None = None) -> Task:
    """Return a task by name.

    Args:
        name: as a recipe's `task` says it.
        family: `ImageTextTask` or `TableTask`, whichever the caller can work with; None: both.

    Raises:
        ValueError: naming the known tasks of the family.
    """
    known: dict[str, Any] = {task.name: task for task in TASKS.values() if family is None or isinstance(task, family)}
    if not isinstance(name, str) or name not in known:  # a recipe may have a list there
        raise ValueError(f"Expected `task` to be one of {', '.join(known)}, found {name!r}.")
    return known[name]


__all__ = [
    "ALL_ROWS",
    "IMAGE_TEXT_PARTS",
    "TASKS",
    "ImageTextTask",
    "PreparedTable",
    "TableTask",
    "get_task",
    "label_ids_of_model",
    "place_convolutions",
]

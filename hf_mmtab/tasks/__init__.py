"""Task name → data, processor, model, collator. The only place that knows both families."""

from ..data.food101 import Food101
from ..data.image_text import ImageText
from ..data.mmimdb import MMIMDB
from ..data.vsnli import VSNLI
from .image_text import ALL_ROWS, IMAGE_TEXT_PARTS, ImageTextTask, label_ids_of_model, place_convolutions

TASKS = {
    task.name: task
    for task in (
        ImageTextTask("image_text", ImageText),
        ImageTextTask("mmimdb", MMIMDB),
        ImageTextTask("food101", Food101),
        ImageTextTask("vsnli", VSNLI, sentence_pairs=True),
    )
}


def get_task(name: str) -> ImageTextTask:
    """Return a task by name.

    Raises:
        ValueError: naming the known tasks.
    """
    if name not in TASKS:
        raise ValueError(f"Expected `task` to be one of {', '.join(TASKS)}, found {name!r}.")
    return TASKS[name]


__all__ = [
    "ALL_ROWS",
    "IMAGE_TEXT_PARTS",
    "TASKS",
    "ImageTextTask",
    "get_task",
    "label_ids_of_model",
    "place_convolutions",
]

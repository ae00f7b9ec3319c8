"""Data without pictures or without texts: what reads the other input alone takes the place of what reads both."""

from typing import Any

from transformers.utils import logging

from ...data.pictures.columns import NONE
from ...image_text_baselines import OF_IMAGE, OF_TEXT

logger = logging.get_logger(__name__)

# Architecture → what reads the same without pictures, and without texts; None: nothing does.
_WITHOUT: dict[str, dict[str, str | None]] = {
    "image_column": {
        "mmbt": "bert", "concatbert": "bert", "concatbow": "bow", "img": None, "ensemble": None, OF_IMAGE: None,
    },
    "text_column": {
        "mmbt": "img", "concatbert": "img", "concatbow": "img", "bert": None, "bow": None, "ensemble": None,
        OF_TEXT: None,
    },
}  # fmt: skip
_INPUT = {"image_column": ("pictures", "bert"), "text_column": ("texts", "img")}


def without_absent_input(recipe: Any) -> dict[str, Any]:
    """Return the architecture, and what it is compared with, of data without pictures or texts; say what is replaced.

    What goes on from a checkpoint, and mmbt with columns beside its text, stays: its picture is then a missing one.

    Args:
        recipe: of pictures and texts.

    Returns:
        Key → another value; empty where both inputs are there, or nothing would read the absent one.

    Raises:
        ValueError: if nothing could take the place of the architecture.
    """
    key = next((name for name in _WITHOUT if getattr(recipe.data, name) == NONE), None)
    if key is None:
        return {}
    (absent, remedy), instead, own = _INPUT[key], _WITHOUT[key], recipe.model.architecture
    model, taken = recipe.model, instead.get(own, own)
    beside = [name for name in ("number_columns", "category_columns") if own == "mmbt" and getattr(model, name)]
    beside += ["pretrained"] if model.pretrained is not None else []
    stays = taken not in (own, None) and bool(beside)
    if stays and key == "image_column":
        taken = own
        logger.info(f"{key}: none: each picture that {own} reads is a missing one.")
    elif stays or taken is None:
        also = f" with {' and '.join(beside)}" if stays else ""
        raise ValueError(
            f"Expected an architecture that reads no {absent}, as `{key}: none` says that there are none, found "
            f"{own}{also}. Take `--architecture {remedy}`{', and leave them out' if also else ''}, or name the column "
            f"in {key}."
        )
    compare = [instead.get(name, name) for name in recipe.run.compare if name != own]
    kept = [name for name in dict.fromkeys(compare) if name not in (None, taken)]
    replaced = [name for name in (own, *recipe.run.compare) if name in instead and name != taken]
    if not replaced:
        return {}
    also = f", beside {', '.join(kept)}" if kept else ""
    logger.info(f"{key}: none: {', '.join(dict.fromkeys(replaced))} would read {absent}; trained is {taken}{also}.")
    return {"architecture": taken, "compare": kept}


def absent_input_note(recipe: Any) -> str | None:
    """Return a line for the report on what the model reads where there are no pictures or no texts."""
    key = next((name for name in _WITHOUT if getattr(recipe.data, name) == NONE), None)
    if key is None:
        return None
    own, absent = recipe.model.architecture, _INPUT[key][0]
    does = f"each of those that {own} reads is a missing one" if own in _WITHOUT[key] else f"the model is {own}"
    return f"There are no {absent} (`{key}: none`): {does}."

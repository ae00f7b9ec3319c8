"""Which column holds the picture, the text(s) and the label(s)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers.utils import logging

from ..reading.column_names import near_names, tell_alike

logger = logging.get_logger(__name__)

AUTO, NONE = "auto", "none"
# Usual names, the likeliest first. The original's reader wants `img`; its own MM-IMDB script writes `image`.
IMAGE_NAMES = [
    "image", "img", "image_path", "img_path", "image_file", "picture", "photo", "file_name", "filename",
    "images", "pictures", "photos",
]  # fmt: skip
TEXT_NAMES = [
    "text", "description", "caption", "sentence", "content", "body", "plot", "overview", "synopsis",
    "title",
]  # fmt: skip
TEXT_NAMES += ["product_description", "product_title", "product_name"]
PAIR_NAMES = (("sentence1", "sentence2"), ("premise", "hypothesis"), ("text1", "text2"), ("text_a", "text_b"))
LABEL_NAMES = [
    "label", "labels", "class", "category", "categories", "target", "genre", "genres", "tags",
]  # fmt: skip


@dataclass(frozen=True)
class Columns:
    """Column names in the input; None: there is none."""

    image: str | None
    text: str | None
    text_pair: str | None
    label: str | None

    @property
    def used(self) -> set[str]:
        return {name for name in (self.image, self.text, self.text_pair, self.label) if name is not None}

    def read_by(self, config: Any) -> set[str]:
        """Return the columns that are read, with those of numbers and categories of an `ImageTextConfig`."""
        return self.used.union(config.number_columns, config.category_columns)

    @property
    def text_features(self) -> dict[str, str]:
        """Column of the built data set -> column of the input."""
        if self.text is None:
            return {}
        if self.text_pair is None:
            return {"text": self.text}
        return {"sentence1": self.text, "sentence2": self.text_pair}


def find_columns(
    found: Sequence[str],
    where: str,
    image: str | None = AUTO,
    text: str | None = AUTO,
    text_pair: str | None = AUTO,
    label: str | None = AUTO,
) -> Columns:
    """Choose the columns: as named, or the first of the usual names that is there (case does not matter).

    Args:
        found: column names of the input.
        where: file name, for the messages.
        image, text, text_pair, label: a column name, "auto", or None (in recipes "none") for input without it.

    Raises:
        ValueError: if a named column is not there, or none of the usual names is.
    """
    if text == AUTO and text_pair == AUTO:
        for first, second in PAIR_NAMES:
            if _match(found, first) and _match(found, second):
                text, text_pair = _match(found, first), _match(found, second)
                break
    columns = Columns(
        image=_choose(found, where, "image", "picture", image, IMAGE_NAMES),
        text=_choose(found, where, "text", "text", text, TEXT_NAMES),
        text_pair=_choose(found, where, "text_pair", "second text", None if text_pair == AUTO else text_pair, ()),
        label=_choose(found, where, "label", "label(s)", label, LABEL_NAMES),
    )
    if columns.image is None and columns.text is None:
        raise ValueError("Expected a picture or a text column, found both set to None. Name at least one.")
    tell_alike(found, columns.used, where)
    logger.info(f"{where}: {columns}")
    return columns


def _match(found: Sequence[str], name: str) -> str | None:
    if name in found:
        return name
    return next((column for column in found if column.lower() == name), None)


def _choose(
    found: Sequence[str], where: str, role: str, what: str, name: str | None, usual: Sequence[str]
) -> str | None:
    if name is None or (name == NONE and name not in found):
        return None
    if name != AUTO:
        if name in found:
            return name
        raise ValueError(
            f"Expected column {name!r} for the {what}, found columns {sorted(found)} in {where}."
            f"{near_names([name], found)} Correct {role}_column."
        )
    for candidate in usual:
        match = _match(found, candidate)
        if match is not None:
            return match
    if held := next((one for one in ";\t|" if any(one in name for name in found)), None):
        raise ValueError(
            f"Expected a column for the {what} named like one of {list(usual)}, found columns {sorted(found)} in "
            f"{where}, whose names hold {'a tab' if held == chr(9) else repr(held)}. If it parts the columns: "
            f"`separator: {json.dumps(held)}`."
        )
    hint = " A file without labels is for `predict`: take it out of the folder." if role == "label" else ""
    raise ValueError(
        f"Expected a column for the {what} named like one of {list(usual)}, found columns {sorted(found)} in "
        f"{where}. Name it with {role}_column; set that to {NONE} (None in Python) if there is none.{hint}"
    )

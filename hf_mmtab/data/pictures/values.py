"""One value of a record -> a picture, a text, or labels; or the problem with it."""

import ast
import json
import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from transformers.utils import logging

logger = logging.get_logger(__name__)

LARGEST = 3.4028234663852886e38  # of float32
MOST = 2**63
LONGEST_LIST = 10_000  # characters of a text that may be a list of labels
# As pandas, spreadsheets and people write no value; such a class is probably none.
MISSING_NAMES = frozenset({"na", "n/a", "nan", "null", "none", "<na>"})
_DECIMAL_COMMA = re.compile(r"[^\d,]{0,4}[\d.' ]*\d,\d+[^\d,]{0,4}")  # 55,79 and € 1.234,50
_NUMBER = re.compile(r"[+-]?\d{1,30}(\.\d{1,30})?")
_ITEM = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|-?\d{1,18}(?:\.\d{1,18})?)"""
_LIST = re.compile(rf"[\[({{]\s*(?:{_ITEM}\s*(?:,\s*{_ITEM}\s*)*,?\s*)?[\])}}]")
_BRACKETS = ("[]", "()", "{}")


class ValueProblem(ValueError):
    """What is wrong with one value: what was expected and what to do about it."""

    def __init__(self, expected: str, remedy: str):
        super().__init__(expected)
        self.expected = expected
        self.remedy = remedy


def picture_value(value: Any, folder: Path) -> dict[str, Any] | None:
    """Return `{"bytes", "path"}`, None for no picture (null or empty). Relative paths start at `folder`."""
    if value is None or value == "":
        return None
    if isinstance(value, bytes):
        return {"bytes": value, "path": None}
    if isinstance(value, dict) and (value.get("bytes") is not None or value.get("path")):
        path = value.get("path")
        if value.get("bytes") is not None:
            return {"bytes": value["bytes"], "path": path}
        value = path
    if isinstance(value, dict) and not any(value.values()):
        return None
    if not isinstance(value, str):
        raise ValueProblem(
            "a picture as path, bytes or null, or a list of them",
            "Write one path (or null), or a list of paths, for each record.",
        )
    if "://" in value:
        raise ValueProblem("the path of a local picture", "Download the pictures first; URLs are not fetched.")
    return {"bytes": None, "path": str(folder / value)}


def picture_values(value: Any, folder: Path) -> list[dict[str, Any] | None]:
    """Return the pictures of a record in their order: one, or several in a list, which may have gaps."""
    return [picture_value(one, folder) for one in (value if isinstance(value, list | tuple) else [value])]


def text_value(value: Any) -> str:
    """Return the text, "" for null."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueProblem("a text (str)", "Write one string for each record.")
    return value


def number_remedy(cell: Any) -> str:
    """Return what to do about a cell that is no number."""
    if isinstance(cell, str) and _DECIMAL_COMMA.fullmatch(cell.strip()):
        return "Write numbers with a decimal point, and without marks of thousands: 1234.5."
    return "Correct it, leave it empty, or name the column in category_columns."


def check_number(value: Any) -> None:
    """Raise a ValueProblem unless a cell is a number, as one or as text, or empty."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return
    remedy = number_remedy(value)
    try:
        number = float(str(value).replace("_", "?") if isinstance(value, str) else value)
    except (TypeError, ValueError):
        raise ValueProblem("a number, as number_columns says", remedy) from None
    if abs(number) > LARGEST:
        raise ValueProblem("a number of at most 3.4e38, as number_columns says", remedy)


def check_category(value: Any) -> None:
    """Raise a ValueProblem unless a cell is a single value."""
    if isinstance(value, list | tuple | dict):
        raise ValueProblem("a single value, as category_columns says", "Write a text, or leave the column out.")


def label_values(
    value: Any, separator: str | None, names: Sequence[str] | None, missing: Collection[str] = ()
) -> tuple[list[str], bool]:
    """Return the labels of a record, without doubles, and whether they came as a list.

    Args:
        value: str, whole number or bool for one label; a list of them, or a text that is written as one
            (`["a", "b"]`, or `['a', 'b']` as pandas writes lists, tuples and sets into CSV), for several.
        separator: splits a str into several labels, e.g. "|" in CSV.
        names: label names by number, if the column holds class numbers (`ClassLabel` in Parquet).
        missing: texts in a list that are no label.
    """
    written = written_list(value)
    value = value if written is None else written
    several = isinstance(value, list | tuple)
    if separator is not None and isinstance(value, str):
        value, several = [part.strip() for part in value.split(separator) if part.strip()], True
    given = [one for one in value if one not in missing] if several else [value]
    labels = [_label(one, names) for one in given]
    return list(dict.fromkeys(labels)), several


def written_list(value: Any) -> list[Any] | None:
    """Return the labels of a text that is written as a list of texts or numbers; None: it is none."""
    text = value.strip() if isinstance(value, str) else ""
    if text[:1] + text[-1:] not in _BRACKETS or len(text) > LONGEST_LIST or not _LIST.fullmatch(text):
        return None
    if text[0] == "(" and text[1:-1].strip() and "," not in text and not re.search("['\"]", text):
        return None  # (1): a number in brackets
    for read in (json.loads, ast.literal_eval):
        try:
            return read(f"[{text[1:-1]}]")
        except (SyntaxError, ValueError):  # the other way to write one, or an escape of neither
            continue
    return None


def tell_odd_classes(names: Sequence[str]) -> None:
    """Warn of classes that are probably none: missing values, lists and numbers to estimate, as texts write them."""
    odd = {
        "missing values": ([name for name in names if name.strip().lower() in MISSING_NAMES], "name them in `missing`"),
        "lists": ([name for name in names if _is_like_a_list(name)], 'write them as ["a", "b"]'),
        "numbers with fractions": (
            [name for name in names if _NUMBER.fullmatch(name) and not float(name).is_integer()],
            "use a table with a label of numbers (task: table)",
        ),
    }
    for what, (found, remedy) in odd.items():
        if found:
            shown = ", ".join(map(repr, found[:5])) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
            logger.warning(f"Labels that look like {what} are classes of their own: {shown}. If not meant, {remedy}.")


def tell_joined_classes(names: Sequence[str]) -> None:
    """Warn of classes that are probably several labels each, joined by a sign: most have it, and share their parts."""
    for sign in "|;,":
        parts = Counter(part.strip() for name in names for part in set(name.split(sign)))
        shared = [part for part, count in parts.items() if part and count > 1]
        joined = [name for name in names if sign in name]
        if 2 * len(joined) > len(names) and 2 * len(shared) >= len(parts):
            told = ", ".join(map(repr, joined[:5])) + (f" and {len(joined) - 5} more" if len(joined) > 5 else "")
            logger.warning(
                f"Labels that look like several joined by {sign!r} are classes of their own: {told}. If not meant, "
                f'`label_separator: "{sign}"` parts them.'
            )


def _is_like_a_list(name: str) -> bool:
    brackets = name[:1] + name[-1:]
    return brackets == "[]" or (brackets in _BRACKETS and bool(re.search("[,'\"]", name)))


def _label(value: Any, names: Sequence[str] | None) -> str:
    if isinstance(value, float):
        if math.isnan(value):  # what pandas writes for no label
            value = None
        elif value.is_integer() and abs(value) < MOST:  # and for whole numbers beside it
            value = int(value)
        else:
            raise ValueProblem(
                "a label as text or whole number, the name of a class",
                "Write classes as texts; numbers to estimate, such as prices, are labels of tables (task: table).",
            )
    if isinstance(value, int) and names is not None:
        if not 0 <= value < len(names):
            raise ValueProblem(f"a class number below {len(names)}", "Correct the number, or leave the record out.")
        return names[value]
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, int):
        return str(value)
    raise ValueProblem(
        "a label as str, or a list of str for several labels", "Write the label's name; leave out unlabelled records."
    )


def order_labels(counts: dict[str, int], order: str) -> list[str]:
    """Return label names in the wanted order.

    Args:
        counts: label -> number of training records, in order of first occurrence.
        order: "alphabetical" (whole numbers by value), "first" (occurrence; the original's) or "frequency".
    """
    labels = list(counts)
    if order == "first":
        return labels
    if order == "frequency":
        return sorted(labels, key=lambda label: -counts[label])
    if order == "alphabetical":
        whole = all(label.lstrip("-").isdecimal() for label in labels)
        return sorted(labels, key=int) if whole else sorted(labels)
    raise ValueError(f'Expected label_order to be "alphabetical", "first" or "frequency", found {order!r}.')

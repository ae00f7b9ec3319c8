"""Names of columns that differ by what a person may not see: upper case, blanks around, how an accent is written."""

import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from transformers.utils import logging

logger = logging.get_logger(__name__)


def tell_alike(names: Sequence[str], used: Collection[str], where: str) -> None:
    """Warn about columns whose names look alike, where one of them is read.

    Args:
        names: of all columns of a file.
        used: those that are read.
        where: the file, for the message.
    """
    alike = defaultdict(list)
    for name in names:
        alike[_plain(name)].append(name)
    for some in alike.values():
        if len(some) > 1 and not set(some).isdisjoint(used):
            logger.warning_once(
                f"Columns {_written(some)} of {where!r} are different columns, whose names differ by upper case, "
                "blanks or the form of an accent alone. Rename or remove one of them if they were meant to be one."
            )


def near_names(absent: Iterable[str], given: Sequence[str]) -> str:
    """Return a sentence that names the columns that are given in place of absent ones; empty if there are none."""
    near = {name: [one for one in given if _plain(one) == _plain(name)] for name in absent}
    pairs = [f"{_written([name])} is not {_written(some)}" for name, some in near.items() if some]
    told = "the names differ by upper case, blanks or the form of an accent"
    return f" {', '.join(pairs[:3])}: {told}." if pairs else ""


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", str(name)).casefold()).strip()


def _written(names: Sequence[str]) -> str:
    return ", ".join(repr(name) if name.isascii() else f"{name!r} ({name!a})" for name in map(str, names))

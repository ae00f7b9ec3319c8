"""Values → Markdown in which they are text and nothing else."""

import re
from typing import Any

from markupsafe import Markup

_MARKS = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.")
_STARTS = re.compile(r"^(\s*|\s*\d+(?=[.)]))(#|[-+](?=\s|$)|[-=](?=[-=]*\s*$)|(?<=\d)[.)](?=\s|$))")


def plain(value: Any) -> str:
    """Return a value as one line that Markdown shows letter by letter: names and texts are data, never markup."""
    if isinstance(value, Markup):  # made here, or by the card's own code
        return str(value)
    text = re.sub(r"[\s\x00-\x1f\x7f]+", " ", str(value))
    text = _MARKS.sub(lambda mark: "\\" + mark[0], text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _STARTS.sub(r"\1\\\2", text)


def code(value: Any) -> Markup:
    """Return a value as code within a line; not for tables, whose cells end at a `|`."""
    text = re.sub(r"\s+", " ", str(value))
    ticks = "`" * (_longest_run(text) + 1)
    pad = " " if "`" in text else ""
    return Markup(f"{ticks}{pad}{text}{pad}{ticks}")


def fenced(value: Any, language: str = "text") -> Markup:
    """Return a text of several lines as a block of code that nothing in it can end."""
    text = str(value).strip("\n")
    fence = "`" * max(3, _longest_run(text) + 1)
    return Markup(f"{fence}{language}\n{text}\n{fence}")


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)

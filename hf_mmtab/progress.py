"""Progress bars, which are plain lines where the output is no terminal."""

import re
import sys
from functools import partialmethod
from typing import Any

from tqdm.auto import tqdm

SECONDS = 30.0  # between two lines
LINE = "{desc}: {n_fmt} of {total_fmt}{unit} ({percentage:.0f} %), {elapsed} gone, {remaining} left"
_PLAIN: set[type] = set()  # classes of bars that write lines
_OF_UNKNOWN = re.compile(r" of \?(.*) \(0 %\)(, .* gone), .* left$")  # what LINE becomes without a total


class _Lines:
    """Standard error as a file in which each state of a bar is a line of its own."""

    def write(self, text: str) -> None:
        line = _OF_UNKNOWN.sub(r"\1\2", text.strip("\r\n "))
        if line:
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress_bar(*args: Any, **kwargs: Any) -> Any:
    """Return a `tqdm` bar; without a terminal (a file, a scheduler's log) one that writes a line every half minute.

    Args:
        args, kwargs: of `tqdm`.
    """
    return tqdm(*args, **kwargs) if _has_bars() or kwargs.get("disable") else tqdm(*args, **kwargs | _as_lines())


def make_bars_plain(kind: type[tqdm]) -> None:
    """Let the bars of a library, which ask for no file, be such lines too; on a terminal they stay as they are.

    Args:
        kind: the library's own class of bars.
    """
    if not _has_bars() and kind not in _PLAIN:  # once, however many commands a process runs
        _PLAIN.add(kind)
        kind.__init__ = partialmethod(kind.__init__, **_as_lines())  # type: ignore[method-assign]


def _has_bars() -> bool:
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def _as_lines() -> dict[str, Any]:
    times = dict.fromkeys(("mininterval", "maxinterval", "delay"), SECONDS)
    return {"dynamic_ncols": False, "leave": False, "file": _Lines(), "bar_format": LINE, **times}

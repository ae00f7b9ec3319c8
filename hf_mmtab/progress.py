"""Progress bars, which are plain lines where the output is no terminal."""

import sys
from typing import Any

from tqdm.auto import tqdm

SECONDS = 30.0  # between two lines
LINE = "{desc}: {n_fmt} of {total_fmt}{unit} ({percentage:.0f} %), {elapsed} gone, {remaining} left"


class _Lines:
    """Standard error as a file in which each state of a bar is a line of its own."""

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line:
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress_bar(*args: Any, **kwargs: Any) -> Any:
    """Return a `tqdm` bar; without a terminal (a file, a scheduler's log) one that writes a line every half minute.

    Args:
        args, kwargs: of `tqdm`.
    """
    if sys.stderr.isatty() or "ipykernel" in sys.modules or kwargs.get("disable"):
        return tqdm(*args, **kwargs)
    kwargs |= {"dynamic_ncols": False, "leave": False}
    return tqdm(
        *args, **kwargs, file=_Lines(), bar_format=LINE, mininterval=SECONDS, maxinterval=SECONDS, delay=SECONDS
    )

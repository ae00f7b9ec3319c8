"""MMBT and TabBERT, native to Hugging Face Transformers.

Importing the package makes the Auto classes and `transformers.pipeline` know both. Only the command line puts that off:
it answers `--help` without torch and transformers.
"""

import sys
from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def _is_command_line() -> bool:
    """Whether this process is `hf-mmtab …` or `python -m hf_mmtab …`."""
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # the module that python runs is being looked up
        given = sys.orig_argv
        return "-m" in given and given[given.index("-m") + 1 :][:1] == ["hf_mmtab"]
    return program.replace("\\", "/").rpartition("/")[2].removesuffix(".exe") == "hf-mmtab"


if not _is_command_line():
    from .api import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """Find in the command line's process what is not imported yet."""
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(import_module(".api", __name__), name)

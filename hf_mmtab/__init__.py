"""MMBT and TabBERT, native to Hugging Face Transformers.

Importing the package makes the Auto classes and `transformers.pipeline` know both. Two imports put that off until
something else of the package is asked for: the command line's, which answers `--help` without torch and transformers,
and `import hf_mmtab.serving`, which works where neither is installed. Workers of `prepare` on Ray do without them too.
"""

import os
import sys
from importlib import import_module
from typing import Any

from .light import LIGHT, leave_models_out

__version__ = "0.1.0"


def _is_command_line() -> bool:
    """Whether this process is `hf-mmtab …` or `python -m hf_mmtab …`."""
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # the module that python runs is being looked up
        given = sys.orig_argv
        return "-m" in given and given[given.index("-m") + 1 :][:1] == ["hf_mmtab"]
    return program.replace("\\", "/").rpartition("/")[2].removesuffix(".exe") == "hf-mmtab"


def _is_for_serving() -> bool:
    """Whether `import hf_mmtab.serving`, or of a module in it, is what imports this package."""
    frame: Any = sys._getframe()
    while frame is not None:  # Python imports a package before its modules, and tells it nothing of them
        name = str(frame.f_locals.get("name")) if frame.f_code.co_name == "_find_and_load" else ""
        if f"{name}.".startswith(f"{__name__}.serving."):
            return True
        frame = frame.f_back
    return False


if os.environ.get(LIGHT):
    leave_models_out()
elif not _is_command_line() and not _is_for_serving():
    from .api import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """Find what the command line or a service has not imported yet."""
    if name.startswith("__") and name != "__all__":
        raise AttributeError(name)
    api = import_module(".api", __name__)
    return [one for one in vars(api) if one[0] != "_"] if name == "__all__" else getattr(api, name)

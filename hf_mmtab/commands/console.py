"""What a command says to the person who started it, apart from the log."""

import logging
import platform
import sys
from importlib.metadata import version

REPORTED = ("hf-mmtab", "torch", "transformers", "datasets", "accelerate")


def say(text: str, speaks: bool = True) -> None:
    """Write a line to standard output, on the process that speaks."""
    if speaks:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def start_logging() -> None:
    """Show what this package logs from INFO on; transformers and the rest keep to warnings."""
    logger = logging.getLogger("hf_mmtab")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
        logger.propagate = False


def versions() -> dict[str, str]:
    """Return the versions that a run depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in REPORTED}}

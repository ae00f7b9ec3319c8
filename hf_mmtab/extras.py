"""Packages that only some uses need, each of an extra."""

from importlib import import_module
from typing import Any


def import_extra(module: str, purpose: str, extra: str) -> Any:
    """Return a module.

    Args:
        module: to import.
        purpose: what it is needed for.
        extra: of this package, that installs it.

    Raises:
        ModuleNotFoundError: with the command that installs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ModuleNotFoundError(
            f"Expected the package {module.partition('.')[0]} for {purpose}, found none. Install it: "
            f'`pip install "hf-mmtab[{extra}]"`.'
        ) from error

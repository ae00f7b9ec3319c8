"""`hf_mmtab.make_standalone` on the folder of a run, whose list of files follows."""

from functools import wraps
from pathlib import Path

from .. import publishing
from .runs.inventory import inventory_kept


@wraps(publishing.make_standalone)
def make_standalone(folder: str | Path) -> list[str]:
    with inventory_kept(Path(folder)):
        return publishing.make_standalone(folder)

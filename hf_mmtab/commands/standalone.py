"""`hf_mmtab.make_standalone` on the folder of a run, whose list of files follows."""

from functools import wraps
from pathlib import Path

from .. import publishing
from .runs.inventory import files_listed


@wraps(publishing.make_standalone)
def make_standalone(folder: str | Path) -> list[str]:
    with files_listed(Path(folder), refuse=False):
        return publishing.make_standalone(folder)

"""Exports that several test files read."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from exported_models import save_pairs, save_table
from filelock import FileLock

from hf_mmtab.exporting import export_checkpoint

SAVED = {"pairs": save_pairs, "table": lambda folder: save_table(folder / "model", label_level="window")}


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Callable[[str], Path]:
    """Give the folder of a saved `model` and its export `out`, made once for all test processes."""
    own = tmp_path_factory.getbasetemp()
    root = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def folder_of(kind: str) -> Path:
        folder = root / f"exported-{kind}"
        folder.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not (folder / "out").exists():
                export_checkpoint(SAVED[kind](folder), folder / "out")
        return folder

    return folder_of

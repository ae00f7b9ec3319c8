"""`hf_mmtab.make_standalone` on the folder of a run, whose list of files follows."""

from pathlib import Path

from .. import publishing
from .runs.inventory import inventory_kept


def make_standalone(folder: str | Path) -> list[str]:
    """Copy the code of a checkpoint's model, processor and pipeline beside its weights, and name it in `auto_map`.

    Such a folder loads with transformers, torch and torchvision alone (tables: polars and pyarrow too):
    `AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)`, likewise `AutoProcessor` and
    `pipeline`. Here, where the package is, it loads as before.

    Args:
        folder: that model and processor were saved to.

    Returns:
        The names of the files that were copied; empty where the code was there already.

    Raises:
        ValueError: if the folder holds no model of this package.
    """
    with inventory_kept(Path(folder)):
        return publishing.make_standalone(folder)

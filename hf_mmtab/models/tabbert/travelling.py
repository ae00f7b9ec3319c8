"""Checkpoints that load wherever transformers and this package are installed, imported or not.

Each saved configuration and processor names its classes in `auto_map`, and beside it lies a small file that imports
them: `AutoModel….from_pretrained(folder, trust_remote_code=True)` works without `import hf_mmtab`, and says what to
install where the package is absent.

This file stands in both model folders, the same to the letter (a test compares them): each folder travels alone with
its checkpoints.
"""

import os
from pathlib import Path
from typing import Any

PREFIX = "hf_mmtab_"  # of code beside a model that this package wrote: nobody else's file has such a name
LOADER_NAME = f"{PREFIX}classes"
LOADER = '''"""The classes of this checkpoint; they come from the package hf-mmtab."""

try:
    from hf_mmtab import *
except ImportError as error:
    raise ImportError("This checkpoint needs the package hf-mmtab. Install it: pip install hf-mmtab") from error
'''


class TravellingMixin:
    """Goes before transformers' class of a configuration or a processor.

    Where `register_for_auto_class` was called, transformers copies the code of the class instead: such a checkpoint
    stands alone.
    """

    _auto_class: Any
    auto_map: dict[str, str]

    def _travels_as(self) -> dict[str, str]:
        """Return Auto class → name of the class that it gives for this checkpoint."""
        raise NotImplementedError

    def auto_classes(self) -> dict[str, str]:
        """Return Auto class → where it finds the class, as `auto_map` says it."""
        return {auto: f"{LOADER_NAME}.{name}" for auto, name in self._travels_as().items()}

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        """Save as transformers does, with the names of the classes and the file that imports them."""
        if self._auto_class is None and not os.path.isfile(save_directory):
            before = getattr(self, "auto_map", None) or {}
            copied = {auto: where for auto, where in before.items() if PREFIX not in str(where)}
            self.auto_map = {**self.auto_classes(), **copied}  # code that transformers copied goes first
            Path(save_directory).mkdir(parents=True, exist_ok=True)
            (Path(save_directory) / f"{LOADER_NAME}.py").write_text(LOADER, encoding="utf-8")
        # The pipeline of a standalone checkpoint: saving again copies the code of model and processor alone.
        vars(self).pop("custom_pipelines", None)
        return super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]

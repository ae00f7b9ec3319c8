"""Checkpoints that load wherever transformers and this package are installed, imported or not.

Each saved configuration and processor names its classes in `auto_map`, and beside it lies a small file that imports
them: `AutoModel….from_pretrained(folder, trust_remote_code=True)` works without `import hf_mmtab`, and says what to
install where the package is absent. Or the code of the classes lies there itself, in files that import one another.
"""

import ast
import inspect
import os
import sys
from collections.abc import Iterable
from importlib import import_module
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


def is_of_package(kind: type) -> bool:
    """Whether a class is this package's own: neither a copy of it beside a checkpoint, nor a user's subclass."""
    return kind.__module__.startswith("hf_mmtab.")


class TravellingMixin:
    """Goes before transformers' class of a configuration or a processor."""

    _auto_class: Any
    _stands_alone = False
    auto_map: dict[str, str]

    @classmethod
    def register_for_auto_class(cls, *args: Any, **kwargs: Any) -> None:
        """Let saved checkpoints carry the code of their classes, as `hf_mmtab.make_standalone` puts it there.

        Transformers' own way copies a module and those in its folder: it serves subclasses, and copies of this code.
        """
        if is_of_package(cls):
            cls._stands_alone = True
        else:
            super().register_for_auto_class(*args, **kwargs)  # type: ignore[misc]

    def _travels_as(self) -> dict[str, str]:
        """Return Auto class → name of the class that it gives for this checkpoint."""
        raise NotImplementedError

    def auto_classes(self) -> dict[str, str]:
        """Return Auto class → where it finds the class, as `auto_map` says it."""
        return {auto: f"{LOADER_NAME}.{name}" for auto, name in self._travels_as().items()}

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        """Save as transformers does, with the names of the classes, and the file that imports them or their code."""
        folder = Path(save_directory)
        if folder.is_file():
            raise ValueError(
                f"Expected a folder to save in, found a file at {str(save_directory)!r}. Choose another name."
            )
        if self._auto_class is None:
            before = getattr(self, "auto_map", None) or {}
            copied = {auto: where for auto, where in before.items() if PREFIX not in str(where)}
            self.auto_map, files = self.auto_classes(), {f"{LOADER_NAME}.py": LOADER}
            if self._stands_alone:
                kinds = {auto: class_named(name) for auto, name in self._travels_as().items()}
                self.auto_map = {auto: place_of(kind) for auto, kind in kinds.items()}
                files = code_of(kinds.values())
            self.auto_map |= copied  # code that transformers copied goes first
            folder.mkdir(parents=True, exist_ok=True)
            for name, source in files.items():
                (folder / name).write_text(source, encoding="utf-8")
        # The pipeline of a standalone checkpoint: saving again copies the code of model and processor alone.
        vars(self).pop("custom_pipelines", None)
        return super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]


def class_named(name: str) -> type:
    """Return a class of this package by its name."""
    return getattr(import_module("hf_mmtab"), name)


def place_of(kind: type) -> str:
    """Return `module.Class` of a class whose code lies beside a checkpoint."""
    return f"{PREFIX}{Path(inspect.getfile(kind)).stem}.{kind.__name__}"


def code_of(kinds: Iterable[type]) -> dict[str, str]:
    """Return file name → source of the modules of classes and of all that they import from this package."""
    copied: dict[Path, str] = {}
    libraries: dict[Path, set[str]] = {}
    for kind in kinds:
        _copy(Path(inspect.getfile(kind)), copied, libraries)
    sources = {f"{PREFIX}{file.name}": source for file, source in copied.items()}
    assert len(sources) == len(copied), f"two modules of one name: {sorted(copied)}"
    return sources


def _copy(file: Path, copied: dict[Path, str], libraries: dict[Path, set[str]]) -> set[str]:
    """Add a module, and those that it imports by relative imports, to the flat copy.

    Transformers looks for absent libraries in the one file that it opens: each names those of the files behind it too.

    Args:
        file: of the module.
        copied: module of this package → its source in the copy.
        libraries: module → the libraries that it and those behind it import at their top.

    Returns:
        The libraries of this module.
    """
    if file in copied:
        return libraries[file]
    source = file.read_text(encoding="utf-8")
    lines = source.splitlines(keepends=True)
    tree = ast.parse(source)
    tops = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    tops |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom) and not node.level}
    own = {name.partition(".")[0] for name in tops} - sys.stdlib_module_names
    copied[file], libraries[file] = "", set(own)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.module is not None, f"{file} imports a folder"
            imported = file.parents[node.level - 1].joinpath(*node.module.split("."))
            written = "." * node.level + node.module
            flat = f".{PREFIX}{imported.name}"
            lines[node.lineno - 1] = lines[node.lineno - 1].replace(f"from {written} ", f"from {flat} ", 1)
            libraries[file] |= _copy(imported.with_suffix(".py"), copied, libraries)
    more = [f"import {name}  # noqa: E402, F401\n" for name in sorted(libraries[file] - own)]
    copied[file] = "".join([*lines, *more])
    return libraries[file]

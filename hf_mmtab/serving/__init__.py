"""Exported models without torch and transformers: `Predictor`, and the application of `hf-mmtab serve`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path


@contextmanager
def _models_left_out() -> Iterator[None]:
    """Let files of the model folders be imported without the folders' `__init__`, which imports torch."""
    names = [f"hf_mmtab.models.{family}" for family in ("mmbt", "tabbert")]
    bare = [name for name in names if name not in sys.modules]
    for name in bare:
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(Path(__file__).parents[1].joinpath(*name.split(".")[1:]))]
        sys.modules[name] = module_from_spec(spec)
    try:
        yield
    finally:
        for name in bare:
            del sys.modules[name]


with _models_left_out():
    from .predictor import Predictor

__all__ = ["Predictor"]

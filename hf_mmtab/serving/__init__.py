"""Exported models without torch and transformers: `Predictor`, and the application of `hf-mmtab serve`."""

import sys

from ..light import leave_models_out

_bare = leave_models_out()
try:
    from .predictor import Predictor
finally:
    for _name in _bare:
        del sys.modules[_name]

__all__ = ["Predictor"]

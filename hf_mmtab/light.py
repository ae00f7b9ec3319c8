"""Files of the model folders without torch and transformers: what a service and workers of `prepare` import."""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path

LIGHT = "HF_MMTAB_LIGHT"  # environment variable of a process that needs no model


def leave_models_out() -> list[str]:
    """Let files of the model folders be imported without the folders' `__init__`, which imports torch.

    Returns:
        The modules that stand in `sys.modules` for the folders; where they are removed the folders come back.
    """
    names = [f"hf_mmtab.models.{family}" for family in ("mmbt", "tabbert")]
    bare = [name for name in names if name not in sys.modules]
    for name in bare:
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(Path(__file__).parent.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = module_from_spec(spec)
    return bare

"""transformers' own test suites, from its source distribution: fetched into the user's cache, never committed."""

import importlib
import subprocess
import sys
import tarfile
import types
from pathlib import Path

import transformers

CACHE = Path.home() / ".cache" / "hf_mmtab_tests"
FOLDER = CACHE / f"transformers-{transformers.__version__}" / "tests"
# Suites that the distribution leaves out: tests of exporting and generating, which no class of ours takes part in.
LEFT_OUT = {"exporters.test_export": "ExportTesterMixin", "generation.test_utils": "GenerationTesterMixin"}


def fetch() -> str | None:
    """Download and unpack the tests of the installed transformers; return why that is impossible, or None."""
    if FOLDER.is_dir():
        return None
    CACHE.mkdir(parents=True, exist_ok=True)
    name = f"transformers=={transformers.__version__}"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-binary",
        ":all:",
        "--no-deps",
        "--no-build-isolation",
        name,
    ]
    asked = subprocess.run([*command, "--dest", str(CACHE)], capture_output=True, text=True, timeout=300)
    archive = CACHE / f"transformers-{transformers.__version__}.tar.gz"
    if not archive.is_file():
        return f"no source distribution of {name}: {asked.stderr.strip()[-200:]}"
    with tarfile.open(archive) as file:
        wanted = [one for one in file.getmembers() if "/tests/" in one.name]
        if not wanted:
            return f"the source distribution of {name} holds no tests"
        file.extractall(CACHE, wanted, filter="data")
    return None


def load(name: str) -> types.ModuleType:
    """Import one of the suites, such as `test_modeling_common`."""
    package = types.ModuleType("transformers_tests")
    package.__path__ = [str(FOLDER)]
    sys.modules.setdefault("transformers_tests", package)
    for path, mixin in LEFT_OUT.items():
        if not (FOLDER / path.replace(".", "/")).with_suffix(".py").is_file():
            module = types.ModuleType(f"transformers_tests.{path}")
            setattr(module, mixin, type(mixin, (), {}))
            sys.modules[module.__name__] = module
    files = types.ModuleType(
        "fetch_hub_objects_for_ci"
    )  # a script of their servers: files that tests of pictures fetch
    files.url_to_local_path = lambda address: address  # type: ignore[attr-defined]
    sys.modules.setdefault(files.__name__, files)
    return importlib.import_module(f"transformers_tests.{name}")

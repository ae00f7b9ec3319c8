"""Where the shared fixtures lie, offline mode, one thread per test process, and what makes tiny runs quick."""

import gc
import os
import sys
import time
from functools import cache, partial
from pathlib import Path

import pytest
import yaml

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: small tensors gain nothing from threads
os.environ.setdefault("POLARS_MAX_THREADS", "1")  # nor do small tables

SHARED = Path(os.environ.get("HF_MMTAB_SHARED", Path(__file__).resolve().parents[2] / "shared"))

# Half a minute and more each where slow tests run, and late in the order of names: a process would end with one alone.
LONGEST = (
    "test_transformers_suites.py", "test_two_processes.py", "test_ray_engine.py", "test_example_scripts.py",
    "test_travelling.py", "test_hub.py", "test_export.py",
)  # fmt: skip

yaml.safe_load = partial(yaml.load, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # a run asks for ten texts
os.fsync = lambda file: None  # no test loses power; a tiny run waits for the disk some fifty times


class KeptImports:
    """Takes out of garbage collection what is left by one that was long: modules that a test imported, mostly."""

    LONG = 0.05  # seconds of CPU: some hundred thousand objects

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if info["generation"] == 2 and phase == "start":
            self.began = time.process_time()
        elif info["generation"] == 2 and time.process_time() - self.began > self.LONG:
            gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Import without garbage collection, a fifth of the time of it, and take what the imports made out of it: each
    training starts with one, half a second long. What a test makes is small, and those of each training take it away.
    """
    gc.disable()
    collected = yield
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    gc.callbacks.append(KeptImports())
    gc.enable()
    if packages := sys.modules.get("accelerate.utils.imports"):  # each training asks for fifty of them
        packages._is_package_available = cache(packages._is_package_available)
    return collected


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, so that the two processes end with short ones, together."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def _shared_folder(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(
            f"needs the shared fixtures: no folder {name!r} beside the checkout (set HF_MMTAB_SHARED to where it is)"
        )
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """Numbers recorded from the original implementations (`../shared/golden`)."""
    return _shared_folder("golden")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data (`../shared/data`)."""
    return _shared_folder("data")


@pytest.fixture(scope="session")
def shared_tools() -> Path:
    """Generators and converters (`../shared/tools`)."""
    return _shared_folder("tools")


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """Small files committed with the tests."""
    return Path(__file__).resolve().parent / "fixtures"

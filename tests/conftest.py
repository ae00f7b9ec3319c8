"""Where the shared fixtures lie, offline mode, one thread per test process, and what makes tiny runs quick."""

import gc
import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: small tensors gain nothing from threads

SHARED = Path(os.environ.get("HF_MMTAB_SHARED", Path(__file__).resolve().parents[2] / "shared"))

os.fsync = lambda file: None  # no test loses power; a tiny run waits for the disk some fifty times


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Import without garbage collection, a fifth of the time of it, and take what the imports made out of it: each
    training starts with one, half a second long.
    """
    gc.disable()
    collected = yield
    gc.collect()
    gc.freeze()
    gc.enable()
    return collected


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that the two processes end with short ones, together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


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

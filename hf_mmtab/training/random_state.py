"""Work beside the training that leaves its random numbers alone."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def keep_random_state() -> Iterator[None]:
    """Restore the global generators of Python, numpy and torch (CPU and all accelerators) at the end."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    kind = "cuda" if accelerator is None else accelerator.type
    # Before its first use a device has drawn nothing; MPS cannot tell, and evaluation draws nothing on a device.
    is_used = getattr(torch.get_device_module(kind), "is_initialized", lambda: False)
    devices = range(torch.accelerator.device_count()) if accelerator and is_used() else ()
    try:
        with torch.random.fork_rng(devices=devices, device_type=kind):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002

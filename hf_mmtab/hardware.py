"""Which cores of the machine this process may use."""

import math
import os
from pathlib import Path

import torch
from transformers.utils import logging

logger = logging.get_logger(__name__)

QUOTA_FILE = Path("/sys/fs/cgroup/cpu.max")
SET_BY_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def allowed_cores(quota_file: Path = QUOTA_FILE) -> int:
    """Return the number of cores, at least 1, that affinity and a container's quota allow this process.

    Args:
        quota_file: of the control group: microseconds of computation (or `max`), and of the period.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    if quota_file.is_file():
        quota, _, period = quota_file.read_text(encoding="ascii").partition(" ")
        if quota != "max":
            cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(1, cores)


def fit_threads() -> int:
    """Compute on no more threads than this process has cores, and return their number.

    torch counts the machine's cores and does not see a container's quota; threads that wait for each other's turn are
    many times slower. `OMP_NUM_THREADS` and `MKL_NUM_THREADS` win.
    """
    cores, threads = allowed_cores(), torch.get_num_threads()
    if cores < threads and not any(name in os.environ for name in SET_BY_USER):
        torch.set_num_threads(cores)
        logger.info(f"Threads: {cores} in place of {threads}, as many as this process has cores")
    return torch.get_num_threads()

"""What this process may use of its machine."""

import os
from importlib.util import find_spec

from medfathom.errors import InputError


def cpus() -> int:
    """CPUs that this process may use: under Slurm or in a container often fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_ray() -> None:
    """Raise an InputError where Ray, which runs trials, is not installed."""
    try:
        there = find_spec("ray") is not None
    except ImportError:
        there = False
    if not there:
        raise InputError(
            "training needs Ray, which is not installed: install medfathom[search] "
            "(validate, show, analyze, export and predict work without it)"
        )

"""What this process may use of its machine."""

import os
from importlib.util import find_spec
from pathlib import Path

from medfathom.errors import InputError


def cpus() -> int:
    """CPUs that this process may use: under Slurm or in a container often fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """The machine's memory; 0 where the system does not say."""
    names = ("SC_PAGE_SIZE", "SC_PHYS_PAGES")
    if not all(name in getattr(os, "sysconf_names", ()) for name in names):  # Windows
        return 0
    return int(os.sysconf(names[0]) * os.sysconf(names[1]))


def gpus_here() -> list[str]:
    """The models of NVIDIA's GPUs, as their driver says; importing torch to ask takes seconds."""
    found = []
    for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        found += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return found


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

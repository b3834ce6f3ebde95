"""What this process may use of its machine."""

import os


def cpus() -> int:
    """CPUs that this process may use: under Slurm or in a container often fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

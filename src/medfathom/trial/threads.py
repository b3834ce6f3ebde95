"""CPU threads inside one trial."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

PARALLEL_MACS = 1e8
"""Multiply-accumulates of a batch's forward pass below which a second thread costs more than it brings.

A head's step takes some 0.1 ms; handing parts to another thread costs as much, and on a busy machine a
thousand times as much, as each part waits until its thread is given a core.
"""


def worthwhile_threads(macs: float, threads: int) -> int:
    """Of the trial's threads, those to use for steps with so many multiply-accumulates."""
    return threads if macs >= PARALLEL_MACS else 1


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Let operations use so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Images or features as rows on a device, cut into batches by index.

An array that fits is put on the device whole, as it lies on disk (uint8 images, features in their own
precision), and batches are cut out of it there. One that does not fit stays memory-mapped; a thread reads the
next batches into pinned memory and sends them ahead.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from queue import Queue
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medfathom.trial.batching import Indices
from medfathom.trial.memory import free_bytes

RESIDENT_SHARE = 0.4
"""Of the device's free memory that one array may take; the rest is for weights and activations."""

PREFETCHED_BATCHES = 3


class Rows(Protocol):
    """Rows of one array, on a device when asked for."""

    def __len__(self) -> int: ...

    def batches(self, batches: Sequence[Indices]) -> Iterator[Tensor]:
        """The rows of each batch, in order, on the device, in the array's own type."""
        ...


def open_rows(array: NDArray[np.generic], device: torch.device, *, share: float = RESIDENT_SHARE) -> Rows:
    """Rows of an array: resident where its bytes fit in `share` of the device's free memory, else prefetched.

    On a CPU a memory-mapped array is resident as it is: the system pages it in and out.
    """
    if device.type == "cpu" or array.nbytes <= share * free_bytes(device):
        return ResidentRows(array, device)
    return PrefetchedRows(array, device)


def as_tensor(array: NDArray[np.generic]) -> Tensor:
    """A tensor over the array's memory. 16-bit images come as int16 of the same bits: see `pixels`."""
    if array.dtype == np.uint16:
        array = array.view(np.int16)
    with warnings.catch_warnings():
        # torch warns that a read-only array could be written to through the tensor; nothing here writes.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


class ResidentRows:
    """The whole array on the device."""

    def __init__(self, array: NDArray[np.generic], device: torch.device) -> None:
        self._rows = as_tensor(array).to(device)

    def __len__(self) -> int:
        return len(self._rows)

    def batches(self, batches: Sequence[Indices]) -> Iterator[Tensor]:
        """Cut out of the resident array."""
        for batch in batches:
            yield self._rows.index_select(0, torch.from_numpy(batch).to(self._rows.device))


class PrefetchedRows:
    """The array stays on disk; a thread reads ahead."""

    def __init__(self, array: NDArray[np.generic], device: torch.device) -> None:
        self._array = as_tensor(array)
        self._device = device

    def __len__(self) -> int:
        return len(self._array)

    def batches(self, batches: Sequence[Indices]) -> Iterator[Tensor]:
        """Read ahead by a thread, which ends with the iteration."""
        ready: Queue[Tensor | Exception] = Queue(PREFETCHED_BATCHES)
        stopped = threading.Event()
        reader = threading.Thread(target=self._read, args=(batches, ready, stopped), daemon=True)
        reader.start()
        try:
            for _ in batches:
                item = ready.get()
                if isinstance(item, Exception):
                    raise item
                yield item.to(self._device, non_blocking=True)
        finally:
            stopped.set()
            while reader.is_alive():
                _drain(ready)
                reader.join(timeout=0.01)

    def _read(
        self, batches: Sequence[Indices], ready: Queue[Tensor | Exception], stopped: threading.Event
    ) -> None:
        try:
            for batch in batches:
                if stopped.is_set():
                    return
                rows = self._array.index_select(0, torch.from_numpy(batch))
                ready.put(rows.pin_memory() if self._device.type == "cuda" else rows)
        except Exception as error:  # noqa: BLE001
            ready.put(error)  # raised again where the batches are consumed


def _drain(queue: Queue[Tensor | Exception]) -> None:
    while not queue.empty():
        queue.get_nowait()

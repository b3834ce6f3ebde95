"""How much memory there is, how much a trial took, and what running out of it looks like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch

from medfathom.errors import OutOfMemoryError

T = TypeVar("T")


_STATUS = Path("/proc/self/status")


_CLEAR_REFS = Path("/proc/self/clear_refs")


_MEMINFO = Path("/proc/meminfo")


def free_bytes(device: torch.device) -> int:
    """Memory that could still be taken on the device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return _kilobytes(_MEMINFO, "MemAvailable")


def device_bytes(device: torch.device) -> int | None:
    """All memory of a CUDA device; None for a CPU."""
    if device.type != "cuda":
        return None
    return int(torch.cuda.get_device_properties(device).total_memory)


def resident_bytes() -> int:
    """Memory of this process that is in RAM now."""
    return _kilobytes(_STATUS, "VmRSS")


class PeakMemory:
    """The most memory held since `start`: allocated on a CUDA device, resident in the process otherwise."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def start(self) -> None:
        """Forget earlier peaks."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return
        try:
            _CLEAR_REFS.write_text("5")  # proc(5): resets the high-water mark
        except OSError:
            return  # not allowed in this container: the peak is then the process's own, since its start

    def bytes(self) -> int:
        """The peak."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return _kilobytes(_STATUS, "VmHWM")


def _kilobytes(file: Path, name: str) -> int:
    for line in file.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"{file}: no line {name!r}")


def saved_bytes(forward: Callable[[], torch.Tensor]) -> int:
    """What a forward pass keeps for its backward pass: activations, and the weights it uses."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = forward()
    del output  # only now: a storage that is freed could be counted twice under its old address
    return sum(kept.values())


@contextmanager
def as_run_error(what: str) -> Iterator[None]:
    """Memory that runs out where nothing can be halved ends as an `OutOfMemoryError` too."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise OutOfMemoryError(f"out of memory: {what}: weights and data do not fit ({reason})") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on any device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)

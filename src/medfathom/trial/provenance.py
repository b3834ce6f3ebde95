"""What a result was made with."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import version

import torch

from medfathom.text import number_of

PACKAGES = ("medfathom", "torch", "torchvision", "timm", "numpy")


@cache
def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def device_name(device: torch.device) -> str:
    """The device as a reader would call it: `cpu, 2 threads`, `NVIDIA H100 80GB HBM3`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {number_of(torch.get_num_threads(), 'thread')}"

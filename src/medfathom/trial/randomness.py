"""Every random choice of a trial, from one seed and the name of the choice.

A choice's seed depends on nothing that happened before it, so a trial that goes on from epoch 7's checkpoint
draws what it would have drawn without the interruption.
"""

import hashlib

import torch


def derived_seed(seed: int, *purpose: str | int) -> int:
    """A seed below 2**63 for one purpose, such as `derived_seed(task.seed, "order", epoch)`."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that starts at the purpose's seed."""
    return torch.Generator(device=device).manual_seed(derived_seed(seed, *purpose))

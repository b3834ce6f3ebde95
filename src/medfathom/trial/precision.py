"""Whether the forward pass runs in bfloat16: where the hardware multiplies it, unless told otherwise.

A CPU without bfloat16 instructions emulates them, many times slower than float32
(benchmarks/results/training.md). `auto` is decided once for a study, on the kind of machine that trains its
first trials (study/precision.py), so that all of its trials run in the same precision.
"""

from __future__ import annotations

from typing import Literal

import torch

CPU_CAPABILITIES = ("avx512_bf16", "amx_bf16", "bf16")
"""Instruction sets with bfloat16 products: AVX-512 and AMX on x86, the BF16 extension on ARM."""


def runs_in_bfloat16(precision: Literal["auto", "float32", "bfloat16"], device: torch.device) -> bool:
    """The decision for a study's `training.precision`."""
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(name)) for name in CPU_CAPABILITIES)

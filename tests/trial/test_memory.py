from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medfathom.trial.memory import (
    OutOfMemoryError,
    PeakMemory,
    as_run_error,
    free_bytes,
    is_out_of_memory,
    saved_bytes,
)
from medfathom.trial.portions import Portions

CPU = torch.device("cpu")


def test_an_allocation_that_cannot_be_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)
    with pytest.raises(MemoryError) as refused:
        np.empty(2**46)
    assert is_out_of_memory(refused.value)
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_portions_halve_until_it_fits() -> None:
    tried = []

    def attempt(at_once: int) -> str:
        tried.append(at_once)
        if at_once > 3:
            raise MemoryError
        return "done"

    portions = Portions(24, "toy on cpu")
    assert portions.run(attempt, "training") == "done"
    assert tried == [24, 12, 6, 3]
    assert portions.run(attempt, "training") == "done"
    assert tried[4:] == [3]


def test_no_memory_for_one_image_is_an_error_in_one_line() -> None:
    def attempt(at_once: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")

    with pytest.raises(OutOfMemoryError) as caught:
        Portions(4, "toy on cuda:0").run(attempt, "training")
    assert str(caught.value) == (
        "out of memory: training toy on cuda:0 does not fit even one image at a time; lower unfreeze_depth "
        "or dataset.image_size (CUDA out of memory.)"
    )


def test_memory_that_runs_out_anywhere_is_a_run_error() -> None:
    with (
        pytest.raises(OutOfMemoryError, match=r"out of memory: resnet18 on cpu"),
        as_run_error("resnet18 on cpu"),
    ):
        torch.empty(2**60)
    with pytest.raises(RuntimeError, match="other"), as_run_error("resnet18 on cpu"):
        raise RuntimeError("other")


def test_peak_memory_sees_what_was_freed() -> None:
    peak = PeakMemory(CPU)
    peak.start()
    before = peak.bytes()
    torch.ones(32 * 2**20 // 4).sum().item()
    assert peak.bytes() - before > 24 * 2**20
    assert free_bytes(CPU) > 2**20


def test_saved_bytes_are_the_activations_and_weights() -> None:
    layer = nn.Sequential(nn.Linear(10, 20), nn.Sigmoid())

    def kept(n: int) -> int:
        return saved_bytes(lambda: layer(torch.ones(n, 10)))

    # The linear layer keeps its input, the sigmoid its output.
    assert kept(5) - kept(3) == 2 * (10 + 20) * 4

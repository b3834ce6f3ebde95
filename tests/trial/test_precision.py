from __future__ import annotations

import pytest
import torch

from medfathom.trial.precision import runs_in_bfloat16
from medfathom.trial.threads import cpu_threads, worthwhile_threads

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")


def test_what_is_asked_for_is_done() -> None:
    assert runs_in_bfloat16("bfloat16", CPU)
    assert not runs_in_bfloat16("float32", CUDA)


@pytest.mark.parametrize(
    ("capabilities", "pays"),
    [
        ({"avx2": True, "avx512_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
    ],
)
def test_a_cpu_needs_the_instructions(
    capabilities: dict[str, bool], pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert runs_in_bfloat16("auto", CPU) == pays


@pytest.mark.parametrize("supported", [True, False])
def test_a_gpu_needs_them_in_hardware(supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_supported(including_emulation: bool) -> bool:
        return supported or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    assert runs_in_bfloat16("auto", CUDA) == supported


def test_small_steps_have_one_thread() -> None:
    assert worthwhile_threads(32 * 512 * 2, 8) == 1
    assert worthwhile_threads(32 * 150e6, 8) == 8
    before = torch.get_num_threads()
    with cpu_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medfathom.trial.small_maps import LARGEST_MAP, SmallMapConv2d, speed_up_small_maps


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    kernel=st.sampled_from([1, 2, 3, (3, 1)]),
    stride=st.integers(1, 3),
    padding=st.integers(0, 1),
    bias=st.booleans(),
)
def test_values_and_gradients_are_a_convolutions(
    size: tuple[int, int], kernel: int | tuple[int, int], stride: int, padding: int, bias: bool
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(5, 7, kernel, stride, padding, bias=bias).double()
    if any(s + 2 * padding < k for s, k in zip(size, plain.kernel_size, strict=True)):
        return
    images = torch.randn(2, 5, *size, dtype=torch.float64, requires_grad=True)
    expected = plain(images)
    wanted = torch.autograd.grad(expected.square().sum(), [images, *plain.parameters()])
    speed_up_small_maps(plain)
    assert type(plain) is SmallMapConv2d
    got = plain(images)
    torch.testing.assert_close(got, expected)
    for one, other in zip(
        torch.autograd.grad(got.square().sum(), [images, *plain.parameters()]), wanted, strict=True
    ):
        torch.testing.assert_close(one, other)


def test_large_maps_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Conv2d(1, 1, 3, padding=1)
    speed_up_small_maps(layer)
    called = []
    monkeypatch.setattr(nn.Conv2d, "forward", lambda self, x: called.append(x.shape) or x)
    layer(torch.zeros(1, 1, 2, 2))
    assert called == []
    layer(torch.zeros(1, 1, 2, LARGEST_MAP))
    assert called == [(1, 1, 2, LARGEST_MAP)]


def test_other_convolutions_stay() -> None:
    layers = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Linear(4, 4),
    )
    names = list(layers.state_dict())
    speed_up_small_maps(layers)
    assert [type(layer) for layer in layers] == [nn.Conv2d] * 4 + [nn.Linear]
    assert list(layers.state_dict()) == names


def test_gradients_have_the_weights_own_strides() -> None:
    """Else the optimizer would copy them in every step."""
    layer = nn.Conv2d(8, 8, 3, padding=1)
    speed_up_small_maps(layer)
    images = torch.randn(4, 8, 2, 2).contiguous(memory_format=torch.channels_last)
    out = layer(images)
    assert out.is_contiguous(memory_format=torch.channels_last)
    out.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.stride() == layer.weight.stride()

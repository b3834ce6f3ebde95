from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from medfathom.trial.depthwise import DepthwiseConv2d, DepthwiseConv2dSame, speed_up_depthwise

ROUNDOFF = 2.0**-8
"""The largest relative change of a number that is rounded to bfloat16, which has 8 significant bits."""

KINDS = {
    "plain": lambda k, s: nn.Conv2d(6, 6, k, s, k // 2, groups=6),
    "without bias": lambda k, s: nn.Conv2d(6, 6, k, s, k // 2, groups=6, bias=False),
    "wide padding": lambda k, s: nn.Conv2d(6, 6, k, s, k - 1, groups=6),
    "flat kernel": lambda k, s: nn.Conv2d(6, 6, (k, 1), s, (k // 2, 0), groups=6),
    "two for one": lambda k, s: nn.Conv2d(6, 12, k, s, k // 2, groups=6),
    "dilated": lambda k, s: nn.Conv2d(6, 6, k, s, k - 1, 2, groups=6),
    "as TensorFlow pads": lambda k, s: Conv2dSame(6, 6, k, s, groups=6),
}


def outcome(layer: nn.Module, images: Tensor, *, autocast: bool = False) -> list[Tensor]:
    """The output, and the gradients of the images and of the parameters."""
    images = images.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = layer(images)
    gradients = torch.autograd.grad(output.square().sum(), [images, *layer.parameters()])
    return [output.detach(), *gradients]


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(list(KINDS)),
    kernel=st.sampled_from([1, 2, 3, 5]),
    stride=st.integers(1, 2),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
)
def test_values_and_gradients_are_a_convolutions(
    kind: str, kernel: int, stride: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    layer = KINDS[kind](kernel, stride).double()
    images = torch.randn(2, 6, *size, dtype=torch.float64)
    expected = outcome(layer, images)
    speed_up_depthwise(layer)
    assert isinstance(layer, DepthwiseConv2d)
    for got, wanted in zip(outcome(layer, images), expected, strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize(
    ("kernel", "stride", "size", "trains_in"),
    [
        (3, 1, 4, torch.bfloat16),
        (3, 1, 2, torch.float32),
        (3, 2, 4, torch.float32),
        (5, 1, 4, torch.float32),
        (5, 1, 1, torch.bfloat16),
    ],
)
def test_the_kind_of_layer_decides_on_the_precision(
    kernel: int, stride: int, size: int, trains_in: torch.dtype
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 6, kernel, stride, kernel // 2, groups=6)
    images = torch.randn(4, 6, size, size).bfloat16()
    exact = layer(images.float()).detach()
    sum_of_sizes = nn.functional.conv2d(
        images.float().abs(), layer.weight.abs(), layer.bias.abs(), stride, kernel // 2, groups=6
    ).detach()
    speed_up_depthwise(layer)
    output, *gradients = outcome(layer, images, autocast=True)
    assert output.dtype == trains_in
    assert [g.dtype for g in gradients] == [torch.bfloat16, torch.float32, torch.float32]
    # Weights, bias and output are rounded once each (a product's output twice, before the bias and after);
    # products of bfloat16 numbers are exact in float32, and summed there.
    rounded = 3 * ROUNDOFF if trains_in == torch.bfloat16 else 1e-6
    assert ((output.float() - exact).abs() <= rounded * sum_of_sizes).all()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert layer(images).dtype == torch.bfloat16


def test_other_layers_stay_and_names_too() -> None:
    layers = nn.Sequential(
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(1, 4, 3),
        nn.Conv2d(4, 4, 3, groups=4, padding="same"),
        nn.Conv2d(4, 4, 3, groups=4, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, groups=4),
        Conv2dSame(4, 4, 3, groups=4),
    )
    names = list(layers.state_dict())
    speed_up_depthwise(layers)
    assert [type(layer) for layer in layers] == [nn.Conv2d] * 5 + [DepthwiseConv2d, DepthwiseConv2dSame]
    assert list(layers.state_dict()) == names


@pytest.mark.parametrize("size", [1, 4])
def test_gradients_lie_as_the_weights_do(size: int) -> None:
    """Else the optimizer would copy them in every step."""
    layer = nn.Conv2d(8, 8, 5, padding=2, groups=8)
    speed_up_depthwise(layer)
    images = torch.randn(4, 8, size, size).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(images)
    assert out.is_contiguous(memory_format=torch.channels_last)
    out.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.is_contiguous()

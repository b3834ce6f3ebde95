"""Convolutions over the smallest feature maps, as one matrix product, on a CPU.

Behind five strides a 64 px image is a map of 2 x 2. There oneDNN's convolution, above all its backward pass,
reaches a quarter of the speed that it has on larger maps; a product of gathered patches and weights keeps its
speed. On ResNet-18 at 64 px a step of training the last stage takes half as long
(benchmarks/results/training.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

LARGEST_MAP = 4
"""Output positions up to which the product is the faster one: 2 x 2 is, 4 x 4 is not."""


class SmallMapConv2d(nn.Conv2d):
    """`Conv2d` with another algorithm where the output has at most `LARGEST_MAP` positions."""

    def forward(self, input: Tensor) -> Tensor:
        """(n, in_channels, h, w) -> (n, out_channels, h', w'), channels last."""
        kernel, stride, padding = self.kernel_size, self.stride, _pair(self.padding)
        out = [(input.shape[2 + d] + 2 * padding[d] - kernel[d]) // stride[d] + 1 for d in (0, 1)]
        if out[0] * out[1] > LARGEST_MAP:
            return super().forward(input)
        channels_last = input.permute(0, 2, 3, 1)
        if any(padding):
            channels_last = functional.pad(
                channels_last, (0, 0, padding[1], padding[1], padding[0], padding[0])
            )
        taps = [
            channels_last[:, i : i + stride[0] * out[0] : stride[0], j : j + stride[1] * out[1] : stride[1]]
            for i in range(kernel[0])
            for j in range(kernel[1])
        ]
        # In the order of the weights, which are then used, and differentiated, where they lie: no copies.
        patches = torch.stack(taps, dim=4).flatten(3)
        return functional.linear(patches, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


def _pair(padding: tuple[int, ...] | str) -> tuple[int, ...]:
    if isinstance(padding, str):
        raise TypeError(f"padding {padding!r} is not two numbers")
    return padding


def speed_up_small_maps(network: nn.Module) -> None:
    """Let a network's plain convolutions choose their algorithm by the map's size. Its tensors stay."""
    for module in network.modules():
        if (
            type(module) is nn.Conv2d
            and module.groups == 1
            and module.dilation == (1, 1)
            and module.padding_mode == "zeros"
            and not isinstance(module.padding, str)
        ):
            module.__class__ = SmallMapConv2d

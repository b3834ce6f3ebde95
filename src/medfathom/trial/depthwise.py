"""Depthwise convolutions on a CPU: trained in the precision that is fast; maps of one pixel as a product.

oneDNN takes bfloat16 gradients of a depthwise convolution fast for 3 x 3 kernels at stride 1 only. With other
kernels and strides they take 1.3 to 80 times as long as in float32. The other layers of our networks are
faster in bfloat16, and so are depthwise convolutions where no gradient is taken. Over a map of one pixel
oneDNN is slow in either precision (benchmarks/results/training.md).
"""

from __future__ import annotations

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn

LARGEST_SLOW_MAP = 4
"""Input positions up to which bfloat16 gradients are slow with any kernel: 2 x 2 is, 3 x 3 is not."""


class DepthwiseConv2d(nn.Conv2d):
    """`Conv2d` with one input channel in each group; it trains in float32 where bfloat16 is slow."""

    def forward(self, input: Tensor) -> Tensor:
        """(n, in_channels, h, w) -> (n, out_channels, h', w')."""
        if input.shape[2:] == (1, 1) and self._keeps_one_pixel():
            return self._scaled(input)
        if torch.is_grad_enabled() and not self._has_fast_gradients(input):
            with torch.autocast("cpu", enabled=False):
                return super().forward(input.to(self.weight.dtype))
        return super().forward(input)

    def _keeps_one_pixel(self) -> bool:
        """Whether it makes one pixel of one: all of the kernel but its centre then lies on the padding."""
        centred = self.padding == tuple((k - 1) / 2 for k in self.kernel_size)
        return centred and self.out_channels == self.in_channels

    def _scaled(self, input: Tensor) -> Tensor:
        row, column = self.kernel_size[0] // 2, self.kernel_size[1] // 2
        output = input * self.weight[:, 0, row, column].to(input.dtype)[:, None, None]
        return output if self.bias is None else output + self.bias.to(input.dtype)[:, None, None]

    def _has_fast_gradients(self, input: Tensor) -> bool:
        fast_kernel = self.kernel_size == (3, 3) and self.stride == self.dilation == (1, 1)
        large_map = input.shape[2] * input.shape[3] > LARGEST_SLOW_MAP
        return fast_kernel and large_map and self.out_channels == self.in_channels


class DepthwiseConv2dSame(DepthwiseConv2d):
    """The same for timm's layer with TensorFlow's padding."""

    def forward(self, input: Tensor) -> Tensor:
        """(n, in_channels, h, w) -> (n, out_channels, ceil(h / stride), ceil(w / stride))."""
        padded = pad_same(input, list(self.kernel_size), list(self.stride), list(self.dilation))
        return super().forward(padded)


DEPTHWISE: dict[type, type[DepthwiseConv2d]] = {
    nn.Conv2d: DepthwiseConv2d,
    Conv2dSame: DepthwiseConv2dSame,
}


def speed_up_depthwise(network: nn.Module) -> None:
    """Let a network's depthwise convolutions choose their algorithm. Its tensors stay."""
    for module in network.modules():
        if (
            isinstance(module, nn.Conv2d)
            and type(module) in DEPTHWISE
            and module.groups == module.in_channels > 1
            and module.padding_mode == "zeros"
            and not isinstance(module.padding, str)
        ):
            module.__class__ = DEPTHWISE[type(module)]

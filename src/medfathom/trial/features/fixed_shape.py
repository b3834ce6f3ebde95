"""A frozen prefix, always over the same number of images at once.

Libraries choose a kernel, and with it the order of its sums, by the shape of a batch. Features of one image
would then differ in their last bits with the size of the batch that it is in, and training can make much of
that (a ReLU at its kink, Adam on a gradient near zero). Over portions of one size they are the same bits
whether computed for the cache, in a batch of training, or in a last, shorter one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medfathom.trial.portions import Portions

if TYPE_CHECKING:
    from medfathom.models.network import Network

CPU_PORTION = 32
"""Images at once. With half as many, 64 px images take up to a third longer; a batch is filled up to them."""

CUDA_PORTION = 64


def portions_for(network: Network, device: torch.device) -> Portions:
    """The size of portions on a device; halved, for good, when memory runs out."""
    size = CPU_PORTION if device.type == "cpu" else CUDA_PORTION
    return Portions(size, f"{network.architecture} on {device}")


def in_portions(compute: Callable[[Tensor], Tensor], images: Tensor, portions: Portions) -> Tensor:
    """`compute(images)`, by portions; the last is filled up with copies of its last image.

    Args:
        compute: treats images one by one: (n, c, h, w) -> (n, …).
        images: (n, c, h, w), channels last, at least one.
        portions: how many at once.

    Raises:
        OutOfMemoryError: one image at a time is too much.
    """
    return portions.run(partial(_compute, compute, images), "computing features with")


def _compute(compute: Callable[[Tensor], Tensor], images: Tensor, at_once: int) -> Tensor:
    count, missing = len(images), -len(images) % at_once
    if missing:
        filling = images[-1:].expand(missing, *images.shape[1:])
        images = channels_last(torch.cat([images, filling]))
    parts = [compute(part) for part in torch.split(images, at_once)]
    return channels_last(torch.cat(parts)[:count])


def channels_last(values: Tensor) -> Tensor:
    """(n, c, h, w) with the strides of channels last, also where one channel or pixel leaves them open.

    Values of other dimensions stay as they are.
    """
    if values.ndim != 4:
        return values
    last = values.permute(0, 2, 3, 1)
    return last.reshape(-1).view(last.shape).permute(0, 3, 1, 2)

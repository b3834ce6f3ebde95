"""Batch norm: which layers it is, and statistics for a frozen prefix whose weights have none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor, nn

from medfathom.errors import ModelError

if TYPE_CHECKING:
    from medfathom.models.network import Network

BatchNorm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
"""Every batch-norm layer; timm's layers of batch norm with activation are among them."""


@torch.no_grad()
def calibrate_batch_norm(network: Network, batches: Iterable[Tensor]) -> None:
    """Estimate the batch-norm statistics of a frozen prefix on training images.

    This is for weights without statistics (init `random`, `imagenet-stats`): with means of 0 and variances of
    1 the activations of a deep network explode or vanish. Each layer gets its mean and variance averaged over
    all batches, while every layer before it normalises by the batch's own. Trained layers do not change; nor
    does a prefix without batch norm.

    Args:
        network: the network, on any device.
        batches: images as the network takes them, at least two in each batch.

    Raises:
        ModelError: there is no batch, or a batch has fewer than two images.
    """
    layers = [m for m in network.prefix_modules() if isinstance(m, BatchNorm) and m.track_running_stats]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # a plain average over batches
            layer.train()
        seen = 0
        for images in batches:
            if len(images) < 2:
                raise ModelError(
                    f"calibrating batch norm needs at least 2 images in a batch, but got {len(images)}"
                )
            network.forward_prefix(images)
            seen += len(images)
        if not seen:
            raise ModelError("calibrating batch norm needs training images, but got no batch")
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()

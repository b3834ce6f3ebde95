"""The frozen prefix: what does not move, and batch-norm statistics for weights that come without."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from medfathom.errors import ModelError

if TYPE_CHECKING:
    from medfathom.models.network import Network

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""Layers that normalise by the images at hand in training, and by what they remember afterwards."""


@torch.no_grad()
def calibrate_batch_norm(network: Network, batches: Iterable[Tensor]) -> None:
    """Estimate the batch-norm statistics of a frozen prefix on training images.

    For weights that have no statistics of their own (init `random`, `imagenet-stats`): with means of 0 and
    variances of 1 the activations of a deep network blow up or die. Each layer gets the average over all
    batches of its mean and variance, seen with every layer before it normalised by the batch's own.
    What is trained is left alone. A prefix without batch norm is left as it is.

    Args:
        network: the network, anywhere.
        batches: images as the network takes them, at least two in each batch.

    Raises:
        ModelError: there is no batch, or one has fewer than two images.
    """
    layers = [m for m in network.prefix_modules() if isinstance(m, BATCH_NORMS) and m.track_running_stats]
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

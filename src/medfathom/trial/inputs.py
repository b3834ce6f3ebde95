"""What a network is fed: images, made ready on the device, or cached features of its frozen prefix."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medfathom.trial.features.fixed_shape import channels_last, in_portions, portions_for
from medfathom.trial.rows import Rows

if TYPE_CHECKING:
    from medfathom.models.build import Network

Augmentation = Callable[[Tensor, torch.Generator], Tensor]
"""Float images in [0, 1], (n, c, h, w) -> the same."""


class Inputs(Protocol):
    """Rows, and the two steps from raw rows to logits."""

    def rows(self, epoch: int) -> Rows:
        """The rows that an epoch (from 1) trains on."""
        ...

    def prepare(self, raw: Tensor, generator: torch.Generator | None) -> Tensor:
        """What the network takes; augmented where there is an augmentation and a generator. No gradient."""
        ...

    def logits(self, prepared: Tensor) -> Tensor:
        """The network's outputs."""
        ...


def pixels(raw: Tensor) -> Tensor:
    """Raw images (n, h, w, c), uint8 or the bits of uint16 in int16 -> floats in [0, 1], (n, c, h, w).

    The strides stay: channels last, as convolutions like them.
    """
    if raw.dtype == torch.int16:
        images = (raw.to(torch.int32) & 0xFFFF).float() / 65535.0
    else:
        images = raw.float() / 255.0
    return images.permute(0, 3, 1, 2)


class Views:
    """Versions of the same rows (augmented copies), one open at a time; each epoch has the next, in turn."""

    def __init__(self, open_view: Callable[[int], Rows], count: int = 1) -> None:
        self._open_view = open_view
        self._count = count
        self._opened: tuple[int, Rows] | None = None

    def at(self, epoch: int) -> Rows:
        """The rows of an epoch (from 1)."""
        view = (epoch - 1) % self._count
        if self._opened is None or self._opened[0] != view:
            self._opened = None  # freed before the next is read in
            self._opened = (view, self._open_view(view))
        return self._opened[1]


class ImageInputs:
    """Images: scaled, augmented and normalised on the device, through the whole network."""

    def __init__(
        self, network: Network, views: Views, device: torch.device, augmentation: Augmentation | None = None
    ) -> None:
        """`augmentation` is drawn anew for every batch."""
        self._network = network
        self._views = views
        self._augmentation = augmentation
        mean, std = (
            torch.tensor(values, device=device).view(1, -1, 1, 1) for values in network.normalization
        )
        self._scale, self._shift = 1.0 / std, -mean / std
        self._portions = portions_for(network, device)

    def rows(self, epoch: int) -> Rows:
        """The images of the epoch's view."""
        return self._views.at(epoch)

    def prepare(self, raw: Tensor, generator: torch.Generator | None) -> Tensor:
        """Scaled to [0, 1], augmented, normalised; channels last."""
        images = pixels(raw)
        if self._augmentation is not None and generator is not None:
            images = self._augmentation(images, generator)
        return channels_last(torch.addcmul(self._shift, images, self._scale))

    def logits(self, prepared: Tensor) -> Tensor:
        """Through the whole network; what is frozen of it in portions."""
        network = self._network
        if not network.frozen_groups:
            return network.forward_rest(network.forward_prefix(prepared))
        return network.forward_rest(in_portions(network.forward_prefix, prepared, self._portions))


def raw_pixels(images: Tensor, like: torch.dtype) -> Tensor:
    """The inverse of `pixels`, rounded to the raw type."""
    channels_last = images.permute(0, 2, 3, 1).clamp(0.0, 1.0)
    if like == torch.int16:
        return (channels_last * 65535.0).round().to(torch.int32).to(torch.int16)
    return (channels_last * 255.0).round().to(torch.uint8)


def to_stored(features: Tensor) -> NDArray[np.generic]:
    """Features as the cache keeps them: channels last, bfloat16 as its bits."""
    if features.ndim == 4:
        features = features.permute(0, 2, 3, 1)
    features = features.contiguous().cpu()
    if features.dtype == torch.bfloat16:
        features = features.view(torch.int16)
    return features.numpy()


def from_stored(raw: Tensor) -> Tensor:
    """The inverse of `to_stored`, on the device."""
    if raw.dtype == torch.int16:
        raw = raw.view(torch.bfloat16)
    return raw.permute(0, 3, 1, 2) if raw.ndim == 4 else raw

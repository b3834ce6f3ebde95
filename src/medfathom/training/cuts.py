"""A frozen prefix cut after any of its layer groups: what a cut costs, features there, logits from there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from medfathom.training.cache_plan import Cut

if TYPE_CHECKING:
    from medfathom.models.build import Network

GROUPS = 5

_costs: dict[tuple[object, ...], list[Cut]] = {}
"""What this process has measured; it depends on the architecture and the size alone."""


def frozen_groups(network: Network) -> int:
    """The number of layer groups in the frozen prefix."""
    return GROUPS - network.unfreeze_depth


@contextmanager
def _cut_after(network: Network, groups: int) -> Iterator[None]:
    """For a while the prefix is only the first `groups`; everything is in inference mode."""
    depth, training = network.unfreeze_depth, network.training
    network.set_unfreeze_depth(GROUPS - groups)
    network.eval()
    try:
        yield
    finally:
        network.set_unfreeze_depth(depth)
        network.train(training)


def features_at(network: Network, images: Tensor, groups: int) -> Tensor:
    """What the first `groups` layer groups make of normalised images."""
    with _cut_after(network, groups):
        return network.forward_prefix(images)


def logits_from(network: Network, features: Tensor, groups: int) -> Tensor:
    """Logits from features after the first `groups` layer groups, some or all of the frozen ones."""
    if groups == frozen_groups(network):
        return network.forward_rest(features)
    cut = network._blueprint.cuts[groups]
    rest: Tensor = cut.rest(network.backbone, features.clone() if cut.writes_input else features)  # type: ignore[misc]
    logits: Tensor = network.head(rest)
    return logits


def cut_costs(network: Network, image_size: int, *, bytes_per_value: int) -> list[Cut]:
    """The cost of a cut after each layer group of the frozen prefix, from one image's run; the stem first."""
    key = (network.architecture, image_size, network.in_channels, network.unfreeze_depth, bytes_per_value)
    if key not in _costs:
        weight = next(network.parameters())
        image = weight.new_zeros(1, network.in_channels, image_size, image_size)
        cuts = []
        for groups in range(1, frozen_groups(network) + 1):
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                features = features_at(network, image, groups)
            cuts.append(Cut(groups, counter.get_total_flops() // 2, features.numel() * bytes_per_value))
        _costs[key] = cuts
    return _costs[key]

"""Where and how a network's tensors lie: on its device, in the memory format that is fast there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from medfathom.trial.depthwise import speed_up_depthwise
from medfathom.trial.small_maps import speed_up_small_maps

if TYPE_CHECKING:
    from medfathom.models.network import Network


def lay_out(network: Network, device: torch.device) -> None:
    """Move a network to its device.

    Images come channels last (see `inputs.pixels`), and activations stay so. On a GPU the weights follow
    them. On a CPU they stay as they are: convolutions put weights in an order of their own in any case, and
    the fused optimizers copy tensors that are not contiguous.
    """
    network.to(device)
    if device.type == "cpu":
        speed_up_small_maps(network)
        speed_up_depthwise(network)
    else:
        network.to(memory_format=torch.channels_last)

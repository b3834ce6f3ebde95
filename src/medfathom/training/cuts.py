"""Where a frozen prefix may be cut to keep its features, and what each cut costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from medfathom.models.layer_groups import GROUPS
from medfathom.training.cache_plan import Cut

if TYPE_CHECKING:
    from medfathom.models.network import Network


def frozen_groups(network: Network) -> int:
    """The number of layer groups in the frozen prefix."""
    return GROUPS - network.unfreeze_depth


def cut_costs(network: Network, *, bytes_per_value: int) -> list[Cut]:
    """The cost per image of a cut after each layer group of the frozen prefix; the stem first."""
    return [
        Cut(groups, cut.macs, math.prod(cut.shape) * bytes_per_value)
        for groups in range(1, frozen_groups(network) + 1)
        for cut in (network.cut(groups),)
    ]

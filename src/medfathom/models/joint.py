"""What a network for several data sets has of each: a head, and batch norm where that is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

COPY = r"per_dataset\.\d+"
"""How the name of a data set's own batch norm goes on, below the name of the layer."""

_OWN = re.compile(r"\.(?:per_dataset|heads)\.(\d+)(?=\.)")


class JointHead(nn.Module):
    """A head for each data set: features (n, f) -> the logits of all heads, one head's after the other's."""

    def __init__(self, heads: Iterable[nn.Module]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, features: Tensor) -> Tensor:
        """All heads over all images; the loss looks at those of an image's own data set."""
        return torch.cat([head(features) for head in self.heads], dim=1)


class OwnNorm(nn.Module):
    """Batch norm with statistics, scale and shift for each data set (Chang et al. 2019).

    It stands where the layer stood, so the graph that the layer groups are cut from runs it. Which data set's
    is in use holds for a whole batch: all its images are then of one data set.

    Attributes:
        per_dataset: the layers, in the order of the data sets.
        active: the place of the data set whose images come now.
    """

    def __init__(self, layer: nn.Module, count: int) -> None:
        """All begin as copies of one layer."""
        super().__init__()
        self.per_dataset = nn.ModuleList(deepcopy(layer) for _ in range(count))
        self.active = 0

    def forward(self, features: Tensor) -> Tensor:
        """As the layer of the data set in use."""
        normalised: Tensor = self.per_dataset[self.active](features)
        return normalised


def give_own_norms(backbone: nn.Module, paths: Iterable[str], count: int) -> None:
    """Put an `OwnNorm` in the place of each of these layers."""
    for path in paths:
        backbone.set_submodule(path, OwnNorm(backbone.get_submodule(path), count))


def use_norms_of(backbone: nn.Module, place: int) -> None:
    """Let every `OwnNorm` normalise as the data set at this place does; nothing where there is none."""
    for module in backbone.modules():
        if isinstance(module, OwnNorm):
            module.active = place


def state_of_one(state: Mapping[str, Tensor], place: int) -> dict[str, Tensor]:
    """The tensors of a network for several data sets, as a network for the one at this place has them."""
    own = {}
    for name, tensor in state.items():
        found = _OWN.search(name)
        if found is None or int(found[1]) == place:
            own[_OWN.sub("", name)] = tensor
    return own

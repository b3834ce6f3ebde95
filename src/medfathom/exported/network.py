"""What a model folder computes: one network, or several whose probabilities are averaged."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from medfathom.metrics.probabilities import num_outputs
from medfathom.models.build import HeadOptions, Network, empty_network
from medfathom.models.folder import ModelConfig, View

AXES: dict[View, tuple[int, ...]] = {"as_is": (), "mirrored": (3,), "upside_down": (2,), "half_turn": (2, 3)}
"""Along which axes of (n, c, s, s) a view is flipped."""


class Deployed(nn.Module):
    """The network behind its own normalisation: images in [0, 1], (n, c, s, s) -> logits.

    With test-time views the mean of their logits.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.network = empty_network(
            config.architecture,
            num_outputs=num_outputs(config.task, len(config.class_names)),
            image_size=config.image_size,
            in_channels=config.channels,
            head=HeadOptions(
                config.head_dropout, config.head_pooling, config.head_hidden, config.combine == "attention"
            ),
            grey=config.grey,
            normalization=config.normalization,
        )
        self._flips = [AXES[view] for view in config.views] or [()]
        mean, std = self.network.normalization
        self.register_buffer("_mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, outputs); with attention the score as the last column."""
        ready = (images - self._mean) / self._std
        logits: Tensor = self.network(ready.flip(self._flips[0]) if self._flips[0] else ready)
        for axes in self._flips[1:]:
            logits = logits + self.network(ready.flip(axes))
        return logits / len(self._flips)

    @property
    def weights(self) -> nn.Module:
        """What a model folder's tensors are of."""
        return self.network


class Averaged(nn.Module):
    """An ensemble: images in [0, 1], (n, c, s, s) -> logits (n, outputs) of the mean probability."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.task, self.members = config.task, nn.ModuleList(map(Deployed, config.members))
        # They take images, also where cases are judged.
        self.temperatures = [member.image_temperature or member.temperature for member in config.members]

    def forward(self, images: Tensor) -> Tensor:
        """By logarithms, as `metrics.cases.combine_logits`: exact where probabilities would round to 0."""
        pairs = zip(self.members, self.temperatures, strict=True)
        scaled = torch.stack([member(images) / temperature for member, temperature in pairs])
        if self.task == "multilabel":
            present, absent = (torch.logsumexp(logsigmoid(each), dim=0) for each in (scaled, -scaled))
            return present - absent
        return torch.logsumexp(torch.log_softmax(scaled, dim=2), dim=0) - math.log(len(self.temperatures))

    @property
    def network(self) -> Network:
        """The first member's: its maps are shown."""
        return cast("Deployed", self.members[0]).network

    @property
    def weights(self) -> nn.Module:
        """What a model folder's tensors are of."""
        return self.members

"""A network small enough for unit tests, with the interface of `medfathom.models.build.Network`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


class ToyNetwork(nn.Module):
    """Five conv layer groups (with batch norm) and a linear head; `unfreeze_depth` as in the real one."""

    def __init__(
        self, unfreeze_depth: int, *, outputs: int = 2, channels: int = 1, seed: int = 0, dropout: float = 0.1
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.architecture = "toy"
        self.unfreeze_depth = unfreeze_depth
        self.normalization = ((0.5,) * channels, (0.25,) * channels)
        widths = [channels, 4, 6, 6, 8, 8]
        self.groups = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(widths[i], widths[i + 1], 3, stride=2 if i < 2 else 1, padding=1),
                nn.BatchNorm2d(widths[i + 1]),
                nn.ReLU(),
            )
            for i in range(5)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], outputs)
        for group in self.groups[: self.frozen_groups]:
            group.requires_grad_(False)

    @property
    def frozen_groups(self) -> int:
        return 5 - self.unfreeze_depth

    def train(self, mode: bool = True) -> ToyNetwork:
        super().train(mode)
        for group in self.groups[: self.frozen_groups]:
            group.eval()
        return self

    def forward_prefix(self, images: Tensor) -> Tensor:
        if self.frozen_groups == 0:
            return images
        with torch.no_grad():
            for group in self.groups[: self.frozen_groups]:
                images = group(images)
        return images

    def forward_rest(self, features: Tensor) -> Tensor:
        for group in self.groups[self.frozen_groups :]:
            features = group(features)
        logits: Tensor = self.head(self.dropout(features.mean(dim=(2, 3))))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_rest(self.forward_prefix(images))

    def trainable_parameters_by_group(self) -> list[tuple[int | str, list[nn.Parameter]]]:
        groups: list[tuple[int | str, list[nn.Parameter]]] = [
            (i + 1, list(self.groups[i].parameters())) for i in range(self.frozen_groups, 5)
        ]
        return [*groups, ("head", list(self.head.parameters()))]

    def trained_state(self) -> dict[str, Tensor]:
        frozen = tuple(f"groups.{i}." for i in range(self.frozen_groups))
        return {k: v for k, v in self.state_dict().items() if not k.startswith(frozen)}

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        self.load_state_dict(state, strict=False)


def toy_images(
    n: int, *, size: int = 16, channels: int = 1, classes: int = 2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright square whose place tells the class: uint8 (n, size, size, channels), labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    images = random.integers(0, 160, (n, size, size, channels), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        start = 1 + label * (size // 4)
        image[start : start + 4, start : start + 4] += 60
    return images, labels.astype(np.int64)


def columns(values: Sequence[float]) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)[:, None]

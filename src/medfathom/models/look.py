"""What images look like to a pretrained network: mean features at every depth.

The network is EfficientNet-Lite0, whose ImageNet weights come with medfathom. All layer groups are kept:
the early ones tell grey levels and texture, the late ones what there is to see. No depth alone finds both
photographs among radiographs and en-face scans among B-scans.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from medfathom.data.images import Pixels
from medfathom.models.build import Network, build_network
from medfathom.models.graph.layer_groups import GROUPS

ARCHITECTURE = "tf_efficientnet_lite0"

SIDE = 64
"""Images are brought to so many pixels: 2.5 ms of a CPU core each."""

BATCH = 64


def look(
    image: Callable[[int], Pixels],
    rows: Sequence[int],
    channels: int,
    tell: Callable[[int], None] = lambda done: None,
) -> NDArray[np.float32]:
    """Features of images, (rows, features): those of each layer group as a vector of length 1.

    Args:
        image: gives the prepared image of a row.
        rows: of the images; at least one.
        channels: of each image, 1 or 3.
        tell: called with the number of images done.

    Raises:
        WeightsError: the network's weights are not there.
    """
    network = build_network(
        ARCHITECTURE,
        init="imagenet",
        num_outputs=1,
        unfreeze_depth=0,
        image_size=SIDE,
        in_channels=channels,
        seed=0,
    ).eval()
    found: list[NDArray[np.float32]] = []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        found.append(_features(network, np.stack([image(row) for row in part])))
        tell(start + len(part))
    return np.concatenate(found)


def _features(network: Network, pixels: Pixels) -> NDArray[np.float32]:
    mean, spread = (torch.tensor(part).view(1, -1, 1, 1) for part in network.normalization)
    shares = torch.from_numpy(pixels.astype(np.float32) / np.iinfo(pixels.dtype).max).permute(0, 3, 1, 2)
    scaled = interpolate(shares, size=(SIDE, SIDE), mode="bilinear", antialias=True)
    at: Tensor = (scaled - mean) / spread
    each = []
    for group in range(1, GROUPS + 1):
        at = network.features_after(group, at, group - 1)
        each.append(normalize(at.flatten(2).mean(2) if at.ndim > 2 else at))
    features: NDArray[np.float32] = torch.cat(each, dim=1).numpy()
    return features

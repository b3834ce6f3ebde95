"""How far a data set is from what a pretrained network was trained on, without a single ImageNet image.

Every batch-norm layer stores the mean and variance of its inputs, channel by channel, as they were in
pretraining. The same two numbers are taken of this data set's images; the distance is the symmetric
Kullback-Leibler divergence of the two normal distributions, averaged over channels: one number per
layer, and their mean over layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from medfathom.models.batch_norm import BatchNorm
from medfathom.models.build import build_network

if TYPE_CHECKING:
    from medfathom.data.prepared import PreparedData
    from medfathom.models.build import Network

SMALLEST_VARIANCE = 1e-8
"""Of a channel; dead channels would otherwise be infinitely far."""

LARGEST = 100.0
"""A channel's divergence is capped here, so that one dead channel does not stand for a layer."""


@dataclass(frozen=True)
class LayerShift:
    """One batch-norm layer: its name, its channels, and the mean divergence over them (0: the same)."""

    name: str
    channels: int
    divergence: float


class DomainShiftJson(TypedDict):
    """A data set as one network's batch-norm layers see it.

    Attributes:
        domain_shift: mean divergence over layers; null without layers.
        n_images: looked at.
        reason: why there is no number, where there is none.
    """

    architecture: str
    domain_shift: float | None
    n_images: int
    layers: list[Annotated[dict[str, object], LayerShift]]
    reason: str


@dataclass(frozen=True)
class DomainShift:
    """A data set as one network's batch-norm layers see it.

    Attributes:
        architecture: timm's name.
        layers: in the order in which images pass them; empty for a network without batch norm.
        n_images: looked at.
        reason: why there is no number, where there is none.
    """

    architecture: str
    layers: tuple[LayerShift, ...]
    n_images: int
    reason: str = ""

    @property
    def value(self) -> float | None:
        """Mean over layers; None without layers."""
        return float(np.mean([layer.divergence for layer in self.layers])) if self.layers else None

    def to_dict(self) -> DomainShiftJson:
        """As JSON has it."""
        return {
            "architecture": self.architecture,
            "domain_shift": self.value,
            "n_images": self.n_images,
            "layers": [asdict(layer) for layer in self.layers],
            "reason": self.reason,
        }


class _Moments:
    """Running count, mean and sum of squares about it, by channel (Chan et al. 1983): exact over batches."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor = torch.zeros(0)
        self.squares: Tensor = torch.zeros(0)

    def add(self, values: Tensor) -> None:
        """Take in activations (n, channels, …)."""
        flat = values.detach().double().transpose(0, 1).flatten(1)
        count, mean = flat.shape[1], flat.mean(1)
        squares = ((flat - mean[:, None]) ** 2).sum(1)
        if self.count == 0:
            self.count, self.mean, self.squares = count, mean, squares
            return
        total = self.count + count
        apart = mean - self.mean
        self.squares = self.squares + squares + apart**2 * self.count * count / total
        self.mean = self.mean + apart * count / total
        self.count = total

    @property
    def variance(self) -> Tensor:
        return self.squares / self.count


def symmetric_divergence(
    mean: Tensor, variance: Tensor, other_mean: Tensor, other_variance: Tensor
) -> Tensor:
    """KL(p || q) + KL(q || p) of normals, element by element: 0 where they are the same, never negative."""
    one, two = variance.clamp(min=SMALLEST_VARIANCE), other_variance.clamp(min=SMALLEST_VARIANCE)
    apart = (mean - other_mean) ** 2
    return ((one + apart) / two + (two + apart) / one) / 2 - 1


def domain_shift(network: Network, batches: Iterable[Tensor]) -> DomainShift:
    """Compare images with what a pretrained network's batch-norm layers remember.

    Args:
        network: with its pretrained weights, nothing trained since.
        batches: images (n, in_channels, s, s), normalised by `network.normalization`.
    """
    layers = {
        n: m
        for n, m in network.backbone.named_modules()
        if isinstance(m, BatchNorm) and m.running_mean is not None
    }
    if not layers:
        return DomainShift(
            network.architecture, (), 0, "this network has no batch-norm layer to compare with"
        )
    was_training, depth = network.training, network.unfreeze_depth
    network.eval()
    network.set_unfreeze_depth(5)
    moments: dict[str, _Moments] = {}
    n_images = 0
    try:
        with torch.no_grad(), _listening(layers, moments):
            for images in batches:
                network.backbone(network.forward_prefix(images))
                n_images += len(images)
    finally:
        network.set_unfreeze_depth(depth)
        network.train(was_training)
    if n_images == 0:
        return DomainShift(network.architecture, (), 0, "no image was given")
    found = tuple(_layer(name, layers[name], seen) for name, seen in moments.items())
    return DomainShift(network.architecture, found, n_images)


@contextmanager
def _listening(layers: Mapping[str, nn.Module], moments: dict[str, _Moments]) -> Iterator[None]:
    def hook(name: str) -> Any:
        return lambda _module, inputs: moments.setdefault(name, _Moments()).add(inputs[0])

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layer(name: str, layer: nn.Module, seen: _Moments) -> LayerShift:
    stored_mean, stored_variance = (layer.get_buffer(b).double() for b in ("running_mean", "running_var"))
    each = symmetric_divergence(seen.mean, seen.variance, stored_mean, stored_variance).clamp(max=LARGEST)
    return LayerShift(name, len(each), float(each.mean()))


def shift_of_dataset(
    data: PreparedData,
    architecture: str,
    *,
    init: str = "imagenet",
    n_images: int = 256,
    batch_size: int = 32,
    seed: int = 0,
    weights_dir: Path | None = None,
) -> DomainShift:
    """The domain shift of a prepared data set's training images (a random sample of them) for one
    architecture.

    Raises:
        ModelError: the architecture or the image size cannot be had.
        WeightsError: the init's weights are nowhere.
    """
    network = build_network(
        architecture,
        init=init,
        num_outputs=1,
        unfreeze_depth=0,
        image_size=data.image_size,
        in_channels=data.channels,
        seed=seed,
        weights_dir=weights_dir,
    )
    images = data.split("train").images
    chosen = np.random.default_rng(seed).permutation(len(images))[:n_images]
    return domain_shift(network, _batches(network, images, np.sort(chosen), batch_size))


def _batches(network: Network, images: Any, chosen: Any, batch_size: int) -> Iterator[Tensor]:
    mean, spread = (
        torch.tensor(part, dtype=torch.float32).view(1, -1, 1, 1) for part in network.normalization
    )
    for start in range(0, len(chosen), batch_size):
        raw = np.asarray(images[chosen[start : start + batch_size]])
        scale = float(np.iinfo(raw.dtype).max)
        yield (torch.from_numpy(raw.astype(np.float32) / scale).permute(0, 3, 1, 2) - mean) / spread


def picture(shifts: Sequence[DomainShift]) -> Figure:
    """Divergence layer by layer, one line per network, from the stem (0) to the last layer (1)."""
    figure = Figure(figsize=(6.8, 3.8), layout="constrained")
    axes = figure.subplots()
    for shift in shifts:
        if shift.layers:
            place = np.linspace(0, 1, len(shift.layers))
            label = f"{shift.architecture} ({shift.value:.2f})"
            axes.plot(
                place, [layer.divergence for layer in shift.layers], marker=".", linewidth=1, label=label
            )
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set_xlabel("depth of the batch-norm layer (0: stem, 1: last)")
    axes.set_ylabel("symmetric KL divergence")
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(fontsize=7, frameon=False, title="mean over layers", title_fontsize=7)
    return figure

"""Build a network: backbone, weights, head."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import timm
import torch
from timm.models import PretrainedCfg
from torch import nn

from medfathom.errors import ModelError
from medfathom.models.attention import AttentionHead
from medfathom.models.batch_norm import BatchNorm
from medfathom.models.catalog import check_architecture
from medfathom.models.facts import find_shipped
from medfathom.models.graph.blueprint import BackboneSettings, Blueprint, blueprint_of, create_backbone
from medfathom.models.joint import JointHead
from medfathom.models.network import Network, NetworkFacts, Normalization, check_unfreeze_depth
from medfathom.models.weights.lookup import (
    NO_SOURCES,
    Sources,
    WeightsLocation,
    locate_weights,
    parse_init,
)
from medfathom.models.weights.read import MatchReport, hash_of, load_into, redraw

__all__ = [
    "HeadOptions",
    "Network",
    "NetworkFacts",
    "Outputs",
    "build_network",
    "empty_network",
    "has_batch_norm",
    "make_head",
    "normalization_of",
]


Outputs = int | tuple[int, ...]
"""Logits of the head; of a head for each of several data sets a tuple."""


@dataclass(frozen=True)
class HeadOptions:
    """The new classifier.

    Attributes:
        dropout: rate before each of its linear layers, in [0, 1).
        pooling: "avg" is the architecture's own: the average over positions, or the class token where the
            network has one. "max" and "avgmax" (the mean of both) are over positions.
        hidden: width of a hidden layer; 0 for none.
        attention: whether each image also gets a score, to weigh the images of a case by; it is the network's
            last output, one more than `num_outputs`.
    """

    dropout: float = 0.0
    pooling: Literal["avg", "max", "avgmax"] = "avg"
    hidden: int = 0
    attention: bool = False


def build_network(
    architecture: str,
    *,
    init: str,
    num_outputs: Outputs,
    unfreeze_depth: int,
    image_size: int,
    in_channels: int,
    seed: int,
    head: HeadOptions = HeadOptions(),
    grey: Literal["repeat", "sum"] = "repeat",
    weights_dir: Path | None = None,
    sources: Sources = NO_SOURCES,
) -> Network:
    """Build a network, with the same weights for the same arguments.

    Args:
        architecture: a timm name.
        init: where the backbone's weights start; the head's are always random.
        num_outputs: logits: classes, labels, or 1; several for several data sets.
        unfreeze_depth: how many of the last layer groups are trained besides the head, 0 to 5.
        image_size: side in pixels.
        in_channels: 1 or 3.
        seed: of all random weights.
        head: options of the new classifier.
        grey: how a one-channel image enters the network. "repeat": as three equal channels. "sum": into a
            first layer whose weights are summed over the colours. That layer then costs a third, but each
            colour's own normalisation is lost, so the pretrained function is only approximately kept.
        weights_dir: a folder of checkpoints, searched first.
        sources: the confirmed models of the studies that inits name.

    Raises:
        ModelError: the architecture, the size, the depth or the channels are not possible.
        WeightsError: the init's weights are nowhere, damaged, or do not fit the architecture.
    """
    check_unfreeze_depth(unfreeze_depth)
    if in_channels not in (1, 3):
        raise ModelError(f"in_channels must be 1 or 3, but got {in_channels}")
    if min(num_outputs if isinstance(num_outputs, tuple) else (num_outputs,)) < 1:
        raise ModelError(f"num_outputs must be at least 1, but got {num_outputs}")
    if find_shipped(architecture):
        check_architecture(architecture, image_size)
    location = locate_weights(architecture, init, weights_dir, sources)
    backbone_channels = 1 if in_channels == 1 and grey == "sum" else 3
    settings = BackboneSettings(architecture, image_size, backbone_channels, head.pooling)
    backbone, blueprint = _backbone(settings, seed)
    parsed = parse_init(init)
    report = None if parsed.kind == "random" else load_into(backbone, architecture, location)
    if parsed.kind == "imagenet-stats":
        redraw(backbone, torch.Generator().manual_seed(seed))
    with _seeded(seed):
        classifier = make_head(blueprint.features, num_outputs, head)
    network = Network(
        backbone,
        classifier,
        blueprint,
        architecture=architecture,
        normalization=_normalization(location, architecture, backbone_channels, report),
        repeats_grey=in_channels == 1 and backbone_channels == 3,
    )
    network.weights_hash = hash_of(backbone.state_dict())
    network.init_source = "; ".join(_sources(network, location, report))
    network.match = report
    network.set_unfreeze_depth(unfreeze_depth)
    return network


def with_own_head(network: Network, num_outputs: Outputs, head: HeadOptions, seed: int) -> Network:
    """A network of the same backbone, not copied, of which nothing is trained, and a head of its own.

    It is the one that `build_network` makes of the same arguments where weights are not drawn.
    """
    with _seeded(seed):
        classifier = make_head(network.blueprint.features, num_outputs, head)
    own = network.with_head(classifier)
    own.set_unfreeze_depth(0)
    return own


def _normalization(
    location: WeightsLocation, architecture: str, channels: int, report: MatchReport | None
) -> Normalization:
    """Mean and standard deviation of the backbone's channels; equal where a one-channel layer was expanded.

    Only then do the three thirds of its weights give the layer's result, also at the padded border.
    """
    mean, std = location.normalization or normalization_of(architecture, location.tag)
    if channels == 1 or (report is not None and report.expanded):
        return (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels
    return mean, std


def _sources(network: Network, location: WeightsLocation, report: MatchReport | None) -> list[str]:
    """What a trial's record says about its weights; for the user's own files, also what was assumed."""
    said = [location.description]
    if report is not None:
        said.append(str(report))
    if location.own:
        mean, std = (" ".join(f"{v:.4g}" for v in part) for part in network.backbone_normalization)
        usual = f"assumed: the usual ones of {network.architecture}"
        whose = f"as for {location.tag}" if location.tag else usual
        said.append(f"images normalised by mean {mean}, std {std} ({whose})")
    return said


def empty_network(
    architecture: str,
    *,
    num_outputs: Outputs,
    image_size: int,
    in_channels: int,
    head: HeadOptions,
    grey: Literal["repeat", "sum"],
    normalization: Normalization,
    device: str = "cpu",
) -> Network:
    """A network that waits for a `state_dict`: its weights mean nothing yet.

    Args:
        architecture: a timm name.
        num_outputs: logits.
        image_size: side in pixels.
        in_channels: 1 or 3.
        head: as it was built with.
        grey: as it was built with.
        normalization: of the backbone's own input channels.
        device: `meta` for a network of shapes alone, which takes no memory and has its facts.
    """
    backbone_channels = 1 if in_channels == 1 and grey == "sum" else 3
    settings = BackboneSettings(architecture, image_size, backbone_channels, head.pooling)
    backbone, blueprint = _backbone(settings, 0, device)
    with torch.device(device):
        classifier = make_head(blueprint.features, num_outputs, head)
    return Network(
        backbone,
        classifier,
        blueprint,
        architecture=architecture,
        normalization=normalization,
        repeats_grey=in_channels == 1 and backbone_channels == 3,
    )


def _backbone(settings: BackboneSettings, seed: int, device: str = "cpu") -> tuple[nn.Module, Blueprint]:
    try:
        with _seeded(seed):
            backbone = create_backbone(settings, device)
        return backbone, blueprint_of(backbone, settings)
    except ModelError:
        if settings.image_size is not None:
            check_architecture(settings.architecture, settings.image_size)  # says which sizes it takes
        raise


def has_batch_norm(architecture: str) -> bool:
    """Whether an architecture has batch norm anywhere; its weights are not made."""
    backbone = create_backbone(BackboneSettings(architecture), "meta")
    return any(isinstance(module, BatchNorm) for module in backbone.modules())


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw from a separate generator on the CPU; the caller's generator is not touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def normalization_of(architecture: str, tag: str | None = None) -> Normalization:
    """Mean and standard deviation of images in [0, 1] that a set of weights was trained with."""
    config = timm.get_pretrained_cfg(f"{architecture}.{tag}" if tag else architecture) or PretrainedCfg()
    return tuple(config.mean), tuple(config.std)


def make_head(features: int, num_outputs: Outputs, options: HeadOptions) -> nn.Module:
    """The head: dropout, a hidden layer if asked for, the classifier; attention beside it if asked for."""
    if isinstance(num_outputs, tuple):
        return JointHead(make_head(features, own, options) for own in num_outputs)
    layers: list[nn.Module] = []
    width = features
    if options.hidden:
        layers += [nn.Dropout(options.dropout), nn.Linear(width, options.hidden), nn.ReLU()]
        width = options.hidden
    classifier = nn.Sequential(*layers, nn.Dropout(options.dropout), nn.Linear(width, num_outputs))
    return AttentionHead(classifier, features) if options.attention else classifier

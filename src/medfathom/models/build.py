"""Building a network: backbone, weights, head, and the cut between what is frozen and what is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from medfathom.errors import ModelError
from medfathom.models.blueprint import (
    BackboneSettings,
    Blueprint,
    blueprint_of,
    create_backbone,
)
from medfathom.models.freezing import freeze, hold_in_inference_mode
from medfathom.models.layer_groups import GROUPS
from medfathom.models.weights import hash_of, load_into, redraw
from medfathom.models.weights_lookup import locate_weights, parse_init

Normalization = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class HeadOptions:
    """The new classifier.

    Attributes:
        dropout: before each of its linear layers.
        pooling: "avg" is the architecture's own: an average over positions, or the class token where the
            network was trained with one. "max" and "avgmax" (the mean of both) are over positions.
        hidden: width of a hidden layer; 0 for none.
    """

    dropout: float = 0.0
    pooling: Literal["avg", "max", "avgmax"] = "avg"
    hidden: int = 0


@dataclass(frozen=True)
class NetworkFacts:
    """Sizes of the whole network, head included, at its image size.

    Attributes:
        trainable_fraction: of the parameters.
        trainable_layer_fraction: of the weighted layers (conv, linear).
        depth: weighted layers on the longest path from input to logits.
        macs: multiply-accumulates for one image.
    """

    architecture: str
    family: str
    n_params: int
    n_trainable_params: int
    trainable_fraction: float
    trainable_layer_fraction: float
    depth: int
    macs: int


class Network(nn.Module):
    """A timm backbone, cut into five layer groups, and a head.

    The backbone keeps timm's own modules and names; the two parts run them by the backbone's graph. Modules
    of the frozen prefix stay in inference mode whatever `train` is told.

    Attributes:
        unfreeze_depth: how many of the last layer groups are trained besides the head.
        facts: sizes.
        init_source: where the weights came from, one line.
        weights_hash: SHA-256 over the backbone's tensors as loaded.
        normalization: mean and standard deviation of each input channel, for images in [0, 1].
    """

    _channel_scale: Tensor
    _channel_shift: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        blueprint: Blueprint,
        *,
        architecture: str,
        in_channels: int,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.architecture = architecture
        self.in_channels = in_channels
        self.init_source = ""
        self.weights_hash = ""
        self._blueprint = blueprint
        for name, constant in blueprint.constants.items():
            backbone.register_buffer(name, constant.clone(), persistent=False)
        self.normalization, scale, shift = _normalization(backbone, in_channels)
        self.register_buffer("_channel_scale", scale, persistent=False)
        self.register_buffer("_channel_shift", shift, persistent=False)
        self._repeats = in_channels == 1 and _backbone_channels(backbone) == 3
        self.set_unfreeze_depth(GROUPS)

    def set_unfreeze_depth(self, depth: int) -> None:
        """Train the last `depth` layer groups (0 to 5) and the head, freeze the others.

        Raises:
            ModelError: the depth is out of range.
        """
        check_unfreeze_depth(depth)
        self.unfreeze_depth = depth
        self._cut = self._blueprint.cuts[GROUPS - depth]
        trained = {n for n, g in self._blueprint.groups.items() if g > GROUPS - depth}
        freeze(self.backbone, frozenset(trained))
        self.train(self.training)

    def train(self, mode: bool = True) -> Network:
        """Set training mode for what is trained; the frozen prefix stays in inference mode."""
        super().train(mode)
        hold_in_inference_mode(self.backbone, self._cut.prefix_modules)
        return self

    def prefix_modules(self) -> list[nn.Module]:
        """Every module that belongs to the frozen prefix."""
        found: dict[int, nn.Module] = {}
        for path in sorted(self._cut.prefix_modules):
            for module in self.backbone.get_submodule(path).modules():
                found.setdefault(id(module), module)
        return list(found.values())

    @torch.no_grad()
    def forward_prefix(self, images: Tensor) -> Tensor:
        """The frozen groups, without gradients: (n, in_channels, s, s) -> the features at the cut.

        With nothing frozen these are the images; a grey image becomes three channels here if the backbone
        wants them.
        """
        if self._repeats:
            images = images * self._channel_scale + self._channel_shift
        if self._cut.prefix is None:
            return images
        features: Tensor = self._cut.prefix(self.backbone, images)
        return features

    def forward_rest(self, features: Tensor) -> Tensor:
        """The trained groups and the head: features at the cut -> logits (n, num_outputs).

        The features are not changed.
        """
        if self._cut.rest is not None:
            features = features.clone() if self._cut.writes_input else features
            features = self._cut.rest(self.backbone, features)
        logits: Tensor = self.head(features)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, num_outputs) of normalised images (n, in_channels, s, s)."""
        return self.forward_rest(self.forward_prefix(images))

    def trainable_parameters_by_group(self) -> list[tuple[int | Literal["head"], list[nn.Parameter]]]:
        """Trained parameters, stem side first: (1 to 5, parameters) and at last ("head", parameters)."""
        parts: dict[int, list[nn.Parameter]] = {}
        for name, parameter in self.backbone.named_parameters():
            if parameter.requires_grad:
                parts.setdefault(self._blueprint.groups[name], []).append(parameter)
        groups: list[tuple[int | Literal["head"], list[nn.Parameter]]] = [
            (g, parts[g]) for g in sorted(parts)
        ]
        return [*groups, ("head", list(self.head.parameters()))]

    def trained_state(self) -> dict[str, Tensor]:
        """The tensors that training can move, by name: small when most is frozen."""
        return {name: tensor for name, tensor in self.state_dict().items() if self._moves(name)}

    def load_trained_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `trained_state` gave.

        Raises:
            ModelError: it is of another network, or of another unfreeze depth.
        """
        expected = self.trained_state()
        wrong = sorted(set(expected) ^ set(state)) or [
            n for n in expected if expected[n].shape != state[n].shape
        ]
        if wrong:
            raise ModelError(
                f"not a trained state of {self.architecture} at unfreeze_depth {self.unfreeze_depth}: "
                f"{len(wrong)} tensors differ, the first is {wrong[0]}"
            )
        self.load_state_dict(dict(state), strict=False)

    def _moves(self, name: str) -> bool:
        part, _, inner = name.partition(".")
        return part == "head" or self._blueprint.groups[inner] > GROUPS - self.unfreeze_depth

    @property
    def facts(self) -> NetworkFacts:
        """Sizes of this network with its present unfreeze depth."""
        n_params = sum(p.numel() for p in self.parameters())
        n_trained = sum(p.numel() for p in self.parameters() if p.requires_grad)
        linear = [m for m in self.head.modules() if isinstance(m, nn.Linear)]
        layers = [*self._blueprint.layers_per_group, len(linear)]
        return NetworkFacts(
            architecture=self.architecture,
            family=family_of(self.backbone),
            n_params=n_params,
            n_trainable_params=n_trained,
            trainable_fraction=n_trained / n_params,
            trainable_layer_fraction=sum(layers[GROUPS - self.unfreeze_depth :]) / sum(layers),
            depth=self._blueprint.depth + len(linear),
            macs=self._blueprint.macs + sum(m.in_features * m.out_features for m in linear),
        )


def build_network(
    architecture: str,
    *,
    init: str,
    num_outputs: int,
    unfreeze_depth: int,
    image_size: int,
    in_channels: int,
    seed: int,
    head: HeadOptions = HeadOptions(),
    grey: Literal["repeat", "sum"] = "repeat",
    weights_dir: Path | None = None,
) -> Network:
    """Build a network, with the same weights for the same arguments.

    Args:
        architecture: a timm name.
        init: where the backbone's weights start; the head's are always drawn anew.
        num_outputs: logits: classes, labels, or 1.
        unfreeze_depth: how many of the last layer groups are trained besides the head, 0 to 5.
        image_size: side in pixels.
        in_channels: 1 or 3.
        seed: of everything drawn.
        head: options of the new classifier.
        grey: what a one-channel image meets: "repeat", the same three channels as a grey image saved in
            colour; "sum", a first layer whose weights are summed over the colours (a third of the work there,
            but each colour's own normalisation is lost, so the pretrained function is only nearly kept).
        weights_dir: a folder of checkpoints, looked in first.

    Raises:
        ModelError: the architecture, the size, the depth or the channels cannot be had.
        WeightsError: the init's weights are nowhere, damaged, or another architecture's.
    """
    check_unfreeze_depth(unfreeze_depth)
    if in_channels not in (1, 3):
        raise ModelError(f"in_channels must be 1 or 3, but got {in_channels}")
    channels = 1 if in_channels == 1 and grey == "sum" else 3
    settings = BackboneSettings(architecture, image_size, channels, head.pooling)
    location = locate_weights(architecture, init, weights_dir)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = create_backbone(settings)
    blueprint = blueprint_of(backbone, settings)
    source = location.description
    if location.path is not None:
        source = f"{source}; {load_into(backbone, architecture, location)}"
    if parse_init(init).kind == "imagenet-stats":
        redraw(backbone, torch.Generator().manual_seed(seed))
    weights_hash = hash_of(backbone.state_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = make_head(blueprint.features, num_outputs, head)
    network = Network(backbone, classifier, blueprint, architecture=architecture, in_channels=in_channels)
    network.init_source = source
    network.weights_hash = weights_hash
    network.set_unfreeze_depth(unfreeze_depth)
    return network


def make_head(features: int, num_outputs: int, options: HeadOptions) -> nn.Sequential:
    """Dropout, a hidden layer where asked, the classifier."""
    layers: list[nn.Module] = []
    width = features
    if options.hidden:
        layers += [nn.Dropout(options.dropout), nn.Linear(width, options.hidden), nn.ReLU()]
        width = options.hidden
    return nn.Sequential(*layers, nn.Dropout(options.dropout), nn.Linear(width, num_outputs))


def check_unfreeze_depth(depth: int) -> None:
    """Raise ModelError unless the depth is one of 0 to 5."""
    if not 0 <= depth <= GROUPS:
        raise ModelError(f"unfreeze_depth must be 0 to {GROUPS}, but got {depth}")


def family_of(backbone: nn.Module) -> str:
    """The timm module that an architecture comes from."""
    return type(backbone).__module__.rpartition(".")[2]


def _backbone_channels(backbone: nn.Module) -> int:
    return int(backbone.in_chans)  # type: ignore[arg-type]


def _normalization(backbone: nn.Module, in_channels: int) -> tuple[Normalization, Tensor, Tensor]:
    """What the caller normalises by, and what turns a grey image so normalised into the backbone's channels.

    A grey image is normalised by the averages over the channels; scale and shift then give each repeated
    channel the mean and spread that the pretrained network expects of it.
    """
    config = backbone.pretrained_cfg
    mean = tuple(float(v) for v in config["mean"])  # type: ignore[index]
    std = tuple(float(v) for v in config["std"])  # type: ignore[index]
    if in_channels == len(mean):
        return (mean, std), torch.ones(1), torch.zeros(1)
    grey_mean, grey_std = sum(mean) / len(mean), sum(std) / len(std)
    scale = torch.tensor([grey_std / s for s in std]).view(1, -1, 1, 1)
    shift = torch.tensor([(grey_mean - m) / s for m, s in zip(mean, std, strict=True)]).view(1, -1, 1, 1)
    return ((grey_mean,), (grey_std,)), scale, shift

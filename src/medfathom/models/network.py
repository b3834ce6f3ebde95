"""A network: a backbone cut into a frozen and a trained part, and a head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from medfathom.errors import ModelError
from medfathom.models.adapters import add_adapters, is_of_adapter, merge_adapters, plain_name
from medfathom.models.attention import AttentionHead
from medfathom.models.batch_norm import BatchNorm
from medfathom.models.graph.blueprint import Blueprint, Cut, family_of
from medfathom.models.graph.layer_groups import GROUPS
from medfathom.models.joint import JointHead, give_own_norms, use_norms_of
from medfathom.models.weights.read import MatchReport


def freeze(backbone: nn.Module, trained: frozenset[str]) -> None:
    """Make exactly these parameters of a backbone trainable; the others lose their gradient."""
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name in trained)
        if name not in trained:
            parameter.grad = None


Only = Literal["all", "vectors", "adapters"]
"""What of the parameters of trained layer groups is trained."""


def _is_chosen(name: str, parameter: nn.Parameter, only: Only) -> bool:
    if only == "vectors":
        return parameter.ndim <= 1
    return only == "all" or is_of_adapter(name)


Normalization = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel."""


@dataclass(frozen=True)
class NetworkFacts:
    """Sizes of the whole network with its head, at its image size.

    Attributes:
        architecture: timm name.
        family: timm's module.
        n_params: number of parameters.
        n_trainable_params: number of trained parameters.
        trainable_fraction: share of the parameters that is trained, in [0, 1].
        trainable_layer_fraction: share of the weighted layers (conv, linear) whose weights are trained.
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

    The backbone keeps timm's modules and names; the two parts run them by the backbone's graph. Modules of
    the frozen prefix always stay in inference mode, also after `train(True)`.

    What training may change is chosen once (`set_trained`); what it changes now may be less (`open`).

    Attributes:
        trained_groups: the layer groups that training may change, besides the head.
        open_groups: those of them that are trained now.
        frozen_groups: how many of the first layer groups stand still now: the frozen prefix.
        facts: sizes.
        init_source: where the weights came from, one line.
        blueprint: where the backbone is cut, and its sizes.
        weights_hash: SHA-256 over the backbone's tensors as loaded, hexadecimal.
        match: how the checkpoint fitted; None without a checkpoint.
        normalization: mean and standard deviation of each input channel, for images in [0, 1].
        backbone_normalization: the same of the backbone's own channels (three where grey is repeated).
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
        normalization: Normalization,
        repeats_grey: bool,
    ) -> None:
        """Put the parts together; nothing is frozen yet.

        Args:
            backbone: a timm model without its classifier.
            head: features -> logits.
            blueprint: of the backbone.
            architecture: its timm name.
            normalization: mean and standard deviation of each channel of the backbone's input in pretraining.
            repeats_grey: whether images have one channel and the backbone takes three.
        """
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.architecture = architecture
        self.init_source = ""
        self.weights_hash = ""
        self.match: MatchReport | None = None
        self.blueprint = blueprint
        blueprint.prepare(backbone)
        self._repeats_grey = repeats_grey
        mean, std = normalization
        grey_mean, grey_std = sum(mean) / len(mean), sum(std) / len(std)
        # A grey image is normalised by the averages over the channels; this gives each repeated channel the
        # mean and standard deviation of pretraining.
        shift = [(grey_mean - m) / s for m, s in zip(mean, std, strict=True)]
        self.register_buffer("_channel_scale", _over_channels([grey_std / s for s in std]), persistent=False)
        self.register_buffer("_channel_shift", _over_channels(shift), persistent=False)
        self.normalization = ((grey_mean,), (grey_std,)) if repeats_grey else normalization
        self.backbone_normalization = normalization
        self.set_unfreeze_depth(GROUPS)

    def with_head(self, head: nn.Module) -> Network:
        """Another network of the same backbone, not copied; nothing is frozen yet."""
        own = Network(
            self.backbone,
            head,
            self.blueprint,
            architecture=self.architecture,
            normalization=self.backbone_normalization,
            repeats_grey=self._repeats_grey,
        )
        own.init_source, own.weights_hash, own.match = self.init_source, self.weights_hash, self.match
        return own

    def set_unfreeze_depth(self, depth: int) -> None:
        """Train the last `depth` layer groups (0 to 5) and the head, freeze the others.

        Raises:
            ModelError: the depth is out of range.
        """
        check_unfreeze_depth(depth)
        self.set_trained(frozenset(range(GROUPS - depth + 1, GROUPS + 1)))

    def set_trained(self, groups: frozenset[int], only: Only = "all") -> None:
        """Choose what training may change besides the head, and open all of it.

        Args:
            groups: layer groups, 1 to 5, all of one stretch.
            only: what of their parameters; `vectors`: those of one dimension, biases and norms.
        """
        parameters = dict(self.backbone.named_parameters(remove_duplicate=False))
        self._parameter_names = frozenset(parameters)
        self.trained_groups, self._only = groups, only
        self._trained = frozenset(
            name
            for name, parameter in parameters.items()
            if self._group(name) in groups and _is_chosen(name, parameter, only)
        )
        self.open(groups)

    def add_adapters(self, rank: int, seed: int) -> None:
        """Put LoRA adapters into the groups that training may change; it then changes these alone.

        Raises:
            ModelError: peft is not installed, or there is no layer that can be adapted.
        """
        paths = {p for p in self.cut(GROUPS).prefix_modules if self._module_group(p) in self.trained_groups}
        add_adapters(self.backbone, paths, rank, seed)
        self.set_trained(self.trained_groups, "adapters")

    def merge_adapters(self) -> None:
        """Make adapters part of the weights that they stand beside; nothing where there are none."""
        if self._only == "adapters":
            merge_adapters(self.backbone)
            self.set_trained(self.trained_groups)

    def give_own_norms(self, datasets: int) -> None:
        """Give each of several data sets batch norm of its own in the groups that training may change.

        What is frozen keeps one batch norm for all: its features are then the same whatever an image is of.

        Raises:
            ModelError: these groups have no batch norm.
        """
        found = [path for path, m in self.backbone.named_modules() if isinstance(m, BatchNorm)]
        paths = [path for path in found if self._module_group(path) in self.trained_groups]
        if not paths:
            raise ModelError(
                f'norm = "per_dataset": {self.architecture} has no batch norm in the groups that are trained '
                f'({sorted(self.trained_groups)}); take norm = "shared", or another architecture'
            )
        open_now = self.open_groups
        give_own_norms(self.backbone, paths, datasets)
        self.set_trained(self.trained_groups, self._only)
        self.open(open_now)

    def use_norms_of(self, place: int) -> None:
        """Normalise as the data set at this place does; nothing where all share one batch norm."""
        use_norms_of(self.backbone, place)

    def _group(self, name: str) -> int:
        """The layer group of a tensor of the backbone."""
        return self.blueprint.groups[plain_name(name)]

    def _module_group(self, path: str) -> int | None:
        """The layer group of the module's weight; None: it has none."""
        return self.blueprint.groups.get(f"{path}.weight")

    def open(self, groups: frozenset[int]) -> None:
        """Train only these of the groups that training may change; the others stand still.

        What stands still is in inference mode: its batch-norm statistics do not move, and it drops nothing.
        """
        self.open_groups = groups
        self.frozen_groups = min(groups, default=GROUPS + 1) - 1
        self._cut = self.cut(self.frozen_groups)
        behind = self.cut(GROUPS).prefix_modules - self.cut(max(groups)).prefix_modules if groups else ()
        paths = self._cut.prefix_modules.union(behind)
        freeze(self.backbone, frozenset(n for n in self._trained if self._group(n) in groups))
        still = {module for path in paths for module in self.backbone.get_submodule(path).modules()}
        for module in still:
            module.training = False
        # Going through all modules would take most of a short epoch where the prefix is frozen.
        # Without the network itself: in a circle of references it would stay in memory for a while.
        self._moving = [m for m in self.modules() if m not in still and m is not self]
        keeping = [m for m in self._moving if type(m).train is not nn.Module.train]
        self._keeping, self._still = keeping, still if keeping else ()
        self.train(self.training)

    @property
    def unfreeze_depth(self) -> int:
        """How many of the last layer groups do not belong to the frozen prefix now."""
        return GROUPS - self.frozen_groups

    def train(self, mode: bool = True) -> Network:
        """Set training mode for what is trained now; what stands still stays in inference mode."""
        for module in self._keeping:  # in inference, what follows from weights; told to train, they forget it
            module.train(mode)  # and what is inside
        for module in (self, *self._moving):
            module.training = mode
        for module in self._still:
            module.training = False
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

        With nothing frozen the features are the images. A grey image becomes three channels here if the
        backbone takes three.
        """
        return self._before(self._cut, images)

    def forward_rest(self, features: Tensor) -> Tensor:
        """The trained groups and the head: features at the cut -> logits (n, num_outputs).

        The given tensor is not changed.
        """
        return self._after(self._cut, features)

    @torch.no_grad()
    def features_after(self, groups: int, inputs: Tensor, start: int = 0) -> Tensor:
        """Features of images after the first layer groups, without gradients; these groups must be frozen.

        With `start` (1 to `groups` - 1) the inputs are features after the first `start` groups, not images.
        """
        cut = self._frozen_cut(groups)
        if start == 0:
            return self._before(cut, inputs)
        between = self.blueprint.cuts.between(start, groups)
        features: Tensor = between(self.backbone, inputs.clone() if self.cut(start).writes_input else inputs)
        return features

    def logits_from(self, groups: int, features: Tensor) -> Tensor:
        """Logits from features after the first layer groups, which must be frozen."""
        return self._after(self._frozen_cut(groups), features)

    def cut(self, groups: int) -> Cut:
        """The cut after the first layer groups, with the shape of the features there and their cost."""
        return self.blueprint.cuts[groups]

    def _frozen_cut(self, groups: int) -> Cut:
        if not 0 <= groups <= self.frozen_groups:
            raise ModelError(f"groups must be 0 to {self.frozen_groups} (the frozen ones), but got {groups}")
        return self.cut(groups)

    def _before(self, cut: Cut, images: Tensor) -> Tensor:
        if self._repeats_grey:
            # Channels last: an image of one channel has no such order. Without it the network would run in
            # the slower order, and in another order than from cached features.
            images = (images * self._channel_scale + self._channel_shift).contiguous(
                memory_format=torch.channels_last
            )
        if cut.prefix is None:
            return images
        features: Tensor = cut.prefix(self.backbone, images)
        return features

    def _after(self, cut: Cut, features: Tensor) -> Tensor:
        if cut.rest is not None:
            features = cut.rest(self.backbone, features.clone() if cut.writes_input else features)
        logits: Tensor = self.head(features)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, num_outputs) of normalised images (n, in_channels, s, s)."""
        return self.forward_rest(self.forward_prefix(images))

    def trainable_parameters_by_group(self) -> list[tuple[int | Literal["head"], list[nn.Parameter]]]:
        """What training may change, from the stem on: (group 1 to 5, parameters), ("head", parameters)."""
        parts: dict[int, list[nn.Parameter]] = {}
        for name, parameter in self.backbone.named_parameters():
            if name in self._trained:
                parts.setdefault(self._group(name), []).append(parameter)
        groups: list[tuple[int | Literal["head"], list[nn.Parameter]]] = [
            (g, parts[g]) for g in sorted(parts)
        ]
        return [*groups, ("head", list(self.head.parameters()))]

    def trained_state(self) -> dict[str, Tensor]:
        """The tensors that training changes, by name: few when most of the network is frozen."""
        whole = self if self.trained_groups else nn.ModuleDict({"head": self.head})
        return {name: tensor for name, tensor in whole.state_dict().items() if self._moves(name)}

    def load_trained_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `trained_state` returned.

        Raises:
            ModelError: the state is of another network, or of one of which other parts are trained.
        """
        expected = self.trained_state()
        wrong = sorted(set(expected) ^ set(state)) or [
            n for n in expected if expected[n].shape != state[n].shape
        ]
        if wrong:
            raise ModelError(
                f"not a trained state of {self.architecture} with groups {sorted(self.trained_groups)}: "
                f"{len(wrong)} tensors differ, the first is {wrong[0]}"
            )
        self.load_state_dict(dict(state), strict=False)

    def _moves(self, name: str) -> bool:
        part, _, inner = name.partition(".")
        if part == "head" or inner in self._trained:
            return True
        statistics = inner not in self._parameter_names
        return statistics and self._group(inner) in self.trained_groups

    @property
    def facts(self) -> NetworkFacts:
        """Sizes of this network, with all that training may change."""
        n_params = sum(p.numel() for n, p in self.named_parameters() if not is_of_adapter(n))
        n_trained = sum(p.numel() for _, trained in self.trainable_parameters_by_group() for p in trained)
        linear = [m for m in self.head.modules() if isinstance(m, nn.Linear)]
        layers = self.blueprint.layers_per_group
        adapted = sum(hasattr(module, "lora_A") for module in self.backbone.modules())
        whole = [layers[group - 1] for group in self.trained_groups] if self._only == "all" else [adapted]
        # Attention, and the heads of other data sets, are beside the path from input to logits.
        path = self.head.heads[0] if isinstance(self.head, JointHead) else self.head
        path = path.classifier if isinstance(path, AttentionHead) else path
        return NetworkFacts(
            architecture=self.architecture,
            family=family_of(self.architecture),
            n_params=n_params,
            n_trainable_params=n_trained,
            trainable_fraction=n_trained / n_params,
            trainable_layer_fraction=(sum(whole) + len(linear)) / (sum(layers) + len(linear)),
            depth=self.blueprint.depth + sum(isinstance(m, nn.Linear) for m in path.modules()),
            macs=self.blueprint.macs + sum(m.in_features * m.out_features for m in linear),
        )


def check_unfreeze_depth(depth: int) -> None:
    """Raise ModelError unless the depth is one of 0 to 5."""
    if not 0 <= depth <= GROUPS:
        raise ModelError(f"unfreeze_depth must be 0 to {GROUPS}, but got {depth}")


def _over_channels(values: list[float]) -> Tensor:
    return torch.tensor(values).view(1, -1, 1, 1)

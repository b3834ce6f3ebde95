"""The blueprint of a backbone, which needs no weights: its graph, its five groups, its two parts at each cut.

It depends only on the architecture, the image size, the input channels and the pooling, so it is made once
per process and shared by all networks built from it.
"""

from __future__ import annotations

import logging
import math
import operator
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, fx, nn

from medfathom.errors import ModelError, did_you_mean
from medfathom.models.facts import find_shipped
from medfathom.models.graph.layer_groups import (
    GROUPS,
    MOST_VALUES,
    CutPoint,
    cut_points,
    first_uses,
    from_words,
    layer_groups,
    tensor_names,
)
from medfathom.models.graph.measure import Measured, ShapesOnly, measure
from medfathom.models.graph.tracing import Trace, compile_part, data_dependent, has_effect, trace

IN_PLACE_OPERATORS = frozenset({"iadd", "isub", "imul", "itruediv", "ipow", "imatmul"})
"""`x += y` and the like, as functions of the operator module."""

PartFunction = Callable[[nn.Module, Tensor], Any]


@dataclass(frozen=True)
class BackboneSettings:
    """What a blueprint depends on. `image_size`: side in pixels; None is the architecture's native size."""

    architecture: str
    image_size: int | None = None
    in_channels: int = 3
    pooling: str = "avg"


@dataclass(frozen=True)
class Cut:
    """The two parts of a backbone when its first groups are frozen.

    Attributes:
        prefix: the frozen part, a function of (backbone, images); None where nothing is frozen.
        rest: the other part, a function of (backbone, features); None where everything is frozen.
        prefix_modules: paths of the modules that the prefix runs.
        writes_input: whether the rest changes its input in place, so that it must be given a copy.
        shape: of one image's features at the cut; () where nothing is frozen.
        macs: multiply-accumulates of the prefix for one image.
    """

    prefix: PartFunction | None
    rest: PartFunction | None
    prefix_modules: frozenset[str]
    writes_input: bool
    shape: tuple[int, ...]
    macs: int


class Cuts:
    """The cuts of one backbone by number of frozen groups, 0 to 5; each is made when it is first needed."""

    def __init__(
        self, traced: Trace, measured: Measured, ends: Sequence[CutPoint], inplace: Set[str]
    ) -> None:
        """Take where groups 1 to 4 end, and the paths of modules that change their input in place."""
        self._traced = traced
        self._measured = measured
        self._ends = ends
        self._inplace = inplace
        self._made: dict[int, Cut] = {}
        self._between: dict[tuple[int, int], PartFunction] = {}

    def __getitem__(self, frozen: int) -> Cut:
        if frozen not in self._made:
            self._made[frozen] = self._make(frozen)
        return self._made[frozen]

    def between(self, start: int, end: int) -> PartFunction:
        """The groups after `start` (1 to 4) up to `end`: a function of (backbone, features after `start`)."""
        if (start, end) not in self._between:
            part = _part(self._traced, self._measured, self._end(start), self._end(end))
            self._between[start, end] = compile_part(part)
        return self._between[start, end]

    def _end(self, frozen: int) -> CutPoint | None:
        """Where the first groups end; None: at the end of the backbone."""
        return None if frozen == GROUPS else self._ends[frozen - 1]

    def _make(self, frozen: int) -> Cut:
        graph, measured = self._traced.graph, self._measured
        if frozen == 0:
            return Cut(None, compile_part(graph), frozenset(), False, (), 0)
        end = self._end(frozen)
        if end is None:
            shape = measured.shapes[_output(self._traced)][1:]
            return Cut(compile_part(graph), None, _modules(graph), False, shape, measured.macs)
        prefix, rest = (_part(self._traced, measured, *ends) for ends in ((None, end), (end, None)))
        index = {node: i for i, node in enumerate(self._traced.nodes)}
        macs = sum(n for node, n in measured.node_macs.items() if index[node] <= end.index)
        shapes = [measured.shapes[value][1:] for value in end.values]
        shape = shapes[0] if len(shapes) == 1 else (sum(math.prod(s) for s in shapes),)
        writes = _writes_input(rest, self._inplace)
        return Cut(compile_part(prefix), compile_part(rest), _modules(prefix), writes, shape, macs)


@dataclass(frozen=True)
class Blueprint:
    """A backbone (a timm model without its classifier) at one image size.

    Attributes:
        groups: the layer group, 1 to 5, of each parameter and buffer by name.
        cuts: by number of frozen groups, 0 to 5.
        layers_per_group: weighted layers in each group.
        depth, macs: of the backbone; the head comes on top.
        features: number of features that the head receives.
        constants: tensors that the graph needs and the backbone does not have.
    """

    groups: Mapping[str, int]
    cuts: Cuts
    layers_per_group: Sequence[int]
    depth: int
    macs: int
    features: int
    constants: Mapping[str, Tensor]

    def prepare(self, backbone: nn.Module) -> None:
        """Give a backbone the constants, as buffers that are not saved."""
        for name, constant in self.constants.items():
            backbone.register_buffer(name, constant.clone(), persistent=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> Blueprint:
        return self  # it never changes, so copies of a network share it


_blueprints: dict[BackboneSettings, Blueprint] = {}


def check_name(name: str) -> None:
    """Raise ModelError unless timm has an architecture of this name."""
    if "." in name and timm.is_model(name.partition(".")[0]):
        base, _, tag = name.partition(".")
        raise ModelError(
            f"architecture {name!r}: name the weights in init: architecture {base}, init imagenet:{tag}"
        )
    if not timm.is_model(name):
        raise ModelError(f"unknown architecture {name!r}: {did_you_mean(name, timm.list_models())}")


def family_of(name: str) -> str:
    """An architecture's family: the timm module that builds it."""
    return timm.model_entrypoint(name).__module__.rpartition(".")[2]


def create_backbone(settings: BackboneSettings, device: str | None = None) -> nn.Module:
    """A timm model without its classifier, its weights drawn from torch's generator.

    Raises:
        ModelError: the architecture cannot be built with these settings.
    """
    check_name(settings.architecture)
    options: dict[str, Any] = {"num_classes": 0, **timm_arguments(settings)}
    try:
        with torch.device(device or "cpu"), ShapesOnly() if device == "meta" else nullcontext():
            return _create(settings.architecture, options)
    except (TypeError, AssertionError, ValueError, RuntimeError, NotImplementedError) as error:
        asked = " ".join(f"{k}={v}" for k, v in options.items() if k not in ("num_classes", "fc_norm"))
        reason = str(error).split("\n", 1)[0] or type(error).__name__
        raise ModelError(f"{settings.architecture} cannot be built with {asked} ({reason})") from None


def timm_arguments(settings: BackboneSettings) -> dict[str, Any]:
    """What `timm.create_model` is given besides the name; `fc_norm` only where the architecture takes it."""
    arguments: dict[str, Any] = {"in_chans": settings.in_channels}
    if settings.image_size is not None and has_fixed_size(settings.architecture):
        arguments["img_size"] = settings.image_size
    if settings.pooling != "avg":
        # Without `fc_norm` a ViT moves its last norm behind the pooling, under a name that no checkpoint has.
        arguments |= {"global_pool": settings.pooling, "fc_norm": False}
    return arguments


def _create(architecture: str, options: dict[str, Any]) -> nn.Module:
    with suppress(TypeError):
        return timm.create_model(architecture, **options)
    return timm.create_model(architecture, **{k: v for k, v in options.items() if k != "fc_norm"})


def has_fixed_size(architecture: str) -> bool:
    """Whether a model is built for one image size (ViT, Swin), not for any."""
    config = timm.get_pretrained_cfg(architecture)
    return config is not None and bool(config.fixed_input_size)


def native_size(architecture: str) -> int:
    """The image side in pixels that timm's default weights of an architecture were trained at."""
    config = timm.get_pretrained_cfg(architecture)
    return int(config.input_size[-1]) if config is not None else 224


def blueprint_of(backbone: nn.Module, settings: BackboneSettings) -> Blueprint:
    """The blueprint of a backbone made by `create_backbone` with these settings; each is made only once.

    Raises:
        ModelError: the architecture cannot be traced or cut, or cannot take images of this size.
    """
    if settings not in _blueprints:
        _blueprints[settings] = _draw(backbone, settings)
    return _blueprints[settings]


def find_groups(architecture: str, pooling: str = "avg") -> dict[str, int]:
    """The layer group of each tensor of an architecture, determined at its native image size.

    Raises:
        ModelError: the architecture cannot be traced or cut.
    """
    native = create_backbone(BackboneSettings(architecture, pooling=pooling), "meta")
    side = native_size(architecture)
    traced = trace(native)
    measured = measure(native, traced, (3, side, side))
    return layer_groups(native, traced, measured, side)


def _groups(backbone: nn.Module, settings: BackboneSettings) -> dict[str, int]:
    """The layer group of each tensor, from the catalog where possible: a first build takes half the time."""
    row = find_shipped(settings.architecture)
    if row is None or settings.pooling != "avg":
        return find_groups(settings.architecture, settings.pooling)
    return from_words(row.groups, tensor_names(backbone))


def _draw(backbone: nn.Module, settings: BackboneSettings) -> Blueprint:
    groups = _groups(backbone, settings)
    side = settings.image_size or native_size(settings.architecture)
    traced = trace(backbone)
    try:
        shapes = backbone if _is_meta(backbone) else create_backbone(settings, "meta")
        measured = measure(shapes, traced, (settings.in_channels, side, side))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).split("\n", 1)[0]
        raise ModelError(f"{settings.architecture} cannot take {side} px images ({reason})") from None
    ends = _places_to_cut(traced, measured, groups)
    index = {node: i for i, node in enumerate(traced.nodes)}
    indexes = [end.index for end in ends]
    group_of_layer = [bisect_left(indexes, index[node]) + 1 for node in measured.layers]
    return Blueprint(
        groups=groups,
        cuts=Cuts(
            traced, measured, ends, {n for n, m in backbone.named_modules() if getattr(m, "inplace", False)}
        ),
        layers_per_group=[group_of_layer.count(g) for g in range(1, GROUPS + 1)],
        depth=measured.depth,
        macs=measured.macs,
        features=measured.shapes[_output(traced)][1],
        constants=traced.constants,
    )


def _is_meta(backbone: nn.Module) -> bool:
    return all(p.is_meta for p in backbone.parameters())


def _output(traced: Trace) -> fx.Node:
    value = traced.nodes[-1].args[0]
    if not isinstance(value, fx.Node):
        raise ModelError(
            "this network returns several values, so a head cannot be added; use another architecture"
        )
    return value


def _places_to_cut(traced: Trace, measured: Measured, groups: Mapping[str, int]) -> list[CutPoint]:
    """Where groups 1 to 4 end in this graph: at the smallest tensor between two groups' layers.

    Only operations without weights lie between two layers, such as an activation or a pooling. A cut after
    the pooling makes the cached features smaller and changes nothing else.
    """
    by_module = _highest_group_by_module(groups)
    uses = [
        (i, by_module[str(node.target)]) for i, node in first_uses(traced) if str(node.target) in by_module
    ]
    bounds = [
        (
            max((i for i, g in uses if g <= group), default=0),
            min((i for i, g in uses if g > group), default=len(traced.nodes)),
        )
        for group in range(1, GROUPS)
    ]
    for most_values in range(1, MOST_VALUES + 1):
        points = cut_points(traced, measured, most_values)
        allowed = [[p for p in points if last <= p.index < later] for last, later in bounds]
        if all(allowed):
            return [min(places, key=lambda p: (_elements(measured, p), -p.index)) for places in allowed]
    raise ModelError(
        "its layer groups cannot be separated at this image size; use a size nearer to its native size"
    )


def _highest_group_by_module(groups: Mapping[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, group in groups.items():
        parts = name.split(".")
        for k in range(1, len(parts) + 1):
            module = ".".join(parts[:k])
            found[module] = max(group, found.get(module, 0))
    return found


def _elements(measured: Measured, point: CutPoint) -> int:
    return sum(math.prod(measured.shapes[node]) for node in point.values)


def _modules(graph: fx.Graph) -> frozenset[str]:
    return frozenset(str(node.target) for node in graph.nodes if node.op == "call_module")


def _part(traced: Trace, measured: Measured, start: CutPoint | None, end: CutPoint | None) -> fx.Graph:
    """The graph from the values at one cut point (None: the images) to those at another (None: the output).

    Values that do not depend on the input are computed in every part that needs them.
    """
    dependent = data_dependent(traced)
    part = fx.Graph()
    made: dict[fx.Node, fx.Node] = {}
    if start is not None:
        features = part.placeholder("features")
        made = _unpack(part, features, measured, start)
        made.update({node: _per_image(part, features, k) for node, k in traced.per_image.items()})
        made.update({node: part.call_function(getattr, (features, "device")) for node in traced.devices})
    for i, node in enumerate(traced.nodes[: None if end is None else end.index + 1]):
        free = node not in dependent and node.op != "output"
        if node not in made and (start is None or i > start.index or free):
            made[node] = part.node_copy(node, made.__getitem__)
    if end is not None:
        _pack(part, [made[node] for node in end.values])
    part.eliminate_dead_code(has_effect)
    return part


def _per_image(rest: fx.Graph, features: fx.Node, multiple: int) -> fx.Node:
    """A multiple of the batch size, taken from a tensor with a row for each image."""
    images = rest.call_function(operator.getitem, (rest.call_method("size", (features,)), 0))
    return rest.call_function(operator.mul, (images, multiple))


def _pack(prefix: fx.Graph, values: Sequence[fx.Node]) -> None:
    """Return a single value as it is, several flattened and concatenated."""
    if len(values) == 1:
        prefix.output(values[0])
        return
    flat = [prefix.call_function(torch.flatten, (value, 1)) for value in values]
    prefix.output(prefix.call_function(torch.cat, (flat, 1)))


def _unpack(rest: fx.Graph, features: fx.Node, measured: Measured, end: CutPoint) -> dict[fx.Node, fx.Node]:
    """Undo `_pack`."""
    if len(end.values) == 1:
        return {end.values[0]: features}
    shapes = [measured.shapes[value][1:] for value in end.values]
    pieces = rest.call_function(torch.split, (features, [math.prod(s) for s in shapes], 1))
    found = {}
    for k, (value, shape) in enumerate(zip(end.values, shapes, strict=True)):
        piece = rest.call_function(operator.getitem, (pieces, k))
        found[value] = rest.call_function(torch.unflatten, (piece, 1, shape)) if len(shape) > 1 else piece
    return found


def _writes_input(rest: fx.Graph, inplace: Set[str]) -> bool:
    """Whether the rest may change the tensor it starts from, by an operation in place."""
    start = next(node for node in rest.nodes if node.op == "placeholder")
    packed = any(user.target is torch.split for user in start.users)
    return packed or any(_works_in_place(user, inplace) for user in start.users)


def _works_in_place(node: fx.Node, inplace: Set[str]) -> bool:
    if node.op == "call_module":
        return any(name == node.target or name.startswith(f"{node.target}.") for name in inplace)
    if node.op == "call_method":
        return str(node.target).endswith("_")
    name = getattr(node.target, "__name__", "")
    return bool(node.kwargs.get("inplace")) or name == "setitem" or name in IN_PLACE_OPERATORS


logging.getLogger("timm").setLevel(logging.ERROR)

"""What is known of a backbone before it has weights: its graph, its five groups, how it falls into two parts.

All of it depends on the architecture, the image size, the input channels and the pooling alone, so it is made
once per process and shared by every network built from it.
"""

from __future__ import annotations

import logging
import math
import operator
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, fx, nn

from medfathom.errors import ModelError
from medfathom.models.layer_groups import GROUPS, MOST_VALUES, CutPoint, cut_points, first_uses, layer_groups
from medfathom.models.measure import Measured, measure
from medfathom.models.tracing import Trace, compile_part, data_dependent, has_effect, trace

IN_PLACE_OPERATORS = frozenset({"iadd", "isub", "imul", "itruediv", "ipow", "imatmul"})
"""`x += y` and its kin, as functions of the operator module."""

PartFunction = Callable[[nn.Module, Tensor], Any]


@dataclass(frozen=True)
class BackboneSettings:
    """What a blueprint depends on. `image_size` None: the architecture's native size."""

    architecture: str
    image_size: int | None = None
    in_channels: int = 3
    pooling: str = "avg"


@dataclass(frozen=True)
class Cut:
    """The two parts of a backbone when its first groups are frozen.

    Attributes:
        prefix, rest: functions of (backbone, input); None where the part is empty.
        prefix_modules: paths of the modules that the prefix runs.
        writes_input: the rest changes the tensor that it is given, so it must be given a copy.
    """

    prefix: PartFunction | None
    rest: PartFunction | None
    prefix_modules: frozenset[str]
    writes_input: bool


@dataclass(frozen=True)
class Blueprint:
    """A backbone (a timm model without its classifier) at one image size.

    Attributes:
        groups: the layer group, 1 to 5, of each parameter and buffer by name.
        cuts: by number of frozen groups, 0 to 5.
        layers_per_group: weighted layers in each group.
        depth, macs: of the backbone; the head comes on top.
        features: width of what the head sees.
        constants: tensors that the graph needs besides the backbone's own.
    """

    groups: Mapping[str, int]
    cuts: Sequence[Cut]
    layers_per_group: Sequence[int]
    depth: int
    macs: int
    features: int
    constants: Mapping[str, Tensor]


_blueprints: dict[BackboneSettings, Blueprint] = {}
_groups: dict[tuple[str, str], dict[str, int]] = {}


def create_backbone(settings: BackboneSettings, device: str | None = None) -> nn.Module:
    """A timm model without its classifier, its weights drawn from torch's generator.

    Raises:
        ModelError: the architecture cannot be had with these settings.
    """
    options: dict[str, Any] = {"num_classes": 0, "in_chans": settings.in_channels}
    config = timm.get_pretrained_cfg(settings.architecture)
    if settings.image_size is not None and config is not None and config.fixed_input_size:
        options["img_size"] = settings.image_size
    if settings.pooling != "avg":
        options["global_pool"] = settings.pooling
    try:
        with torch.device(device or "cpu"):
            model: nn.Module = timm.create_model(settings.architecture, **options)
    except (TypeError, AssertionError, ValueError, RuntimeError, NotImplementedError) as error:
        asked = " ".join(f"{k}={v}" for k, v in options.items() if k != "num_classes")
        reason = str(error).split("\n", 1)[0] or type(error).__name__
        raise ModelError(f"{settings.architecture} cannot be built with {asked} ({reason})") from None
    return model


def native_size(architecture: str) -> int:
    """The image side in pixels that timm's default weights of an architecture were trained at."""
    config = timm.get_pretrained_cfg(architecture)
    return int(config.input_size[-1]) if config is not None else 224


def blueprint_of(backbone: nn.Module, settings: BackboneSettings) -> Blueprint:
    """The blueprint of a backbone made by `create_backbone` with the same settings, from the second time on
    from memory.

    Raises:
        ModelError: the architecture cannot be traced or cut, or cannot take images of this size.
    """
    if settings not in _blueprints:
        _blueprints[settings] = _draw(backbone, settings)
    return _blueprints[settings]


def groups_of(architecture: str, pooling: str = "avg") -> dict[str, int]:
    """The layer group of each tensor of an architecture, found at its native size."""
    if (architecture, pooling) not in _groups:
        settings = BackboneSettings(architecture, pooling=pooling)
        native = create_backbone(settings, "meta")
        side = native_size(architecture)
        traced = trace(native)
        measured = measure(native, traced, (3, side, side))
        _groups[architecture, pooling] = layer_groups(native, traced, measured, side)
    return _groups[architecture, pooling]


def _draw(backbone: nn.Module, settings: BackboneSettings) -> Blueprint:
    groups = groups_of(settings.architecture, settings.pooling)
    side = settings.image_size or native_size(settings.architecture)
    traced = trace(backbone)
    try:
        measured = measure(create_backbone(settings, "meta"), traced, (settings.in_channels, side, side))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).split("\n", 1)[0]
        raise ModelError(f"{settings.architecture} cannot take {side} px images ({reason})") from None
    ends = _places_to_cut(traced, measured, groups)
    index = {node: i for i, node in enumerate(traced.nodes)}
    indexes = [end.index for end in ends]
    group_of_layer = [bisect_left(indexes, index[node]) + 1 for node in measured.layers]
    return Blueprint(
        groups=groups,
        cuts=_cuts(backbone, traced, measured, ends),
        layers_per_group=[group_of_layer.count(g) for g in range(1, GROUPS + 1)],
        depth=measured.depth,
        macs=measured.macs,
        features=measured.shapes[_output(traced)][1],
        constants=traced.constants,
    )


def _output(traced: Trace) -> fx.Node:
    value = traced.nodes[-1].args[0]
    if not isinstance(value, fx.Node):
        raise ModelError("a network that returns several values has no place for a head")
    return value


def _places_to_cut(traced: Trace, measured: Measured, groups: Mapping[str, int]) -> list[CutPoint]:
    """Where groups 1 to 4 end in this graph: at the smallest tensor between two groups' layers.

    Between two layers lie only operations without weights, such as an activation or a pooling: cutting after
    the pooling makes a cached feature smaller and changes nothing else.
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
    raise ModelError("the layer groups found at the native size cannot be told apart at this image size")


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


def _cuts(backbone: nn.Module, traced: Trace, measured: Measured, ends: Sequence[CutPoint]) -> list[Cut]:
    whole = compile_part(traced.graph)
    cuts = [Cut(None, whole, frozenset(), writes_input=False)]
    for end in ends:
        prefix, rest = _split(traced, measured, end)
        writes = _writes_input(backbone, rest)
        cuts.append(Cut(compile_part(prefix), compile_part(rest), _modules(prefix), writes))
    cuts.append(Cut(whole, None, _modules(traced.graph), writes_input=False))
    return cuts


def _modules(graph: fx.Graph) -> frozenset[str]:
    return frozenset(str(node.target) for node in graph.nodes if node.op == "call_module")


def _split(traced: Trace, measured: Measured, end: CutPoint) -> tuple[fx.Graph, fx.Graph]:
    """Two graphs: up to a cut point, and from its values on.

    What does not depend on the input is made in both.
    """
    dependent = data_dependent(traced)
    prefix, rest = fx.Graph(), fx.Graph()
    in_prefix: dict[fx.Node, fx.Node] = {}
    features = rest.placeholder("features")
    in_rest = _unpack(rest, features, measured, end)
    in_rest.update({node: _per_image(rest, features, k) for node, k in traced.per_image.items()})
    in_rest.update({node: rest.call_function(getattr, (features, "device")) for node in traced.devices})
    for i, node in enumerate(traced.nodes):
        if i <= end.index:
            in_prefix[node] = prefix.node_copy(node, in_prefix.__getitem__)
        if node not in in_rest and (i > end.index or (node not in dependent and node.op != "output")):
            in_rest[node] = rest.node_copy(node, in_rest.__getitem__)
    _pack(prefix, [in_prefix[node] for node in end.values])
    for graph in (prefix, rest):
        graph.eliminate_dead_code(has_effect)
    return prefix, rest


def _per_image(rest: fx.Graph, features: fx.Node, multiple: int) -> fx.Node:
    """A multiple of the batch size, from the tensor that has a row per image."""
    images = rest.call_function(operator.getitem, (rest.call_method("size", (features,)), 0))
    return rest.call_function(operator.mul, (images, multiple))


def _pack(prefix: fx.Graph, values: Sequence[fx.Node]) -> None:
    """Return one value as it is, several flattened and joined."""
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


def _writes_input(backbone: nn.Module, rest: fx.Graph) -> bool:
    """Whether the rest may change the tensor it starts from, by an operation in place."""
    start = next(node for node in rest.nodes if node.op == "placeholder")
    packed = any(user.target is torch.split for user in start.users)
    return packed or any(_works_in_place(backbone, user) for user in start.users)


def _works_in_place(backbone: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return any(getattr(m, "inplace", False) for m in backbone.get_submodule(str(node.target)).modules())
    if node.op == "call_method":
        return str(node.target).endswith("_")
    name = getattr(node.target, "__name__", "")
    return bool(node.kwargs.get("inplace")) or name == "setitem" or name in IN_PLACE_OPERATORS


logging.getLogger("timm").setLevel(logging.ERROR)

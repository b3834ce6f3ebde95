"""What is known of a backbone before it has weights: its graph, its five groups, how it falls into two parts.

All of it depends on the architecture, the image size, the input channels and the pooling alone, so it is made
once per process and shared by every network built from it.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, fx, nn

from medfathom.errors import ModelError
from medfathom.models.layer_groups import GROUPS, cut_points, layer_groups
from medfathom.models.measure import Measured, measure
from medfathom.models.tracing import Trace, compile_part, data_dependent, trace

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
    output = _output(traced)
    ends = _ends(traced, measured, groups)
    group_of_layer = [bisect_right(ends, i - 1) + 1 for i in measured.layers]
    return Blueprint(
        groups=groups,
        cuts=_cuts(backbone, traced, ends),
        layers_per_group=[group_of_layer.count(g) for g in range(1, GROUPS + 1)],
        depth=measured.depth,
        macs=measured.macs,
        features=measured.shapes[output][1],
        constants=traced.constants,
    )


def _output(traced: Trace) -> fx.Node:
    value = traced.nodes[-1].args[0]
    if not isinstance(value, fx.Node):
        raise ModelError("a network that returns several values has no place for a head")
    return value


def _ends(traced: Trace, measured: Measured, groups: Mapping[str, int]) -> list[int]:
    """Where groups 1 to 4 end in this graph: at the smallest tensor between two groups' layers.

    Between two layers lie only operations without weights, such as an activation or a pooling: cutting after
    the pooling makes a cached feature smaller and changes nothing else.
    """
    first_use = _first_use(traced, groups)
    points = cut_points(traced, measured)
    ends = []
    for group in range(1, GROUPS):
        last = max((i for i, g in first_use.items() if g <= group), default=0)
        later = min((i for i, g in first_use.items() if g > group), default=len(traced.nodes))
        allowed = [p for p in points if last <= p < later]
        if not allowed:
            raise ModelError(f"no single tensor leaves layer group {group} at this image size")
        ends.append(min(allowed, key=lambda p: (_elements(measured, traced.nodes[p]), -p)))
    return ends


def _elements(measured: Measured, node: fx.Node) -> int:
    return int(torch.Size(measured.shapes[node]).numel())


def _first_use(traced: Trace, groups: Mapping[str, int]) -> dict[int, int]:
    """Index of each node that uses weights -> the highest group of what it uses."""
    found: dict[int, int] = {}
    by_scope: dict[str, int] = {}
    for name, group in groups.items():
        parts = name.split(".")
        for k in range(1, len(parts) + 1):
            scope = ".".join(parts[:k])
            by_scope[scope] = max(group, by_scope.get(scope, 0))
    dependent = data_dependent(traced.nodes)
    index = {node: i for i, node in enumerate(traced.nodes)}
    origin: dict[fx.Node, int] = {}
    for node in traced.nodes:
        own = by_scope.get(str(node.target), 0) if node.op in ("call_module", "get_attr") else 0
        inherited = max((origin.get(n, 0) for n in node.all_input_nodes if n not in dependent), default=0)
        group = max(own, inherited)
        if group and node in dependent:
            found[index[node]] = group
        elif group:
            origin[node] = group
    return found


def _cuts(backbone: nn.Module, traced: Trace, ends: Sequence[int]) -> list[Cut]:
    output = traced.nodes.index(_output(traced))
    whole = compile_part(traced.graph)
    every = _modules(traced.nodes)
    cuts = [Cut(None, whole, frozenset(), writes_input=False)]
    for end in ends:
        prefix, rest = _split(traced, end)
        writes = _writes_input(backbone, rest)
        cuts.append(Cut(compile_part(prefix), compile_part(rest), _modules(prefix.nodes), writes))
    cuts.append(Cut(whole, None, every, writes_input=False))
    if output < ends[-1]:
        raise ModelError("the network's output comes before its last layer group")
    return cuts


def _modules(nodes: Any) -> frozenset[str]:
    return frozenset(str(node.target) for node in nodes if node.op == "call_module")


def _split(traced: Trace, end: int) -> tuple[fx.Graph, fx.Graph]:
    """Two graphs: up to a node, and from its value on.

    What does not depend on the input is made in both.
    """
    dependent = data_dependent(traced.nodes)
    prefix, rest = fx.Graph(), fx.Graph()
    in_prefix: dict[fx.Node, fx.Node] = {}
    in_rest = {traced.nodes[end]: rest.placeholder("features")}
    for i, node in enumerate(traced.nodes):
        if i <= end:
            in_prefix[node] = prefix.node_copy(node, in_prefix.__getitem__)
        if i > end or (node not in dependent and node.op != "output"):
            in_rest[node] = rest.node_copy(node, in_rest.__getitem__)
    prefix.output(in_prefix[traced.nodes[end]])
    for graph in (prefix, rest):
        graph.eliminate_dead_code(_needed)
    return prefix, rest


def _needed(node: fx.Node) -> bool:
    """Whether a node stays although nothing uses it; those without an effect were dropped by `trace`."""
    return node.op in ("placeholder", "output") or "setitem" in node.name or "assert" in node.name


def _writes_input(backbone: nn.Module, rest: fx.Graph) -> bool:
    """Whether the rest may change the tensor it starts from, by an operation in place."""
    start = next(node for node in rest.nodes if node.op == "placeholder")
    return any(_works_in_place(backbone, user) for user in start.users)


def _works_in_place(backbone: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return any(getattr(m, "inplace", False) for m in backbone.get_submodule(str(node.target)).modules())
    if node.op == "call_method":
        return str(node.target).endswith("_")
    name = getattr(node.target, "__name__", "")
    return bool(node.kwargs.get("inplace")) or name == "setitem" or name in IN_PLACE_OPERATORS


logging.getLogger("timm").setLevel(logging.ERROR)

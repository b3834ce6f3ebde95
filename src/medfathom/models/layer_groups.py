"""Cutting any architecture into five layer groups: the stem and four stages.

A cut may lie only where exactly one value that depends on the input is still needed: there the network falls
into two parts that can run apart, the first feeding one tensor to the second. Five groups come about so:

1. Runs. Cut points are sorted by output stride (input side over feature side, as a power of two). A run is
   what lies between the last cut point of one stride and the last of the next. A run without a weighted layer
   joins the next one. What comes after the last spatial feature map (pooling, VGG's fully connected layers)
   belongs to the last run.
2. More than five runs (strides 1 and 2, or 64): the two neighbours with the fewest weighted layers together
   are merged, again until five are left.
3. Fewer than five (a patch embedding of stride 4, one stride throughout): first the stem is split off, which
   is what comes before the first weighted layer of the network's second part; then the run with the most
   weighted layers is halved, again until there are five. A ViT thus becomes the embedding and four equal runs
   of blocks.

Groups are found at the architecture's native image size, so that they are the same at every image size.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import fx, nn

from medfathom.errors import ModelError
from medfathom.models.measure import IMAGES, Measured
from medfathom.models.tracing import Trace, data_dependent

GROUPS = 5


def cut_points(traced: Trace, measured: Measured) -> list[int]:
    """Indexes of the nodes after which only their own value is needed, a tensor with a row per image.

    Values that do not depend on the input (position tables, masks) do not count: each part makes its own.
    """
    index = {node: i for i, node in enumerate(traced.nodes)}
    dependent = data_dependent(traced.nodes)
    last_use = {node: max((index[u] for u in node.users), default=-1) for node in dependent}
    points = []
    live: set[fx.Node] = set()
    for i, node in enumerate(traced.nodes[:-1]):
        live = {n for n in live if last_use[n] > i}
        if node in dependent and last_use[node] > i:
            live.add(node)
        if i > 0 and len(live) == 1 and node in live and measured.shapes.get(node, (0,))[0] == IMAGES:
            points.append(i)
    return points


def layer_groups(network: nn.Module, traced: Trace, measured: Measured, side: int) -> dict[str, int]:
    """The group, 1 to 5, of every parameter and buffer of a network without its classifier.

    Args:
        network: the traced network; its output is the features that the head sees.
        traced: its graph.
        measured: its run at the architecture's native size.
        side: that size in pixels.

    Raises:
        ModelError: there are not enough places where the network can be cut.
    """
    ends = _Cutter(traced, measured, side).five_ends()
    return _assign(network, traced, ends)


@dataclass(frozen=True)
class _Run:
    """Nodes after `start` up to `end`: indexes of cut points (`start` -1: the beginning)."""

    start: int
    end: int


class _Cutter:
    """The three steps of the module's docstring on one network."""

    def __init__(self, traced: Trace, measured: Measured, side: int) -> None:
        self.traced = traced
        self.points = cut_points(traced, measured)
        self.layers = measured.layers
        self.strides = _strides(traced, measured, self.points, side)
        self.last = len(traced.nodes) - 1

    def weight(self, start: int, end: int) -> int:
        """Weighted layers in the nodes after `start` up to `end`."""
        return bisect_right(self.layers, end) - bisect_right(self.layers, start)

    def five_ends(self) -> list[int]:
        """The cut points that end groups 1 to 4."""
        runs = self._runs_by_stride()
        while len(runs) > GROUPS:
            light = min(range(len(runs) - 1), key=lambda i: self.weight(runs[i].start, runs[i + 1].end))
            runs[light : light + 2] = [_Run(runs[light].start, runs[light + 1].end)]
        if len(runs) < GROUPS:
            runs[:1] = self._split_stem(runs[0])
        while len(runs) < GROUPS:
            runs = self._halve_heaviest(runs)
        return [run.end for run in runs[:-1]]

    def _runs_by_stride(self) -> list[_Run]:
        ends: list[int] = []
        for stride in sorted(set(self.strides.values())):
            at_stride = [p for p, s in self.strides.items() if s == stride]
            end = self._outside_block(at_stride, stride)
            start = ends[-1] if ends else -1
            if end > start and self.weight(start, end) > 0:
                ends.append(end)
        if not ends:
            raise ModelError(f"no place where {self._what} can be cut")
        ends[-1] = self.last
        return [_Run(start, end) for start, end in zip([-1, *ends], ends, strict=False)]

    @property
    def _what(self) -> str:
        return f"a graph of {len(self.traced.nodes)} nodes and {len(self.layers)} weighted layers"

    def _outside_block(self, at_stride: Sequence[int], stride: int) -> int:
        """The last of these cut points, moved out of the block in which the stride grows.

        An inverted bottleneck without a shortcut can be cut between its expansion and its strided
        convolution; the block would be torn and the tensor several times wider. So the stride's growth
        is charged to the outermost module that does it once and does most of its work afterwards.
        """
        last = at_stride[-1]
        following = [p for p in self.points if p > last and p in self.strides]
        if not following:
            return last
        for scope in _enclosing(self._path(last + 1)):
            inside = [i for i in range(len(self.traced.nodes)) if _within(self._path(i), scope)]
            first, end = inside[0], inside[-1]
            strides_inside = {s for p, s in self.strides.items() if first <= p <= end} - {stride}
            before = self.weight(first - 1, last)
            entry = max((p for p in at_stride if p < first), default=None)
            if entry is not None and len(strides_inside) <= 1 and before * 2 < self.weight(first - 1, end):
                return entry
        return last

    def _path(self, i: int) -> str:
        node = self.traced.nodes[i]
        return str(node.target) if node.op == "call_module" else self.traced.scopes.get(node, "")

    def _split_stem(self, run: _Run) -> list[_Run]:
        inside = [i for i in self.layers if run.start < i <= run.end]
        paths = [self._path(i).split(".") for i in self.layers]
        level = next((k for k in range(8) if len({tuple(p[: k + 1]) for p in paths}) > 1), 0)
        stem = paths[0][: level + 1]
        first_after = next((i for i in inside if self._path(i).split(".")[: level + 1] != stem), None)
        ends = [p for p in self.points if first_after is not None and run.start < p < first_after]
        ends = [p for p in ends if self.weight(run.start, p) > 0]
        return [_Run(run.start, ends[-1]), _Run(ends[-1], run.end)] if ends else [run]

    def _halve_heaviest(self, runs: list[_Run]) -> list[_Run]:
        for i in sorted(range(len(runs)), key=lambda i: -self.weight(runs[i].start, runs[i].end)):
            middle = self._middle(runs[i])
            if middle is not None:
                halves = [_Run(runs[i].start, middle), _Run(middle, runs[i].end)]
                return [*runs[:i], *halves, *runs[i + 1 :]]
        raise ModelError(f"{self._what} has too few places where it can be cut for {GROUPS} layer groups")

    def _middle(self, run: _Run) -> int | None:
        """The cut point nearest to half of the run's weighted layers, between blocks where there is one."""
        total = self.weight(run.start, run.end)
        inside = [p for p in self.points if run.start < p < run.end and 0 < self.weight(run.start, p) < total]
        if not inside:
            return None
        level = min(self._nesting(p) for p in inside)
        between = [p for p in inside if self._nesting(p) == level]
        return min(between, key=lambda p: (abs(2 * self.weight(run.start, p) - total), -p))

    def _nesting(self, point: int) -> int:
        """How many modules enclose both sides of a cut point."""
        before, after = (self._path(i).split(".") for i in (point, point + 1))
        return next((k for k, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), 8)


def _strides(traced: Trace, measured: Measured, points: Sequence[int], side: int) -> dict[int, int]:
    """Cut point -> output stride, never falling, for the points before the features are pooled."""
    found: dict[int, int] = {}
    stride = 1
    for p in points:
        shape = measured.shapes[traced.nodes[p]]
        places = _places(shape)
        if len(shape) not in (3, 4):
            continue
        if places == 1:
            break
        stride = max(stride, 2 ** round(math.log2(side / math.sqrt(places))))
        found[p] = stride
    return found


def _places(shape: Sequence[int]) -> int:
    """Spatial positions of a feature map (n, C, H, W), (n, H, W, C) or (n, tokens, C)."""
    if len(shape) == 4:
        channels_last = shape[1] == shape[2] != shape[3]
        return shape[1] * shape[2] if channels_last else shape[2] * shape[3]
    return shape[1] if len(shape) == 3 else 1


def _enclosing(path: str) -> list[str]:
    """The modules that enclose a path, outermost first, the path's own included."""
    parts = path.split(".")
    return [".".join(parts[: k + 1]) for k in range(len(parts))] if path else []


def _within(path: str, scope: str) -> bool:
    return path == scope or path.startswith(f"{scope}.")


def _assign(network: nn.Module, traced: Trace, ends: Sequence[int]) -> dict[str, int]:
    """Every tensor's group: where it is used first; what is not used goes with its nearest relatives."""
    tensors = [name for name, _ in (*network.named_parameters(), *network.named_buffers())]
    used: dict[str, int] = {}
    for i, node in enumerate(traced.nodes):
        if node.op not in ("call_module", "get_attr"):
            continue
        at = i if node.op == "call_module" else min((traced.nodes.index(u) for u in node.users), default=i)
        for name in (n for n in tensors if _within(n, str(node.target)) and n not in used):
            used[name] = bisect_left(ends, at) + 1
    return {name: used[name] if name in used else _relatives_group(name, used) for name in tensors}


def _relatives_group(name: str, used: Mapping[str, int]) -> int:
    for scope in reversed(_enclosing(name)):
        groups = [g for other, g in used.items() if _within(other, scope)]
        if groups:
            return max(groups)
    return GROUPS

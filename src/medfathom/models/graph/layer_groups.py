"""Cut any architecture into five layer groups: the stem and four stages.

A cut is possible where exactly one value that depends on the input is still needed: there the network splits
into two parts that can run separately, and the first passes one tensor to the second. The five groups:

1. Runs. Cut points are sorted by output stride (input side over feature side, as a power of two). A run lies
   between the last cut point of one stride and the last of the next. A run without a weighted layer joins the
   next one. Everything after the last spatial feature map (pooling, VGG's fully connected layers) belongs to
   the last run.
2. More than five runs (strides 1 and 2, or 64): the two neighbours with the fewest weighted layers together
   are merged, until five are left.
3. Fewer than five (a patch embedding of stride 4, one stride throughout): first the stem is split off, which
   is all before the first weighted layer of the network's second part; then the run with the most weighted
   layers is halved, until there are five. A ViT thus becomes the embedding and four equal runs of blocks.

A few networks pass several values from layer to layer everywhere (NASNet's cells, CrossViT's two branches).
Only for them a cut may cross several values: these are flattened and concatenated to one tensor.

Groups are determined at the architecture's native image size, so that they are the same at every image size.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import fx, nn

from medfathom.errors import ModelError
from medfathom.models.graph.measure import IMAGES, Measured
from medfathom.models.graph.tracing import Trace, data_dependent

GROUPS = 5

MOST_VALUES = 8
"""The most values that a cut may cross."""

NEAR_HALF = 0.25
"""The largest distance of a cut between blocks from half of a run, as a share of its weighted layers."""


@dataclass(frozen=True)
class CutPoint:
    """A place between two nodes.

    Attributes:
        index: of the earlier node.
        values: the values that the second part needs from the first.
    """

    index: int
    values: tuple[fx.Node, ...]


def cut_points(traced: Trace, measured: Measured, most_values: int = 1) -> list[CutPoint]:
    """Every place where at most so many values, each a tensor with a row for each image, are passed on.

    Values that do not depend on the input (position tables, masks) do not count: each part computes its own.
    """
    index = {node: i for i, node in enumerate(traced.nodes)}
    dependent = data_dependent(traced)
    last_use = {node: max((index[u] for u in node.users), default=-1) for node in dependent}
    points = []
    live: list[fx.Node] = []
    for i, node in enumerate(traced.nodes[:-1]):
        live = [n for n in live if last_use[n] > i]
        if node in dependent and last_use[node] > i:
            live.append(node)
        by_row = all(measured.shapes.get(n, (0,))[0] == IMAGES for n in live)
        if i > 0 and node in live and len(live) <= most_values and by_row:
            points.append(CutPoint(i, tuple(live)))
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
    for most_values in range(1, MOST_VALUES + 1):
        ends = _Cutter(traced, measured, side, most_values).five_ends()
        if ends:
            return _assign(network, traced, ends)
    raise ModelError(
        f"{type(network).__name__} cannot be cut into {GROUPS} layer groups: there are too few places where "
        f"{MOST_VALUES} values or fewer pass from one layer to the next"
    )


@dataclass(frozen=True)
class _Run:
    """The nodes after `start` up to `end`, both indices of cut points; `start` -1 is the beginning."""

    start: int
    end: int


class _Cutter:
    """The three steps of the module's docstring, for one network."""

    def __init__(self, traced: Trace, measured: Measured, side: int, most_values: int) -> None:
        index = {node: i for i, node in enumerate(traced.nodes)}
        self.paths = [_path(node, traced) for node in traced.nodes]
        self.layers = [index[node] for node in measured.layers]
        points = cut_points(traced, measured, most_values)
        self.points = [p.index for p in points]
        self.strides = _strides(points, measured, side)
        self.last = len(traced.nodes) - 1

    def weight(self, start: int, end: int) -> int:
        """Weighted layers in the nodes after `start` up to `end`."""
        return bisect_right(self.layers, end) - bisect_right(self.layers, start)

    def five_ends(self) -> list[int] | None:
        """The cut points that end groups 1 to 4; None when there are not enough."""
        runs = self._runs_by_stride()
        if not runs:
            return None
        while len(runs) > GROUPS:
            light = min(range(len(runs) - 1), key=lambda i: self.weight(runs[i].start, runs[i + 1].end))
            runs[light : light + 2] = [_Run(runs[light].start, runs[light + 1].end)]
        if len(runs) < GROUPS:
            runs[:1] = self._split_stem(runs[0])
        while len(runs) < GROUPS:
            halved = self._halve_heaviest(runs)
            if halved is None:
                return None
            runs = halved
        return [run.end for run in runs[:-1]]

    def _runs_by_stride(self) -> list[_Run]:
        ends: list[int] = []
        for stride in sorted(set(self.strides.values())):
            end = self._outside_block(stride)
            start = ends[-1] if ends else -1
            if end > start and self.weight(start, end) > 0:
                ends.append(end)
        ends[-1:] = [self.last] if ends else []
        return [_Run(start, end) for start, end in zip([-1, *ends], ends, strict=False)]

    def _outside_block(self, stride: int) -> int:
        """The last cut point of a stride, moved out of the block in which the stride grows.

        An inverted bottleneck without a shortcut can be cut between its expansion and its strided
        convolution, but this would split the block where the tensor is several times wider. So the cut moves
        to the start of the outermost module in which the stride grows once, before most of its work.
        """
        at_stride = [p for p, s in self.strides.items() if s == stride]
        last = at_stride[-1]
        for scope in _enclosing(self.paths[last + 1]):
            inside = [i for i, path in enumerate(self.paths) if _within(path, scope)]
            first, end = inside[0], inside[-1]
            other_strides = {s for p, s in self.strides.items() if first <= p <= end} - {stride}
            before = self.weight(first - 1, last)
            entry = max((p for p in at_stride if p < first), default=None)
            if entry is not None and len(other_strides) <= 1 and before * 2 < self.weight(first - 1, end):
                return entry
        return last

    def _split_stem(self, run: _Run) -> list[_Run]:
        paths = [self.paths[i].split(".") for i in self.layers]
        longest = max(len(p) for p in paths)
        level = next((k for k in range(longest) if len({tuple(p[: k + 1]) for p in paths}) > 1), 0)
        stem = paths[0][: level + 1]
        after = next(
            (i for i, p in zip(self.layers, paths, strict=True) if p[: level + 1] != stem), self.last
        )
        ends = [p for p in self.points if run.start < p < after <= run.end and self.weight(run.start, p)]
        return [_Run(run.start, ends[-1]), _Run(ends[-1], run.end)] if ends else [run]

    def _halve_heaviest(self, runs: list[_Run]) -> list[_Run] | None:
        for i in sorted(range(len(runs)), key=lambda i: -self.weight(runs[i].start, runs[i].end)):
            middle = self._middle(runs[i])
            if middle is not None:
                halves = [_Run(runs[i].start, middle), _Run(middle, runs[i].end)]
                return [*runs[:i], *halves, *runs[i + 1 :]]
        return None

    def _middle(self, run: _Run) -> int | None:
        """The cut point nearest to half of a run's weighted layers, between blocks if one is near enough."""
        total = self.weight(run.start, run.end)
        inside = [p for p in self.points if run.start < p < run.end and 0 < self.weight(run.start, p) < total]

        def off(p: int) -> float:
            return abs(self.weight(run.start, p) / total - 0.5)

        for nesting in sorted({self._nesting(p) for p in inside}):
            between = min((p for p in inside if self._nesting(p) == nesting), key=lambda p: (off(p), -p))
            if off(between) <= NEAR_HALF:
                return between
        return min(inside, key=lambda p: (off(p), -p), default=None)

    def _nesting(self, point: int) -> int:
        """How many modules enclose both sides of a cut point."""
        before, after = (self.paths[i].split(".") for i in (point, point + 1))
        shared = [a == b for a, b in zip(before, after, strict=False)]
        return shared.index(False) if False in shared else len(shared)


def _strides(points: Sequence[CutPoint], measured: Measured, side: int) -> dict[int, int]:
    """Index of cut point -> output stride, which never falls, up to where the features are pooled."""
    found: dict[int, int] = {}
    stride = 1
    for point in points:
        places = _places(measured.shapes[point.values[-1]])
        if places == 1:
            break
        if places:
            stride = max(stride, 2 ** round(math.log2(side / math.sqrt(places))))
            found[point.index] = stride
    return found


def _places(shape: Sequence[int]) -> int | None:
    """Number of spatial positions of a feature map; None for another shape.

    Known shapes are (n, C, H, W), (n, H, W, C), (n, tokens, C), and (n, C, tokens) where only the last is a
    square.
    """
    if len(shape) == 4:
        channels_last = shape[1] == shape[2] != shape[3]
        return shape[1] * shape[2] if channels_last else shape[2] * shape[3]
    if len(shape) == 3:
        squares = [math.isqrt(length) ** 2 == length for length in shape[1:]]
        return (
            shape[2]
            if squares == [False, True] and math.isqrt(shape[1] - 1) ** 2 != shape[1] - 1
            else shape[1]
        )
    return 1 if len(shape) == 2 else None


def _path(node: fx.Node, traced: Trace) -> str:
    """The module that a node calls, or in whose `forward` it runs."""
    return str(node.target) if node.op == "call_module" else traced.scopes.get(node, "")


def _enclosing(path: str) -> list[str]:
    """The modules that enclose a path, outermost first, and the path itself."""
    parts = path.split(".")
    return [".".join(parts[: k + 1]) for k in range(len(parts))] if path else []


def _within(path: str, scope: str) -> bool:
    return path == scope or path.startswith(f"{scope}.")


def _assign(network: nn.Module, traced: Trace, ends: Sequence[int]) -> dict[str, int]:
    """Each tensor's group: where it is used first; an unused tensor joins those of its nearest module."""
    by_scope: dict[str, list[str]] = {}
    names = tensor_names(network)
    for name in names:
        for scope in _enclosing(name):
            by_scope.setdefault(scope, []).append(name)
    used: dict[str, int] = {}
    for i, node in first_uses(traced):
        for name in by_scope.get(str(node.target), ()):
            used.setdefault(name, bisect_left(ends, i) + 1)
    return {name: used[name] if name in used else _relatives_group(name, used, by_scope) for name in names}


def first_uses(traced: Trace) -> list[tuple[int, fx.Node]]:
    """Nodes that use the network's own tensors, each with the index of the node where they meet the input.

    A tensor that is read early but meets the input's values late (a position table) belongs to the later
    place.
    """
    index = {node: i for i, node in enumerate(traced.nodes)}
    dependent = data_dependent(traced)
    meets: dict[fx.Node, int] = {}
    for node in reversed(traced.nodes):
        later = min((meets[user] for user in node.users), default=len(traced.nodes) - 1)
        meets[node] = index[node] if node in dependent else later
    sources = [node for node in traced.nodes if node.op in ("call_module", "get_attr")]
    return sorted(((meets[node], node) for node in sources), key=lambda pair: pair[0])


def _relatives_group(name: str, used: Mapping[str, int], by_scope: Mapping[str, Sequence[str]]) -> int:
    for scope in reversed(_enclosing(name)):
        groups = [used[other] for other in by_scope[scope] if other in used]
        if groups:
            return max(groups)
    return GROUPS


def in_few_words(groups: Mapping[str, int]) -> tuple[tuple[str, ...], ...]:
    """Each group as the outermost modules (or tensors) that lie completely in it, in the network's order."""
    within: dict[str, set[int]] = {}
    for name, group in groups.items():
        for scope in _enclosing(name):
            within.setdefault(scope, set()).add(group)
    words: dict[str, int] = {}
    for name, group in groups.items():
        words[next(scope for scope in _enclosing(name) if len(within[scope]) == 1)] = group
    return tuple(tuple(w for w, g in words.items() if g == group) for group in range(1, GROUPS + 1))


def from_words(words: Sequence[Sequence[str]], names: Sequence[str]) -> dict[str, int]:
    """The group of each tensor, from the result of `in_few_words`.

    Raises:
        KeyError: a tensor is in none of the groups.
    """
    of_scope = {scope: g for g, scopes in enumerate(words, start=1) for scope in scopes}
    groups = {}
    for name in names:
        scope = next((s for s in _enclosing(name) if s in of_scope), name)
        groups[name] = of_scope[scope]
    return groups


def tensor_names(network: nn.Module) -> list[str]:
    """The name of every parameter and buffer; all names where one has several."""
    parts = (network.named_parameters, network.named_buffers)
    return [name for part in parts for name, _ in part(remove_duplicate=False)]

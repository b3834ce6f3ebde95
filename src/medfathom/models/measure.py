"""What a traced network is made of: shapes, weighted layers, depth, multiply-accumulates.

The graph is run once on the meta device: shapes without numbers, so that the largest network costs no more
than its Python. Weighted layers are seen where they happen, as calls of convolution and linear functions:
those inside modules taken whole count as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from typing_extensions import TypeIs

from medfathom.models.tracing import Trace

WEIGHTED_LAYERS: frozenset[Callable[..., Any]] = frozenset(
    {
        nn.functional.linear,
        torch.conv1d,
        torch.conv2d,
        torch.conv3d,
        torch.conv_transpose1d,
        torch.conv_transpose2d,
        torch.conv_transpose3d,
    }
)
"""What counts as a weighted layer; normalisation, position tables and products of activations do not."""

Number: TypeAlias = "bool | int | float | Sequence[Number] | None"
"""A value that an image size settles, or a list of such."""

IMAGES = 3
OTHER_IMAGES = 5
"""Images in the runs: numbers that no window or patch count is mistaken for."""


@dataclass(frozen=True)
class Measured:
    """What one run of a traced network at one image size shows.

    Attributes:
        shapes: the shape of each node's value for `IMAGES` images, for the nodes whose value is a tensor.
        layers: the node in which each weighted layer runs, in order.
        depth: weighted layers on the longest path from the input to the output.
        macs: multiply-accumulates of one image in convolutions, linear layers and attention.
    """

    shapes: dict[fx.Node, tuple[int, ...]]
    layers: list[fx.Node]
    depth: int
    macs: int


def measure(network: nn.Module, traced: Trace, input_shape: tuple[int, int, int]) -> Measured:
    """Run the graph on the meta device.

    Numbers in the graph that follow from the image size are then written into it as constants: they would
    otherwise seem to be values that one part of the network must hand to the next.

    Args:
        network: the traced network, or one of the same architecture and settings, with its tensors on "meta".
        traced: its graph.
        input_shape: channels, height, width.

    Raises:
        Exception: whatever the network raises for an image size it cannot take.
    """
    image = torch.empty((IMAGES, *input_shape), device="meta")
    counter = _LayerCounter(image)
    walk = _Walk(network, traced, counter)
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad(), torch.device("meta"):
            with FlopCounterMode(display=False) as flops, counter:
                output = walk.run(image)
            if walk.numbers:
                other = _Walk(network, traced)
                other.run(torch.empty((OTHER_IMAGES, *input_shape)))
                _settle_numbers(traced, walk.numbers, other.numbers)
    finally:
        network.train(was_training)
    macs = flops.get_total_flops() // (2 * IMAGES)
    return Measured(walk.shapes, walk.layers, counter.deepest([output]), macs)


def _is_number(value: Any) -> TypeIs[Number]:
    if isinstance(value, tuple | list):
        return all(_is_number(v) for v in value)
    return value is None or isinstance(value, bool | int | float)


def _settle_numbers(traced: Trace, few: Mapping[fx.Node, Number], more: Mapping[fx.Node, Number]) -> None:
    """Write numbers that no batch size changes into the graph, and note those that grow with it."""
    fixed = {node: value for node, value in few.items() if node in more and more[node] == value}
    for node, value in few.items():
        multiple = value // IMAGES if type(value) is int else 0
        if multiple and value == IMAGES * multiple and more.get(node) == OTHER_IMAGES * multiple:
            traced.per_image[node] = multiple
    for node in fixed:
        for user in list(node.users):
            user.args = fx.map_arg(user.args, lambda n: fixed.get(n, n))
            user.kwargs = fx.map_arg(user.kwargs, lambda n: fixed.get(n, n))
    traced.drop_unused()


class _LayerCounter(TorchFunctionMode):
    """Follows every tensor that depends on the input, with the weighted layers on its longest path so far."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.depths: dict[int, int] = {id(image): 0}
        self.kept: list[Tensor] = [image]  # an id is only good while its tensor lives
        self.count = 0

    def deepest(self, values: Iterable[Any]) -> int:
        """Weighted layers behind the deepest of these values; -1 when none depends on the input."""
        return max((self.depths.get(id(v), -1) for v in values), default=-1)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        arguments = [v for v in tree_leaves((args, kwargs)) if isinstance(v, Tensor)]
        depth = self.deepest(arguments)
        result = func(*args, **kwargs)
        if depth < 0:
            return result
        if func in WEIGHTED_LAYERS:
            depth += 1
            self.count += 1
        written = args[:1] if getattr(func, "__name__", "") == "__setitem__" else ()
        for value in tree_leaves((result, written)):
            if isinstance(value, Tensor):
                self.depths[id(value)] = max(depth, self.depths.get(id(value), -1))
                self.kept.append(value)
        return result


class _Walk(fx.Interpreter):
    """Runs the graph node by node and notes shapes, numbers and where weighted layers run."""

    def __init__(self, network: nn.Module, traced: Trace, counter: _LayerCounter | None = None) -> None:
        super().__init__(network, graph=traced.graph, garbage_collect_values=False)
        self.traced = traced
        self.counter = counter
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self.numbers: dict[fx.Node, Number] = {}
        self.layers: list[fx.Node] = []

    def run_node(self, n: fx.Node) -> Any:
        """One node."""
        before = self.counter.count if self.counter else 0
        value = super().run_node(n)
        if self.counter:
            self.layers += [n] * (self.counter.count - before)
        if isinstance(value, Tensor):
            self.shapes[n] = tuple(value.shape)
        elif _is_number(value):
            self.numbers[n] = value
        elif isinstance(value, torch.device):
            self.traced.devices.add(n)
        return value

    def fetch_attr(self, target: str) -> Any:
        """A tensor of the network, or one made while tracing."""
        if target in self.traced.constants:
            return self.traced.constants[target].to("meta")
        return super().fetch_attr(target)

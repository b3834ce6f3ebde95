"""Measure a traced network: shapes, weighted layers, depth, multiply-accumulates.

The graph runs once on the meta device, which computes shapes but no values: the largest network costs only
the time of its Python. Layers are counted as calls of convolution and linear functions, so that those inside
modules recorded as one node count too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from typing_extensions import TypeIs

from medfathom.models.graph.tracing import Trace

Number: TypeAlias = "bool | int | float | Sequence[Number] | None"
"""A value that follows from the image size, or a list of such values."""

IMAGES = 3
OTHER_IMAGES = 5
"""Images in the two runs: numbers that are no usual count of windows or patches."""


@dataclass(frozen=True)
class Measured:
    """What a run of a traced network at one image size shows.

    Attributes:
        shapes: the shape of each node's value for `IMAGES` images, for the nodes whose value is a tensor.
        layers: the node in which each weighted layer runs, in order.
        depth: weighted layers on the longest path from the input to the output.
        macs: multiply-accumulates of one image in convolutions, linear layers and matrix products.
        node_macs: the same by node.
    """

    shapes: dict[fx.Node, tuple[int, ...]]
    layers: list[fx.Node]
    depth: int
    macs: int
    node_macs: dict[fx.Node, int]


def measure(network: nn.Module, traced: Trace, input_shape: tuple[int, int, int]) -> Measured:
    """Run the graph on the meta device.

    Numbers that follow from the image size are then written into the graph as constants: else they would
    count as values that one part of the network passes to the next.

    Args:
        network: the traced network, or one with the same architecture and settings, on the meta device.
        traced: its graph.
        input_shape: channels, height, width.

    Raises:
        Exception: what the network raises for an image size that it does not take.
    """
    image = torch.empty((IMAGES, *input_shape), device="meta")
    counter = _LayerCounter(image)
    walk = _Walk(network, traced, counter)
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad(), torch.device("meta"), ShapesOnly():
            with counter:
                output = walk.run(image)
            if walk.numbers:
                other = _Walk(network, traced)
                other.run(torch.empty((OTHER_IMAGES, *input_shape)))
                _settle_numbers(traced, walk.numbers, other.numbers)
    finally:
        network.train(was_training)
    macs = {node: total // IMAGES for node, total in walk.macs.items()}
    return Measured(walk.shapes, walk.layers, counter.deepest([output]), sum(macs.values()), macs)


def _is_number(value: Any) -> TypeIs[Number]:
    if isinstance(value, tuple | list):
        return all(_is_number(v) for v in value)
    return value is None or isinstance(value, bool | int | float)


def _settle_numbers(traced: Trace, few: Mapping[fx.Node, Number], more: Mapping[fx.Node, Number]) -> None:
    """Write numbers that do not depend on the batch size into the graph, and note those that grow with it."""
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


class ShapesOnly(TorchFunctionMode):
    """Skips operations on meta tensors that do not change a shape: most of a network's time there."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        first = args[0] if args else None
        if isinstance(first, Tensor) and first.is_meta:
            if func in _IN_PLACE:
                return first
            if func in _SAME_SHAPE:
                return torch.empty_like(first)
            if func in _SAME_SHAPE_IF_EQUAL and isinstance(args[1], Tensor) and first.shape == args[1].shape:
                return torch.empty_like(first)
        return func(*args, **(kwargs or {}))


class _LayerCounter(TorchFunctionMode):
    """Follows each tensor that depends on the input, and counts the weighted layers on its longest path."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.depths: dict[int, int] = {id(image): 0}
        self.kept: list[Tensor] = [image]  # an id is valid only while its tensor lives
        self.layers = 0  # layers and multiply-accumulates since these were last set to 0
        self.macs = 0

    def deepest(self, values: Iterable[Any]) -> int:
        """Weighted layers before the deepest of these values; -1 where none depends on the input."""
        return max((self.depths.get(id(v), -1) for v in values), default=-1)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        depth = self.deepest(_tensors_in((args, kwargs)))
        if depth < 0:
            return result
        if func in _MACS:
            self.macs += _MACS[func](result, *args, **kwargs)
        if func in WEIGHTED_LAYERS:
            depth += 1
            self.layers += 1
        written = args[:1] if getattr(func, "__name__", "") == "__setitem__" else ()
        for value in _tensors_in((result, written)):
            self.depths[id(value)] = max(depth, self.depths.get(id(value), -1))
            self.kept.append(value)
        return result


def _tensors_in(values: object) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dictionaries."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors_in(value)
    elif isinstance(values, Mapping):
        yield from _tensors_in(list(values.values()))


class _Walk(fx.Interpreter):
    """Runs the graph node by node and notes shapes, numbers and where weighted layers run."""

    def __init__(self, network: nn.Module, traced: Trace, counter: _LayerCounter | None = None) -> None:
        super().__init__(network, graph=traced.graph, garbage_collect_values=False)
        self.traced = traced
        self.counter = counter
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self.numbers: dict[fx.Node, Number] = {}
        self.layers: list[fx.Node] = []
        self.macs: dict[fx.Node, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node and note what it is."""
        if self.counter:
            self.counter.layers = self.counter.macs = 0
        value = super().run_node(n)
        if self.counter and self.counter.macs:
            self.layers += [n] * self.counter.layers
            self.macs[n] = self.counter.macs
        if isinstance(value, Tensor):
            self.shapes[n] = tuple(value.shape)
        elif _is_number(value):
            self.numbers[n] = value
        elif isinstance(value, torch.device):
            self.traced.devices.add(n)
        return value

    def fetch_attr(self, target: str) -> Any:
        """A tensor of the network, or a constant of the trace."""
        if target in self.traced.constants:
            return self.traced.constants[target].to("meta")
        return super().fetch_attr(target)


# Multiply-accumulates of one call, from its result and its arguments.


def _of_linear(result: Tensor, features: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    return result.numel() * weight.shape[-1]


def _of_conv(result: Tensor, features: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    return result.numel() * math.prod(weight.shape[1:])


def _of_transposed_conv(result: Tensor, features: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    return features.numel() * math.prod(weight.shape[1:])


def _of_product(result: Tensor, left: Tensor, right: Tensor, *_: Any, **__: Any) -> int:
    return result.numel() * left.shape[-1]


def _of_sum_and_product(result: Tensor, added: Tensor, left: Tensor, right: Tensor, **__: Any) -> int:
    return result.numel() * left.shape[-1]


def _of_attention(result: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    scores = query.numel() // query.shape[-1] * key.shape[-2]
    return scores * (query.shape[-1] + value.shape[-1])


def _of_einsum(result: Tensor, equation: str, *operands: Tensor) -> int:
    labels = equation.replace(" ", "").partition("->")[0].split(",")
    sizes = {
        c: s for names, t in zip(labels, operands, strict=True) for c, s in zip(names, t.shape, strict=True)
    }
    return math.prod(sizes.values())


WEIGHTED_LAYERS: Mapping[Callable[..., Any], Callable[..., int]] = {
    nn.functional.linear: _of_linear,
    torch.conv1d: _of_conv,
    torch.conv2d: _of_conv,
    torch.conv3d: _of_conv,
    torch.conv_transpose1d: _of_transposed_conv,
    torch.conv_transpose2d: _of_transposed_conv,
    torch.conv_transpose3d: _of_transposed_conv,
}
"""Weighted layers; normalisation, position tables and products of activations are not among them."""

_MACS: Mapping[Callable[..., Any], Callable[..., int]] = {
    **WEIGHTED_LAYERS,
    torch.matmul: _of_product,
    torch.bmm: _of_product,
    torch.mm: _of_product,
    Tensor.matmul: _of_product,
    Tensor.__matmul__: _of_product,
    Tensor.bmm: _of_product,
    torch.baddbmm: _of_sum_and_product,
    nn.functional.scaled_dot_product_attention: _of_attention,
    torch.einsum: _of_einsum,
}

_SAME_SHAPE: frozenset[Callable[..., Any]] = frozenset(
    {
        nn.functional.batch_norm,
        nn.functional.layer_norm,
        nn.functional.group_norm,
        nn.functional.relu,
        nn.functional.relu6,
        nn.functional.gelu,
        nn.functional.silu,
        nn.functional.hardswish,
        nn.functional.hardsigmoid,
        nn.functional.softmax,
        nn.functional.dropout,
        Tensor.softmax,
        Tensor.sigmoid,
    }
)

_SAME_SHAPE_IF_EQUAL: frozenset[Callable[..., Any]] = frozenset({torch.add, Tensor.add, Tensor.mul})

_IN_PLACE: frozenset[Callable[..., Any]] = frozenset(
    {
        Tensor.add_,
        Tensor.mul_,
        Tensor.fill_,
        Tensor.zero_,
        Tensor.clamp_,
        Tensor.erfinv_,
        Tensor.normal_,
        Tensor.uniform_,
        nn.init.constant_,
        nn.init.normal_,
        nn.init.uniform_,
        nn.init.kaiming_normal_,
        nn.init.kaiming_uniform_,
    }
)

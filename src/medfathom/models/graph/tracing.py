"""Trace a network as a graph of operations, on real or meta tensors.

`torch.fx` runs the network's Python once with stand-ins for tensors and records each operation. Layers of
torch.nn (and timm's subclasses of them, and its stochastic depth) are recorded as one node, so that each
keeps its own training mode; so are modules whose Python decides by a tensor's values or size.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.layers.drop import DropPath
from timm.models import get_notrace_functions, get_notrace_modules
from torch import Tensor, fx, nn

from medfathom.errors import ModelError

CONTAINERS = (nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict)
"""Classes of torch.nn that only hold other modules: traced through."""

MOST_RETRIES = 200
"""Tracing is repeated so often at most, each time with one more module recorded as one node."""


@dataclass(frozen=True)
class Trace:
    """A network as a graph.

    Attributes:
        nodes: the operations in the order in which they run; the first is the input, the last the output.
        scopes: for each node, the path of the module in whose `forward` it runs ("" for the network's own).
        constants: tensors made while tracing, by the name that the graph gives them.
        per_image: nodes whose value is a multiple of the batch size, with the multiple.
        devices: nodes whose value is the device that the network runs on.
    """

    graph: fx.Graph
    nodes: list[fx.Node]
    scopes: dict[fx.Node, str]
    constants: dict[str, Tensor] = field(default_factory=dict)
    per_image: dict[fx.Node, int] = field(default_factory=dict)
    devices: set[fx.Node] = field(default_factory=set)

    def drop_unused(self) -> None:
        """Remove operations whose value is not used."""
        self.graph.eliminate_dead_code(has_effect)
        self.nodes[:] = self.graph.nodes


class _Tracer(fx.Tracer):
    """Records the module each node runs in, and the innermost module in which tracing failed."""

    def __init__(self, whole: set[str], buffers_as_nodes: bool) -> None:
        functions = get_notrace_functions()  # type: ignore[no-untyped-call]
        super().__init__(autowrap_modules=(math,), autowrap_functions=tuple(functions))
        # False where a network asks for a buffer's values: what is computed from it is then a constant.
        self.proxy_buffer_attributes = buffers_as_nodes
        self.whole = whole
        self.notrace = tuple(get_notrace_modules())  # type: ignore[no-untyped-call]
        self.inside = ""
        self.scopes: dict[fx.Node, str] = {}
        self.failed_in: str | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Layers of torch.nn, stochastic depth, modules that timm cannot trace, and modules that failed."""
        # What `DropPath` does is decided by its mode, which is that of inference while tracing.
        if module_qualified_name in self.whole or isinstance(m, (DropPath, *self.notrace)):
            return True
        return any(c.__module__.startswith("torch.nn.") and c not in CONTAINERS for c in type(m).__mro__)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Remember which module runs."""
        outer, self.inside = self.inside, self.path_of_module(m)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed_in = self.failed_in or self.inside
            raise
        finally:
            self.inside = outer

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Record the module that the node runs in."""
        node = super().create_node(*args, **kwargs)
        self.scopes[node] = self.inside
        return node


def trace(network: nn.Module) -> Trace:
    """The network's graph in inference mode, for every image size and batch size that it takes.

    The network itself does not change.

    Raises:
        ModelError: the network's `forward` decides by values that are not known while tracing.
    """
    was_training = network.training
    network.eval()
    before = _tensors_of(network)
    whole: set[str] = set()
    reason = ""
    try:
        for _ in range(MOST_RETRIES):
            tracer = _Tracer(whole, buffers_as_nodes=not reason)
            try:
                graph = tracer.trace(network, concrete_args=_options(network))
            except Exception as error:  # noqa: BLE001 - whatever a network's Python raises on a stand-in
                _constants(network, before)
                if tracer.failed_in and tracer.failed_in not in whole:
                    whole.add(tracer.failed_in)
                elif not reason:
                    reason = str(error).split("\n", 1)[0]
                else:
                    break
                continue
            _drop_options(graph)
            _free_of_device(graph)
            traced = Trace(graph, list(graph.nodes), tracer.scopes, _constants(network, before))
            traced.drop_unused()
            return traced
    finally:
        network.train(was_training)
    raise ModelError(
        f"{type(network).__name__}: its graph cannot be traced ({reason or 'too many retries'}); "
        "use another architecture"
    )


def _options(network: nn.Module) -> dict[str, object]:
    """The default values of `forward`'s arguments after the image."""
    parameters = list(inspect.signature(network.forward).parameters.values())[1:]
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _drop_options(graph: fx.Graph) -> None:
    """Remove the arguments after the image, and the checks that they have their default value."""
    options = [node for node in graph.nodes if node.op == "placeholder"][1:]
    for option in reversed(options):
        checks = [option]
        for node in checks:
            checks += [user for user in node.users if user not in checks]
        for node in reversed(checks):
            graph.erase_node(node)


def _free_of_device(graph: fx.Graph) -> None:
    """Create the graph's new tensors on the input's device, not on the device of tracing."""
    placeholder = next(iter(graph.nodes))
    fixed = [
        n for n in graph.nodes if any(isinstance(v, torch.device) for v in (*n.args, *n.kwargs.values()))
    ]
    if not fixed:
        return
    with graph.inserting_after(placeholder):
        device = graph.call_function(getattr, (placeholder, "device"))
    for node in fixed:
        node.args = tuple(device if isinstance(v, torch.device) else v for v in node.args)
        node.kwargs = {k: device if isinstance(v, torch.device) else v for k, v in node.kwargs.items()}


def has_effect(node: fx.Node) -> bool:
    """Whether a node is needed although its value is not used: it checks something, or writes in place."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    in_place = name == "setitem" or (node.op != "call_module" and name.endswith("_") and name[-2:] != "__")
    checks = "assert" in name and bool(node.all_input_nodes)
    return node.op in ("placeholder", "output") or in_place or checks


def _tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """A network's own tensors that are no parameters: buffers and plain attributes."""
    plain = {name: value for name, value in vars(network).items() if isinstance(value, Tensor)}
    return plain | dict(network.named_buffers(recurse=False))


def _constants(network: nn.Module, before: Container[str]) -> dict[str, Tensor]:
    """Remove the tensors that tracing has added to the network, and return them."""
    found = {name: tensor for name, tensor in _tensors_of(network).items() if name not in before}
    for name in found:
        delattr(network, name)
    return found


def compile_part(graph: fx.Graph) -> Callable[[nn.Module, Tensor], Any]:
    """A function of (network, input) that runs a graph with the network's own modules and tensors.

    Unlike a `GraphModule` it holds no copies, so that moving, loading and training the network work as usual.
    """
    code = graph.python_code("self")
    namespace = dict(code.globals)
    exec(compile(code.src, "<traced network>", "exec"), namespace)  # noqa: S102 - torch.fx's own code
    function: Callable[[nn.Module, Tensor], Any] = namespace["forward"]
    return function


def data_dependent(traced: Trace) -> set[fx.Node]:
    """Nodes whose value depends on the input's values, not only on its size."""
    dependent: set[fx.Node] = set()
    for node in traced.nodes:
        from_data = node.op == "placeholder" or any(n in dependent for n in node.all_input_nodes)
        if from_data and node not in traced.per_image and node not in traced.devices:
            dependent.add(node)
    return dependent

"""Optimizer and learning-rate schedule of a trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Parameter

from medfathom.definitions.space import TrialParams

if TYPE_CHECKING:
    from medfathom.models.build import Network

SGD_MOMENTUM = 0.9
"""With Nesterov's step; the common choice (Sutskever et al., ICML 2013)."""

EXPONENTIAL_END = 0.01
"""Rate at the end of exponential decay over the rate after warm-up."""


def build_optimizer(network: Network, params: TrialParams) -> torch.optim.Optimizer:
    """The optimizer over all that is trained.

    The head's rate is `learning_rate * head_lr_factor`; layer group g's is `learning_rate * layer_decay ** (5
    - g)`. Biases and norms (tensors of one dimension) have no weight decay; nor has the backbone where the
    strategy pulls its weights to their start instead.
    """
    groups: list[dict[str, Any]] = []
    for group, tensors in network.trainable_parameters_by_group():
        rate = params.learning_rate
        rate *= params.head_lr_factor if group == "head" else params.layer_decay ** (5 - int(group))
        for decayed in (True, False):
            chosen = [tensor for tensor in tensors if (tensor.ndim > 1) == decayed]
            if chosen:
                pulled = params.strategy == "l2-sp" and group != "head"
                decay = params.weight_decay if decayed and not pulled else 0.0
                groups.append({"params": chosen, "lr": rate, "base_lr": rate, "weight_decay": decay})
    if params.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=SGD_MOMENTUM, nesterov=True, fused=True)
    kind = torch.optim.AdamW if params.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, fused=True)


class Pull:
    """L2-SP (Li et al., ICML 2018): the gradient of alpha / 2 ||w - w0||², for weights that start at w0.

    It is on the backbone's trained weights, in place of their decay: not on biases, norms and the head.
    """

    def __init__(self, network: Network, alpha: float) -> None:
        """To where the weights are now."""
        self._alpha = alpha
        self._starts = [
            (tensor, tensor.detach().clone())
            for group, tensors in network.trainable_parameters_by_group()
            for tensor in tensors
            if group != "head" and tensor.ndim > 1
        ]

    @torch.no_grad()
    def add(self) -> None:
        """Add its gradient to that of the loss."""
        for tensor, start in self._starts:
            if tensor.grad is not None:
                tensor.grad.add_(tensor - start, alpha=self._alpha)


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Every parameter group's rate as a multiple of its base rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def rate_factor(step: int, total_steps: int, params: TrialParams) -> float:
    """The rate at a step (from 0) over the base rate: linear warm-up to 1, then decay over what remains."""
    warmup = round(params.warmup_fraction * total_steps)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(total_steps - warmup, 1)
    if params.decay == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return EXPONENTIAL_END**progress if params.decay == "exponential" else 1.0


class StackedParameter:
    """One parameter of K networks as one tensor (K, ...), moved as the optimizer of each would move it.

    The formulas are those of `torch.optim`: Adam and AdamW without amsgrad, SGD with Nesterov's momentum.
    """

    def __init__(self, own: Sequence[tuple[Parameter, torch.optim.Optimizer]]) -> None:
        """All optimizers are of one kind and have made equally many steps."""
        self._own = own
        parameter, optimizer = own[0]
        self._kind, self._defaults = type(optimizer), optimizer.defaults
        self._step = float(optimizer.state[parameter].get("step", 0.0))
        self._names = ("momentum_buffer",) if self._kind is torch.optim.SGD else ("exp_avg", "exp_avg_sq")
        self.values = torch.stack([p.detach() for p, _ in own]).requires_grad_()
        self._state = [torch.stack([_state_of(p, o, name) for p, o in own]) for name in self._names]
        groups = [_group_of(p, o) for p, o in own]
        self._rate = self._column([group["base_lr"] for group in groups])
        self._decay = self._column([group["weight_decay"] for group in groups])

    def _column(self, numbers: Sequence[float]) -> Tensor:
        """A number for each network, in a shape that multiplies its values."""
        return torch.tensor(numbers, device=self.values.device).view(-1, *[1] * (self.values.ndim - 1))

    @torch.no_grad()
    def update(self, gradient: Tensor, factors: Sequence[float]) -> None:
        """One step, with each network's rate as a multiple of its base rate."""
        self._step += 1
        rate = self._rate * self._column(factors)
        if self._kind is torch.optim.AdamW:
            self.values.mul_(1 - rate * self._decay)
        else:
            gradient = gradient + self._decay * self.values
        if self._kind is torch.optim.SGD:
            (buffer,) = self._state
            buffer.mul_(SGD_MOMENTUM).add_(gradient)
            self.values.sub_(rate * (gradient + SGD_MOMENTUM * buffer))
            return
        mean, square = self._state
        (beta1, beta2), epsilon = self._defaults["betas"], self._defaults["eps"]
        mean.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        root = square.sqrt().div_(math.sqrt(1 - beta2**self._step)).add_(epsilon)
        self.values.sub_(rate / (1 - beta1**self._step) * mean / root)

    @torch.no_grad()
    def hand_back(self) -> None:
        """Give each network its values, and its optimizer the state."""
        for place, (parameter, optimizer) in enumerate(self._own):
            parameter.copy_(self.values[place])
            state = optimizer.state[parameter]
            state |= {name: kept[place].clone() for name, kept in zip(self._names, self._state, strict=True)}
            if self._kind is not torch.optim.SGD:
                state["step"] = torch.tensor(self._step, device=parameter.device)


def _state_of(parameter: Parameter, optimizer: torch.optim.Optimizer, name: str) -> Tensor:
    """A part of an optimizer's state; zeros before its first step."""
    found = optimizer.state[parameter].get(name)
    return torch.zeros_like(parameter, requires_grad=False) if found is None else found


def _group_of(parameter: Parameter, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))

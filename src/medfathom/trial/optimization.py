"""Optimizer and learning-rate schedule of a trial."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

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

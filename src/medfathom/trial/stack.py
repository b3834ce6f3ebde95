"""Heads of several trials, fitted side by side over the same features: one batched product for all.

A step of one linear head takes a few microseconds of arithmetic, and some hundred of calls. Here the calls
are made once for all heads. Each keeps its own weights, batches, loss, rates, dropout and optimizer, and ends
where it would have ended alone, but for the order in which sums are rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from medfathom.trial.losses import StackedLoss
from medfathom.trial.optimization import StackedParameter, rate_factor, set_rates
from medfathom.trial.randomness import generator
from medfathom.trial.threads import cpu_threads

if TYPE_CHECKING:
    from medfathom.trial.fit import Fit


def fit_side_by_side(fits: Sequence[Fit], epoch: int) -> list[float]:
    """Train each for one epoch (from 1).

    Args:
        fits: with equally many images, the same batch size and the same optimizer. Their inputs are features
            at the cut below the head, and their heads a dropout and a linear layer.
        epoch: the same for all.

    Returns:
        For each the mean of its batches' losses. Where it is not finite, the training diverged.
    """
    return _Stack(fits, epoch).train()


class _Stack:
    """K heads in one epoch."""

    def __init__(self, fits: Sequence[Fit], epoch: int) -> None:
        self._fits = fits
        self._device = fits[0].settings.device
        self._inputs = fits[0].inputs
        self._raw = self._inputs.rows(epoch)
        batches = zip(*(fit.batches(epoch) for fit in fits), strict=True)
        self._rows = [np.stack([batch.rows for batch in step]) for step in batches]
        """Of each step the positions that each head trains on, (K, batch)."""
        self._weight, self._bias = (StackedParameter(own) for own in _parameters(fits))
        self._labels = torch.stack([fit.labels for fit in fits])
        self._loss = StackedLoss([fit.loss_of_one() for fit in fits], self._device)
        first = (epoch - 1) * len(self._rows)
        self._factors = [
            [rate_factor(first + step, fit.total_steps, fit.params) for fit in fits]
            for step in range(len(self._rows))
        ]
        self._dropout = [
            (fit.params.head_dropout, generator(fit.settings.seed, "dropout", epoch, device=self._device))
            for fit in fits
        ]

    def train(self) -> list[float]:
        subsets = [fit.subset for fit in self._fits]
        chosen = [
            np.concatenate([subset[own] for subset, own in zip(subsets, rows, strict=True)])
            for rows in self._rows
        ]
        total = torch.zeros(len(self._fits), device=self._device)
        with cpu_threads(self._fits[0].threads):
            for step, raw in enumerate(self._raw.batches(chosen)):
                total += self._step(step, self._inputs.prepare(raw, None))
        self._weight.hand_back()
        self._bias.hand_back()
        for fit, factor in zip(self._fits, self._factors[-1], strict=True):
            set_rates(fit.optimizer, factor)
        return [loss / len(chosen) for loss in total.tolist()]

    def _step(self, step: int, features: Tensor) -> Tensor:
        """One update of each head; the means of their batches' losses, (K,)."""
        features = self._dropped(features.view(len(self._fits), -1, features.shape[-1]))
        heads = torch.arange(len(self._fits), device=self._device).unsqueeze(1)
        targets = self._labels[heads, torch.from_numpy(self._rows[step]).to(self._device)]
        weight, bias = self._weight.values, self._bias.values
        with self._fits[0].autocast():
            logits = torch.baddbmm(bias.unsqueeze(1), features, weight.transpose(1, 2))
        losses = self._loss.means(logits, targets)
        of_weight, of_bias = torch.autograd.grad(losses.sum(), (weight, bias))
        self._weight.update(of_weight, self._factors[step])
        self._bias.update(of_bias, self._factors[step])
        return losses.detach()

    def _dropped(self, features: Tensor) -> Tensor:
        """After each head's own dropout: what torch draws from the same seed on a CPU."""
        if not any(rate for rate, _ in self._dropout):
            return features
        pairs = zip(features, self._dropout, strict=True)
        return torch.stack([_drop(own, rate, draws) if rate else own for own, (rate, draws) in pairs])


def _drop(features: Tensor, rate: float, draws: torch.Generator) -> Tensor:
    return features * torch.empty_like(features).bernoulli_(1 - rate, generator=draws).div_(1 - rate)


def _parameters(fits: Sequence[Fit]) -> list[list[tuple[nn.Parameter, torch.optim.Optimizer]]]:
    """Weights and biases of the heads, each with its optimizer."""
    layers = [fit.head.get_submodule("1") for fit in fits]
    return [
        [(layer.get_parameter(name), fit.optimizer) for layer, fit in zip(layers, fits, strict=True)]
        for name in ("weight", "bias")
    ]

"""Slopes by permutation: the predictor is shuffled among architectures, never among runs.

Under "the predictor has nothing to do with AUC" every arrangement of its values over exchangeable
architectures is equally likely; the p-value is the share of arrangements that do at least as well as the
real one. Tests of any other slope b (of `values - b * predictor`) give the interval, in closed form.
Freedman and Lane 1983; Garthwaite 1996.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from math import factorial, prod

import numpy as np

from medfathom.analysis.cells import Floats, Ints

EXACT_LIMIT = 50_000
"""Up to so many arrangements are all enumerated; beyond, as many are drawn at random as asked."""


@dataclass(frozen=True)
class PermutationSlope:
    """A slope whose null distribution is that of its own rearrangements.

    Attributes:
        estimate: slope of the values on the weights' predictor.
        low: shape (N,), for each arrangement, the least slope b at which it is as extreme as the real
            one (two-sided).
        high: shape (N,), the greatest such slope.
        one_sided: for each arrangement unlike the real one, the least b from which it is at least as high.
        identical: arrangements that leave the predictor as it is.
        exact: all arrangements enumerated.
    """

    estimate: float
    low: Floats
    high: Floats
    one_sided: Floats
    identical: int
    exact: bool

    @property
    def smallest_p(self) -> float:
        """The smallest p-value these arrangements can give."""
        return float(np.mean(np.isinf(self.low)))

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided p-value of "the slope is `null`"."""
        bounds = self.low <= null if null <= self.estimate else self.high >= null
        return float(np.mean(bounds))

    def p_greater(self, null: float = 0.0) -> float:
        """p-value against "the slope is at most `null`"."""
        return float(np.sum(self.one_sided <= null) + self.identical) / len(self.low)

    def p_less(self, null: float = 0.0) -> float:
        """p-value against "the slope is at least `null`"."""
        return float(np.sum(self.one_sided >= null) + self.identical) / len(self.low)

    def interval(self, level: float) -> tuple[float, float]:
        """The slopes not rejected at 1 - level; infinite where the arrangements are too few to reject any."""
        rank = min(int(np.floor((1.0 - level) * len(self.low) + 1e-9)), len(self.low) - 1)
        lowest = np.partition(self.low, rank)[rank]
        highest = -np.partition(-self.high, rank)[rank]
        return float(lowest), float(highest)


def permutation_slope(
    values: Floats, predictor: Floats, blocks: Ints, *, draws: int, seed: int
) -> PermutationSlope:
    """Slope within blocks, with the predictor rearranged within blocks.

    Args:
        values: shape (n,).
        predictor: shape (n,).
        blocks: shape (n,), architectures of one block are exchangeable (all zeros: all are).
        draws: arrangements drawn at random when there are more than `EXACT_LIMIT`.
        seed: of those draws.
    """
    x = predictor - _block_means(predictor, blocks)
    y = values - _block_means(values, blocks)
    orders, exact = arrangements(blocks, draws, seed)
    sxx = float(x @ x)
    if sxx <= 0:
        raise ValueError("the predictor has one value within every block")
    a0 = float(x @ y)
    a, b = x[orders] @ y, x[orders] @ x
    always = np.abs(b) >= sxx * (1 - 1e-12)
    same = b >= sxx * (1 - 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = (a0 - a) / (sxx - b)
        total = (a0 + a) / (sxx + b)
    low = np.where(always, -np.inf, np.minimum(difference, total))
    high = np.where(always, np.inf, np.maximum(difference, total))
    return PermutationSlope(a0 / sxx, low, high, difference[~same], int(same.sum()), exact)


def arrangements(blocks: Ints, draws: int, seed: int) -> tuple[Ints, bool]:
    """Orders (N, n) that rearrange within blocks, the identity first, and whether they are all there are."""
    members = [np.flatnonzero(blocks == block) for block in np.unique(blocks)]
    count = prod(factorial(len(m)) for m in members)
    if count <= EXACT_LIMIT:
        return _enumerated(members, len(blocks)), True
    rng = np.random.default_rng(seed)
    orders = np.tile(np.arange(len(blocks)), (draws + 1, 1))
    for m in members:
        if len(m) > 1:
            orders[1:, m] = rng.permuted(np.tile(m, (draws, 1)), axis=1)
    return orders, False


def _enumerated(members: list[Ints], n: int) -> Ints:
    orders = np.arange(n)[None]
    for m in members:
        inner = np.array(list(permutations(m.tolist())), dtype=np.int64)
        orders = np.repeat(orders, len(inner), axis=0)
        orders[:, m] = np.tile(inner, (len(orders) // len(inner), 1))
    return orders


def _block_means(values: Floats, blocks: Ints) -> Floats:
    _, index = np.unique(blocks, return_inverse=True)
    means = np.bincount(index, values) / np.bincount(index)
    result: Floats = means[index]
    return result

"""Slopes by permutation: the predictor is shuffled among architectures, never among runs.

Under "the predictor has nothing to do with AUC" every arrangement of its values over exchangeable
architectures is equally likely; the p-value is the share of arrangements that do at least as well as the
real one. Tests of any other slope b (of `values - b * predictor`) give the interval, in closed form.
Freedman and Lane 1983; Garthwaite 1996.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from math import factorial, prod

import numpy as np
from numpy.typing import NDArray

from medfathom.analysis.effects import Floats, Ints

EXACT_LIMIT = 50_000
"""Up to so many arrangements are all enumerated; beyond, as many are drawn at random as asked."""


ROUNDING = 1e-12
"""Outcomes (AUCs) that differ by less differ by what arithmetic left over: they count as equal."""


@dataclass(frozen=True)
class PermutationSlope:
    """A slope whose null distribution is that of its own rearrangements.

    Attributes:
        xy: shape (N,), the products of each arrangement of the predictor with the values, the real one first.
        xx: shape (N,), its products with the real arrangement.
        exact: all arrangements enumerated.
    """

    xy: Floats
    xx: Floats
    exact: bool

    @property
    def estimate(self) -> float:
        """Slope of the values on the predictor."""
        return float(self.xy[0] / self.xx[0])

    @property
    def smallest_p(self) -> float:
        """The smallest p-value these arrangements can give."""
        return float(np.mean(self._always))

    @property
    def _always(self) -> NDArray[np.bool_]:
        """Arrangements that leave the predictor as it is or mirror it: as extreme at any slope."""
        always: NDArray[np.bool_] = np.abs(self.xx) >= self.xx[0] * (1 - 1e-12)
        return always

    def _under(self, null: float) -> tuple[Floats, float]:
        """Each arrangement's product with `values - null * predictor`, and how far equal ones may differ."""
        return self.xy - null * self.xx, _noise(self.xx[0]) + ROUNDING * abs(null) * self.xx[0]

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided p-value of "the slope is `null`"."""
        found, noise = self._under(null)
        return float(np.mean(np.abs(found) >= abs(found[0]) - noise))

    def p_greater(self, null: float = 0.0) -> float:
        """p-value against "the slope is at most `null`"."""
        found, noise = self._under(null)
        return float(np.mean(found >= found[0] - noise))

    def p_less(self, null: float = 0.0) -> float:
        """p-value against "the slope is at least `null`"."""
        found, noise = self._under(null)
        return float(np.mean(found <= found[0] + noise))

    @cached_property
    def _not_rejected(self) -> tuple[Floats, Floats]:
        """For each arrangement, the least and the greatest slope at which it is as extreme as the real."""
        difference, total = self.xy[0] - self.xy, self.xy[0] + self.xy
        for products in (difference, total):
            products[np.abs(products) <= _noise(self.xx[0])] = 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            one, other = difference / (self.xx[0] - self.xx), total / (self.xx[0] + self.xx)
        low = np.where(self._always, -np.inf, np.minimum(one, other))
        return low, np.where(self._always, np.inf, np.maximum(one, other))

    def interval(self, level: float) -> tuple[float, float]:
        """The slopes not rejected at 1 - level; infinite where the arrangements are too few to reject any."""
        low, high = self._not_rejected
        rank = min(int(np.floor((1.0 - level) * len(low) + 1e-9)), len(low) - 1)
        return float(np.partition(low, rank)[rank]), float(-np.partition(-high, rank)[rank])


def _noise(xx: float) -> float:
    """How far two products with a predictor of sum of squares `xx` may differ though they are equal."""
    return ROUNDING * float(np.sqrt(xx))


def levels(values: Floats) -> Ints:
    """The places of values (n,) in their order, those that differ by rounding only sharing one.

    >>> levels(np.array([0.3, 0.1 + 0.2, 0.1])).tolist()
    [1, 1, 0]
    """
    order = np.argsort(values, kind="stable")
    places = np.empty(len(values), dtype=np.int64)
    places[order] = np.cumsum(np.diff(values[order], prepend=values[order[:1]]) > ROUNDING)
    return places


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
    x, y = centred(predictor, blocks), centred(values, blocks)
    orders, exact = arrangements(blocks, draws, seed)
    if float(x @ x) <= 0:
        raise ValueError("the predictor has one value within every block")
    return PermutationSlope(x[orders] @ y, x[orders] @ x, exact)


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


def centred(values: Floats, blocks: Ints) -> Floats:
    """Values (n,) less the mean of their block (n,)."""
    _, index = np.unique(blocks, return_inverse=True)
    means = np.bincount(index, values) / np.bincount(index)
    result: Floats = values - means[index]
    return result

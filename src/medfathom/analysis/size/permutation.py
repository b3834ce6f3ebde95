"""Slopes by permutation: the predictor is shuffled among architectures, never among runs.

Under "the predictor has nothing to do with AUC" every arrangement of its values over exchangeable
architectures is equally likely; the p-value is the share of arrangements that do at least as well as the
real one. Each arrangement's slope is divided by its own standard error, the larger of the classical and
the robust one (HC2): a single network far from the others then counts less, and a robust error that is
small by chance costs no power. Tests of any other slope b (of `values - b * predictor`) give the
interval. Freedman and Lane 1983; Garthwaite 1996; DiCiccio and Romano, JASA 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import permutations
from math import factorial, prod

import numpy as np
from numpy.typing import NDArray

from medfathom.analysis.effects import Floats, Ints

ENUMERATED_TIMES, ALWAYS_ENUMERATED = 5, 5_040
"""All arrangements are enumerated up to so many times the number that would be drawn, or up to so many."""


ROUNDING = 1e-12
"""Outcomes (AUCs) that differ by less differ by what arithmetic left over: they count as equal."""


BRACKETS, BISECTIONS = 60, 32
"""Doublings and halvings in the search for an interval's end."""


SMALLEST_ROOM = 1e-9
"""1 - leverage below which a residual is 0 whatever the value, and tells nothing of its variance."""


@dataclass(frozen=True)
class PermutationSlope:
    """A slope whose null distribution is that of its own rearrangements.

    A value of `values - b * predictor` has the robust variance `constant - 2 * b * linear + b^2 * square` in
    each arrangement, times the squared sum of squares of the predictor.

    Attributes:
        xy: shape (N,), the products of each arrangement of the predictor with the values, the real one first.
        xx: shape (N,), its products with the real arrangement.
        constant: shape (N,), see above.
        linear: shape (N,).
        square: shape (N,).
        yy: sum of squares of the values.
        df: degrees of freedom of the classical variance.
        exact: all arrangements enumerated.
    """

    xy: Floats
    xx: Floats
    constant: Floats
    linear: Floats
    square: Floats
    yy: float
    df: int
    exact: bool

    @property
    def estimate(self) -> float:
        """Slope of the values on the predictor."""
        return float(self.xy[0] / self.xx[0])

    @property
    def smallest_p(self) -> float:
        """The smallest p-value these arrangements can give."""
        return float(np.mean(self._always))

    @cached_property
    def _always(self) -> NDArray[np.bool_]:
        """Arrangements that leave the predictor as it is or mirror it: as extreme at any slope."""
        always: NDArray[np.bool_] = np.abs(self.xx) >= self.xx[0] * (1 - 1e-12)
        return always

    def _signed(self, null: float) -> tuple[Floats, float, float]:
        """Each arrangement's signed squared t times both variances, the real one's, and how far equals
        differ.

        Multiplied out, so that a perfect fit, which has no variance, divides nothing.
        """
        noise = _noise(self.xx[0]) + ROUNDING * abs(null) * self.xx[0]
        products = self.xy - null * self.xx
        products = np.where(np.abs(products) <= noise, 0.0, products)
        variance = self._variance(null, products)
        found = np.sign(products) * products**2 * float(variance[0])
        real = products[0] * abs(products[0]) * variance
        return found, real, 1e-9 * np.abs(real) + 1e-300

    def _variance(self, null: float, products: Floats) -> Floats:
        """The larger of robust and classical variance, times the predictor's squared sum of squares."""
        robust = np.maximum(self.constant - 2 * null * self.linear + null**2 * self.square, 0.0)
        if self.df < 1:
            return robust
        squares = self.yy - 2 * null * float(self.xy[0]) + null**2 * float(self.xx[0])
        left = squares * self.xx[0] - products**2
        return np.maximum(robust, np.where(left > ROUNDING * squares * self.xx[0], left, 0.0) / self.df)

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided p-value of "the slope is `null`"."""
        found, real, noise = self._signed(null)
        return float(np.mean(self._always | (np.abs(found) >= np.abs(real) - noise)))

    def p_greater(self, null: float = 0.0) -> float:
        """p-value against "the slope is at most `null`"."""
        found, real, noise = self._signed(null)
        mirrored = self._always & (self.xx < 0)
        return float(np.mean(np.where(mirrored, self.estimate <= null, found >= real - noise)))

    def p_less(self, null: float = 0.0) -> float:
        """p-value against "the slope is at least `null`"."""
        found, real, noise = self._signed(null)
        mirrored = self._always & (self.xx < 0)
        return float(np.mean(np.where(mirrored, self.estimate >= null, found <= real + noise)))

    def interval(self, level: float) -> tuple[float, float]:
        """The slopes not rejected at 1 - level; infinite where the arrangements are too few to reject any."""
        if self.smallest_p > 1 - level + 1e-12:
            return -np.inf, np.inf
        return self._end(level, -1.0), self._end(level, 1.0)

    def _end(self, level: float, side: float) -> float:
        """Where the p-value falls to 1 - level, on one side of the estimate."""
        rejected = 1 - level + 1e-12
        unit = float(np.sqrt(max(self.constant[0], 0.0)) / self.xx[0])
        inside, step = 0.0, max(unit, 1e-12 * max(abs(self.estimate), 1e-3))
        for _ in range(BRACKETS):
            if self.p_value(self.estimate + side * (inside + step)) <= rejected:
                break
            inside, step = inside + step, 2 * step
        low, high = inside, inside + step
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            if self.p_value(self.estimate + side * middle) <= rejected:
                high = middle
            else:
                low = middle
        return self.estimate + side * low


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
        draws: arrangements drawn at random when there are too many to enumerate.
        seed: of those draws.
    """
    x, y = centred(predictor, blocks), centred(values, blocks)
    orders, exact = arrangements(blocks, draws, seed)
    width = float(x @ x)
    if width <= 0:
        raise ValueError("the predictor has one value within every block")
    places = x[orders]
    xy, xx = places @ y, places @ x
    leverage = (1 / np.bincount(blocks)[blocks]) + places**2 / width
    room = 1 - leverage
    weight = np.where(room > SMALLEST_ROOM, places**2 / np.maximum(room, SMALLEST_ROOM), 0.0)
    own, other = y - places * (xy / width)[:, None], x - places * (xx / width)[:, None]
    own[np.abs(own) <= ROUNDING] = 0.0
    constant, linear, square = (
        np.einsum("ij,ij,ij->i", weight, a, b) for a, b in ((own, own), (own, other), (other, other))
    )
    df = len(x) - len(np.unique(blocks)) - 1
    return PermutationSlope(xy, xx, constant, linear, square, float(y @ y), df, exact)


def arrangements(blocks: Ints, draws: int, seed: int) -> tuple[Ints, bool]:
    """Orders (N, n) that rearrange within blocks, the identity first, and whether they are all there are."""
    return _remembered(tuple(blocks.tolist()), draws, seed)


@lru_cache(maxsize=6)
def _remembered(blocks: tuple[int, ...], draws: int, seed: int) -> tuple[Ints, bool]:
    codes = np.array(blocks, dtype=np.int64)
    members = [np.flatnonzero(codes == block) for block in np.unique(codes)]
    count = prod(factorial(len(m)) for m in members)
    if count <= max(ENUMERATED_TIMES * draws, ALWAYS_ENUMERATED):
        return _enumerated(members, len(codes)), True
    rng = np.random.default_rng(seed)
    orders = np.tile(np.arange(len(codes)), (draws + 1, 1))
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

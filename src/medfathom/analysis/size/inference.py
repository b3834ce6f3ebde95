"""Which method suits which design, for one slope.

- Architectures of one family, or each its own family: exact permutation (drawn at random where there are
  many), and calibrated regression that allows for noisier architectures at the ends; what both say holds.
- The same in a table with gaps, or with test sets of unequal size, or where groups share no cells: the
  calibrated regression alone, effects weighted by their precision.
- Families with several members: calibrated mixture over the family variance (design.py).
- Three data sets or more: the slopes' spread over data sets is added to any of these.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.special import stdtrit

from medfathom.analysis.effects import Effects, Floats, Ints
from medfathom.analysis.size.design import calibrated_design, indicators
from medfathom.analysis.size.permutation import PermutationSlope, centred, permutation_slope
from medfathom.analysis.size.slope import MixtureSlope, mixture_slope

GUARDED = "guarded against uneven noise by calibrated regression"
PERMUTATION = f"permutation of the predictor among architectures, {GUARDED}"
MIXTURE = (
    "architecture-level regression with random families, averaged over the family variance and calibrated, "
    f"{GUARDED}"
)
STUDENT = "architecture-level regression, averaged over how uneven noise is and calibrated"

NOISE_TAKEN_OFF = 2.0
"""How often noise is taken off the spread of slopes: with few data sets that spread exceeds the noise by
chance so often that intervals would otherwise cover too much where all data sets have one slope (chosen by
simulation)."""

SAME_FOR_ALL = 1e-18
"""Sum of squares of a predictor below which all architectures that can be compared have the same value."""


class SlopeInference(Protocol):
    """What a method says about a slope."""

    @property
    def estimate(self) -> float:
        """The slope."""

    @property
    def smallest_p(self) -> float:
        """The smallest p-value this design can give."""

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided p-value of "the slope is `null`"."""

    def p_greater(self, null: float = 0.0) -> float:
        """p-value against "the slope is at most `null`"."""

    def p_less(self, null: float = 0.0) -> float:
        """p-value against "the slope is at least `null`"."""

    def interval(self, level: float) -> tuple[float, float]:
        """The slopes not rejected at 1 - level."""


@dataclass(frozen=True)
class Settings:
    """How much is simulated.

    Attributes:
        permutations: arrangements drawn where they are too many to enumerate.
        draws: simulated data sets at each family variance that the calibration looks at.
        seed: of everything random.
    """

    permutations: int = 9_999
    draws: int = 12_000
    seed: int = 0

    @property
    def coarse(self) -> Settings:
        """For what stands beside the main line: a quarter of the draws."""
        return replace(self, draws=self.draws // 4, permutations=self.permutations // 4)


def slope_in(
    effects: Effects, per_dataset: dict[str, Effects], predictor: Floats, families: Ints, settings: Settings
) -> tuple[SlopeInference, str, Spread | None]:
    """The slope that a verdict rests on, the name of the method, and the spread over two data sets or more.

    Args:
        effects: of n architectures, over all data sets.
        per_dataset: and within each.
        predictor: shape (n,), at least two values.
        families: shape (n,), codes.
        settings: how much is simulated.
    """
    compared = effects if _alike(families) else with_cell_noise(effects, per_dataset)
    within, method = slope_of(compared, predictor, families, settings)
    spread = spread_of_slopes(effects, per_dataset, predictor)
    if spread is None or not spread.stands_for_others:
        return within, method, spread
    over = OverDatasets(within, (spread.added,))
    return over, f"{method}; the spread of slopes over data sets added (Hartung-Knapp)", spread


def slope_of(
    effects: Effects, predictor: Floats, families: Ints, settings: Settings
) -> tuple[SlopeInference, str]:
    """Inference about the slope of architecture effects on a predictor, and the name of the method.

    Args:
        effects: of n architectures.
        predictor: shape (n,), at least two values.
        families: shape (n,), codes.
        settings: how much is simulated.
    """
    X = np.column_stack([indicators(effects.component), predictor - predictor.mean()])
    noise = noise_shape(effects, X)
    if _alike(families):
        mixture, method = regression(effects.values, X, families, noise, settings)
        return Both(mixture, _guard(effects.values, X, families, noise, mixture, settings)), method
    found, method = regression(effects.values, X, families, noise, settings)
    if int(effects.component.max()) > 0 or not effects.balanced:
        return found, method
    blocks = np.zeros(len(predictor), dtype=np.int64)
    permuted = permutation_slope(
        effects.values, predictor, blocks, draws=settings.permutations, seed=settings.seed
    )
    return Both(permuted, found), f"{'exact' if permuted.exact else 'Monte Carlo'} {PERMUTATION}"


def _guard(
    values: Floats, X: Floats, families: Ints, noise: Floats, mixture: MixtureSlope, settings: Settings
) -> MixtureSlope:
    """The regression that allows for uneven noise, at the likeliest ratio of family variance."""
    Z = indicators(families)
    whole = mixture.likeliest_ratio * Z @ Z.T + noise
    return regression(values, X, np.arange(len(values)), whole, settings)[0]


def _alike(families: Ints) -> bool:
    """Whether some architectures are more alike than others: several families, one of several members."""
    _, sizes = np.unique(families, return_counts=True)
    return bool(1 < len(sizes) < len(families))


def with_cell_noise(effects: Effects, per_dataset: dict[str, Effects]) -> Effects:
    """Effects over data sets, with the precision that the gaps within the data sets leave them.

    Where all architectures are in all data sets, the means over data sets look evenly precise; they are not
    if some architecture is in few cells of each. Designs with families do without: their calibration was
    had with even precision, and holds.
    """
    if not effects.balanced or all(own.balanced for own in per_dataset.values()):
        return effects
    covariance = np.zeros_like(effects.covariance)
    for own in per_dataset.values():
        index = effects.places(own.names)
        covariance[np.ix_(index, index)] += own.covariance / len(per_dataset) ** 2
    df = sum(own.noise_df for own in per_dataset.values())
    squares = sum((own.noise_variance or 0.0) * own.noise_df for own in per_dataset.values())
    return replace(effects, covariance=covariance, noise_variance=squares / df if df else None, noise_df=df)


def regression(
    values: Floats, X: Floats, families: Ints, noise: Floats, settings: Settings
) -> tuple[MixtureSlope, str]:
    """The last coefficient of a regression of values (n,) on X (n, p), families being random."""
    design, calibration = calibrated_design(X, families, noise, draws=settings.draws, seed=settings.seed)
    return mixture_slope(values, design, calibration), MIXTURE if _alike(families) else STUDENT


def mean_of(values: Floats, families: Ints, settings: Settings) -> MixtureSlope:
    """The mean over architectures, families being random; needs at least two values."""
    return regression(values, np.ones((len(values), 1)), families, np.eye(len(values)), settings)[0]


def noise_shape(effects: Effects, X: Floats) -> Floats:
    """Covariance shape (n, n) of the effects but for families: architectures' own spread plus cell noise.

    Where cells have gaps, or test sets differ in size, effects differ in precision; the share of the
    noise in the residual variance is estimated by moments and rounded to quarters (its influence is
    small, and few shapes can be calibrated once for all).
    """
    n = len(X)
    noise_variance = effects.noise_variance
    if effects.sampling is not None:
        shape, noise_variance = np.diag(effects.sampling) / effects.sampling.mean(), None
    elif effects.balanced or noise_variance is None:
        return np.eye(n)
    else:
        shape = effects.covariance * (n - 1) / np.trace(effects.covariance) + np.full((n, n), 1.0 / n)
    residual = effects.values - X @ np.linalg.lstsq(X, effects.values, rcond=None)[0]
    df = n - X.shape[1]
    spread = float(residual @ residual) / df if df > 0 else 0.0
    if noise_variance is None:
        noise = float(effects.sampling.mean()) if effects.sampling is not None else 0.0
    else:
        noise = noise_variance * float(np.trace(effects.covariance)) / (n - 1)
    share = np.clip(np.round(4 * noise / spread) / 4, 0.0, 0.75) if spread > 0 else 0.0
    result: Floats = (1 - share) * np.eye(n) + share * shape
    return result


@dataclass(frozen=True)
class Both:
    """What two methods both say: the larger p-value, the interval that holds both intervals.

    Permutation is exact whatever the distribution of the architectures' effects is, provided that it is
    the same for all; the mixture knows families. The guard holds where architectures far out on the predictor
    are noisier.

    Attributes:
        main: gives the estimate.
        guard: the other.
    """

    main: PermutationSlope | MixtureSlope
    guard: MixtureSlope

    @property
    def estimate(self) -> float:
        """The slope."""
        return self.main.estimate

    @property
    def smallest_p(self) -> float:
        """The smallest p-value this design can give."""
        return max(self.main.smallest_p, self.guard.smallest_p)

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided p-value of "the slope is `null`"."""
        return max(self.main.p_value(null), self.guard.p_value(null))

    def p_greater(self, null: float = 0.0) -> float:
        """p-value against "the slope is at most `null`"."""
        return max(self.main.p_greater(null), self.guard.p_greater(null))

    def p_less(self, null: float = 0.0) -> float:
        """p-value against "the slope is at least `null`"."""
        return max(self.main.p_less(null), self.guard.p_less(null))

    def interval(self, level: float) -> tuple[float, float]:
        """The slopes not rejected at 1 - level."""
        (low, high), (lower, higher) = self.main.interval(level), self.guard.interval(level)
        return min(low, lower), max(high, higher)


@dataclass(frozen=True)
class OverDatasets:
    """A slope that speaks for data sets like these: the spread of slopes over data sets is added.

    Two sources of error are crossed: architectures (shared by all data sets, hence not averaged out over
    them) and data sets. Their squared half-widths add up, each with its own quantile (Banerjee 1960: the
    coverage is then at least nominal); the second is Hartung and Knapp's, on D - 1 degrees of freedom, less
    what noise alone explains. A difference of two slopes has two such second parts, each with the quantile of
    its own data sets: many that agree lend nothing to few that do not.

    Attributes:
        within: inference for these very data sets.
        added: for each group of data sets, the variance of its mean slope from true differences between data
            sets (at least 0) and its degrees of freedom.
    """

    within: SlopeInference
    added: tuple[tuple[float, int], ...]

    @cached_property
    def estimate(self) -> float:
        """The slope."""
        return self.within.estimate

    @property
    def smallest_p(self) -> float:
        """The smallest p-value this design can give."""
        return self.within.smallest_p

    def _side(self, level: float, width: float) -> float:
        """Half-width, from that for these very data sets."""
        return float(np.hypot(width, reach_of_spread(self.added, 0.5 + level / 2)))

    def interval(self, level: float) -> tuple[float, float]:
        """The slopes not rejected at 1 - level."""
        low, high = self.within.interval(level)
        middle = self.estimate
        return middle - self._side(level, middle - low), middle + self._side(level, high - middle)

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided p-value: the level at which the interval just touches `null`."""
        least = self.within.p_value(null)
        if not any(variance for variance, _ in self.added) or null == self.estimate:
            return least
        side = 0 if null < self.estimate else 1
        distance = abs(null - self.estimate)

        def beyond(p: float) -> float:
            return abs(self.interval(1 - p)[side] - self.estimate) - distance

        if beyond(least) <= 0 or beyond(1.0) >= 0:
            return least
        return float(brentq(beyond, least, 1.0, xtol=1e-7))

    def p_greater(self, null: float = 0.0) -> float:
        """p-value against "the slope is at most `null`"."""
        half = self.p_value(null) / 2
        return half if null <= self.estimate else 1 - half

    def p_less(self, null: float = 0.0) -> float:
        """p-value against "the slope is at least `null`"."""
        return 1 - self.p_greater(null)


def reach_of_spread(added: Iterable[tuple[float, int]], quantile: float) -> float:
    """How far the spread over data sets reaches: quantiles of Student's t on each group's own freedom."""
    return float(np.sqrt(sum(stdtrit(df, quantile) ** 2 * variance for variance, df in added)))


@dataclass(frozen=True)
class Spread:
    """How slopes differ between data sets, beyond what architectures do by themselves in each.

    Attributes:
        slopes: data set -> slope.
        tau: standard deviation of the true slopes (moment estimate, at least 0).
        i2: share of the slopes' variance that is not noise, 0 to 1.
        f: variance of the slopes over what noise alone would give; infinite without noise.
        p_value: of "all data sets have one slope"; None without degrees of freedom.
        extra_variance: what true differences between data sets add to the variance of the mean slope.
    """

    slopes: dict[str, float]
    tau: float
    i2: float
    f: float
    p_value: float | None
    extra_variance: float

    @property
    def stands_for_others(self) -> bool:
        """Whether there are data sets enough (three) to speak for others like them."""
        return len(self.slopes) >= 3

    @property
    def added(self) -> tuple[float, int]:
        """The extra variance and its degrees of freedom."""
        return self.extra_variance, len(self.slopes) - 1


def spread_of_slopes(effects: Effects, per_dataset: dict[str, Effects], predictor: Floats) -> Spread | None:
    """Compare the data sets' slopes; None where fewer than two have one.

    What architectures do alike in all data sets cancels from the differences between slopes, so their
    noise is the interaction of architecture and data set, after a slope of its own for each data set.

    Args:
        effects: over all data sets.
        per_dataset: in each.
        predictor: shape (n,), in the order of `effects.names`.
    """
    if len(per_dataset) < 2 or np.isnan(predictor).any():
        return None
    slopes, widths, explained = {}, [], 0.0
    for dataset, own in per_dataset.items():
        index = effects.places(own.names)
        x = centred(predictor[index], own.component)
        width = float(x @ x)
        if width <= SAME_FOR_ALL:
            continue
        slopes[dataset] = float(x @ own.values / width)
        widths.append(width)
        explained += float(x @ (own.values - effects.values[index])) ** 2 / width
    if len(slopes) < 2:
        return None
    df = effects.noise_df - (len(slopes) - 1)
    total = (effects.noise_variance or 0.0) * effects.noise_df
    noise = max(total - explained, 0.0) / df if df > 0 else 0.0
    return _spread(slopes, noise * float(np.mean(1 / np.array(widths))), df)


def _spread(slopes: dict[str, float], noise: float, df: int) -> Spread:
    """Take the noise (the variance that slopes would have were the true ones equal, on df) off the slopes."""
    count = len(slopes)
    variance = float(np.var(list(slopes.values()), ddof=1))
    f = float(variance / noise) if noise > 0 else np.inf
    return Spread(
        slopes,
        tau=float(np.sqrt(max(0.0, variance - noise))),
        i2=max(0.0, 1 - 1 / f) if f > 0 else 0.0,
        f=f,
        p_value=float(stats.f.sf(f, count - 1, df)) if df > 0 and noise > 0 else None,
        extra_variance=max(0.0, variance - NOISE_TAKEN_OFF * noise) / count,
    )

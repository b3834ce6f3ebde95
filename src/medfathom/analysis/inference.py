"""Which method suits which design, for one slope.

architectures of one family, or each its own family   exact permutation (drawn at random where there are many)
families with several members                         calibrated mixture over the family variance (slope.py)
architectures that share no cells                     Student t on the comparable contrasts
three data sets or more                               and the slopes' spread over data sets added to the above
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from medfathom.analysis.cells import Effects, Floats, Ints
from medfathom.analysis.permutation import permutation_slope
from medfathom.analysis.slope import calibrated_design, mixture_slope

PERMUTATION = "permutation of the predictor among architectures"
MIXTURE = (
    "architecture-level regression with random families, averaged over the family variance and calibrated"
)
STUDENT = "architecture-level regression"


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
        permutations: arrangements drawn where they are too many to enumerate; also the calibration's draws.
        seed: of everything random.
    """

    permutations: int = 9_999
    seed: int = 0


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
    _, sizes = np.unique(families, return_counts=True)
    connected = int(effects.component.max()) == 0
    if connected and (sizes.max() == 1 or len(sizes) == 1):
        blocks = np.zeros(len(predictor), dtype=np.int64)
        found = permutation_slope(
            effects.values, predictor, blocks, draws=settings.permutations, seed=settings.seed
        )
        return found, f"{'exact' if found.exact else 'Monte Carlo'} {PERMUTATION}"
    noise = noise_shape(effects, predictor)
    design, null_p = calibrated_design(
        predictor, families, effects.component, noise, draws=settings.permutations, seed=settings.seed
    )
    name = MIXTURE if null_p is not None else STUDENT
    return mixture_slope(effects.values, design, null_p), name


def noise_shape(effects: Effects, predictor: Floats) -> Floats:
    """Covariance shape (n, n) of the effects but for families: architectures' own spread plus cell noise.

    Where cells have gaps, effects differ in precision; the share of the noise in the residual variance
    is estimated by moments and rounded to quarters (its influence is small, and few shapes can be
    calibrated once for all).
    """
    n = len(predictor)
    if effects.balanced or effects.noise_variance is None:
        return np.eye(n)
    shape = effects.covariance * (n - 1) / np.trace(effects.covariance)
    X = np.column_stack([effects.component[:, None] == np.unique(effects.component), predictor]).astype(float)
    residual = effects.values - X @ np.linalg.lstsq(X, effects.values, rcond=None)[0]
    df = n - X.shape[1]
    spread = float(residual @ residual) / df if df > 0 else 0.0
    noise = effects.noise_variance * np.trace(effects.covariance) / (n - 1)
    share = np.clip(np.round(4 * noise / spread) / 4, 0.0, 0.75) if spread > 0 else 0.0
    ones = np.full((n, n), 1.0 / n)
    result: Floats = (1 - share) * np.eye(n) + share * (shape + ones)
    return result


@dataclass(frozen=True)
class OverDatasets:
    """A slope that speaks for data sets like these: the spread of slopes over data sets is added.

    Two sources of error are crossed: architectures (shared by all data sets, hence not averaged out over
    them) and data sets. Their squared half-widths add up, each with its own quantile (Banerjee 1960: the
    coverage is at least nominal); the second is Hartung and Knapp's, on D - 1 degrees of freedom, less
    what noise alone explains.

    Attributes:
        within: inference for these very data sets.
        extra_variance: of the mean slope, from true differences between data sets; at least 0.
        df: data sets less one.
    """

    within: SlopeInference
    extra_variance: float
    df: int

    @property
    def estimate(self) -> float:
        """The slope."""
        return self.within.estimate

    @property
    def smallest_p(self) -> float:
        """The smallest p-value this design can give."""
        return self.within.smallest_p

    def _reach(self, level: float) -> float:
        return float(stats.t.ppf(0.5 + level / 2, self.df) ** 2 * self.extra_variance)

    def interval(self, level: float) -> tuple[float, float]:
        """The slopes not rejected at 1 - level."""
        low, high = self.within.interval(level)
        extra = self._reach(level)
        return (
            self.estimate - float(np.hypot(self.estimate - low, np.sqrt(extra))),
            self.estimate + float(np.hypot(high - self.estimate, np.sqrt(extra))),
        )

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided p-value: the level at which the interval just touches `null`."""
        least = self.within.p_value(null)
        if self.extra_variance <= 0 or null == self.estimate:
            return least
        side = 0 if null < self.estimate else 1
        distance = abs(null - self.estimate)

        def beyond(p: float) -> float:
            return abs(self.interval(1 - p)[side] - self.estimate) - distance

        if beyond(least) <= 0 or beyond(1.0) >= 0:
            return least
        return float(brentq(beyond, least, 1.0, xtol=1e-9))

    def p_greater(self, null: float = 0.0) -> float:
        """p-value against "the slope is at most `null`"."""
        half = self.p_value(null) / 2
        return half if null <= self.estimate else 1 - half

    def p_less(self, null: float = 0.0) -> float:
        """p-value against "the slope is at least `null`"."""
        return 1 - self.p_greater(null)


def heterogeneity(slopes: Floats, sampling_variance: float) -> tuple[float, float]:
    """True variance of slopes over data sets (moment estimate, at least 0), and the spread over noise (F).

    Args:
        slopes: shape (D,), one per data set, with the error that architectures share taken as common to all.
        sampling_variance: of one slope, from what architectures do in that data set alone.
    """
    spread = float(np.var(slopes, ddof=1))
    ratio = spread / sampling_variance if sampling_variance > 0 else np.inf
    return max(0.0, spread - sampling_variance), float(ratio)

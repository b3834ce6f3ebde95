"""The slope of architecture effects on a predictor when architectures come in families.

Model, at architecture level: effect = intercept + slope * predictor + family + architecture, family and
architecture random and normal with unknown variances. The nuisance is their ratio. For any one ratio,
generalised least squares gives an exact Student t; averaging those over the ratio with the weights of
the restricted likelihood gives a confidence distribution that is right only on average. So its p-values
are calibrated: the same computation is run on data simulated without an effect, on this very design, for
ratios from none to overwhelming, and the least favourable ratio is what a p-value is read from. It then
holds its size whatever the families do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtr

from medfathom.analysis.cells import Floats, Ints

RATIOS = np.array([0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 256.0])
"""Family variance over architecture variance: the values averaged over."""

TRUE_RATIOS = (0.0, 0.5, 1.0, 2.0, 4.0, 16.0, 64.0)
"""The ratios that p-values are calibrated against."""


@dataclass(frozen=True)
class Design:
    """What is known before any AUC is: the predictor, the families, the precision of the effects.

    For each of K variance ratios: the estimator's weights (K, n), its variance per unit residual
    variance (K,), the map to n - p independent residuals (K, n - p, n), the constant of the restricted
    log-likelihood (K,).
    """

    weights: Floats
    variance: Floats
    residuals: Floats
    constant: Floats
    prior: Floats
    df: int
    family_map: Floats
    noise_root: Floats

    @classmethod
    def build(cls, predictor: Floats, families: Ints, component: Ints, noise: Floats) -> Design:
        """The design's matrices; one ratio only (0) where no family has two members or there is one family."""
        n = len(predictor)
        Z = _indicators(families)
        X = np.column_stack([_indicators(component), predictor])
        _, sizes = np.unique(families, return_counts=True)
        told_apart = len(sizes) > 1 and sizes.max() > 1
        ratios = RATIOS if told_apart else RATIOS[:1]
        p = X.shape[1]
        pieces = [_at_ratio(ratio * Z @ Z.T + noise, X) for ratio in ratios]
        weights, variance, residuals, constant = (np.array(part) for part in zip(*pieces, strict=True))
        prior = np.gradient(np.log1p(2 * ratios)) if told_apart else np.ones(1)
        root = np.linalg.cholesky(noise)
        return cls(weights, variance, residuals, constant, prior, n - p, Z, root)

    def components(self, values: Floats) -> tuple[Floats, Floats, Floats]:
        """Estimates, standard errors and weights, each (…, K), of effects (…, n)."""
        estimates = values @ self.weights.T
        squares = np.stack([((values @ part.T) ** 2).sum(-1) for part in self.residuals], axis=-1)
        squares = np.maximum(squares, 1e-300)
        log_weight = self.constant - 0.5 * self.df * np.log(squares) + np.log(self.prior)
        weight = np.exp(log_weight - log_weight.max(-1, keepdims=True))
        weight /= weight.sum(-1, keepdims=True)
        errors = np.sqrt(squares / self.df * self.variance)
        return estimates, errors, weight

    def calibration(self, draws: int, seed: int) -> Floats | None:
        """Raw two-sided p-values without an effect, sorted, (ratios, draws); None where none is needed."""
        if len(self.prior) == 1:
            return None
        rng = np.random.default_rng(seed)
        n = len(self.noise_root)
        own = rng.standard_normal((draws, n)) @ self.noise_root.T
        family = rng.standard_normal((draws, self.family_map.shape[1])) @ self.family_map.T
        student = _student_table(self.df)
        rows = []
        for ratio in TRUE_RATIOS:
            estimates, errors, weight = self.components(own + np.sqrt(ratio) * family)
            below = (weight * student(-estimates / errors)).sum(-1)
            rows.append(np.sort(2 * np.minimum(below, 1 - below)))
        return np.array(rows)


@dataclass(frozen=True)
class MixtureSlope:
    """A calibrated confidence distribution for the slope; answers like `PermutationSlope`."""

    estimates: Floats
    errors: Floats
    weight: Floats
    df: int
    null_p: Floats | None

    @property
    def estimate(self) -> float:
        """The median of the confidence distribution."""
        return self._quantile(0.5)

    @property
    def smallest_p(self) -> float:
        """The smallest p-value that can be had: that of the calibration's draws (0: no bound)."""
        return 0.0 if self.null_p is None else 1.0 / (self.null_p.shape[1] + 1)

    @property
    def standard_error(self) -> float:
        """Standard deviation of the estimate, averaged over the variance ratio."""
        return float(np.sqrt(self.weight @ (self.errors**2 + (self.estimates - self.estimate) ** 2)))

    def below(self, null: float) -> float:
        """The raw confidence that the slope is below `null`."""
        return float(self.weight @ stdtr(self.df, (null - self.estimates) / self.errors))

    def _calibrated(self, raw: float) -> float:
        if self.null_p is None:
            return raw
        draws = self.null_p.shape[1]
        counts = [np.searchsorted(row, raw * (1 + 1e-9), side="right") for row in self.null_p]
        return float(min(1.0, (1 + max(counts)) / (draws + 1)))

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided p-value of "the slope is `null`"."""
        below = self.below(null)
        return self._calibrated(2 * min(below, 1 - below))

    def p_greater(self, null: float = 0.0) -> float:
        """p-value against "the slope is at most `null`"."""
        below = self.below(null)
        half = self._calibrated(2 * min(below, 1 - below)) / 2
        return half if below <= 0.5 else 1 - half

    def p_less(self, null: float = 0.0) -> float:
        """p-value against "the slope is at least `null`"."""
        return 1 - self.p_greater(null)

    def interval(self, level: float) -> tuple[float, float]:
        """The slopes not rejected at 1 - level."""
        raw = self._raw_at(1 - level)
        if raw <= 0:
            return -np.inf, np.inf
        return self._quantile(raw / 2), self._quantile(1 - raw / 2)

    def _raw_at(self, alpha: float) -> float:
        """The raw p-value whose calibrated value is alpha: the smallest over ratios of its quantiles."""
        if self.null_p is None:
            return alpha
        draws = self.null_p.shape[1]
        rank = min(int(np.floor(alpha * (draws + 1) + 1e-9)) - 1, draws - 1)
        return float(self.null_p[:, rank].min()) if rank >= 0 else 0.0

    def _quantile(self, probability: float) -> float:
        single = self.estimates + self.errors * _student_quantile(self.df, probability)
        low, high = float(single.min()), float(single.max())
        if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
            return low
        margin = 1e-9 * (high - low)
        return float(brentq(lambda b: self.below(b) - probability, low - margin, high + margin, xtol=1e-12))


def mixture_slope(values: Floats, design: Design, null_p: Floats | None) -> MixtureSlope:
    """The slope of effects `values` (n,) in a design, calibrated by `null_p` (from `Design.calibration`)."""
    estimates, errors, weight = design.components(values)
    return MixtureSlope(estimates, errors, weight, design.df, null_p)


@lru_cache(maxsize=64)
def _cached(
    predictor: bytes, families: bytes, component: bytes, noise: bytes, draws: int, seed: int
) -> tuple[Design, Floats | None]:
    x = np.frombuffer(predictor)
    n = len(x)
    design = Design.build(
        x,
        np.frombuffer(families, dtype=np.int64),
        np.frombuffer(component, dtype=np.int64),
        np.frombuffer(noise).reshape(n, n),
    )
    return design, design.calibration(draws, seed) if draws else None


def calibrated_design(
    predictor: Floats, families: Ints, component: Ints, noise: Floats, *, draws: int, seed: int
) -> tuple[Design, Floats | None]:
    """A design and its calibration; remembered, since many outcomes share one design."""
    return _cached(
        predictor.astype(float).tobytes(),
        families.astype(np.int64).tobytes(),
        component.astype(np.int64).tobytes(),
        noise.astype(float).tobytes(),
        draws,
        seed,
    )


def _at_ratio(covariance: Floats, X: Floats) -> tuple[Floats, float, Floats, float]:
    inverse = np.linalg.inv(covariance)
    information = X.T @ inverse @ X
    solved = np.linalg.solve(information, X.T @ inverse)
    projector = inverse - inverse @ X @ solved
    values, vectors = np.linalg.eigh((projector + projector.T) / 2)
    p = X.shape[1]
    residuals = (vectors[:, p:] * np.sqrt(np.maximum(values[p:], 0.0))).T
    constant = -0.5 * (np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(information)[1])
    return solved[-1], float(np.linalg.inv(information)[-1, -1]), residuals, float(constant)


def _indicators(codes: Ints) -> Floats:
    result: Floats = (codes[:, None] == np.unique(codes)[None]).astype(float)
    return result


def _student_quantile(df: int, probability: float) -> float:
    from scipy.special import stdtrit  # noqa: PLC0415

    return float(stdtrit(df, probability))


def _student_table(df: int) -> Callable[[Floats], Floats]:
    """Student's distribution function read off a fine table: a hundred times faster, right to 1e-6."""
    nodes = np.linspace(-12.0, 12.0, 8001)
    table = stdtr(df, np.sinh(nodes))

    def read(t: Floats) -> Floats:
        result: Floats = np.interp(np.arcsinh(t), nodes, table)
        return result

    return read

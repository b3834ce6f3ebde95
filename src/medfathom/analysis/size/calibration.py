"""A factor that gives tests their nominal false-positive rate at every value of a nuisance parameter.

Many data sets without an effect are simulated at each value of the nuisance. Each gives a score, which should
be the absolute value of a standard normal but is not, and evidence, which tells roughly what the value is.
Wanted is a factor(evidence), at least `LEAST`, such that P(score > factor * z) is the nominal level at every
value. Where no factor does that everywhere, rejecting too rarely counts less than rejecting too often.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from medfathom.analysis.effects import Floats, Ints

LEVELS = (0.01, 0.05, 0.10)
"""The nominal levels at which false-positive rates are made right."""

LEAST, MOST = 0.7, 6.0
"""The range of the factor."""

KNOTS = 7
"""Evidence values between which the factor is linear."""

MOST_STEPS, GOOD_ENOUGH = 40, 1e-3
"""Steps of the fit, and the relative gain of a step below which it ends."""

SOFTNESS = 0.06
"""Width over which a rejection is counted in part, so that rates have a slope in the factor."""

OVERSHOOT = 2.0
"""How much worse a rate above the level is than one below."""

ROUGHNESS = 0.05
"""Weight of the factor's bends against the rates' relative errors."""


@dataclass(frozen=True)
class CalibrationFactor:
    """A piecewise linear factor over the evidence.

    Attributes:
        knots: evidence values, rising, shape (K,).
        factors: the factor at each, shape (K,).
    """

    knots: Floats
    factors: Floats

    def __call__(self, evidence: Floats) -> Floats:
        """The factor at each evidence."""
        result: Floats = np.interp(evidence, self.knots, self.factors)
        return result


@dataclass(frozen=True)
class Targets:
    """What the false-positive rates are to be, at each value of the nuisance.

    Attributes:
        allowed: shape (values,), the rate over the level.
        counts: shape (values,), the weight of its error.
        levels: at which they are to be that.
    """

    allowed: Floats
    counts: Floats
    levels: tuple[float, ...] = LEVELS

    @classmethod
    def even(cls, values: int) -> Targets:
        """The level itself at each of so many values."""
        return cls(np.ones(values), np.ones(values))


def fit_calibration_factor(scores: Floats, evidence: Floats, targets: Targets) -> CalibrationFactor:
    """Find the factor by damped Gauss-Newton steps.

    Args:
        scores: shape (values of the nuisance, draws), absolute normal scores.
        evidence: the same shape.
        targets: the rates that are wanted.
    """
    knots = np.unique(np.quantile(evidence, np.linspace(0, 1, KNOTS)))
    if len(knots) == 1:
        knots = np.array([knots[0], knots[0] + 1.0])
    shares = _Shares.of(evidence, knots)
    factors = np.full(len(knots), 1.15)
    bends = ROUGHNESS * np.diff(np.eye(len(knots)), axis=0)
    counts = np.tile(targets.counts, len(targets.levels))
    damping, best, best_loss = 1.0, factors, np.inf
    for _ in range(MOST_STEPS):
        errors, slopes = _rate_errors(scores, shares, factors, targets)
        weight = np.where(errors > 0, OVERSHOOT, 1.0) * counts
        loss = float((weight * errors**2).sum() + ((bends @ factors) ** 2).sum())
        if loss < best_loss:
            converged = best_loss - loss < GOOD_ENOUGH * loss
            best, best_loss, damping = factors, loss, damping / 3
            if converged:
                break
            normal = slopes.T @ (weight[:, None] * slopes) + bends.T @ bends
            right = slopes.T @ (weight * errors) + bends.T @ (bends @ factors)
        else:
            damping *= 4
        step = np.linalg.solve(normal + damping * np.eye(len(knots)), right)
        factors = np.clip(best - step, LEAST, MOST)
    return CalibrationFactor(knots, best)


@dataclass(frozen=True)
class _Shares:
    """Linear interpolation between knots.

    Attributes:
        left: the knot at the left of each evidence.
        right_share: the weight of the knot at its right, 0 to 1.
        count: of knots.
    """

    left: Ints
    right_share: Floats
    count: int

    @classmethod
    def of(cls, evidence: Floats, knots: Floats) -> _Shares:
        left: Ints = np.clip(np.searchsorted(knots, evidence, side="right") - 1, 0, len(knots) - 2)
        return cls(left, np.clip((evidence - knots[left]) / np.diff(knots)[left], 0.0, 1.0), len(knots))

    def value(self, factors: Floats) -> Floats:
        result: Floats = (
            factors[self.left] * (1 - self.right_share) + factors[self.left + 1] * self.right_share
        )
        return result

    def collected(self, change: Floats) -> Floats:
        """Sum of each row's changes by knot, shape (rows, knots)."""
        rows = len(change)
        place = (np.arange(rows)[:, None] * self.count + self.left).ravel().astype(np.int64)
        size = rows * self.count
        left = np.bincount(place, (change * (1 - self.right_share)).ravel(), minlength=size)
        right = np.bincount(place + 1, (change * self.right_share).ravel(), minlength=size)
        result: Floats = np.asarray(left + right, dtype=float).reshape(rows, self.count)
        return result


def _rate_errors(scores: Floats, shares: _Shares, factors: Floats, targets: Targets) -> tuple[Floats, Floats]:
    """Relative errors of the false-positive rates (levels x values) and their slopes in the factors."""
    factor = shares.value(factors)
    errors, slopes = [], []
    for level in targets.levels:
        z = -ndtri(level / 2)
        soft = 1 / (1 + np.exp(np.clip((factor * z - scores) / SOFTNESS, -40, 40)))
        errors.append(soft.mean(1) / level / targets.allowed - 1)
        change = -soft * (1 - soft) * (z / SOFTNESS / level / scores.shape[1])
        slopes.append(shares.collected(change) / targets.allowed[:, None])
    return np.concatenate(errors), np.concatenate(slopes)

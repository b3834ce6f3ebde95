"""A factor that makes tests hold their size at every value of a nuisance parameter.

Given, for each value of the nuisance, many simulated pairs of (score, evidence) without an effect, where the
score should be the absolute value of a standard normal but is not, and the evidence tells roughly which value
it is: find factor(evidence) >= `LEAST` such that P(score > factor * z) is the nominal level at every value. A
similar test, approximately; where it cannot be had, the error is kept on the side of too few rejections.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from medfathom.analysis.effects import Floats, Ints

LEVELS = np.array([0.01, 0.05, 0.10])
LEAST, MOST = 0.7, 6.0
KNOTS = 7
MOST_STEPS, GOOD_ENOUGH = 40, 1e-3
SOFTNESS = 0.06
"""Width over which a rejection is counted in part, so that sizes have a slope in the factor."""

OVERSHOOT = 2.0
"""How much worse a size above the level is than one below."""

ROUGHNESS = 0.05
"""Weight of the factor's bends against the sizes' relative errors."""


@dataclass(frozen=True)
class Stretch:
    """A piecewise linear factor over the evidence."""

    knots: Floats
    factors: Floats

    def __call__(self, evidence: Floats) -> Floats:
        """The factor at each evidence."""
        result: Floats = np.interp(evidence, self.knots, self.factors)
        return result


def fit_stretch(scores: Floats, evidence: Floats) -> Stretch:
    """Find the factor by damped Gauss-Newton steps.

    Args:
        scores: shape (values of the nuisance, draws), absolute normal scores.
        evidence: the same shape.
    """
    knots = np.unique(np.quantile(evidence, np.linspace(0, 1, KNOTS)))
    if len(knots) == 1:
        knots = np.array([knots[0], knots[0] + 1.0])
    shares = _Shares.of(evidence, knots)
    levels = -ndtri(LEVELS / 2)
    factors = np.full(len(knots), 1.15)
    bends = ROUGHNESS * np.diff(np.eye(len(knots)), axis=0)
    damping, best, best_loss = 1.0, factors, np.inf
    for _ in range(MOST_STEPS):
        errors, slopes = _sizes(scores, shares, factors, levels)
        weight = np.where(errors > 0, OVERSHOOT, 1.0)
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
    return Stretch(knots, best)


@dataclass(frozen=True)
class _Shares:
    """Linear interpolation between knots: the knot at the left of each evidence, and the share of the "
    "right one."""

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


def _sizes(scores: Floats, shares: _Shares, factors: Floats, levels: Floats) -> tuple[Floats, Floats]:
    """Relative errors of the sizes (levels x values) and their slopes in the factors."""
    factor = shares.value(factors)
    errors, slopes = [], []
    for level, z in zip(LEVELS, levels, strict=True):
        soft = 1 / (1 + np.exp(np.clip((factor * z - scores) / SOFTNESS, -40, 40)))
        errors.append(soft.mean(1) / level - 1)
        slopes.append(shares.collected(-soft * (1 - soft) * (z / SOFTNESS / level / scores.shape[1])))
    return np.concatenate(errors), np.concatenate(slopes)

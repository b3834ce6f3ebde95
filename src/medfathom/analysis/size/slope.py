"""A slope and its tests from fits at several values of a nuisance, see `design.py`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from medfathom.analysis.effects import Floats
from medfathom.analysis.size.calibration import CalibrationFactor
from medfathom.analysis.size.design import Design, Summary

SMALLEST_P = 1 / 8_001
"""No p-value is claimed below what simulation could show."""

FAR_FROM, FAR_STEP = 1.96, 0.1
"""Normal score from which the second factor takes over, and within how much."""


@dataclass(frozen=True)
class MixtureSlope:
    """A confidence distribution for the slope, a `SlopeInference`.

    Attributes:
        summary: of one vector of effects (n,).
        df: degrees of freedom.
        factor: by which normal scores of the distribution are divided, from `CalibrationFactor`.
        far_factor: the same for scores that are far out, at most `factor`.
        ratios: shape (K,), of family to architecture variance at each fit.
    """

    summary: Summary
    df: int
    factor: float
    far_factor: float
    ratios: Floats

    @cached_property
    def estimate(self) -> float:
        """The median of the confidence distribution."""
        return self._quantile(0.5)

    @property
    def smallest_p(self) -> float:
        """No p-value is claimed below what the simulated draws could show."""
        return SMALLEST_P

    @property
    def likeliest_ratio(self) -> float:
        """Family variance over architecture variance with the greatest weight; 0 without families."""
        return float(self.ratios[int(self.summary.weight.argmax())])

    def _score(self, null: float) -> float:
        """Normal score of the confidence that the slope is below `null`."""
        found = self.summary
        below = float(found.weight @ stdtr(self.df, (null - found.estimates) / found.errors))
        above = float(found.weight @ stdtr(self.df, (found.estimates - null) / found.errors))
        raw = float(ndtri(below) if below < 0.5 else -ndtri(above))
        return float(np.sign(raw)) * self._divided(abs(raw))

    def _divided(self, score: float) -> float:
        """A score over its factor; rising."""
        near = score / self.factor
        far = float(np.clip((near - FAR_FROM) / FAR_STEP, 0.0, 1.0))
        return score / (self.factor + far * (self.far_factor - self.factor))

    def _multiplied(self, score: float) -> float:
        """The inverse of `_divided`."""
        raw = self.factor * np.array([0.0, *np.linspace(FAR_FROM, FAR_FROM + FAR_STEP, 11)])
        divided = [self._divided(float(one)) for one in raw]
        return self.far_factor * score if score >= divided[-1] else float(np.interp(score, divided, raw))

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided p-value of "the slope is `null`"."""
        return max(float(2 * ndtr(-abs(self._score(null)))), SMALLEST_P)

    def p_greater(self, null: float = 0.0) -> float:
        """p-value against "the slope is at most `null`"."""
        return max(float(ndtr(self._score(null))), SMALLEST_P)

    def p_less(self, null: float = 0.0) -> float:
        """p-value against "the slope is at least `null`"."""
        return max(float(ndtr(-self._score(null))), SMALLEST_P)

    def interval(self, level: float) -> tuple[float, float]:
        """The slopes not rejected at 1 - level."""
        tail = float(ndtr(-self._multiplied(float(-ndtri((1 - level) / 2)))))
        return self._quantile(tail), self._quantile(1 - tail) if tail > 1e-12 else self._mirrored(tail)

    def _mirrored(self, tail: float) -> float:
        """The upper quantile at a tail too small to subtract from 1."""
        return float(np.max(self.summary.estimates - self.summary.errors * stdtrit(self.df, tail)))

    def _quantile(self, probability: float) -> float:
        found = self.summary
        single = found.estimates + found.errors * stdtrit(self.df, probability)
        low, high = float(single.min()), float(single.max())
        if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
            return low
        margin = 1e-9 * (high - low)

        def excess(b: float) -> float:
            return float(found.weight @ stdtr(self.df, (b - found.estimates) / found.errors)) - probability

        # Slopes on multiply-accumulates are around 1e-12: how near is near depends on the predictor's unit.
        near = 1e-12 * max(abs(low), abs(high))
        return float(brentq(excess, low - margin, high + margin, xtol=near))


def mixture_slope(values: Floats, design: Design, calibration: tuple[CalibrationFactor, ...]) -> MixtureSlope:
    """The slope of effects `values` (n,) in a design, calibrated as `Design.calibrate` found."""
    summary = design.summary(values)
    factors = [float(one(summary.evidence)) for one in calibration] or [1.0]
    return MixtureSlope(summary, design.df, factors[0], min(factors), design.ratios)

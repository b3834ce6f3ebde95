"""A slope, its interval and its p-value: what every question answers with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from medfathom.analysis.effects import Floats
from medfathom.analysis.size.inference import SlopeInference

Interval = tuple[float | None, float | None]
"""Lower and upper end; None where it is not bounded on that side, both None where there is no interval."""

NO_INTERVAL: Interval = (None, None)


@dataclass(frozen=True)
class Estimate:
    """A slope; all None where there is none.

    Attributes:
        slope: AUC per unit of what it is a slope on.
        ci95: its 95 % interval.
        p_value: of "no slope", two-sided, not adjusted.
    """

    slope: float | None = None
    ci95: Interval = NO_INTERVAL
    p_value: float | None = None


def interval_of(inference: SlopeInference, level: float) -> Interval:
    """The slopes not rejected at 1 - level."""
    low, high = inference.interval(level)
    return low if np.isfinite(low) else None, high if np.isfinite(high) else None


def estimate_of(inference: SlopeInference) -> Estimate:
    """What an inference says of its slope."""
    return Estimate(inference.estimate, interval_of(inference, 0.95), inference.p_value())


def slope_over_datasets(x: Floats, y: Floats) -> Estimate:
    """Least squares over data sets, each one unit: at least 3, `x` of at least two values."""
    fit = stats.linregress(x, y)
    slope, reach = float(fit.slope), float(stats.t.ppf(0.975, len(x) - 2) * fit.stderr)
    return Estimate(slope, (slope - reach, slope + reach), float(fit.pvalue))

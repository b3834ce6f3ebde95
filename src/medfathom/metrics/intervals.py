"""What intervals are made of: quantiles, the logit scale, variances from class sizes alone; differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Interval = tuple[float, float]
"""The two ends."""

Z95 = 1.959963984540054
"""The normal distribution's 0.975 quantile."""


def student_quantile(df: Floats) -> Floats:
    """Student's 0.975 quantile, (C,), by Cornish and Fisher's expansion; exact to 1 % from 3 degrees on.

    Below 3 degrees of freedom it is that of 3.
    """
    n, z = np.maximum(df, 3.0), Z95
    terms = (
        (z**3 + z) / 4 / n
        + (5 * z**5 + 16 * z**3 + 3 * z) / 96 / n**2
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384 / n**3
    )
    result: Floats = z + terms
    return result


def reach_over_seeds(sd: float, n: int) -> float:
    """Half of Student's 95 % interval of a mean over `n` trainings (from 2 on) with deviation `sd`."""
    from scipy.special import stdtrit  # noqa: PLC0415  scipy takes its time, and few need it

    return float(stdtrit(n - 1, 0.975)) * sd / math.sqrt(n)


def interval_of_mean(
    values: Sequence[float], ends: Sequence[tuple[float, float]], lowest: float = 0.0, highest: float = 1.0
) -> tuple[float, float]:
    """The interval of a mean of independent values, from the interval of each: half-widths add as squares.

    >>> interval_of_mean([0.8, 0.9], [(0.74, 0.85), (0.82, 0.94)])
    (0.8, 0.8820156211871643)
    """
    mean, n = sum(values) / len(values), len(values)
    pairs = list(zip(values, ends, strict=True))
    down = math.hypot(*(value - low for value, (low, _) in pairs)) / n
    up = math.hypot(*(high - value for value, (_, high) in pairs)) / n
    return max(lowest, mean - down), min(highest, mean + up)


def difference_interval(
    first: float, first_ci: Interval, second: float, second_ci: Interval
) -> tuple[float, float, float]:
    """The first less the second, of independent samples, with the ends of its 95 % interval.

    From the two intervals alone, which need not be symmetric: squared distances to their ends add up (Zou and
    Donner, Statistics in Medicine 2008; Newcombe, Statistics in Medicine 1998, method 10).
    """
    value = first - second
    low = value - math.hypot(first - first_ci[0], second_ci[1] - second)
    high = value + math.hypot(first_ci[1] - first, second - second_ci[0])
    return value, low, high


def logit_ends(auc: Floats, reach: Floats) -> tuple[Floats, Floats]:
    """The ends (C,) of intervals that reach so far on the logit scale; NaN at an AUC of 0 or 1."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        middle, width = np.log(auc / (1 - auc)), reach / (auc * (1 - auc))
        return 1 / (1 + np.exp(width - middle)), 1 / (1 + np.exp(-width - middle))


def error_from_ends(auc: float, low: float | None, high: float | None) -> float | None:
    """The standard error of an AUC whose 95 % interval is known; None where there is no interval.

    `logit_ends` read backwards, which is exact for many units; for few, Student's quantile makes it a little
    too large. At an AUC of 1, where the interval comes from elsewhere, half its width counts.
    """
    if low is None or high is None or not low < high:
        return None
    if low <= 0 or high >= 1 or not 0 < auc < 1:
        return (high - low) / (2 * Z95)
    width = math.log(high / (1 - high)) - math.log(low / (1 - low))
    return auc * (1 - auc) * width / (2 * Z95)


def hanley_mcneil_variance(auc: Floats, n_positive: Floats, n_negative: Floats) -> Floats:
    """The variance of an AUC from the class sizes alone (Hanley and McNeil, Radiology 1982), (C,).

    As Newcombe (Statistics in Medicine 2006, method 5) writes it: both sizes are replaced by their mean less
    one where they weigh the two kinds of shared pairs.
    """
    other = (n_positive + n_negative) / 2 - 1
    spread = 1 + other * ((1 - auc) / (2 - auc) + auc / (1 + auc))
    with np.errstate(invalid="ignore", divide="ignore"):
        variance: Floats = auc * (1 - auc) * spread / (n_positive * n_negative)
    return variance


def newcombe_interval(auc: float, n_positive: float, n_negative: float) -> tuple[float, float]:
    """The score-like interval of an AUC from the class sizes alone; of use where nothing tells its variance.

    Newcombe, Statistics in Medicine 2006, method 5: the values that lie 1.96 of their own Hanley-McNeil
    standard errors from the AUC, both sizes there replaced by their mean less one.
    """
    other = (n_positive + n_negative) / 2 - 1

    def excess(value: float) -> float:
        spread = 1 + other * ((1 - value) / (2 - value) + value / (1 + value))
        return abs(value - auc) - Z95 * math.sqrt(value * (1 - value) * spread / (n_positive * n_negative))

    return _bisect(excess, 0.0, auc), 1.0 - _bisect(lambda v: excess(1.0 - v), 0.0, 1.0 - auc)


def _bisect(excess: Callable[[float], float], outside: float, inside: float) -> float:
    """The border between values that are too far (excess > 0, near `outside`) and those within."""
    if excess(outside) <= 0:
        return outside
    for _ in range(60):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if excess(middle) > 0 else (outside, middle)
    return inside

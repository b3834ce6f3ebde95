"""The rule by which intervals are found here: what each image or patient adds to an estimate's deviation.

Such an influence is summed within patients before it is squared, so that images of one patient do not count
as independent. Three things keep intervals honest where few patients decide; `benchmarks/auc_intervals.py`
and `benchmarks/other_intervals.py` have the coverage:

- Squares are divided by what groups of these sizes are expected to lack (Bell and McCaffrey, Survey
  Methodology 2002).
- Student's quantile has the degrees of freedom that the influences' own spread leaves (Satterthwaite,
  Biometrics Bulletin 1946; Imbens and Kolesár, Review of Economics and Statistics 2016).
- The variance is drawn a little towards what such an estimate has in general, if that is larger, the more the
  fewer patients decide (`PRIOR_WEIGHT`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfathom.metrics.intervals import logit_ends, student_quantile

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Members = NDArray[np.intp]
"""Each image's group as a number from 0 without gaps, (n,)."""

PRIOR_WEIGHT = 0.25
"""Patients that the general variance counts for, beside those that decide the estimate's own."""


@dataclass(frozen=True)
class Estimates:
    """C estimates, each with what G units (images or groups) add to its deviation from the truth.

    Attributes:
        value: (C,); NaN where undefined.
        influence: (C, G); a row's squares add up to the variance. NaN: one unit says nothing of others.
        judged: units that count for each estimate, (C,).
        most: degrees of freedom, at most, (C,).
        general: the variance that such an estimate has in general, from few numbers, (C,).
        weight: patients that `general` counts for where it is the larger one, (C,).
    """

    value: Floats
    influence: Floats
    judged: Floats
    most: Floats
    general: Floats
    weight: Floats

    @property
    def variance(self) -> Floats:
        """By the influences alone, (C,)."""
        variance: Floats = np.square(self.influence).sum(axis=1)
        return variance

    @property
    def usable(self) -> Bools:
        """Estimates with a variance: others need another interval, or have none, (C,)."""
        usable: Bools = self.variance > 0
        return usable

    @property
    def error(self) -> Floats:
        """The standard error, with the variance drawn towards the general one, (C,)."""
        own = self.variance
        with np.errstate(invalid="ignore", divide="ignore"):
            decide = np.square(own) / (self.influence**4).sum(axis=1)
            drawn = (decide * own + self.weight * np.maximum(self.general, own)) / (decide + self.weight)
        error: Floats = np.sqrt(drawn)
        return error

    @property
    def quantile(self) -> Floats:
        """Student's, (C,)."""
        return student_quantile(np.fmin(_freedom(self.influence, self.judged), self.most))

    @property
    def reach(self) -> Floats:
        """Half of the 95 % interval on the estimate's own scale, (C,)."""
        reach: Floats = self.quantile * self.error
        return reach

    def reach_of_mean(self) -> float:
        """The same of the mean of the usable estimates; NaN where there is none.

        The mean's standard error is widened as much as, on average, the estimates' own are.
        """
        usable = self.usable
        if not usable.any():
            return math.nan
        widened = np.mean(self.error[usable] / np.sqrt(self.variance[usable]))
        mean = self.influence[usable].mean(axis=0, keepdims=True)
        freedom = np.minimum(_freedom(mean, self.judged.max(keepdims=True)), self.most[usable].min())
        return float(student_quantile(freedom)[0] * np.sqrt(np.square(mean).sum()) * widened)


def _freedom(influence: Floats, judged: Floats) -> Floats:
    """The degrees of freedom of a variance, by the spread of the squares that it is the sum of, (C,)."""
    squares = np.square(influence)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.square(squares).sum(axis=1) / np.square(squares.sum(axis=1)) - 1 / judged
    freedom: Floats = 2 / np.maximum(spread, 1e-12)
    return freedom


@dataclass(frozen=True)
class Ends:
    """95 % intervals of C estimates and of the mean of the defined ones; NaN where undefined.

    Attributes:
        low, high: (C,).
        mean_low, mean_high: of the mean.
        replaced: whether an estimate has another interval, as its variance is 0 or unknown.
    """

    low: Floats
    high: Floats
    mean_low: float
    mean_high: float
    replaced: bool


def logit_intervals(found: Estimates, instead: Callable[[int], tuple[float, float]]) -> Ends:
    """Intervals of estimates in [0, 1], with ends on the logit scale.

    Estimates that are not usable get another interval. To the mean they add their own ends: that holds
    however they and the others are correlated.

    Args:
        found: the estimates.
        instead: number of an estimate -> its interval where it is not usable.
    """
    usable, defined = found.usable, ~np.isnan(found.value)
    rest = defined & ~usable
    low, high = (np.where(usable, ends, np.nan) for ends in logit_ends(found.value, found.reach))
    for column in np.flatnonzero(rest):
        low[column], high[column] = instead(int(column))
    if not defined.any():
        return Ends(low, high, math.nan, math.nan, False)
    mean_low, mean_high = low[defined].mean(), high[defined].mean()
    if not math.isnan(reach := found.reach_of_mean()):
        ends = logit_ends(found.value[usable].mean(keepdims=True), np.array([reach]))
        shares = usable.sum() / defined.sum()
        mean_low, mean_high = (
            float(end[0]) * shares + own[rest].sum() / defined.sum()
            for end, own in zip(ends, (low, high), strict=True)
        )
    return Ends(low, high, max(float(mean_low), 0.0), min(float(mean_high), 1.0), bool(rest.any()))


def scaled(deviations: Floats, counts: Floats) -> Floats:
    """Each unit's influence on a mean, with squares that add up to the variance without bias, (C, G).

    Without groups, and for groups of equal sizes, that is the usual division by n - 1.

    Args:
        deviations: from the mean, summed in each unit, (C, G).
        counts: images (or weights) that the mean is over, in each unit, (C, G).
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        size = counts.sum(axis=1, keepdims=True)
        shares = counts / size
        left = 1 - 2 * shares + np.square(shares).sum(axis=1, keepdims=True)
        influence: Floats = deviations / size / np.sqrt(left)
    return np.where(left == 0, np.nan, influence)  # a single unit says nothing of others


def equivalent(counts: Floats) -> Floats:
    """As many independent images as these in units (C, G) are worth, correlated by half, (C,)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        size = counts.sum(axis=1)
        units = np.square(size) / np.square(counts).sum(axis=1)
        images = size / (counts > 0).sum(axis=1)
        result: Floats = 2 * units * images / (images + 1)
    return result


def repeated(counts: Floats) -> Floats:
    """Share of images in units (C, G) that are not the first of their unit, (C,)."""
    share: Floats = 1 - (counts > 0).sum(axis=1) / np.maximum(counts.sum(axis=1), 1)
    return share


def sums_within(values: NDArray[Any], member: Members | None) -> Floats:
    """(C, n) -> (C, G): each group's sum; each image is its own group where there are none."""
    if member is None:
        return values.astype(np.float64)
    sums = [np.bincount(member, weights=row) for row in values]
    return np.array(sums, dtype=np.float64).reshape(len(values), int(member.max()) + 1)

"""Shares of images, such as sensitivity, with their 95 % intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from medfathom.metrics.influences import (
    PRIOR_WEIGHT,
    Bools,
    Estimates,
    Floats,
    Members,
    equivalent,
    repeated,
    scaled,
    sums_within,
)
from medfathom.metrics.intervals import Z95


def share_interval(
    successes: Bools, trials: Bools, member: Members | None = None
) -> tuple[Floats, Floats, Floats]:
    """Each column's share of trials that succeed, and the ends of its 95 % interval; NaN without a trial.

    Wilson's. Where a patient has several trials, they count as the effective number of independent ones, with
    Student's quantile (Korn and Graubard, Survey Methodology 1998; Dean and Pagano, Journal of Survey
    Statistics and Methodology 2015): see `effective_trials`.

    Args:
        successes: (n, C); each is a trial.
        trials: (n, C).
        member: each image's patient, numbered from 0, (n,); None: each image stands for itself.
    """
    if member is None:
        return wilson_interval(successes.sum(axis=0), trials.sum(axis=0))
    good, tried = sums_within(successes.T, member), sums_within(trials.T, member)
    effective, quantile = effective_trials(good, tried)
    with np.errstate(invalid="ignore"):
        share = good.sum(axis=1) / tried.sum(axis=1)
    return wilson_interval(share * effective, effective, quantile)


def effective_trials(good: Floats, tried: Floats) -> tuple[Floats, Floats]:
    """The independent trials that tell as much of a share as each column's, and the quantile, (C,) each.

    The number is that of which the variance would be the share's own (Rao and Scott, Biometrics 1992), by the
    rule of `influences`; never more than the trials. The general variance is that of trials which correlate
    by half within patients. Where the variance is unknown (one group; nothing, or everything, succeeded) the
    trials of a group count as one.

    Args:
        good: successes of each group, (C, G).
        tried: trials of each group, (C, G).
    """
    number, groups = tried.sum(axis=1), (tried > 0).sum(axis=1).astype(np.float64)
    alike = repeated(tried)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = good.sum(axis=1) / number
        alone = share * (1 - share)
        influence = scaled(good - share[:, None] * tried, tried)
        general = alone / equivalent(tried)
        found = Estimates(share, influence, groups, groups - 1, general, PRIOR_WEIGHT * alike)
        own = np.fmin(alone / np.square(found.error), number)  # NaN: patients have equal shares
        as_one = np.square(number) / np.square(tried).sum(axis=1)
    mixed = (groups > 1) & (alone > 0) & (alike > 0)
    effective = np.where(alike > 0, np.where(mixed, own, as_one), number)
    return np.where(number == 0, 0.0, effective), np.where(mixed, found.quantile, Z95)


def wilson_interval(
    successes: ArrayLike, trials: ArrayLike, quantile: Floats | float = Z95
) -> tuple[Floats, Floats, Floats]:
    """Proportion and the ends of its 95 % interval (Wilson, JASA 1927). NaN where there was no trial."""
    k, n = np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    square = np.square(quantile)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = k / n
        centre = (share + square / (2 * n)) / (1 + square / n)
        spread = np.sqrt(square * share * (1 - share) / n + np.square(square / (2 * n))) / (1 + square / n)
        # At 0 and at n the ends are exactly 0 and 1; rounding would leave 1e-17.
        low = np.where(k == 0, 0.0, centre - spread)
        high = np.where(k == n, 1.0, centre + spread)
    empty = n == 0
    return np.where(empty, np.nan, share), np.where(empty, np.nan, low), np.where(empty, np.nan, high)

"""Area under the ROC curve of many score columns at once, with its 95 % interval.

Everything here works on columns: `positive` (which images are of the class) and `scores` are (n, C), one
column for each class or model. A column without a positive or without a negative image has no AUC: it is NaN
here and is left out, and said to be undefined, one level up; never 0, never 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

Z95 = 1.959963984540054
"""The normal distribution's 0.975 quantile."""

BOOTSTRAP_DRAWS = 1000
"""Resamples of a group bootstrap; for percentiles 1,000 is the usual least (Efron and Tibshirani 1993)."""

CHUNK_ELEMENTS = 2**22
"""Weights held at once by the bootstrap: 32 MiB."""


@dataclass(frozen=True)
class AucInterval:
    """A 95 % interval of C columns' AUC and of their mean. NaN where undefined."""

    low: Floats
    high: Floats
    mean_low: float
    mean_high: float
    method: str


def roc_auc_score(positive: ArrayLike, scores: ArrayLike) -> Floats:
    """AUC of each column, ties counted half; O(C n log n).

    Args:
        positive: bool or 0/1, (n,) shared by all columns or (n, C).
        scores: finite, (n,) or (n, C); higher means positive.

    Returns:
        (C,) in [0, 1]; NaN for a column with one class only. Equal to scikit-learn's to 1e-12.

    Raises:
        ValueError: a score is NaN, or the shapes disagree.

    >>> roc_auc_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]).tolist()
    [0.75]
    """
    flags, columns = _columns(positive, scores)
    return _placements(flags, columns)[0]


def _columns(positive: ArrayLike, scores: ArrayLike) -> tuple[Bools, Floats]:
    """Both as (C, n): the last axis is the one that is sorted."""
    columns = np.atleast_2d(np.asarray(scores, dtype=np.float64).T)
    flags = np.atleast_2d(np.asarray(positive).astype(bool).T)
    if np.isnan(columns).any():
        raise ValueError("a score is NaN: images cannot be ranked by it")
    if flags.shape[1] != columns.shape[1]:
        raise ValueError(
            f"as many labels as scores must be given, but got {flags.shape[1]} and {columns.shape[1]}"
        )
    return np.broadcast_to(flags, columns.shape), np.ascontiguousarray(columns)


def _placements(positive: Bools, scores: Floats) -> tuple[Floats, Floats]:
    """AUC (C,) and each image's placement (C, n): the share of the other class that it beats, ties half."""
    order = np.argsort(scores, axis=1)
    ranked = np.take_along_axis(scores, order, axis=1)
    is_positive = np.take_along_axis(positive, order, axis=1)
    starts = np.ones(ranked.shape, dtype=bool)
    starts[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    beaten = {}
    for name, flags in (("positive", is_positive), ("negative", ~is_positive)):
        beaten[name] = _below_plus_half_of_ties(flags, starts)
    n_positive = positive.sum(axis=1, dtype=np.float64)[:, None]
    n_negative = positive.shape[1] - n_positive
    with np.errstate(invalid="ignore", divide="ignore"):
        ordered = np.where(
            is_positive, beaten["negative"] / n_negative, 1.0 - beaten["positive"] / n_positive
        )
        wins = np.where(is_positive, beaten["negative"], 0.0).sum(axis=1)
        auc = wins / (n_positive * n_negative)[:, 0]
    placements = np.empty_like(ordered)
    np.put_along_axis(placements, order, ordered, axis=1)
    return auc, placements


def _below_plus_half_of_ties(flags: Bools, starts: Bools) -> Floats:
    """For each position in sorted rows: flagged images with a lower score, plus half of those that tie."""
    n = flags.shape[1]
    position = np.arange(n)
    count = np.concatenate([np.zeros((len(flags), 1), dtype=np.int64), np.cumsum(flags, axis=1)], axis=1)
    first = np.maximum.accumulate(np.where(starts, position, 0), axis=1)
    ends = np.ones_like(starts)
    ends[:, :-1] = starts[:, 1:]
    behind = np.minimum.accumulate(np.where(ends, position + 1, n)[:, ::-1], axis=1)[:, ::-1]
    below = np.take_along_axis(count, first, axis=1)
    upto = np.take_along_axis(count, behind, axis=1)
    half: Floats = (below + upto) / 2.0
    return half


def delong_interval(positive: ArrayLike, scores: ArrayLike, groups: ArrayLike | None = None) -> AucInterval:
    """DeLong's interval of each column's AUC, and of the mean over the defined columns.

    The variance is that of DeLong, DeLong and Clarke-Pearson (Biometrics 1988), from the placements. The
    mean's variance sums each image's influence over the columns first, and so keeps the covariance between
    columns that share images. Where DeLong's variance is 0 (perfect separation) or undefined (one image of a
    class), the interval is Newcombe's.

    Args:
        positive: as in `roc_auc_score`.
        scores: as in `roc_auc_score`.
        groups: each image's group, (n,): influences are then summed within groups before they are squared, so
            that images of one patient do not count as independent (the idea of Obuchowski, Biometrics 1997).
    """
    flags, columns = _columns(positive, scores)
    auc, placements = _placements(flags, columns)
    influence = _influence(flags, auc, placements)
    if groups is not None:
        influence = _sums_within(influence, groups)
    spread = Z95 * np.sqrt(np.square(influence).sum(axis=1))
    low, high = np.clip(auc - spread, 0.0, 1.0), np.clip(auc + spread, 0.0, 1.0)
    defined = ~np.isnan(auc)
    for column in np.flatnonzero(defined & ~(spread > 0)):
        n_positive = int(flags[column].sum())
        low[column], high[column] = newcombe_interval(auc[column], n_positive, flags.shape[1] - n_positive)
    mean_low, mean_high = _mean_interval(auc[defined], influence[defined], low[defined], high[defined])
    method = "DeLong" if groups is None else "DeLong, clustered by group"
    return AucInterval(low, high, mean_low, mean_high, method)


def _mean_interval(auc: Floats, influence: Floats, low: Floats, high: Floats) -> tuple[float, float]:
    if not len(auc):
        return np.nan, np.nan
    spread = Z95 * float(np.sqrt(np.square(influence.mean(axis=0)).sum()))
    if not spread > 0:
        return float(low.mean()), float(high.mean())
    return max(float(auc.mean()) - spread, 0.0), min(float(auc.mean()) + spread, 1.0)


def _influence(positive: Bools, auc: Floats, placements: Floats) -> Floats:
    """Each image's share of the AUC's deviation, (C, n), scaled: its squares sum to DeLong's variance."""
    n_positive = positive.sum(axis=1, dtype=np.float64)[:, None]
    n_negative = positive.shape[1] - n_positive
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.where(
            positive, np.sqrt(n_positive * (n_positive - 1)), np.sqrt(n_negative * (n_negative - 1))
        )
        influence: Floats = (placements - auc[:, None]) / scale
    return np.where(scale == 0, np.nan, influence)


def _sums_within(values: Floats, groups: ArrayLike) -> Floats:
    """(C, n) -> (C, G): each group's sum."""
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    return np.stack([np.bincount(member, weights=row, minlength=len(names)) for row in values])


def newcombe_interval(auc: float, n_positive: int, n_negative: int) -> tuple[float, float]:
    """The score-like interval of an AUC from the class sizes alone; of use where DeLong's variance is 0.

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


def group_bootstrap_interval(
    positive: ArrayLike, scores: ArrayLike, groups: ArrayLike, *, seed: int, draws: int = BOOTSTRAP_DRAWS
) -> AucInterval:
    """Percentile interval of each column's AUC and of the mean, resampling whole groups (patients, slides).

    A column is sorted once; a resample only changes how often each image counts. Resamples in which a column
    has no AUC are left out of that column's percentiles (and of the mean's).

    Args:
        positive: as in `roc_auc_score`.
        scores: as in `roc_auc_score`.
        groups: each image's group, (n,).
        seed: of the resampling.
        draws: number of resamples.
    """
    flags, columns = _columns(positive, scores)
    auc, _ = _placements(flags, columns)
    defined = np.flatnonzero(~np.isnan(auc))
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    random = np.random.default_rng(seed)
    resampled = np.full((draws, len(auc)), np.nan)
    rows = max(1, CHUNK_ELEMENTS // len(member))
    for start in range(0, draws, rows):
        count = min(rows, draws - start)
        times = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)
        weights = times[:, member].astype(np.float64)
        for column in defined:
            resampled[start : start + count, column] = _weighted_auc(flags[column], columns[column], weights)
    low, high = (np.full(len(auc), np.nan) for _ in range(2))
    for column in defined:
        low[column], high[column] = _percentiles(resampled[:, column])
    mean_low, mean_high = (
        _percentiles(resampled[:, defined].mean(axis=1)) if len(defined) else (np.nan, np.nan)
    )
    return AucInterval(low, high, mean_low, mean_high, f"bootstrap of {len(names)} groups, {draws} draws")


def _weighted_auc(positive: Bools, scores: Floats, weights: Floats) -> Floats:
    """AUC (B,) of one column (n,) where image i counts `weights[b, i]` times; NaN where a class is absent."""
    order = np.argsort(scores)
    ranked = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    weights = weights[:, order]
    winners = np.add.reduceat(weights * positive[order], starts, axis=1)
    losers = np.add.reduceat(weights * ~positive[order], starts, axis=1)
    beaten = np.cumsum(losers, axis=1) - losers / 2
    with np.errstate(invalid="ignore"):
        auc: Floats = (winners * beaten).sum(axis=1) / (winners.sum(axis=1) * losers.sum(axis=1))
    return auc


def _percentiles(values: Floats) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of the finite values; NaN where fewer than half are."""
    finite = values[np.isfinite(values)]
    if len(finite) < len(values) / 2:
        return np.nan, np.nan
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)

"""Area under the ROC curve of many score columns at once, with its 95 % interval.

Everything here works on columns: `positive` (which images are of the class) and `scores` are (n, C), one
column for each class or model. A column without a positive or without a negative image has no AUC: it is NaN
here and is left out, and said to be undefined, one level up; never 0, never 1. An image whose class is not
known (`unknown.UNKNOWN`) is neither: its column is as if the image were not there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfathom.metrics.influences import (
    PRIOR_WEIGHT,
    Bools,
    Ends,
    Estimates,
    Floats,
    Members,
    equivalent,
    logit_intervals,
    repeated,
    scaled,
    sums_within,
)
from medfathom.metrics.intervals import Z95, hanley_mcneil_variance, newcombe_interval
from medfathom.metrics.unknown import is_absent, is_present

Flags = NDArray[Any]
"""Which images are of a class: bool, or uint8 of 0, 1 and `UNKNOWN`."""
Counts = NDArray[np.float32]
"""How often each image counts in each of B resamples, (n, B): whole numbers."""

BLOCK = 250
"""Resamples handled at a time: the tables of 10,000 images then stay in the processor's cache."""


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
        positive: bool, or 0, 1 and `UNKNOWN`, (n,) shared by all columns or (n, C).
        scores: finite, (n,) or (n, C); higher means positive.

    Returns:
        (C,) in [0, 1]; NaN for a column with one class only. Equal to scikit-learn's to 1e-12.

    Raises:
        ValueError: a score is NaN, or the shapes disagree.

    >>> roc_auc_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]).tolist()
    [0.75]
    """
    flags, columns = _columns(positive, scores)
    ranked = _rank(flags, columns)
    return _auc(flags, np.where(ranked.positive, _beaten(ranked.negative, ranked.starts), 0.0))


SAME_AUC = 1e-3
"""AUC, to which scores are those that it was computed from."""


def have_auc(positive: ArrayLike, scores: ArrayLike, auc: float) -> bool:
    """Whether scores have the AUC, mean over the classes that have one, that a study tells of them.

    Otherwise they are another model's: a copy of a storage goes on in the same home folder, and its trials of
    the same number have the same files.

    Args:
        positive, scores: as `roc_auc_score` takes them.
        auc: in [0, 1].
    """
    return abs(float(np.nanmean(roc_auc_score(positive, scores))) - auc) <= SAME_AUC


def _columns(positive: ArrayLike, scores: ArrayLike) -> tuple[Flags, Floats]:
    """Both as (C, n): the last axis is the one that is sorted."""
    columns = np.atleast_2d(np.asarray(scores, dtype=np.float64).T)
    flags = np.atleast_2d(np.asarray(positive).T)
    if np.isnan(columns).any():
        raise ValueError("a score is NaN: images cannot be ranked by it")
    if flags.shape[1] != columns.shape[1]:
        raise ValueError(
            f"as many labels as scores must be given, but got {flags.shape[1]} and {columns.shape[1]}"
        )
    return np.broadcast_to(flags, columns.shape), np.ascontiguousarray(columns)


def _placements(flags: Flags, scores: Floats) -> tuple[Floats, Floats]:
    """AUC (C,) and each image's placement (C, n): the share of the other class that it beats, ties half."""
    ranked = _rank(flags, scores)
    negatives, positives = (_beaten(which, ranked.starts) for which in (ranked.negative, ranked.positive))
    n_positive, n_negative = _class_sizes(flags)[:, :, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        ordered = np.where(ranked.positive, negatives / n_negative, 1.0 - positives / n_positive)
    placements = np.empty_like(ordered)
    np.put_along_axis(placements, ranked.order, ordered, axis=1)
    return _auc(flags, np.where(ranked.positive, negatives, 0.0)), placements


@dataclass(frozen=True)
class _Ranking:
    """Columns (C, n) with their scores rising."""

    order: NDArray[np.intp]
    positive: Bools
    negative: Bools
    starts: Bools
    """Where a score differs from the one before it."""


def _rank(flags: Flags, scores: Floats) -> _Ranking:
    order = np.argsort(scores, axis=1)
    ordered = np.take_along_axis(flags, order, axis=1)
    ranked = np.take_along_axis(scores, order, axis=1)
    starts = np.ones(ranked.shape, dtype=bool)
    starts[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    return _Ranking(order, is_present(ordered), is_absent(ordered), starts)


def _class_sizes(flags: Flags) -> Floats:
    """Images of each column's class, and images that are not of it, (2, C)."""
    return np.stack([which.sum(axis=1, dtype=np.float64) for which in (is_present(flags), is_absent(flags))])


def _auc(flags: Flags, wins: Floats) -> Floats:
    """The share of (positive, negative) pairs that are won, (C,)."""
    with np.errstate(invalid="ignore"):
        auc: Floats = wins.sum(axis=1) / _class_sizes(flags).prod(axis=0)
    return auc


def _beaten(flags: Bools, starts: Bools) -> Floats:
    """For each position in sorted rows: flagged images with a lower score, plus half of those that tie."""
    upto = np.cumsum(flags, axis=1, dtype=np.int64)
    # Counts never fall along a row: a running maximum carries the count at a tie's start on to its end.
    below = np.maximum.accumulate(np.where(starts, upto - flags, 0), axis=1)
    ends = np.ones_like(starts)
    ends[:, :-1] = starts[:, 1:]
    within = np.where(ends, upto, flags.shape[1])[:, ::-1]
    half: Floats = (below + np.minimum.accumulate(within, axis=1)[:, ::-1]) / 2.0
    return half


@dataclass(frozen=True)
class AucDifference:
    """Two columns' AUCs on the same images compared: the first less the second.

    Attributes:
        value: in [-1, 1].
        standard_error: by DeLong's covariance.
        ci95: its 95 % interval by the normal distribution, not clipped.
        p_value: two-sided; never below 2^(1 - n) for n images (or groups), which is the least that swapping
            the two columns' scores image by image could give.
    """

    value: float
    standard_error: float
    ci95: tuple[float, float]
    p_value: float


@dataclass(frozen=True)
class Delong:
    """AUCs of C columns, and what each image or group contributes to their deviation.

    Attributes:
        auc: (C,) in [0, 1]; NaN where undefined.
        influence: (C, n), or (C, G) by groups. A column's squares add up to the variance of its AUC.
        units: images, or groups, of each column's two classes, (2, C).
        judged: images, or groups, of which a class is known, (C,).
        repeated: share of these images that are not the first of their group, (C,): 0 without groups.
        equivalent: independent images of each class that would tell as much, if images of one group
            correlated by half, (2, C).
    """

    auc: Floats
    influence: Floats
    units: Floats
    judged: Floats
    repeated: Floats
    equivalent: Floats

    @property
    def covariance(self) -> Floats:
        """Of the AUCs, (C, C)."""
        covariance: Floats = self.influence @ self.influence.T
        return covariance

    @property
    def estimates(self) -> Estimates:
        """For their intervals."""
        most, weight = self.units.min(axis=0) - 1, PRIOR_WEIGHT * self.repeated
        general = hanley_mcneil_variance(self.auc, *self.equivalent)
        return Estimates(self.auc, self.influence, self.judged, most, general, weight)

    @property
    def ends(self) -> Ends:
        """Of the intervals that `delong_interval` describes."""
        return logit_intervals(
            self.estimates, lambda c: newcombe_interval(self.auc[c], *self.units[:, c].tolist())
        )

    def difference(self, first: int, second: int) -> AucDifference:
        """Two columns that share their images, compared; without any error, p is 1 or the least there is."""
        value = float(self.auc[first] - self.auc[second])
        error = float(np.sqrt(np.square(self.influence[first] - self.influence[second]).sum()))
        p = math.erfc(abs(value) / error / math.sqrt(2)) if error > 0 else float(value == 0)
        least = 2.0 ** (1 - self.influence.shape[1])
        return AucDifference(value, error, (value - Z95 * error, value + Z95 * error), max(p, least))


def delong(positive: ArrayLike, scores: ArrayLike, groups: ArrayLike | None = None) -> Delong:
    """AUCs with their covariance by DeLong, DeLong and Clarke-Pearson (Biometrics 1988), from the placements.

    Args:
        positive: as in `roc_auc_score`.
        scores: as in `roc_auc_score`.
        groups: each image's group, (n,): influences are then summed within groups before they are squared, so
            that images of one patient do not count as independent (Obuchowski, Biometrics 1997). Squares are
            divided by what groups of these sizes are expected to lack (Bell and McCaffrey, Survey Methodology
            2002): for groups of equal sizes that is DeLong's own n - 1.
    """
    flags, columns = _columns(positive, scores)
    auc, placements = _placements(flags, columns)
    member = None if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    known = [is_present(flags), is_absent(flags)]
    counts = [sums_within(which, member) for which in known]
    deviations = [sums_within(np.where(which, placements - auc[:, None], 0.0), member) for which in known]
    influence = scaled(deviations[0], counts[0]) + scaled(deviations[1], counts[1])
    units = np.stack([(count > 0).sum(axis=1) for count in counts]).astype(np.float64)
    both = counts[0] + counts[1]
    judged = (both > 0).sum(axis=1).astype(np.float64)
    alike = np.stack([equivalent(count) for count in counts])
    return Delong(auc, influence, units, judged, repeated(both), alike)


def delong_interval(positive: ArrayLike, scores: ArrayLike, groups: ArrayLike | None = None) -> AucInterval:
    """DeLong's interval of each column's AUC, and of the mean over the defined columns.

    The mean's variance sums each image's influence over the columns first, and so keeps the covariance
    between columns that share images. Ends are found on the logit scale: on small splits, intervals on the
    AUC's own scale promise too much (Pepe 2003, The Statistical Evaluation of Medical Tests, section 5.2).

    Near 1 a few images, or patients, make up the whole variance, and a sample that lacks them promises too
    much: `influences` has the two answers. Degrees of freedom are at most the units of the rarer class less
    one; the general variance is Hanley and McNeil's, and is of use where patients have several images. Where
    DeLong's variance is 0 (perfect separation) or undefined (one image or group of a class), the interval is
    Newcombe's; `method` then says so.

    Args:
        positive: as in `roc_auc_score`.
        scores: as in `roc_auc_score`.
        groups: as in `delong`.
    """
    ends = delong(positive, scores, groups).ends
    method = "DeLong, logit" if groups is None else "DeLong, logit, clustered by group"
    if ends.replaced:
        method += (
            f"; Newcombe by numbers of {'images' if groups is None else 'groups'} where that has no width"
        )
    return AucInterval(ends.low, ends.high, ends.mean_low, ends.mean_high, method)


def resampled_counts(member: Members, draws: int, random: np.random.Generator) -> Counts:
    """How often each image is in each of `draws` resamples of whole groups, (n, draws)."""
    n_groups = int(member.max()) + 1
    times = random.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=draws)
    return times.T.astype(np.float32)[member]


def weighted_auc(flags: Flags, scores: Floats, counts: Counts) -> Floats:
    """AUC (B,) of one column where image i counts `counts[i, b]` times, ties half; NaN where a class is
    absent.

    Args:
        flags: which images are of the class, (n,).
        scores: (n,), finite.
        counts: (n, B), whole numbers; single precision holds their sums exactly up to 2^23 images.
    """
    up, down = np.flatnonzero(is_present(flags)), np.flatnonzero(is_absent(flags))
    down = down[np.argsort(scores[down], kind="stable")]
    low = np.searchsorted(scores[down], scores[up], side="left")
    high = np.searchsorted(scores[down], scores[up], side="right")
    tied = bool((high > low).any())
    wins, pairs = np.empty(counts.shape[1]), np.empty(counts.shape[1])
    for start in range(0, counts.shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        winners = counts[up, block]
        below = np.zeros((len(down) + 1, winners.shape[1]), dtype=np.float32)
        np.cumsum(counts[down, block], axis=0, out=below[1:])
        beaten = (below[low] + below[high]) / 2 if tied else below[low]
        wins[block] = np.einsum("ij,ij->j", winners, beaten, dtype=np.float64)
        pairs[block] = winners.sum(axis=0, dtype=np.float64) * below[-1]
    with np.errstate(invalid="ignore"):
        auc: Floats = wins / pairs
    return auc

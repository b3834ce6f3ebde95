"""The AUC of a cross-validation: the mean over its folds, with a 95 % interval.

Each fold's AUC is of another network, so scores are compared within folds only. The interval is for the mean
of the AUCs that these networks have on all images like these (LeDell, Petersen and van der Laan, Electronic
Journal of Statistics 2015): what other training images would have given is no part of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfathom.metrics.auc import delong
from medfathom.metrics.intervals import newcombe_interval, student_quantile

BLOCKS = 256
"""Influences are kept summed in at most so many sets of patients (or images), the same in each repeat."""


@dataclass(frozen=True)
class FoldAuc:
    """What one fold tells of the mean AUC.

    Attributes:
        auc: the mean over classes; in [0, 1].
        blocks: numbers below `BLOCKS`, of the sets of units that are judged in the fold.
        influence: of each of these sets on the AUC; their squares add up to its variance by DeLong.
        excess: 1 over the number of pairs that are compared, over classes squared: see `mean_auc`.
        positives, negatives: units of each, of the class with the fewest.
        known: share of the classes whose variance is known: two units of either kind are needed.
        judged: images (or cases) of the fold; 0: an earlier version did not write it down.
    """

    auc: float
    blocks: Sequence[int]
    influence: Sequence[float]
    excess: float
    positives: float
    negatives: float
    known: float
    judged: int = 0


def fold_auc(positive: ArrayLike, scores: ArrayLike, unit: NDArray[np.int64]) -> FoldAuc:
    """Judge a fold.

    Args:
        positive: as in `roc_auc_score`; one class at least has both.
        scores: as in `roc_auc_score`.
        unit: the patient of each image, (n,), or the image where no patients are known: a number that is the
            same in all repeats.
    """
    names, member = np.unique(unit, return_inverse=True)
    found = delong(positive, scores, member)
    defined = ~np.isnan(found.auc)
    influence = found.influence[defined]
    known = ~np.isnan(influence.sum(axis=1))
    of_units = np.where(known[:, None], influence, 0.0).sum(axis=0) / defined.sum()
    sums = np.bincount(names % BLOCKS, weights=of_units, minlength=BLOCKS)
    blocks = np.unique(names % BLOCKS)
    flags = np.asarray(positive).reshape(len(member), -1)
    pairs = (flags == 1).sum(axis=0) * (flags == 0).sum(axis=0)
    units = found.units[:, defined]
    rarest = int(units.min(axis=0).argmin())
    return FoldAuc(
        auc=float(found.auc[defined].mean()),
        blocks=blocks.tolist(),
        influence=[float(f"{value:.6g}") for value in sums[blocks]],
        excess=float((1 / pairs[defined]).sum() / defined.sum() ** 2),
        positives=float(units[0, rarest]),
        negatives=float(units[1, rarest]),
        known=float(known.mean()),
        judged=len(member),
    )


def mean_auc(folds: Sequence[FoldAuc], n_folds: int) -> tuple[float, float, float]:
    """The mean AUC over folds, and the ends of its 95 % interval.

    A unit's influences are averaged over repeats before they are squared: that keeps the correlation between
    repeats, which judge the same images. DeLong's variance counts the noise of single pairs twice, which
    matters in folds of few images: the surplus is taken off, by Hanley and McNeil's (1982) formula for it.
    Ends are found on the logit scale, with Student's quantile on the units of the rarer class less the number
    of folds. Where the variance is 0 (perfect separation) or unknown, the interval is Newcombe's.

    Args:
        folds: judged so far, in order; one at least.
        n_folds: of a repeat.
    """
    count, repeats = len(folds), -(-len(folds) // n_folds)
    auc = float(np.mean([fold.auc for fold in folds]))
    total = mean_influence(folds)
    known = float(np.mean([fold.known for fold in folds]))
    surplus = _surplus(auc) * sum(fold.excess for fold in folds) / count**2 / repeats
    variance = float(np.square(total).sum()) / known - surplus if known > 0 else 0.0
    if variance <= 0 or not 0 < auc < 1:
        sums = [sum(getattr(fold, kind) for fold in folds) / repeats for kind in ("positives", "negatives")]
        low, high = newcombe_interval(auc, *sums)
        return auc, max(low, 0.0), min(high, 1.0)
    freedom = sum(min(fold.positives, fold.negatives) - 1 for fold in folds) / repeats
    reach = float(student_quantile(np.array([freedom]))[0]) * math.sqrt(variance) / (auc * (1 - auc))
    middle = math.log(auc / (1 - auc))
    return auc, 1 / (1 + math.exp(reach - middle)), 1 / (1 + math.exp(-reach - middle))


def mean_influence(folds: Sequence[FoldAuc]) -> NDArray[np.float64]:
    """Of each set of units on the mean AUC over folds, (BLOCKS,)."""
    total = np.zeros(BLOCKS)
    for fold in folds:
        total[list(fold.blocks)] += np.asarray(fold.influence) / len(folds)
    return total


def _surplus(auc: float) -> float:
    """What DeLong's variance of one positive and one negative image has too much."""
    return auc * (1 - auc) - (auc / (2 - auc) - auc**2) - (2 * auc**2 / (1 + auc) - auc**2)

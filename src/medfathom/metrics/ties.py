"""Which of several models may be the one with the highest AUC: those that the images cannot tell from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from medfathom.metrics.auc import Flags, delong
from medfathom.metrics.influences import Bools, Floats
from medfathom.metrics.intervals import Z95, student_quantile

LEVEL = 0.05
"""The chance that the model with the highest AUC of all images is left out, at most."""

DRAWS = 2_000


def may_be_best(positive: Flags, scores: Sequence[Floats], groups: ArrayLike | None = None) -> Bools:
    """Whether each model's mean AUC over classes cannot be told from the highest, (m,).

    A model is told from the highest where another one's AUC is higher by more than chance explains, all
    others looked at together: the set that is left holds the model with the highest AUC of all such images
    with probability `1 - LEVEL` (Hsu, Multiple Comparisons 1996, chapter 4, with critical values from the
    estimated covariance). Differences are paired, as the models share the images: DeLong's covariance, summed
    within groups. The critical values come from the normal distribution by simulation with a fixed seed, and
    are widened for few images by Student's quantile.

    Args:
        positive: which of the n images are of each class, (n, C), as in `metrics.auc.delong`.
        scores: of each model, (n, C).
        groups: each image's patient, (n,).
    """
    return none_told_apart(*_of_means(positive, scores, groups))


def none_told_apart(auc: Floats, influence: Floats, units: float) -> Bools:
    """The same from the AUCs (m,), the influence of each image or group on them (m, G), and the number of
    images or groups of the rarest class.
    """
    if not np.isfinite(influence).all():  # one image or group of a class: nothing tells the variance
        return np.ones(len(auc), dtype=bool)
    widened = float(student_quantile(np.array([units - 1.0]))[0]) / Z95
    least = 2.0 ** (1 - influence.shape[1])  # of a p-value, where models differ without any error
    gains = auc[None, :] - auc[:, None]
    drawn = _drawn(influence @ influence.T)
    kept = np.ones(len(auc), dtype=bool)
    for model in range(len(auc)):
        errors = np.sqrt(np.square(influence - influence[model]).sum(axis=1))
        usable = errors > 0
        if usable.any():
            chance = ((drawn[usable] - drawn[model]) / errors[usable, None]).max(axis=0)
            critical = widened * float(np.quantile(chance, 1 - LEVEL))
            kept[model] = bool((gains[model, usable] <= critical * errors[usable]).all())
        if (gains[model, ~usable] > 0).any() and least < LEVEL:
            kept[model] = False
    return kept


def _drawn(covariance: Floats) -> Floats:
    """Deviations of m models' AUCs by chance, (m, DRAWS)."""
    variances, axes = np.linalg.eigh(covariance)
    normal = np.random.default_rng(0).standard_normal((len(variances), DRAWS))
    deviations: Floats = (axes * np.sqrt(np.maximum(variances, 0.0))) @ normal
    return deviations


def _of_means(
    positive: Flags, scores: Sequence[Floats], groups: ArrayLike | None
) -> tuple[Floats, Floats, float]:
    """Mean AUC (m,), influence of each image or group on it (m, G), units of the rarest class."""
    found = [delong(positive, each, groups) for each in scores]
    defined = ~np.isnan(found[0].auc)  # of all models: they share the labels
    auc = np.array([each.auc[defined].mean() for each in found])
    influence = np.array([each.influence[defined].mean(axis=0) for each in found])
    return auc, influence, float(found[0].units[:, defined].min())

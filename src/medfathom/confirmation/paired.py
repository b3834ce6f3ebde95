"""Models compared image by image on the same test set: DeLong, and the bootstrap over patients.

Both take the images as the sample. They say whether two *fitted models* differ on images like these, not
whether their architectures do.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from medfathom.analysis.effects import Floats, Ints
from medfathom.analysis.size.multiplicity import holm
from medfathom.errors import ResultsError

BLOCK = 250
"""Resamples handled at a time: the tables of 10,000 images then stay in the processor's cache."""


@dataclass(frozen=True)
class Delong:
    """AUCs of m models on the same images and their covariance.

    Attributes:
        auc: shape (m,).
        covariance: shape (m, m).
    """

    auc: Floats
    covariance: Floats

    def compare(self, first: int, second: int) -> tuple[float, float, tuple[float, float], float]:
        """Difference (first less second), its standard error, 95 % interval, two-sided p-value."""
        difference = float(self.auc[first] - self.auc[second])
        c = self.covariance
        error = float(np.sqrt(max(c[first, first] + c[second, second] - 2 * c[first, second], 0.0)))
        reach = float(stats.norm.ppf(0.975)) * error
        p = float(2 * stats.norm.sf(abs(difference) / error)) if error > 0 else float(difference == 0)
        return difference, error, (difference - reach, difference + reach), p


def delong(labels: Ints, scores: Floats) -> Delong:
    """AUCs and their covariance (DeLong et al. 1988, by the ranks of Sun and Xu 2014).

    Args:
        labels: shape (n,), 0 or 1, both present at least twice.
        scores: shape (m, n), higher means class 1.
    """
    positive = _checked(labels, scores)
    m, n1 = int(positive.sum()), int((~positive).sum())
    over_all = np.apply_along_axis(stats.rankdata, 1, scores)
    among_positive = np.apply_along_axis(stats.rankdata, 1, scores[:, positive])
    among_negative = np.apply_along_axis(stats.rankdata, 1, scores[:, ~positive])
    of_positive = (over_all[:, positive] - among_positive) / n1
    of_negative = 1 - (over_all[:, ~positive] - among_negative) / m
    covariance = np.atleast_2d(np.cov(of_positive)) / m + np.atleast_2d(np.cov(of_negative)) / n1
    return Delong(of_positive.mean(1), covariance)


def _checked(labels: Ints, scores: Floats) -> NDArray[np.bool_]:
    if scores.ndim != 2 or scores.shape[1] != len(labels):
        raise ResultsError(f"predictions: scores of shape {scores.shape} do not fit {len(labels)} labels")
    if not np.isfinite(scores).all():
        raise ResultsError("predictions: a score is not finite")
    kinds = np.unique(labels)
    if not np.isin(kinds, [0, 1]).all():
        raise ResultsError(f"predictions: labels must be 0 or 1, but got {kinds[:5].tolist()}")
    positive: NDArray[np.bool_] = labels == 1
    if min(positive.sum(), (~positive).sum()) < 2:
        raise ResultsError("predictions: an AUC with an error needs two images of each class")
    return positive


def bootstrap_aucs(
    labels: Ints,
    scores: Floats,
    groups: Sequence[object] | None = None,
    *,
    resamples: int = 2_000,
    seed: int = 0,
    threads: int = 2,
) -> Floats:
    """AUCs of every model on the same resamples of the groups (patients), so that they can be paired.

    Args:
        labels: shape (n,), 0 or 1.
        scores: shape (m, n).
        groups: shape (n,), who an image belongs to; None: every image stands for itself.
        resamples: drawn with replacement; one without both classes is drawn again.
        seed: of the draws.
        threads: how many models are worked on at a time.

    Returns:
        Shape (m, resamples).
    """
    positive = _checked(labels, scores)
    codes = (
        np.arange(len(labels)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    )
    counts = _drawn(codes, positive, resamples, seed)
    totals = counts[positive].sum(0) * counts[~positive].sum(0)
    with ThreadPoolExecutor(threads) as pool:
        rows = list(pool.map(lambda s: _weighted_wins(s, positive, counts) / totals, scores))
    return np.array(rows)


def _drawn(codes: Ints, positive: NDArray[np.bool_], resamples: int, seed: int) -> NDArray[np.float32]:
    """How often each image is in each resample, shape (n, resamples)."""
    rng = np.random.default_rng(seed)
    n_groups = int(codes.max()) + 1
    counts = np.empty((resamples, len(codes)), dtype=np.float32)
    for row in counts:
        while True:
            row[:] = np.bincount(rng.integers(0, n_groups, n_groups), minlength=n_groups)[codes]
            if row[positive].any() and row[~positive].any():
                break
    return np.ascontiguousarray(counts.T)


def _weighted_wins(scores: Floats, positive: NDArray[np.bool_], counts: NDArray[np.float32]) -> Floats:
    """For each resample: pairs (positive, negative) in the right order, ties one half."""
    up, down = np.flatnonzero(positive), np.flatnonzero(~positive)
    down = down[np.argsort(scores[down], kind="stable")]
    low = np.searchsorted(scores[down], scores[up], side="left")
    high = np.searchsorted(scores[down], scores[up], side="right")
    tied = bool((high > low).any())
    wins = np.empty(counts.shape[1])
    for start in range(0, counts.shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        below = np.zeros((len(down) + 1, min(BLOCK, counts.shape[1] - start)), dtype=np.float32)
        np.cumsum(counts[down, block], axis=0, out=below[1:])
        beaten = (below[low] + below[high]) / 2 if tied else below[low]
        wins[block] = np.einsum("ij,ij->j", counts[up, block], beaten, dtype=np.float64)
    return wins


def compare_models(
    labels: Ints,
    scores: dict[str, Floats],
    groups: Sequence[object] | None = None,
    *,
    resamples: int = 2_000,
    seed: int = 0,
) -> dict[str, Any]:
    """All pairs of models on the same images: DeLong where images are independent, bootstrap over groups
    always.

    Args:
        labels: shape (n,), 0 or 1 (one class against the rest, where there are several).
        scores: model -> shape (n,), at least one model.
        groups: shape (n,), patients; DeLong, which takes images as independent, is left out where these
            repeat.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    names = sorted(scores)
    table = np.array([scores[name] for name in names], dtype=float)
    found = delong(labels, table)
    samples = bootstrap_aucs(labels, table, groups, resamples=resamples, seed=seed)
    independent = groups is None or len(set(groups)) == len(labels)
    pairs = []
    for first, second in combinations(range(len(names)), 2):
        difference, _, interval, p = found.compare(first, second)
        change = samples[first] - samples[second]
        pairs.append(
            {
                "models": [names[first], names[second]],
                "difference": difference,
                "delong_ci95": list(interval) if independent else [None, None],
                "delong_p": p if independent else None,
                "bootstrap_ci95": np.quantile(change, [0.025, 0.975]).tolist(),
                "bootstrap_p": bootstrap_p(change),
            }
        )
    for key in ("delong_p", "bootstrap_p"):
        known = [pair for pair in pairs if pair[key] is not None]
        for pair, adjusted in zip(known, holm([pair[key] for pair in known]), strict=True):
            pair[f"{key}_holm"] = adjusted
    models = {
        name: {"auc": float(found.auc[i]), "ci95": np.quantile(samples[i], [0.025, 0.975]).tolist()}
        for i, name in enumerate(names)
    }
    return {"models": models, "pairs": pairs, "n_images": len(labels), "groups": not independent}


def bootstrap_p(differences: Floats) -> float:
    """Two-sided p-value of "no difference": twice the share of resamples on the far side of 0, never 0."""
    count = len(differences)
    side = min(np.sum(differences <= 0), np.sum(differences >= 0))
    return float(min(1.0, 2 * (side + 1) / (count + 1)))

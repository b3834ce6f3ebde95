"""Cross-validations on scores whose true AUCs are known: for tests, and for benchmarks/folds.py."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from medfathom.data.folds import draw_folds
from medfathom.definitions.dataset import SplitsConfig
from medfathom.metrics.cross_validated import fold_auc, mean_auc

NORMAL = NormalDist()


@dataclass(frozen=True)
class Coverage:
    """Of the mean of the networks' true AUCs, by the intervals of many cross-validations."""

    held: float
    width: float


def simulate(
    n: int, *, share: float, auc: float, folds: int, repeats: int, draws: int, seed: int, alike: float = 0.8
) -> Coverage:
    """Draw cross-validations of n images.

    Args:
        n: images outside the test split.
        share: of them that are positive.
        auc: of a typical network; that of each fold's is drawn around it (sd 0.1 of the distance between the
            classes' means).
        folds, repeats: of the cross-validation.
        draws: cross-validations.
        seed: of all.
        alike: correlation of an image's scores by two repeats' networks.
    """
    random = np.random.default_rng(seed)
    labels = np.arange(n) < round(n * share)
    held, widths = 0, []
    distance = 2**0.5 * NORMAL.inv_cdf(auc)
    for _ in range(draws):
        config = SplitsConfig(folds=folds, repeats=repeats, seed=int(random.integers(2**31)))
        fold = draw_folds(labels.astype(np.int64), None, config)
        common = random.normal(size=n)
        found, true = [], []
        for repeat in range(repeats):
            scores = alike**0.5 * common + (1 - alike) ** 0.5 * random.normal(size=n)
            for number in range(folds):
                own = distance + 0.1 * random.normal()
                true.append(NORMAL.cdf(own / 2**0.5))
                rows = np.flatnonzero(fold[repeat] == number)
                found.append(fold_auc(labels[rows], scores[rows] + own * labels[rows], rows))
        _, low, high = mean_auc(found, folds)
        held += low <= np.mean(true) <= high
        widths.append(high - low)
    return Coverage(held / draws, float(np.mean(widths)))

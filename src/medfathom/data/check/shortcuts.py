"""Shortcut tests: can something irrelevant to the disease predict the label?

A random forest sees only the outermost pixels, or only the file's size and the image's shape, and is scored
on images of other folds (and other patients). Only training and validation images are used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfathom.data.images import Pixels
from medfathom.data.splits import Groups, Labels, strata_of
from medfathom.metrics.auc import delong_interval, roc_auc_score
from medfathom.metrics.unknown import is_present

MOST_IMAGES = 4000
"""If there are more images, so many are drawn at random: the interval is narrow enough."""

FEWEST_PER_CLASS = 5
"""With fewer images of a class the test says nothing."""

FOLDS = 5
TREES = 100

SEGMENTS = 8
"""Each side of the border is cut into this many."""


@dataclass(frozen=True)
class Shortcut:
    """How well something irrelevant predicts the label.

    Attributes:
        predictor: what the forest sees.
        auc: cross-validated, mean over classes, in [0, 1]; 0.5 is chance.
        ci_low, ci_high: 95 % interval of the AUC.
        n_images: images used.
    """

    predictor: str
    auc: float
    ci_low: float
    ci_high: float
    n_images: int


def border_features(images: Iterable[Pixels]) -> NDArray[np.float64]:
    """Means of segments of each image's outermost pixels (1/16 of the side), (n, 4 * SEGMENTS * channels)."""
    return np.stack([_border(image) for image in images])


def _border(image: Pixels) -> NDArray[np.float64]:
    width = max(1, image.shape[0] // 16)
    sides = (image[:width], image[-width:], image[:, :width].swapaxes(0, 1), image[:, -width:].swapaxes(0, 1))
    means = [part.mean(axis=(0, 1)) for side in sides for part in np.array_split(side, SEGMENTS, axis=1)]
    return np.concatenate(means)


def shortcut_auc(
    predictor: str, features: NDArray[Any], labels: Labels, groups: Groups, seed: int
) -> Shortcut | None:
    """Cross-validated AUC of a predictor, with its 95 % interval (DeLong, clustered by group).

    Args:
        predictor: what to call it.
        features: (n, m).
        labels: of the same images.
        groups: of the same images; no group is in two folds.
        seed: of the draw, the folds and the forest.

    Returns:
        None where the test says nothing: the features are constant, or a class has too few images, or there
        are too few groups.
    """
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415
    from sklearn.model_selection import StratifiedGroupKFold  # noqa: PLC0415

    rows = np.random.default_rng(seed).permutation(len(labels))[:MOST_IMAGES]
    features, labels = features[rows], labels[rows]
    members = rows if groups is None else groups[rows]
    strata = strata_of(labels)
    counts = np.bincount(strata)
    if counts[counts > 0].min() < FEWEST_PER_CLASS or len(np.unique(members)) < FOLDS:
        return None
    if np.ptp(features, axis=0).max() == 0:
        return None
    flags = _columns(labels)
    # A forest cannot leave a label of an image out; the AUC does.
    positive = is_present(flags).astype(np.int64)
    scores = np.full(positive.shape, np.nan)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for train, held in folds.split(features, strata, members):
        forest = RandomForestClassifier(TREES, min_samples_leaf=5, random_state=seed)
        # scikit-learn expects one column as a vector.
        forest.fit(features[train], positive[train, 0] if positive.shape[1] == 1 else positive[train])
        scores[held] = _probabilities(forest.predict_proba(features[held]), len(held))
    auc = roc_auc_score(flags, scores)
    interval = delong_interval(flags, scores, None if groups is None else members)
    return Shortcut(predictor, float(np.nanmean(auc)), interval.mean_low, interval.mean_high, len(rows))


def _columns(labels: Labels) -> NDArray[np.int64]:
    """One column of 0, 1 and `UNKNOWN` for each class (the second alone, of two)."""
    if labels.ndim == 2:
        return labels.astype(np.int64)
    classes = np.unique(labels)
    columns: NDArray[np.int64] = (labels[:, None] == classes).astype(np.int64)
    return columns[:, 1:] if len(classes) == 2 else columns


def _probabilities(found: Any, n: int) -> NDArray[np.float64]:
    """The forest's probability of each column's 1, (n, columns); 0 where a fold was trained without any 1."""
    parts = found if isinstance(found, list) else [found]
    return np.stack([part[:, 1] if part.shape[1] == 2 else np.zeros(n) for part in parts], axis=1)

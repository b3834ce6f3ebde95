"""Draw training, validation and test splits, and nested parts of the training split.

All images of a group (patient, slide) go to the same split. Strata are the classes; for multilabel tasks an
image's stratum is its rarest label.
"""

from __future__ import annotations

import warnings
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfathom.definitions.dataset import SplitsConfig
from medfathom.errors import DataError
from medfathom.metrics.unknown import is_present

# scikit-learn is imported where it draws: training reads this module too, and a worker need not pay for it.
# ruff: noqa: PLC0415

Labels = NDArray[Any]
"""int64 (n,) or uint8 (n, K)."""

Groups = NDArray[Any] | None

MAX_FOLDS = 20
"""Grouped splits are drawn as folds: a fraction is approximated by k of at most 20 equal parts."""


def complete_splits(
    given: NDArray[np.str_], labels: Labels, groups: Groups, config: SplitsConfig
) -> NDArray[np.str_]:
    """Draw the splits that the source does not give.

    Args:
        given: `train`, `val`, `test`, or "" where the source does not say, (n,).
        labels: of all images.
        groups: of all images, or None.
        config: the `[dataset.splits]` table.

    Returns:
        A split for every image.

    Raises:
        DataError: there are too few groups, or images of a class, to divide.
    """
    splits = given.astype("<U5")
    if config.given == "ignore":
        splits[:] = ""
    elif config.given == "redraw-val":
        splits[splits == "val"] = "train"
    for split, fraction in _missing(splits, config):
        pool = np.flatnonzero((splits == "train") | (splits == ""))
        chosen = _draw(labels[pool], None if groups is None else groups[pool], fraction, split, config)
        splits[pool[chosen]] = split
    splits[splits == ""] = "train"
    return splits


def _missing(splits: NDArray[np.str_], config: SplitsConfig) -> list[tuple[str, float]]:
    """Splits to draw, in order, each with its fraction of the images then left."""
    test = [] if (splits == "test").any() else [("test", config.test_fraction)]
    val = [] if (splits == "val").any() else [("val", config.val_fraction)]
    if test and val:
        return [*test, ("val", config.val_fraction / (1.0 - config.test_fraction))]
    return [*test, *val]


def _draw(
    labels: Labels, groups: Groups, fraction: float, split: str, config: SplitsConfig
) -> NDArray[np.int64]:
    """Positions of about `fraction` of the images: whole groups, stratified."""
    strata = strata_of(labels)
    if groups is not None and config.grouped:
        return _draw_groups(strata, groups, fraction, split, config.seed)
    if labels.ndim == 2:
        # A stratum of one image cannot be divided: that image joins the largest stratum.
        counts = np.bincount(strata)
        strata = np.where(counts[strata] < 2, counts.argmax(), strata)
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(strata))
    try:
        n_chosen = max(1, round(fraction * len(rows)))
        _, chosen = train_test_split(rows, test_size=n_chosen, stratify=strata, random_state=config.seed)
    except ValueError as error:
        raise DataError(f"dataset.splits: the {split} split cannot be drawn: {error}") from None
    return np.sort(chosen)


def _draw_groups(
    strata: NDArray[np.int64], groups: NDArray[Any], fraction: float, split: str, seed: int
) -> NDArray[np.int64]:
    n_groups = len(np.unique(groups))
    if n_groups < 3:
        raise DataError(
            f"dataset.splits: the {split} split cannot be drawn: there are {n_groups} groups, "
            "and no group may be in two splits"
        )
    counts = np.bincount(strata)
    share = Fraction(fraction).limit_denominator(max(2, min(MAX_FOLDS, n_groups, int(counts.max()))))
    share = share if 0 < share < 1 else Fraction(1, max(2, min(MAX_FOLDS, n_groups)))
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(share.denominator, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Classes with fewer images than folds: preparation checks that every class is where it must be.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        parts = [held for _, held in folds.split(np.zeros(len(strata)), strata, groups)]
    return np.sort(np.concatenate(parts[: share.numerator]))


def strata_of(labels: Labels) -> NDArray[np.int64]:
    """The stratum of each image: its class; for several labels its rarest one, or K where it has none."""
    if labels.ndim == 1:
        return labels.astype(np.int64)
    present = is_present(labels)
    cost = np.where(present, present.sum(axis=0), np.iinfo(np.int64).max)
    rarest = cost.argmin(axis=1)
    strata: NDArray[np.int64] = np.where(present.any(axis=1), rarest, labels.shape[1]).astype(np.int64)
    return strata


def training_subset(labels: Labels, groups: Groups, fraction: float, seed: int) -> NDArray[np.int64]:
    """The rows of the training split that a trial with this `train_fraction` trains on.

    Nested: with the same seed, the rows of a smaller fraction are among those of a larger one. Stratified:
    of each stratum (see `strata_of`) that fraction of the images is kept, to within half a group. Grouped:
    all images of a patient or none. Every class keeps at least one image, so a very small fraction can keep
    more images than it says.

    Args:
        labels: of the training images.
        groups: of the training images, or None.
        fraction: in (0, 1]; 1 keeps all.
        seed: the same seed gives the same rows.

    Returns:
        Row numbers, sorted.

    Raises:
        ValueError: the fraction is outside (0, 1].
    """
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"`0 < fraction <= 1` must hold, but got fraction={fraction}")
    if fraction == 1.0:
        return np.arange(len(labels), dtype=np.int64)
    names = np.arange(len(labels)) if groups is None else groups
    _, member = np.unique(names, return_inverse=True)
    sizes = np.bincount(member)
    stratum = _group_strata(strata_of(labels), member)
    order = np.random.default_rng(seed).permutation(len(sizes))
    kept = np.zeros(len(sizes), dtype=bool)
    for value in np.unique(stratum):
        of_stratum = order[stratum[order] == value]
        # A group is kept when its middle image lies within the fraction: that is closest to it, and nested.
        middle = np.cumsum(sizes[of_stratum]) - sizes[of_stratum] / 2
        kept[of_stratum[middle <= fraction * sizes[of_stratum].sum()]] = True
    kept[_covering(labels, member, order)] = True
    return np.flatnonzero(kept[member]).astype(np.int64)


def _group_strata(strata: NDArray[np.int64], member: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each group's stratum: the rarest among its images'."""
    rank = np.argsort(np.argsort(np.bincount(strata), kind="stable"), kind="stable")
    by_rank = np.argsort(rank)
    least = np.full(member.max() + 1, len(rank), dtype=np.int64)
    np.minimum.at(least, member, rank[strata])
    return by_rank[least]


def _covering(labels: Labels, member: NDArray[np.int64], order: NDArray[np.int64]) -> list[int]:
    """For each class the first group in the order that has it: kept at any fraction."""
    position = np.argsort(order)[member]
    columns = is_present(labels).T if labels.ndim == 2 else labels == np.unique(labels)[:, None]
    return [int(order[position[has].min()]) for has in columns if has.any()]

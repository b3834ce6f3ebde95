"""Draw training, validation and test splits, and nested parts of the training split.

All images of a group (patient, slide) go to the same split. Strata are the classes; for multilabel tasks an
image's stratum is its rarest label. A first draw divides the strata; then `covering` changes it where a split
lacks a class or is far from its fraction.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfathom.data.covering import SECONDS, NoDivisionError, cover
from medfathom.definitions.dataset import SplitsConfig
from medfathom.errors import DataError
from medfathom.metrics.unknown import is_present
from medfathom.text import number_of

# scikit-learn is imported where it draws: training reads this module too, and a worker need not pay for it.
# ruff: noqa: PLC0415

Labels = NDArray[Any]
"""int64 (n,) or uint8 (n, K)."""

Groups = NDArray[Any] | None

Splits = NDArray[np.str_]
"""`train`, `val` or `test` for each image, (n,); "" where the source does not say."""

MAX_FOLDS = 20
"""Grouped splits are drawn as folds: a fraction is approximated by k of at most 20 equal parts."""

SHOWN_CLASSES = 8
"""Classes that an error's line names, at most: those with the fewest groups."""


def complete_splits(
    given: Splits,
    labels: Labels,
    groups: Groups,
    config: SplitsConfig,
    class_names: Sequence[str] | None = None,
) -> Splits:
    """Draw the splits that the source does not give: every class is in each of them.

    Args:
        given: what the source says.
        labels: of all images.
        groups: of all images, or None.
        config: the `[dataset.splits]` table.
        class_names: for errors; the class indices where they are not given.

    Returns:
        A split for every image.

    Raises:
        DataError: the groups cannot be divided so that every split has every class.
    """
    known = _known(given, config)
    splits = known.copy()
    units = groups if config.grouped else None
    for split, fraction in _missing(known, config):
        pool = np.flatnonzero((splits == "train") | (splits == ""))
        if not len(pool):  # one group took them all
            break
        if units is None:
            chosen = _draw_images(labels[pool], fraction, config.seed)
        else:
            chosen = _draw_groups(strata_of(labels[pool]), units[pool], fraction, config.seed)
        splits[pool[chosen]] = split
    splits[splits == ""] = "train"
    return settled_splits(splits, given, labels, units, config, class_names)


def settled_splits(
    splits: Splits,
    given: Splits,
    labels: Labels,
    units: Groups,
    config: SplitsConfig,
    class_names: Sequence[str] | None = None,
) -> Splits:
    """Drawn splits in which every unit is whole and every class is in each; changed only where they must be.

    Args:
        splits: as drawn, of all images.
        given: what the source says. What it gives stays as it is.
        labels: of all images.
        units: images with the same text here go to the same split; None: each on its own.
        config: the `[dataset.splits]` table.
        class_names: see `complete_splits`.

    Raises:
        DataError: the units cannot be divided so that every split has every class.
    """
    known = _known(given, config)
    missing = [split for split, _ in _missing(known, config)]
    pool = np.flatnonzero((known == "train") | (known == ""))
    if not missing or not len(pool):
        return splits
    names = np.array(["train", *missing])
    unit = np.arange(len(pool))
    if units is not None:
        _, unit = np.unique(units[pool], return_inverse=True)
    counts = counts_of(labels[pool], unit)
    asked = [getattr(config, f"{split}_fraction") for split in missing]
    start = _majority(splits[pool], unit, names)
    try:
        division = cover(counts, start, np.array([1.0 - sum(asked), *asked]))
    except NoDivisionError as error:
        noun = "image" if units is None else "group"
        raise DataError(_why_none(error, counts, names, noun, labels, class_names)) from None
    settled = splits.copy()
    settled[pool] = names[division[unit]]
    return settled


def given_splits(given: Splits, config: SplitsConfig) -> list[str]:
    """The splits that the source gives and that stay, sorted; the others are drawn."""
    return sorted(set(_known(given, config).tolist()) - {""})


def _known(given: Splits, config: SplitsConfig) -> Splits:
    """The given splits that stay."""
    splits = given.astype("<U5")
    if config.given == "ignore":
        splits[:] = ""
    elif config.given == "redraw-val":
        splits[splits == "val"] = "train"
    return splits


def _missing(splits: Splits, config: SplitsConfig) -> list[tuple[str, float]]:
    """Splits to draw, in order, each with its fraction of the images then left."""
    test = [] if (splits == "test").any() else [("test", config.test_fraction)]
    val = [] if (splits == "val").any() else [("val", config.val_fraction)]
    if test and val:
        return [*test, ("val", config.val_fraction / (1.0 - config.test_fraction))]
    return [*test, *val]


def counts_of(labels: Labels, unit: NDArray[np.int64]) -> NDArray[np.int64]:
    """Images of each class in each unit, (units, C); of K labels images with each and without each, (., 2K).

    The only place that says what a split must have some of.
    """
    if labels.ndim == 1:
        columns = labels[:, None] == np.arange(labels.max() + 1)
    else:
        columns = np.concatenate([labels == 1, labels == 0], axis=1)
    counts = np.zeros((unit.max() + 1, columns.shape[1]), dtype=np.int64)
    np.add.at(counts, unit, columns)
    return counts


def _majority(splits: Splits, unit: NDArray[np.int64], names: NDArray[np.str_]) -> NDArray[np.int64]:
    """For each unit the split that has most of its images, as a number of `names`."""
    votes = np.zeros((unit.max() + 1, len(names)), dtype=np.int64)
    np.add.at(votes, unit, splits[:, None] == names)
    most: NDArray[np.int64] = votes.argmax(axis=1)
    return most


def _why_none(
    error: NoDivisionError,
    counts: NDArray[np.int64],
    names: NDArray[np.str_],
    noun: str,
    labels: Labels,
    class_names: Sequence[str] | None,
) -> str:
    """One line: which class has how many groups."""
    wanted, n_units = len(names), len(counts)
    drawn = ", ".join(split for split in ("train", "val", "test") if split in names)
    where = f"dataset.splits: {drawn} cannot be drawn"
    if n_units < wanted:
        return f"{where}: {number_of(n_units, noun)} in all, and each split needs one"
    rarest = rarest_classes(counts, labels, class_names)
    few = [(name, having) for name, having in rarest if having < wanted]
    shown = ", ".join(f"{name} has {having}" for name, having in (few or rarest)[:SHOWN_CLASSES])
    if few:
        to_do = "add some, leave the class out, or give the splits yourself"
        return (
            f"{where}: every class needs {number_of(wanted, noun)}, one for each split, but {shown}; {to_do}"
        )
    found = "there is no way" if error.proven else f"no division was found in {SECONDS:.0f} s"
    return f"{where}: {found} to put every class into every split in whole {noun}s; of the rarest, {shown}"


def rarest_classes(
    counts: NDArray[np.int64], labels: Labels, class_names: Sequence[str] | None
) -> list[tuple[str, int]]:
    """How an error names each column of `counts_of`, and how many groups have it, the fewest first."""
    n_classes = counts.shape[1] // (2 if labels.ndim == 2 else 1)
    own = [repr(name) for name in class_names or map(str, range(n_classes))]
    names = [*(f"class {name}" for name in own), *(f"the rest without {name}" for name in own)]
    n_having = (counts > 0).sum(axis=0)
    order = np.argsort(n_having, kind="stable").tolist()
    return [(names[column], int(n_having[column])) for column in order if n_having[column]]


def _draw_images(labels: Labels, fraction: float, seed: int) -> NDArray[np.int64]:
    """Positions of about `fraction` of the images, stratified; none where scikit-learn cannot draw any."""
    strata = strata_of(labels)
    if labels.ndim == 2:
        # A stratum of one image cannot be divided: that image joins the largest stratum.
        counts = np.bincount(strata)
        strata = np.where(counts[strata] < 2, counts.argmax(), strata)
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(strata))
    try:
        n_chosen = max(1, round(fraction * len(rows)))
        _, chosen = train_test_split(rows, test_size=n_chosen, stratify=strata, random_state=seed)
    except ValueError:  # too few images: moves alone draw them
        return rows[:0]
    return np.sort(chosen)


def _draw_groups(
    strata: NDArray[np.int64], groups: NDArray[Any], fraction: float, seed: int
) -> NDArray[np.int64]:
    """Positions of about `fraction` of the images, in whole groups, stratified."""
    _, member = np.unique(groups, return_inverse=True)
    n_groups = int(member.max()) + 1
    _, stratum = np.unique(strata, return_inverse=True)
    counts = np.zeros((n_groups, stratum.max() + 1))
    np.add.at(counts, (member, stratum), 1)
    n_most = int(counts.sum(axis=0).max())
    share = Fraction(fraction).limit_denominator(max(2, min(MAX_FOLDS, n_groups, n_most)))
    share = share if 0 < share < 1 else Fraction(1, max(2, min(MAX_FOLDS, n_groups)))
    fold = assign_folds(counts, share.denominator, seed)
    return np.flatnonzero(fold[member] < share.numerator)


def assign_folds(counts: NDArray[Any], n_folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each group, (groups,): the same as scikit-learn's StratifiedGroupKFold gives, but faster.

    Each group goes to the fold where the strata's shares then vary least between folds; of equals to the one
    with the fewest images. Groups whose images are most unlike go first.

    Args:
        counts: images of each stratum in each group, (groups, strata).
        n_folds: two or more.
        seed: of the order of equal groups.
    """
    order = np.arange(len(counts))
    np.random.RandomState(seed).shuffle(order)
    order = order[np.argsort(-np.std(counts[order], axis=1), kind="stable")]
    totals = counts.sum(axis=0)
    held = np.zeros((n_folds, counts.shape[1]))
    own = np.arange(n_folds)
    fold = np.zeros(len(counts), dtype=np.int64)
    for group in order.tolist():
        tried = np.repeat(held[None], n_folds, axis=0)
        tried[own, own] += counts[group]
        uneven = np.std(tried / totals, axis=1).mean(axis=1).tolist()
        fold[group] = _least(uneven, held.sum(axis=1).tolist())
        held[fold[group]] += counts[group]
    return fold


def _least(uneven: Sequence[float], n_images: Sequence[float]) -> int:
    """The first fold with the least unevenness; of nearly equal ones that with the fewest images."""
    best = 0
    for fold in range(1, len(uneven)):
        difference = uneven[fold] - uneven[best]
        equal = abs(difference) <= 1e-8 + 1e-5 * uneven[best]
        if difference < 0 or (equal and n_images[fold] < n_images[best]):
            best = fold
    return best


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

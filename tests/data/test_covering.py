"""Drawn splits have every class wherever that is possible: compared with all divisions of small sets."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from medfathom.data.covering import TOLERANCE, NoDivisionError, cover
from medfathom.data.splits import assign_folds, complete_splits, counts_of
from medfathom.definitions.dataset import SplitsConfig
from medfathom.errors import DataError

FRACTIONS = np.array([0.7, 0.15, 0.15])


def covers(counts: NDArray[np.int64], division: NDArray[np.int64], n_splits: int) -> bool:
    """Whether every split has images of every column that has any."""
    there = counts.sum(axis=0) > 0
    return all((counts[division == split].sum(axis=0) > 0)[there].all() for split in range(n_splits)) and set(
        division.tolist()
    ) == set(range(n_splits))


tables = (
    st.integers(2, 7)
    .flatmap(lambda n: st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=n, max_size=n))
    .filter(lambda rows: all(any(row) for row in rows))
)


@settings(max_examples=300, deadline=None)
@given(tables, st.integers(2, 3), st.integers(0, 5))
# Six groups, each class in three of them: single moves alone do not find the one way.
@example([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0]], 3, 0)
def test_a_division_is_found_exactly_where_there_is_one(
    rows: list[list[int]], n_splits: int, seed: int
) -> None:
    counts = np.array(rows)
    every = product(range(n_splits), repeat=len(rows))
    possible = any(covers(counts, np.array(division), n_splits) for division in every)
    start = np.random.default_rng(seed).integers(0, n_splits, len(rows))
    fractions = np.array([0.7, 0.3] if n_splits == 2 else FRACTIONS)
    if possible:
        assert covers(counts, cover(counts, start, fractions), n_splits)
    else:
        with pytest.raises(NoDivisionError) as raised:
            cover(counts, start, fractions)
        assert raised.value.proven


def groups_of(per_class: list[int], images: int = 2) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Labels and groups: each class has so many groups of its own, each group so many images."""
    label_of = np.repeat(np.arange(len(per_class)), per_class)
    groups = np.arange(len(label_of)).astype(str)
    return np.repeat(label_of, images), np.repeat(groups, images)


@pytest.mark.parametrize("per_class", [[5] * 7, [10] * 4, [200, 4], [3, 3], [3, 40, 400]])
def test_few_groups_of_a_class_are_divided_for_every_seed(per_class: list[int]) -> None:
    labels, groups = groups_of(per_class)
    for seed in range(20):
        splits = complete_splits(np.repeat("", len(labels)), labels, groups, SplitsConfig(seed=seed))
        for split, fraction in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
            counts = np.bincount(labels[splits == split], minlength=len(per_class))
            assert (counts > 0).all()
            # 2 %, or half of a class where it has few groups.
            for count, n_groups in zip(counts / (2 * np.array(per_class)), per_class, strict=True):
                nearest = max(1.0, n_groups * fraction) / n_groups
                assert abs(count - nearest) <= max(TOLERANCE, 1.1 / n_groups)
        assert all(len(set(splits[groups == group])) == 1 for group in np.unique(groups))


def chest_xrays(n_groups: int, n: int) -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    """Fourteen labels of patients, as frequent as in NIH ChestX-ray14 (Wang et al., CVPR 2017)."""
    shares = [0.10, 0.025, 0.12, 0.18, 0.05, 0.056, 0.013, 0.047, 0.042, 0.02, 0.022, 0.015, 0.03, 0.002]
    random = np.random.default_rng(0)
    member = np.concatenate([np.arange(n_groups), random.integers(0, n_groups, n - n_groups)])
    tends = random.random((n_groups, len(shares))) < shares
    return (tends[member] & (random.random((n, len(shares))) < 0.5)).astype(np.uint8), member.astype(str)


@pytest.mark.large
def test_a_large_set_of_several_labels_takes_seconds() -> None:
    labels, groups = chest_xrays(30_805, 112_120)
    started = time.perf_counter()
    splits = complete_splits(np.repeat("", len(labels)), labels, groups, SplitsConfig())
    assert time.perf_counter() - started < 60  # 4 s on an idle machine
    for split, fraction in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        shares = labels[splits == split].sum(axis=0) / labels.sum(axis=0)
        assert np.abs(shares - fraction).max() <= TOLERANCE
        assert abs((splits == split).mean() - fraction) <= TOLERANCE


def test_rare_labels_are_in_every_split() -> None:
    labels, groups = chest_xrays(5000, 12000)
    for seed in range(4):
        splits = complete_splits(np.repeat("", len(labels)), labels, groups, SplitsConfig(seed=seed))
        for split in ("train", "val", "test"):
            assert labels[splits == split].any(axis=0).all()


def test_validation_alone_is_drawn_with_every_class() -> None:
    labels, groups = groups_of([30, 2, 3])
    given_splits = np.full(len(labels), "", dtype="<U5")
    given_splits[[0, 1, 60, 61, 64, 65]] = "test"
    with pytest.raises(DataError, match=r"train, val cannot be drawn: .* class '1' has 1;"):
        complete_splits(given_splits, labels, groups, SplitsConfig())
    given_splits[[60, 61]] = ""
    for seed in range(10):
        splits = complete_splits(given_splits, labels, groups, SplitsConfig(seed=seed))
        assert np.array_equal(splits == "test", given_splits == "test")
        assert all(set(labels[splits == split]) == {0, 1, 2} for split in ("train", "val"))


@pytest.mark.parametrize(
    ("labels", "groups", "said"),
    [
        (
            [0] * 8 + [1] * 2,
            None,
            "train, val, test cannot be drawn: every class needs 3 images, one for each split, but class "
            "'ill' has 2; add some, leave the class out, or give the splits yourself",
        ),
        ([0, 1] * 4, list("aabbaabb"), "2 groups in all, and each split needs one"),
        (
            [0, 1] * 4,
            list("aabbccdd"),
            None,
        ),
        (
            [0, 0, 0, 1, 1, 1, 2, 2, 2],
            list("abcabdacd"),
            "there is no way to put every class into every split in whole groups; of the rarest, class "
            "'well' has 3, class 'ill' has 3, class 'both' has 3",
        ),
    ],
)
def test_what_cannot_be_divided_is_named_with_its_groups(
    labels: list[int], groups: list[str] | None, said: str | None
) -> None:
    def draw() -> NDArray[np.str_]:
        return complete_splits(
            np.repeat("", len(labels)),
            np.array(labels),
            None if groups is None else np.array(groups),
            SplitsConfig(),
            ["well", "ill", "both"],
        )

    if said is None:
        assert set(draw()) == {"train", "val", "test"}
    else:
        with pytest.raises(DataError) as raised:
            draw()
        assert str(raised.value).startswith("dataset.splits: ")
        assert said in str(raised.value)


def test_images_without_a_label_are_named_too() -> None:
    labels = np.array([[1, 0], [1, 1], [1, 1], [1, 0], [1, 1], [0, 0], [0, 1]], dtype=np.uint8)
    with pytest.raises(DataError, match="the rest without 'a' has 2;"):
        complete_splits(np.repeat("", len(labels)), labels, None, SplitsConfig(), ["a", "b"])


@pytest.mark.filterwarnings("ignore:The least populated class:UserWarning")
@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_the_first_draw_is_that_of_scikit_learn(seed: int) -> None:
    """Sets that earlier versions divided are divided the same."""
    random = np.random.default_rng(seed)
    n, n_folds = int(random.integers(40, 300)), int(random.integers(2, 9))
    groups = random.integers(0, n // random.integers(1, 6) + 8, n)
    _, member = np.unique(groups, return_inverse=True)
    _, stratum = np.unique(random.integers(0, 4, n), return_inverse=True)
    counts = counts_of(stratum, member).astype(float)
    reference = np.zeros(n, dtype=int)
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    for fold, (_, held) in enumerate(folds.split(np.zeros(n), stratum, groups)):
        reference[held] = fold
    assert np.array_equal(assign_folds(counts, n_folds, seed)[member], reference)


def test_a_division_that_is_near_the_fractions_stays() -> None:
    labels, groups = groups_of([40, 60])
    config = SplitsConfig()
    splits = complete_splits(np.repeat("", len(labels)), labels, groups, config)
    _, unit = np.unique(groups, return_inverse=True)
    start = np.zeros(len(np.unique(groups)), dtype=np.int64)
    start[unit] = np.array([("train", "test", "val").index(split) for split in splits])
    assert np.array_equal(cover(counts_of(labels, unit), start, FRACTIONS), start)

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data_strategies import Labelled, labelled
from medfathom.data.splits import complete_splits, strata_of, training_subset
from medfathom.definitions.dataset import SplitsConfig
from medfathom.errors import DataError

NONE = np.array([""])


def drawn(data: Labelled, config: SplitsConfig, given_splits: np.ndarray | None = None) -> np.ndarray:
    start = np.repeat(NONE, len(data.labels)) if given_splits is None else given_splits
    try:
        return complete_splits(start, data.labels, data.groups, config)
    except DataError:
        assume(False)
        raise


fractions = st.sampled_from([0.1, 0.15, 0.2, 0.3])


@settings(max_examples=25, deadline=None)
@given(labelled(), fractions, fractions, st.integers(0, 99))
def test_everyone_is_in_one_split_and_no_group_in_two(
    data: Labelled, val: float, test: float, seed: int
) -> None:
    config = SplitsConfig(val_fraction=val, test_fraction=test, seed=seed)
    splits = drawn(data, config)
    assert set(splits) == {"train", "val", "test"}
    assert np.array_equal(splits, drawn(data, config))
    if data.groups is not None:
        for group in np.unique(data.groups):
            assert len(set(splits[data.groups == group])) == 1


@settings(max_examples=40, deadline=None)
@given(labelled(grouped=False), fractions, fractions)
def test_ungrouped_splits_have_the_fractions_and_the_classes(data: Labelled, val: float, test: float) -> None:
    splits = drawn(data, SplitsConfig(val_fraction=val, test_fraction=test))
    n = len(splits)
    assert abs((splits == "val").sum() - val * n) <= 2
    assert abs((splits == "test").sum() - test * n) <= 2
    if data.labels.ndim == 1:
        for name, fraction in (("val", val), ("test", test)):
            for value in np.unique(data.labels):
                of_class = data.labels == value
                assert abs((of_class & (splits == name)).sum() - fraction * of_class.sum()) <= 2


@settings(max_examples=15, deadline=None)
@given(labelled(grouped=True), fractions)
def test_grouped_splits_come_near_the_fractions(data: Labelled, val: float) -> None:
    assume(data.groups is not None)
    splits = drawn(data, SplitsConfig(val_fraction=val, test_fraction=0.2))
    _, sizes = np.unique(data.groups, return_counts=True)
    assert abs((splits == "val").mean() - val) < 0.1 + 2 * sizes.max() / len(splits)


def test_given_splits_stay_and_what_is_missing_comes_from_training() -> None:
    labels = np.tile([0, 1], 100)
    start = np.repeat(["train", "test"], 100)
    splits = complete_splits(start, labels, None, SplitsConfig(val_fraction=0.2))
    assert (splits[100:] == "test").all()
    assert (splits[:100] == "val").sum() == 20
    assert (splits[:100] == "train").sum() == 80


def test_redrawn_validation_takes_the_old_one_back_and_leaves_the_test_alone() -> None:
    labels = np.tile([0, 1], 100)
    start = np.repeat(["train", "val", "test"], [150, 2, 48])
    splits = complete_splits(start, labels, None, SplitsConfig(given="redraw-val", val_fraction=0.25))
    assert np.array_equal(splits == "test", start == "test")
    assert (splits == "val").sum() == 38


def test_ignored_splits_are_drawn_anew() -> None:
    start = np.repeat(["train", "val", "test"], [10, 80, 110])
    splits = complete_splits(start, np.tile([0, 1], 100), None, SplitsConfig(given="ignore"))
    assert [(splits == name).sum() for name in ("train", "val", "test")] == [140, 30, 30]


def test_other_seeds_draw_others() -> None:
    labels, start = np.tile([0, 1], 100), np.repeat(NONE, 200)
    first, second = (complete_splits(start, labels, None, SplitsConfig(seed=seed)) for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_ungrouped_on_demand() -> None:
    groups = np.repeat(np.arange(4).astype(str), 50)
    splits = complete_splits(np.repeat(NONE, 200), np.tile([0, 1], 100), groups, SplitsConfig(grouped=False))
    assert len(set(splits[groups == "0"])) == 3


def test_strata_are_classes_or_the_rarest_label() -> None:
    assert strata_of(np.array([2, 0, 1])).tolist() == [2, 0, 1]
    columns = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 0, 0], [1, 1, 0]], dtype=np.uint8)
    assert strata_of(columns).tolist() == [1, 0, 2, 3, 1]


@settings(max_examples=80, deadline=None)
@given(labelled(), st.lists(st.floats(0.01, 1.0), min_size=2, max_size=4), st.integers(0, 99))
def test_training_subsets_are_nested_grouped_and_have_every_class(
    data: Labelled, wanted: list[float], seed: int
) -> None:
    subsets = [training_subset(data.labels, data.groups, f, seed) for f in sorted(wanted)]
    for smaller, larger in pairwise(subsets):
        assert set(smaller) <= set(larger)
    for subset in subsets:
        assert np.array_equal(subset, np.unique(subset))
        columns = data.labels if data.labels.ndim == 2 else data.labels[:, None] == np.unique(data.labels)
        assert (columns[subset].any(axis=0) == columns.any(axis=0)).all()
        if data.groups is not None:
            kept = np.isin(data.groups, data.groups[subset])
            assert np.array_equal(np.flatnonzero(kept), subset)


@settings(max_examples=40, deadline=None)
@given(labelled(grouped=False), st.floats(0.05, 0.95), st.integers(0, 99))
def test_training_subsets_have_the_fraction_of_every_class(
    data: Labelled, fraction: float, seed: int
) -> None:
    assume(data.labels.ndim == 1)
    subset = training_subset(data.labels, None, fraction, seed)
    for value, count in zip(*np.unique(data.labels, return_counts=True), strict=True):
        assert abs((data.labels[subset] == value).sum() - fraction * count) <= 1


@settings(max_examples=60, deadline=None)
@given(labelled(grouped=False), st.floats(0.05, 0.95), st.integers(0, 99))
def test_training_subsets_have_the_fraction_of_every_rarest_label(
    data: Labelled, fraction: float, seed: int
) -> None:
    assume(data.labels.ndim == 2)
    subset, strata = training_subset(data.labels, None, fraction, seed), strata_of(data.labels)
    for value, count in zip(*np.unique(strata, return_counts=True), strict=True):
        kept = (strata[subset] == value).sum()
        # Above the fraction only by the one image that each of the three labels must keep.
        assert -0.5 <= kept - fraction * count <= 0.5 + 3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=8, max_size=40), st.floats(0.02, 0.98), st.integers(0, 99))
def test_training_subsets_of_patients_have_the_fraction_of_every_class(
    images_of_each: list[int], fraction: float, seed: int
) -> None:
    groups = np.repeat(np.arange(len(images_of_each)), images_of_each)
    labels = groups % 2  # a patient's images are all of one class
    subset = training_subset(labels, groups.astype(str), fraction, seed)
    for value in (0, 1):
        sizes = images_of_each[value::2]
        kept = int((labels[subset] == value).sum())
        one_patient = len(np.unique(groups[subset][labels[subset] == value])) == 1
        assert abs(kept - fraction * sum(sizes)) <= max(sizes) / 2 or one_patient


def test_a_quarter_of_the_patients_is_a_quarter_of_the_images() -> None:
    groups = np.repeat(np.arange(20), 5)
    labels = np.repeat(np.arange(20) % 2, 5)
    subset = training_subset(labels, groups.astype(str), 0.25, 0)
    assert len(subset) == 5 * len(np.unique(groups[subset]))
    assert abs(len(subset) - 25) <= 5


def test_the_whole_is_everyone_and_nothing_is_no_fraction() -> None:
    assert training_subset(np.array([0, 1, 0]), None, 1.0, 0).tolist() == [0, 1, 2]
    for fraction in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="0 < fraction <= 1"):
            training_subset(np.array([0, 1]), None, fraction, 0)

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfathom.trial.features.decision import CachePlan, Cut, Workload, plan_cache

HEAD_ONLY = [Cut(1, 20_000_000, 64 * 32 * 32 * 4), Cut(5, 150_000_000, 512 * 4)]
"""A network as ResNet-18 at 64 px."""
WORK = Workload(n_train=2000, n_used=2000, n_val=500, epochs=3, views=1, shared=True, macs_per_second=4e10)
GIGABYTE = 10**9


def test_a_small_feature_of_a_deep_prefix_is_kept() -> None:
    plan = plan_cache(HEAD_ONLY, WORK, GIGABYTE)
    assert plan.pays
    assert plan.stored
    assert plan.cut == 5
    assert plan.n_bytes == 2500 * 2048
    # Two trials of three epochs pass 2,500 images through 150 M MACs; once is enough.
    assert plan.seconds_without == pytest.approx(2 * 3 * 2500 * 150e6 / 4e10)
    assert plan.seconds_with == pytest.approx(plan.seconds_without / 6, rel=0.05)
    assert plan.reason.startswith("kept: 5.1 MB of features save about")


def test_a_large_feature_of_a_cheap_stem_is_not() -> None:
    plan = plan_cache([Cut(1, 500_000, 64 * 112 * 112 * 4)], WORK, 10**12)
    assert not plan.pays
    assert not plan.stored
    assert "takes no longer than" in plan.reason


def test_what_does_not_fit_is_not_kept() -> None:
    plan = plan_cache(HEAD_ONLY, WORK, 5_000_000)
    assert plan.pays
    assert not plan.stored
    assert plan.reason == "not kept: 5.1 MB of features would save about 46.8 s, but cache_gb = 0.005"
    assert not plan_cache(HEAD_ONLY, WORK, 0).stored


def test_an_earlier_cut_is_taken_when_only_its_features_fit() -> None:
    """As in ResNet-50: the first stage's features are four times as wide as the stem's."""
    cuts = [Cut(1, 120_000_000, 200_000), Cut(2, 800_000_000, 800_000)]
    assert plan_cache(cuts, WORK, 10**10).cut == 2
    small = plan_cache(cuts, WORK, 10**9)
    assert small.stored
    assert small.cut == 1
    assert small.macs == 120_000_000


def test_one_epoch_pays_only_where_others_share_the_features() -> None:
    once = replace(WORK, epochs=1)
    assert plan_cache(HEAD_ONLY, once, GIGABYTE).pays
    assert not plan_cache(HEAD_ONLY, replace(once, shared=False), GIGABYTE).pays


def test_views_cost_one_pass_each() -> None:
    many = replace(WORK, views=4, epochs=8)
    plan = plan_cache(HEAD_ONLY, many, GIGABYTE)
    assert plan.n_bytes == (4 * 2000 + 500) * 2048
    assert plan.seconds_with > plan_cache(HEAD_ONLY, replace(many, views=1), GIGABYTE).seconds_with


def test_a_small_share_of_the_images_does_not_pay_for_all() -> None:
    assert not plan_cache(HEAD_ONLY, replace(WORK, n_used=20, n_val=10), GIGABYTE).pays


@given(
    cuts=st.lists(st.tuples(st.integers(1, 10**9), st.integers(4, 10**7)), min_size=1, max_size=5),
    epochs=st.integers(1, 50),
    views=st.integers(1, 8),
    shared=st.booleans(),
    limit=st.integers(0, 10**11),
)
def test_the_arithmetic_holds(
    cuts: list[tuple[int, int]], epochs: int, views: int, shared: bool, limit: int
) -> None:
    macs = 0
    places = []
    for groups, (more, n_bytes) in enumerate(cuts, start=1):
        macs += more
        places.append(Cut(groups, macs, n_bytes))
    work = replace(WORK, epochs=epochs, views=views, shared=shared)
    plan = plan_cache(places, work, limit)
    if plan.stored:
        assert plan.pays
        assert plan.n_bytes <= limit
        assert plan.seconds_with < plan.seconds_without
    more_room: CachePlan = plan_cache(places, work, 2 * limit)
    assert more_room.pays == plan.pays
    assert more_room.stored >= plan.stored
    assert not plan.stored or more_room.seconds_with <= plan.seconds_with

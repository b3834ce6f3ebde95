from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfathom.trial.features.decision import CacheDecision, Cut, Workload, decide_cache

HEAD_ONLY = [Cut(1, 20_000_000, 64 * 32 * 32 * 4), Cut(5, 150_000_000, 512 * 4)]
"""A network as ResNet-18 at 64 px."""
WORK = Workload(n_train=2000, n_used=2000, n_val=500, epochs=3, views=1, shared=True, macs_per_second=4e10)
GIGABYTE = 10**9


def test_a_small_feature_of_a_deep_prefix_is_kept() -> None:
    decision = decide_cache(HEAD_ONLY, WORK, GIGABYTE)
    assert decision.pays
    assert decision.stored
    assert decision.cut == 5
    assert decision.n_bytes == 2500 * 2048
    # Two trials of three epochs pass 2,500 images through 150 M MACs; once is enough.
    assert decision.seconds_without == pytest.approx(2 * 3 * 2500 * 150e6 / 4e10)
    assert decision.seconds_with == pytest.approx(decision.seconds_without / 6, rel=0.05)
    assert decision.reason.startswith("kept: 5.1 MB of features save about")


def test_a_large_feature_of_a_cheap_stem_is_not() -> None:
    decision = decide_cache([Cut(1, 500_000, 64 * 112 * 112 * 4)], WORK, 10**12)
    assert not decision.pays
    assert not decision.stored
    assert "takes no longer than" in decision.reason


def test_what_does_not_fit_is_not_kept() -> None:
    decision = decide_cache(HEAD_ONLY, WORK, 5_000_000)
    assert decision.pays
    assert not decision.stored
    assert decision.reason == "not kept: 5.1 MB of features would save about 46.8 s, but cache_gb = 0.005"
    assert not decide_cache(HEAD_ONLY, WORK, 0).stored


def test_an_earlier_cut_is_taken_when_only_its_features_fit() -> None:
    """As in ResNet-50: the first stage's features are four times as wide as the stem's."""
    cuts = [Cut(1, 120_000_000, 200_000), Cut(2, 800_000_000, 800_000)]
    assert decide_cache(cuts, WORK, 10**10).cut == 2
    small = decide_cache(cuts, WORK, 10**9)
    assert small.stored
    assert small.cut == 1
    assert small.macs == 120_000_000


def test_one_epoch_pays_only_where_others_share_the_features() -> None:
    once = replace(WORK, epochs=1)
    assert decide_cache(HEAD_ONLY, once, GIGABYTE).pays
    assert not decide_cache(HEAD_ONLY, replace(once, shared=False), GIGABYTE).pays


def test_views_cost_one_pass_each() -> None:
    many = replace(WORK, views=4, epochs=8)
    decision = decide_cache(HEAD_ONLY, many, GIGABYTE)
    assert decision.n_bytes == (4 * 2000 + 500) * 2048
    assert decision.seconds_with > decide_cache(HEAD_ONLY, replace(many, views=1), GIGABYTE).seconds_with


def test_a_small_share_of_the_images_does_not_pay_for_all() -> None:
    assert not decide_cache(HEAD_ONLY, replace(WORK, n_used=20, n_val=10), GIGABYTE).pays


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
    decision = decide_cache(places, work, limit)
    if decision.stored:
        assert decision.pays
        assert decision.n_bytes <= limit
        assert decision.seconds_with < decision.seconds_without
    more_room: CacheDecision = decide_cache(places, work, 2 * limit)
    assert more_room.pays == decision.pays
    assert more_room.stored >= decision.stored
    assert not decision.stored or more_room.seconds_with <= decision.seconds_with

"""What tuning is expected to reach with fewer trials: against every way to draw them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfathom.metrics.choice import best_first
from medfathom.metrics.rules import By
from medfathom.metrics.tuning import chances_of_choice, expected_choice

BYS: tuple[By, ...] = ("auc", "log_loss", "auc_then_log_loss")
aucs = st.one_of(st.sampled_from([0.9, 0.993, 0.997, 1.0]), st.floats(0.98, 1.0))
trials = st.lists(st.tuples(aucs, st.sampled_from([0.1, 0.2, 0.3])), min_size=1, max_size=7)


@given(trials, st.sampled_from(BYS), st.data())
def test_chances_are_those_of_every_draw(
    found: list[tuple[float, float]], by: By, data: st.DataObject
) -> None:
    m = data.draw(st.integers(1, len(found)))
    auc, loss = (np.array(column) for column in zip(*found, strict=True))
    draws = list(combinations(range(len(found)), m))
    chosen = [draw[best_first(auc[list(draw)], loss[list(draw)], by)[0]] for draw in draws]
    # Trials that are equal in both share their chances in another way: their AUC is the same.
    expected = np.mean([auc[i] for i in chosen])
    chances = chances_of_choice(auc, loss, m, by)
    assert chances.sum() == pytest.approx(1.0)
    assert chances @ auc == pytest.approx(expected, abs=1e-12)
    assert chances @ loss == pytest.approx(np.mean([loss[i] for i in chosen]), abs=1e-12)


def draws(random: np.random.Generator, n: int) -> np.ndarray:
    """AUC at a learning rate drawn at random from a range with its best in the middle."""
    return 0.9 - 0.15 * (2 * random.random(n) - 1) ** 2 + 0.005 * random.standard_normal(n)


def test_the_expected_best_is_without_bias_and_its_interval_covers() -> None:
    """500 studies of 12 trials: best of 6; Dodge's own form, with replacement, is too low."""
    random = np.random.default_rng(0)
    n, m, unknown = 12, 6, [np.nan] * 12
    truth = draws(random, 60_000 * m).reshape(-1, m).max(axis=1)
    studies = [draws(random, n) for _ in range(500)]
    found = [expected_choice(auc, unknown, m, "auc") for auc in studies]
    values = np.array([each.value for each in found])
    error = np.hypot(values.std() / np.sqrt(500), truth.std() / np.sqrt(60_000))
    assert abs(values.mean() - truth.mean()) < 3 * error
    ranks = np.arange(1, n + 1) / n
    dodge = np.array([np.sort(auc) @ np.diff(ranks**m, prepend=0) for auc in studies])
    assert truth.mean() - dodge.mean() > 3 * error
    covered = np.mean([each.low <= truth.mean() <= each.high for each in found])
    assert covered >= 0.93


def test_no_interval_where_it_would_not_hold() -> None:
    auc = np.linspace(0.7, 0.9, 8)
    assert np.isnan(expected_choice(auc, [np.nan] * 8, 5, "auc").low), "more than half"
    assert np.isnan(expected_choice(auc[:7], [np.nan] * 7, 3, "auc").low), "too few"
    assert (
        expected_choice(auc, [np.nan] * 8, 4, "auc").low < expected_choice(auc, [np.nan] * 8, 4, "auc").value
    )

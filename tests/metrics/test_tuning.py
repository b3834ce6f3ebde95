"""What tuning is expected to reach with fewer trials: against every way to draw them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfathom.metrics.choice import best_first
from medfathom.metrics.rules import By
from medfathom.metrics.tuning import chances_of_choice

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

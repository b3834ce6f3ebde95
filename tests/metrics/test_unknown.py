"""A label that is not known: every number is as if the image were not there for this label."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfathom.metrics.auc import delong, delong_interval, roc_auc_score
from medfathom.metrics.calibration import fit_temperature, log_loss, thresholds_of
from medfathom.metrics.classification import evaluate, has_auc
from medfathom.metrics.unknown import UNKNOWN, is_absent, is_present

LABELS = np.array([[1, 0], [UNKNOWN, 1], [0, 1], [1, UNKNOWN], [0, 0]], dtype=np.uint8)
SCORES = np.array([[0.9, 0.2], [0.1, 0.9], [0.3, 0.1], [0.2, 0.8], [0.4, 0.6]])


def test_auc_by_hand() -> None:
    # First label: positives .9, .2 against .3, .4: two of four pairs. Second: .9, .1 against .2, .6: two.
    assert roc_auc_score(LABELS, SCORES).tolist() == [0.5, 0.5]
    as_absent = np.where(LABELS == UNKNOWN, 0, LABELS)
    assert roc_auc_score(as_absent, SCORES)[0] == pytest.approx(4 / 6)


def test_other_metrics_by_hand() -> None:
    found = evaluate("multilabel", LABELS, SCORES, ["a", "b"], thresholds=np.array([0.35, 0.5]))
    # a: called .9 (right) and .4 (wrong), not called .3 (right) and .2 (wrong). b: .9 and .6 called.
    assert found.per_class["a"]["sensitivity"] == 0.5
    assert [found.per_class[name]["n_known"] for name in "ab"] == [4, 4]
    assert found.per_class["a"]["specificity"] == 0.5
    assert found.per_class["a"]["precision"] == 0.5
    assert found.per_class["b"]["precision"] == 0.5
    assert found.overall["accuracy"] == 0.5
    squares_a, squares_b = (0.01 + 0.09 + 0.64 + 0.16) / 4, (0.04 + 0.01 + 0.81 + 0.36) / 4
    assert found.overall["brier_loss"] == pytest.approx((squares_a + squares_b) / 2, abs=1e-12)
    assert not found.undefined
    known = [0.9, 0.7, 0.2, 0.6, 0.8, 0.9, 0.1, 0.4]
    assert log_loss("multilabel", LABELS, SCORES) == pytest.approx(-np.log(known).mean(), abs=1e-12)


@st.composite
def masked(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, k = draw(st.integers(6, 40)), draw(st.integers(1, 4))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = random.choice(np.array([0, 1, UNKNOWN], dtype=np.uint8), (n, k), p=[0.4, 0.4, 0.2])
    return labels, random.integers(0, 8, (n, k)) / 8, random.integers(0, max(2, n // 3), n)


@settings(max_examples=60)
@given(masked())
def test_each_column_is_as_if_its_unknown_images_were_not_there(
    case: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    labels, scores, groups = case
    auc, interval = roc_auc_score(labels, scores), delong_interval(labels, scores, groups)
    single = delong(labels, scores)
    names = [str(k) for k in range(labels.shape[1])]
    whole = evaluate("multilabel", labels, scores, names, groups=groups)
    for k in range(labels.shape[1]):
        known = labels[:, k] != UNKNOWN
        if not known.any():
            assert np.isnan(auc[k])
            continue
        part, values = labels[known, k] == 1, scores[known, k]
        assert auc[k] == pytest.approx(roc_auc_score(part, values)[0], abs=1e-12, nan_ok=True)
        alone = delong_interval(part, values, groups[known])
        assert interval.low[k] == pytest.approx(alone.low[0], abs=1e-9, nan_ok=True)
        assert interval.high[k] == pytest.approx(alone.high[0], abs=1e-9, nan_ok=True)
        variance = delong(part, values).covariance[0, 0]
        assert single.covariance[k, k] == pytest.approx(variance, abs=1e-12, nan_ok=True)
        column = part[:, None].astype(np.uint8), values[:, None]
        other = evaluate("multilabel", *column, ["x"], groups=groups[known])
        mine = whole.per_class[names[k]]
        n_known = mine.pop("n_known", known.sum())  # said where any label is not known
        assert n_known == known.sum()
        assert mine == pytest.approx(other.per_class["x"], abs=1e-9)


def test_what_is_fitted_on_validation_images_does_not_see_unknown_labels() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (80, 1)).astype(np.uint8)
    logits = random.normal(size=(80, 1)) + 2.0 * labels
    more = np.concatenate([labels, np.full((40, 1), UNKNOWN, dtype=np.uint8)])
    wild = np.concatenate([logits, 50 * random.normal(size=(40, 1))])
    found, expected = (fit_temperature("multilabel", *x) for x in ((more, wild), (labels, logits)))
    assert found == pytest.approx(expected, rel=1e-6)
    values, alone = 1 / (1 + np.exp(-wild)), 1 / (1 + np.exp(-logits))
    assert thresholds_of("multilabel", more, values) == thresholds_of("multilabel", labels, alone)


def test_a_label_of_which_nothing_is_known_is_undefined() -> None:
    labels = np.array([[1, UNKNOWN], [0, UNKNOWN]], dtype=np.uint8)
    found = evaluate("multilabel", labels, np.array([[0.8, 0.1], [0.1, 0.3]]), ["a", "b"])
    assert found.overall["auc"] == 1.0
    assert len(found.undefined) == 1
    assert "'b'" in found.undefined[0]
    assert has_auc("multilabel", labels, 2)
    assert not has_auc("multilabel", labels[:, 1:], 1)


def test_the_one_place_that_tells() -> None:
    assert is_present(LABELS[:, 0]).tolist() == [True, False, False, True, False]
    assert is_absent(LABELS[:, 0]).tolist() == [False, False, True, False, True]

"""The mean AUC over folds: its variance against DeLong's, its interval's coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from medfathom.metrics.auc import delong
from medfathom.metrics.cross_validated import BLOCKS, FoldAuc, fold_auc, mean_auc
from simulated_folds import simulate


def folds_of(scores: np.ndarray, labels: np.ndarray, fold: np.ndarray) -> list[FoldAuc]:
    unit = np.arange(len(labels))
    return [
        fold_auc(labels[fold == k], scores[fold == k], unit[fold == k]) for k in range(int(fold.max()) + 1)
    ]


@pytest.fixture
def cases() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.arange(120) % 3 == 0
    return random.normal(size=120) + labels, labels


def test_one_fold_is_delong_less_what_it_counts_twice(cases: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = cases
    auc, low, high = mean_auc(folds_of(scores, labels, np.zeros(120, dtype=int)), 1)
    found = delong(labels, scores)
    assert auc == pytest.approx(float(found.auc[0]))
    # The exact variance under Hanley and McNeil's assumptions, and what DeLong's expects there.
    q1, q2 = auc / (2 - auc) - auc**2, 2 * auc**2 / (1 + auc) - auc**2
    variance = float(found.covariance[0, 0]) - (auc * (1 - auc) - q1 - q2) / (40 * 80)
    width = stats.t.ppf(0.975, 39) * math.sqrt(variance) / (auc * (1 - auc))
    logit = math.log(auc / (1 - auc))
    # The Student quantile is an expansion, exact to 1 % (see `student_quantile`).
    assert (low, high) == pytest.approx([1 / (1 + math.exp(-logit + s * width)) for s in (1, -1)], abs=1e-4)


def test_a_fold_knows_its_images_beside_its_patients(cases: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = cases
    found = fold_auc(labels, scores, np.arange(120) // 4)  # each patient has images of both kinds
    assert (found.judged, found.positives, found.negatives) == (120, 30, 30)


def test_folds_of_disjoint_images_add_their_variances(cases: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = cases
    fold = np.arange(120) // 3 % 4
    found = folds_of(scores, labels, fold)
    whole = np.zeros(BLOCKS)
    for one in found:
        whole[list(one.blocks)] += one.influence
    variances = [float(delong(labels[fold == k], scores[fold == k]).covariance[0, 0]) for k in range(4)]
    assert np.square(whole).sum() == pytest.approx(sum(variances), rel=1e-4)
    assert mean_auc(found, 4)[0] == pytest.approx(np.mean([one.auc for one in found]))


def test_a_repeat_with_the_same_networks_tells_nothing_new(cases: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = cases
    found = folds_of(scores, labels, np.arange(120) // 3 % 4)
    once, twice = mean_auc(found, 4), mean_auc([*found, *found], 4)
    assert twice == pytest.approx(once, abs=0.003)  # but for the small surplus, which is halved


def test_perfect_folds_and_single_positives_have_an_interval() -> None:
    labels, fold = np.array([1, 0, 0] * 10, dtype=bool), np.arange(30) // 3
    perfect = mean_auc(folds_of(labels.astype(float), labels, fold), 10)
    assert perfect[0] == perfect[2] == 1
    assert 0.6 < perfect[1] < 0.95
    mixed = mean_auc(folds_of(np.tile([0.5, 0.1, 0.9], 10), labels, fold), 10)
    assert mixed[0] == 0.5
    assert 0.2 < mixed[1] < 0.4 and 0.6 < mixed[2] < 0.8


def test_patients_and_several_classes() -> None:
    random = np.random.default_rng(1)
    patient = np.repeat(np.arange(300), 2)
    labels = random.integers(0, 3, 300)[patient]
    scores = np.eye(3)[labels] + random.normal(size=(300, 3))[patient]
    fold = patient % 5
    flags = labels[:, None] == np.arange(3)

    def ends(unit: np.ndarray) -> tuple[float, float, float]:
        return mean_auc([fold_auc(flags[fold == k], scores[fold == k], unit[fold == k]) for k in range(5)], 5)

    by_patient, by_image = ends(patient), ends(np.arange(600))
    # Both images of a patient are the same: half as many images, a variance twice as large.
    assert by_patient[2] - by_patient[1] == pytest.approx(
        math.sqrt(2) * (by_image[2] - by_image[1]), rel=0.15
    )


@pytest.mark.parametrize(
    ("n", "share", "repeats"),
    [
        (100, 0.3, 2),
        pytest.param(200, 0.5, 1, marks=pytest.mark.slow),
        pytest.param(500, 0.2, 1, marks=pytest.mark.slow),
    ],
)
def test_the_interval_holds_the_mean_in_95_of_100(n: int, share: float, repeats: int) -> None:
    held = simulate(n, share=share, auc=0.85, folds=5, repeats=repeats, draws=300, seed=0).held
    # 93 to 97 % are asked for; 300 draws have a standard error of 1.3 %.
    assert 0.93 - 0.013 <= held <= 0.97 + 0.013

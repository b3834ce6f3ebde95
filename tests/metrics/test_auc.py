from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
import sklearn.datasets
import sklearn.linear_model
import sklearn.metrics
import sklearn.model_selection
from hypothesis import given, settings

from medfathom.metrics.auc import (
    Z95,
    AucInterval,
    delong,
    delong_interval,
    group_bootstrap_interval,
    newcombe_interval,
    roc_auc_score,
)
from score_columns import labelled_columns

Columns = tuple[np.ndarray, np.ndarray]


@given(labelled_columns())
def test_auc_equals_scikit_learn_with_ties(data: Columns) -> None:
    labels, scores = data
    expected = [sklearn.metrics.roc_auc_score(labels[:, c], scores[:, c]) for c in range(labels.shape[1])]
    np.testing.assert_allclose(roc_auc_score(labels, scores), expected, rtol=0, atol=1e-12)


@given(labelled_columns())
def test_auc_is_invariant(data: Columns) -> None:
    labels, scores = data
    auc = roc_auc_score(labels, scores)
    order = np.random.default_rng(0).permutation(len(labels))
    np.testing.assert_array_equal(roc_auc_score(labels[order], scores[order]), auc)
    np.testing.assert_array_equal(roc_auc_score(labels, np.arctan(scores / 8)), auc)
    np.testing.assert_allclose(roc_auc_score(~labels, scores), 1 - auc, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(roc_auc_score(labels[:, ::-1], scores[:, ::-1]), auc[::-1])


def test_labels_are_shared_by_many_columns() -> None:
    random = np.random.default_rng(1)
    labels, scores = random.integers(0, 2, 500), random.normal(size=(500, 300)).round(2)
    expected = [sklearn.metrics.roc_auc_score(labels, column) for column in scores.T]
    np.testing.assert_allclose(roc_auc_score(labels, scores), expected, rtol=0, atol=1e-12)


def test_one_class_has_no_auc() -> None:
    labels = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0]])
    auc = roc_auc_score(labels, np.array([[0.1, 0.9, 0.2], [0.2, 0.1, 0.3], [0.3, 0.8, 0.1]]))
    assert np.isnan(auc[[0, 2]]).all()
    assert auc[1] == 1.0


def test_scores_that_cannot_be_ranked_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        roc_auc_score([0, 1], [np.nan, 1.0])
    with pytest.raises(ValueError, match="as many labels as scores"):
        roc_auc_score([0, 1, 1], [0.5, 1.0])


def brute_force_delong_variance(labels: np.ndarray, scores: np.ndarray) -> float:
    """DeLong et al. 1988, equations 4 to 6, pair by pair."""
    cases, controls = scores[labels], scores[~labels]
    wins = (cases[:, None] > controls) + 0.5 * (cases[:, None] == controls)
    return float(wins.mean(axis=1).var(ddof=1) / len(cases) + wins.mean(axis=0).var(ddof=1) / len(controls))


@settings(max_examples=50)
@given(labelled_columns())
def test_delong_variance_equals_its_definition(data: Columns) -> None:
    labels, scores = data
    interval, auc = delong_interval(labels, scores), roc_auc_score(labels, scores)
    for column in range(labels.shape[1]):
        if min(labels[:, column].sum(), (~labels[:, column]).sum()) < 2:
            continue
        variance = brute_force_delong_variance(labels[:, column], scores[:, column])
        if variance > 0:
            spread = Z95 * np.sqrt(variance)
            assert interval.low[column] == pytest.approx(max(auc[column] - spread, 0), abs=1e-12)
            assert interval.high[column] == pytest.approx(min(auc[column] + spread, 1), abs=1e-12)


def test_delong_variance_on_iris() -> None:
    """The constant in the tests of the public code of Sun and Xu (IEEE Signal Processing Letters 2014)."""
    iris = sklearn.datasets.load_iris()
    x_train, x_test, y_train, y_test = sklearn.model_selection.train_test_split(
        iris.data, (iris.target == 1).astype(int), test_size=0.8, random_state=42
    )
    model = sklearn.linear_model.LogisticRegression(solver="lbfgs").fit(x_train, y_train)
    interval = delong_interval(y_test, model.predict_proba(x_test)[:, 1])
    assert ((interval.high[0] - interval.low[0]) / (2 * Z95)) ** 2 == pytest.approx(0.0015359814789736538)


def test_delong_covariance_equals_its_definition() -> None:
    """Structural components written out pair by pair (DeLong et al. 1988, eqs. 2 to 5)."""
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, 60)
    scores = np.round(rng.normal(size=(60, 3)) + labels[:, None], 1)
    up, down = scores[labels == 1].T, scores[labels == 0].T
    wins = (up[:, :, None] > down[:, None, :]) + 0.5 * (up[:, :, None] == down[:, None, :])
    covariance = np.cov(wins.mean(2)) / up.shape[1] + np.cov(wins.mean(1)) / down.shape[1]
    found = delong(labels, scores)
    assert found.auc == pytest.approx(wins.mean((1, 2)), abs=1e-12)
    assert found.covariance == pytest.approx(covariance, abs=1e-12)


def test_delong_by_hand() -> None:
    # Positives 3, 1; negatives 2, 0: AUC 3/4, V10 = (1, 1/2), V01 = (1/2, 1), so both variances are 1/8
    found = delong([1, 1, 0, 0], [3.0, 1.0, 2.0, 0.0])
    assert found.auc[0] == pytest.approx(0.75, abs=1e-12)
    assert found.covariance[0, 0] == pytest.approx(0.125 / 2 + 0.125 / 2, abs=1e-12)


# Values of R 4.2.2 with pROC 1.18.0, printed to 15 digits.
R_LABELS = np.array([0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0])
R_FIRST = [0.1, 0.4, 0.35, 0.8, 0.2, 0.5, 0.3, 0.6, 0.7, 0.9, 0.55, 0.5, 0.85, 0.65, 0.3, 0.45, 0.95, 0.15]
R_SECOND = [0.3, 0.2, 0.6, 0.7, 0.1, 0.6, 0.4, 0.5, 0.4, 0.8, 0.45, 0.6, 0.9, 0.35, 0.5, 0.55, 0.7, 0.25]


def test_delong_equals_r_proc() -> None:
    # roc.test(roc(y, a, direction = "<"), roc(y, b, direction = "<"), method = "delong", paired = TRUE)
    found = delong(R_LABELS, np.array([R_FIRST, R_SECOND]).T)
    assert found.auc == pytest.approx([0.8375, 0.70625], abs=1e-12)
    assert np.diag(found.covariance) == pytest.approx([0.00988343253968254, 0.0163330853174603], abs=1e-12)
    assert found.covariance[0, 1] == pytest.approx(0.00720734126984127, abs=1e-12)
    compared = found.difference(0, 1)
    assert compared.value == pytest.approx(0.13125, abs=1e-12)
    assert compared.p_value == pytest.approx(0.22698563449207, abs=1e-12)
    half = Z95 * np.sqrt(0.00988343253968254 + 0.0163330853174603 - 2 * 0.00720734126984127)
    assert compared.ci95 == pytest.approx((0.13125 - half, 0.13125 + half), abs=1e-12)


def test_a_model_does_not_differ_from_itself() -> None:
    found = delong([0, 0, 1, 1, 1], np.repeat([[0.3], [0.7], [0.4], [0.8], [0.9]], 2, axis=1))
    assert found.difference(0, 1).p_value == 1
    assert found.difference(0, 1).ci95 == (0, 0)


def test_the_mean_of_repeated_columns_has_their_interval() -> None:
    labels, scores = np.arange(40) % 2, np.random.default_rng(2).normal(size=40)
    interval = delong_interval(labels, np.stack([scores, scores, scores], axis=1))
    assert interval.mean_low == pytest.approx(interval.low[0])
    assert interval.mean_high == pytest.approx(interval.high[2])


def test_perfect_separation_keeps_an_interval() -> None:
    labels = np.array([0] * 20 + [1] * 10)
    interval = delong_interval(labels, labels.astype(float))
    assert interval.high[0] == 1.0
    assert 0.7 < interval.low[0] < 0.95
    worst = delong_interval(labels, -labels.astype(float))
    assert worst.low[0] == pytest.approx(0.0, abs=1e-9)
    assert worst.high[0] == pytest.approx(1 - interval.low[0], abs=1e-9)


def test_one_positive_image_keeps_an_interval() -> None:
    interval = delong_interval([0, 0, 0, 1], [0.1, 0.2, 0.4, 0.3])
    assert 0 < interval.low[0] < 2 / 3 < interval.high[0] <= 1


@pytest.mark.parametrize("auc", [0.2, 0.8, 0.95])
def test_newcombe_solves_its_equation(auc: float) -> None:
    """At each end the AUC lies 1.96 Hanley-McNeil errors away, by the formula of method 5 written out."""
    n_positive, n_negative = 20, 30
    ends = newcombe_interval(auc, n_positive, n_negative)
    for value in ends:
        q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
        n = (n_positive + n_negative) / 2
        variance = value * (1 - value) + (n - 1) * (q1 + q2 - 2 * value**2)
        assert abs(value - auc) / np.sqrt(variance / (n_positive * n_negative)) == pytest.approx(
            Z95, rel=1e-6
        )
    assert ends[0] < auc < ends[1]


def grouped(seed: int, n_groups: int = 60, size: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), size)
    labels = np.repeat(np.arange(n_groups) % 2, size)
    noise = np.repeat(random.normal(size=n_groups), size) + 0.1 * random.normal(size=n_groups * size)
    return labels, labels + noise, groups


def test_groups_widen_the_interval() -> None:
    labels, scores, groups = grouped(0)
    independent = delong_interval(labels, scores)
    clustered = delong_interval(labels, scores, groups)
    bootstrap = group_bootstrap_interval(labels, scores, groups, seed=0)
    width = independent.high[0] - independent.low[0]
    assert clustered.high[0] - clustered.low[0] > 1.8 * width
    assert bootstrap.high[0] - bootstrap.low[0] > 1.8 * width
    assert "60 groups" in bootstrap.method


def test_bootstrap_equals_resampled_images() -> None:
    """Weights are multiplicities: the AUC of a resample is the AUC of its images written out."""
    labels, scores, groups = grouped(1, n_groups=12)
    scores = scores.round(1)
    draws = 50
    interval = group_bootstrap_interval(labels, scores, groups, seed=3, draws=draws)
    times = np.random.default_rng(3).multinomial(12, np.full(12, 1 / 12), size=draws)
    auc = []
    for row in times:
        images = np.repeat(np.arange(len(labels)), row[groups])
        auc.append(sklearn.metrics.roc_auc_score(labels[images], scores[images]))
    low, high = np.percentile(auc, [2.5, 97.5])
    assert (interval.low[0], interval.high[0]) == pytest.approx((low, high), abs=1e-12)


def test_groups_of_one_image_agree_with_delong() -> None:
    random = np.random.default_rng(5)
    labels = random.integers(0, 2, 400)
    scores = labels + random.normal(size=400)
    delong = delong_interval(labels, scores)
    bootstrap = group_bootstrap_interval(labels, scores, np.arange(400), seed=0)
    assert bootstrap.low[0] == pytest.approx(delong.low[0], abs=0.012)
    assert bootstrap.high[0] == pytest.approx(delong.high[0], abs=0.012)


def test_undefined_columns_have_no_interval() -> None:
    labels = np.array([[0, 0], [1, 0], [0, 0], [1, 0]])
    scores = np.array([[0.1, 0.2], [0.3, 0.4], [0.35, 0.1], [0.9, 0.5]])
    for interval in (
        delong_interval(labels, scores),
        group_bootstrap_interval(labels, scores, [0, 1, 2, 3], seed=0),
    ):
        assert np.isnan([interval.low[1], interval.high[1]]).all()
        assert np.isfinite([interval.low[0], interval.mean_low, interval.mean_high]).all()
    nothing = delong_interval([0, 0], [0.1, 0.2])
    assert np.isnan([nothing.mean_low, nothing.mean_high]).all()


def both_by_groups(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> list[AucInterval]:
    return [
        delong_interval(labels, scores, groups),
        group_bootstrap_interval(labels, scores, groups, seed=0, draws=200),
    ]


def test_perfect_separation_of_groups_counts_groups() -> None:
    """Every resample of separated groups is separated: its percentiles coincide."""
    groups = np.arange(40) // 4
    labels = groups % 2
    for interval in both_by_groups(labels, labels + np.arange(40) / 100, groups):
        assert (interval.low[0], interval.high[0]) == newcombe_interval(1.0, 5, 5)
        assert (interval.mean_low, interval.mean_high) == newcombe_interval(1.0, 5, 5)
        assert interval.low[0] < 0.8
        assert interval.method.endswith("; Newcombe by numbers of groups where that has no width")
    assert "by numbers of images" in delong_interval(labels, labels).method


def test_a_class_of_one_group_is_one_unit() -> None:
    """Thirty images of one patient say nothing about other patients."""
    groups = np.arange(120) // 30
    labels = groups == 0
    scores = labels + np.random.default_rng(0).normal(size=120)
    expected = newcombe_interval(roc_auc_score(labels, scores)[0], 1, 3)
    for interval in both_by_groups(labels, scores, groups):
        assert (interval.low[0], interval.high[0]) == expected
        assert interval.high[0] - interval.low[0] > 0.5


def test_rare_labels_have_intervals_and_so_has_their_mean() -> None:
    """Each label is of one image: few resamples have all three."""
    random = np.random.default_rng(0)
    labels, scores, groups = np.eye(60, 3, dtype=int), random.random((60, 3)), np.arange(60) // 2
    for interval in both_by_groups(labels, scores, groups):
        assert (interval.low < interval.high).all()
        assert interval.mean_low == pytest.approx(interval.low.mean())
        assert interval.mean_high == pytest.approx(interval.high.mean())


def test_a_perfect_class_adds_its_doubt_to_the_mean() -> None:
    labels, scores, groups = grouped(0)
    for alone, two in zip(
        both_by_groups(labels, scores, groups),
        both_by_groups(labels, np.stack([scores, labels + groups / 1000], axis=1), groups),
        strict=True,
    ):
        low, high = newcombe_interval(1.0, 30, 30)
        assert two.mean_low == pytest.approx((alone.low[0] + low) / 2)
        assert two.mean_high == pytest.approx((alone.high[0] + high) / 2)


@pytest.mark.parametrize(
    ("n_groups", "distance", "at_least"), [(10, 2.7, 0.85), (40, 1.5, 0.90)], ids=["near 1", "middle"]
)
def test_intervals_by_groups_cover_the_true_auc(n_groups: int, distance: float, at_least: float) -> None:
    """Simulated patients. Near 1 many samples are separated; without Newcombe's the coverage is 0.54."""
    truth = NormalDist().cdf(distance / 2**0.5)
    groups = np.repeat(np.arange(n_groups), 4)
    labels = groups % 2
    random = np.random.default_rng(7)
    covered = []
    for repeat in range(300):
        own, shared = random.normal(size=len(groups)), random.normal(size=n_groups)[groups]
        scores = distance * labels + 0.8**0.5 * shared + 0.2**0.5 * own
        interval = group_bootstrap_interval(labels, scores, groups, seed=repeat, draws=200)
        covered.append(interval.mean_low <= truth <= interval.mean_high)
    assert np.mean(covered) >= at_least

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.datasets
import sklearn.linear_model
import sklearn.metrics
import sklearn.model_selection
from hypothesis import given, settings

from medfathom.metrics.auc import (
    delong,
    delong_interval,
    roc_auc_score,
)
from medfathom.metrics.intervals import (
    Z95,
    error_from_ends,
    logit_ends,
    newcombe_interval,
    student_quantile,
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
    found = np.diag(delong(labels, scores).covariance)
    for column in range(labels.shape[1]):
        if min(labels[:, column].sum(), (~labels[:, column]).sum()) < 2:
            continue
        variance = brute_force_delong_variance(labels[:, column], scores[:, column])
        assert found[column] == pytest.approx(variance, abs=1e-12)


def test_delong_variance_on_iris() -> None:
    """The constant in the tests of the public code of Sun and Xu (IEEE Signal Processing Letters 2014)."""
    iris = sklearn.datasets.load_iris()
    x_train, x_test, y_train, y_test = sklearn.model_selection.train_test_split(
        iris.data, (iris.target == 1).astype(int), test_size=0.8, random_state=42
    )
    model = sklearn.linear_model.LogisticRegression(solver="lbfgs").fit(x_train, y_train)
    found = delong(y_test, model.predict_proba(x_test)[:, 1])
    assert found.covariance[0, 0] == pytest.approx(0.0015359814789736538)


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
    width = independent.high[0] - independent.low[0]
    assert clustered.high[0] - clustered.low[0] > 1.8 * width


def test_undefined_columns_have_no_interval() -> None:
    labels = np.array([[0, 0], [1, 0], [0, 0], [1, 0]])
    scores = np.array([[0.1, 0.2], [0.3, 0.4], [0.35, 0.1], [0.9, 0.5]])
    for interval in (delong_interval(labels, scores), delong_interval(labels, scores, [0, 1, 2, 3])):
        assert np.isnan([interval.low[1], interval.high[1]]).all()
        assert np.isfinite([interval.low[0], interval.mean_low, interval.mean_high]).all()
    nothing = delong_interval([0, 0], [0.1, 0.2])
    assert np.isnan([nothing.mean_low, nothing.mean_high]).all()


def test_perfect_separation_of_groups_counts_groups() -> None:
    groups = np.arange(40) // 4
    labels = groups % 2
    interval = delong_interval(labels, labels + np.arange(40) / 100, groups)
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
    interval = delong_interval(labels, scores, groups)
    assert (interval.low[0], interval.high[0]) == expected
    assert interval.high[0] - interval.low[0] > 0.5


def test_rare_labels_have_intervals_and_so_has_their_mean() -> None:
    random = np.random.default_rng(0)
    labels, scores, groups = np.eye(60, 3, dtype=int), random.random((60, 3)), np.arange(60) // 2
    interval = delong_interval(labels, scores, groups)
    assert (interval.low < interval.high).all()
    assert interval.mean_low == pytest.approx(interval.low.mean())
    assert interval.mean_high == pytest.approx(interval.high.mean())


def test_a_perfect_class_adds_its_doubt_to_the_mean() -> None:
    labels, scores, groups = grouped(0)
    alone = delong_interval(labels, scores, groups)
    two = delong_interval(labels, np.stack([scores, labels + groups / 1000], axis=1), groups)
    low, high = newcombe_interval(1.0, 30, 30)
    assert two.mean_low == pytest.approx((alone.low[0] + low) / 2)
    assert two.mean_high == pytest.approx((alone.high[0] + high) / 2)


@pytest.mark.parametrize("df", [3, 5, 9, 30, 1000])
def test_student_quantile_equals_scipys(df: int) -> None:
    expected = float(scipy.stats.t.ppf(0.975, df))
    assert student_quantile(np.array([float(df)]))[0] == pytest.approx(expected, rel=0.012)


@pytest.mark.parametrize("auc", [0.6, 0.97])
def test_logit_interval_equals_its_formula(auc: float) -> None:
    """logit(AUC) -+ t * se / (AUC * (1 - AUC)); degrees of freedom by the spread of the squares of influences
    (2 over their relative variance), at most the rarer class's images less one.
    """
    random = np.random.default_rng(2)
    labels = np.arange(100) < 30
    scores = labels * NormalDist().inv_cdf(auc) * 2**0.5 + random.normal(size=100)
    found, interval = delong(labels, scores), delong_interval(labels, scores)
    value, error = found.auc[0], found.covariance[0, 0] ** 0.5
    squares = found.influence[0] ** 2
    freedom = min(2 / (np.sum(squares**2) / squares.sum() ** 2 - 1 / 100), 29)
    reach = scipy.stats.t.ppf(0.975, max(freedom, 3)) * error / (value * (1 - value))
    middle = np.log(value / (1 - value))
    expected = scipy.special.expit([middle - reach, middle + reach])
    assert [interval.low[0], interval.high[0]] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("positives", "negatives", "auc"),
    [(25, 25, 0.97), (10, 90, 0.97), (390, 234, 0.97), (20, 20, 0.8)],
    ids=["25/25", "10/90", "PneumoniaMNIST", "middle"],
)
def test_intervals_cover_the_true_auc(positives: int, negatives: int, auc: float) -> None:
    """On the AUC's own scale the first two cover .84 and .79."""
    random = np.random.default_rng(7)
    labels = np.arange(positives + negatives) < positives
    distance = NormalDist().inv_cdf(auc) * 2**0.5
    scores = random.normal(size=(len(labels), 1000)) + distance * labels[:, None]
    interval = delong_interval(labels, scores)
    covered = np.mean((interval.low <= auc) & (auc <= interval.high))
    assert 0.935 <= covered <= 0.99


@pytest.mark.parametrize(
    ("n_groups", "distance", "at_least"), [(10, 2.7, 0.85), (40, 1.5, 0.93)], ids=["near 1", "middle"]
)
def test_intervals_by_groups_cover_the_true_auc(n_groups: int, distance: float, at_least: float) -> None:
    """Simulated patients. Near 1 many samples are separated; without Newcombe's the coverage is 0.54."""
    truth = NormalDist().cdf(distance / 2**0.5)
    groups = np.repeat(np.arange(n_groups), 4)
    labels = groups % 2
    random = np.random.default_rng(7)
    covered = []
    for _ in range(300):
        own, shared = random.normal(size=len(groups)), random.normal(size=n_groups)[groups]
        scores = distance * labels + 0.8**0.5 * shared + 0.2**0.5 * own
        interval = delong_interval(labels, scores, groups)
        covered.append(interval.mean_low <= truth <= interval.mean_high)
    assert np.mean(covered) >= at_least


@pytest.mark.parametrize(
    ("patients", "mixed", "auc", "before"),
    [(20, True, 0.9, 0.86), (40, False, 0.97, 0.84), (40, True, 0.97, 0.88)],
)
def test_intervals_of_patients_with_uneven_numbers_of_images(
    patients: int, mixed: bool, auc: float, before: float
) -> None:
    """Before, Student's quantile counted patients, however few of them decided: it covered `before`."""
    random = np.random.default_rng(3)
    groups = np.repeat(np.arange(patients), 1 + random.geometric(0.1, patients))
    share = random.beta(1, 1, patients) if mixed else np.arange(patients) % 2
    labels = random.random(len(groups)) < share[groups]
    shared, own = random.normal(size=(patients, 500))[groups], random.normal(size=(len(groups), 500))
    distance = NormalDist().inv_cdf(auc) * 2**0.5
    interval = delong_interval(
        labels, 0.8**0.5 * shared + 0.2**0.5 * own + distance * labels[:, None], groups
    )
    covered = np.mean((interval.low <= auc) & (auc <= interval.high))
    assert covered > max(0.91, before)


def test_the_mean_of_classes_covers_the_true_mean() -> None:
    """Three classes, 30 patients of five images: one against the rest."""
    random = np.random.default_rng(5)
    labels, groups = np.repeat(np.arange(30) % 3, 5), np.repeat(np.arange(30), 5)
    one_hot = labels[:, None] == np.arange(3)
    covered = []
    for _ in range(400):
        shared, own = random.normal(size=(30, 3))[groups], random.normal(size=(150, 3))
        interval = delong_interval(one_hot, 0.5**0.5 * (shared + own) + 1.812 * one_hot, groups)
        covered.append(interval.mean_low <= 0.9 <= interval.mean_high)
    assert 0.92 <= np.mean(covered) <= 0.985


def test_four_images_cannot_show_that_two_models_differ() -> None:
    """Without a spread DeLong's p-value would be 0; swapping scores image by image gives 1/8 at least."""
    labels = np.array([0, 0, 1, 1])
    scores = np.array([[0.1, 0.9], [0.2, 0.8], [0.8, 0.2], [0.9, 0.1]])
    assert delong(labels, scores).difference(0, 1).p_value == 0.125


@pytest.mark.parametrize("auc", [0.5, 0.9, 0.99])
def test_the_error_of_an_interval_is_that_it_was_made_of(auc: float) -> None:
    """By its width, the error would be 1.7 times too large at an AUC of .99 with an error of .01."""
    (low,), (high,) = logit_ends(np.array([auc]), np.array([Z95 * 0.01]))
    assert error_from_ends(auc, low, high) == pytest.approx(0.01, rel=1e-9)
    assert error_from_ends(auc, None, None) is None
    assert error_from_ends(1.0, 0.9, 1.0) == pytest.approx(0.1 / (2 * Z95))

"""Equality with published or independently computed values, each with its source."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.linear_model import WLS
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from medfathom.analysis.questions.ranking import critical_difference, kendalls_w, p_by_permutation
from medfathom.analysis.size.association import rank_correlations
from medfathom.analysis.size.design import Design
from medfathom.analysis.size.inference import Settings, mean_of
from medfathom.analysis.size.multiplicity import equivalence, holm
from medfathom.analysis.size.permutation import permutation_slope


def test_holm_equals_statsmodels() -> None:
    p = np.random.default_rng(0).random(20) ** 3
    assert holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)


def test_holm_of_r_p_adjust() -> None:
    # R 4.x: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09], abs=1e-12)


def test_equivalence_equals_statsmodels() -> None:
    rng = np.random.default_rng(1)
    one, two = rng.normal(size=12), rng.normal(size=12)
    p = ttost_paired(one, two, -0.7, 0.7)[0]
    found = mean_of(one - two, np.arange(12), Settings())
    assert equivalence(found, 0.7) == pytest.approx(p, abs=1e-10)


def test_friedman_equals_scipy() -> None:
    table = np.random.default_rng(2).normal(size=(7, 5))
    found = kendalls_w(table)
    theirs = stats.friedmanchisquare(*table)
    assert found.chi2 == pytest.approx(theirs.statistic, abs=1e-9)
    assert found.p_chi2 == pytest.approx(theirs.pvalue, abs=1e-9)


def test_friedman_with_ties_equals_scipy() -> None:
    table = np.random.default_rng(3).integers(0, 4, size=(6, 8)).astype(float)
    assert kendalls_w(table).chi2 == pytest.approx(stats.friedmanchisquare(*table).statistic, abs=1e-9)


def test_kendalls_w_of_a_textbook() -> None:
    # Siegel 1956, Nonparametric statistics, chapter 9: three executives rank six applicants, W = 0.16
    ranks = np.array([[1, 6, 3, 2, 5, 4], [1, 5, 6, 4, 2, 3], [6, 3, 2, 5, 4, 1]], dtype=float)
    assert kendalls_w(-ranks.T).w == pytest.approx(17 / 105, abs=1e-9)


def test_exact_friedman_of_two_judges_who_agree() -> None:
    table = np.array([[3.0, 3.0], [2.0, 2.0], [1.0, 1.0]])
    assert p_by_permutation(table, draws=99, seed=0) == pytest.approx(6 / 36)


def test_critical_difference_of_demsar() -> None:
    # Demsar 2006, table 5: q_0.05 = 2.569 for four classifiers; section 3.2.2: CD = 1.25 for 14 data sets
    assert critical_difference(4, 14) == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), abs=1e-3)


def robust_t(x: np.ndarray, y: np.ndarray) -> float:
    """Slope over the larger of its classical and its HC2 standard error (MacKinnon and White 1985)."""
    X = np.column_stack([np.ones(len(x)), x])
    inverse = np.linalg.inv(X.T @ X)
    leverage = np.diag(X @ inverse @ X.T)
    coefficients = inverse @ X.T @ y
    residuals = y - X @ coefficients
    robust = inverse @ (X.T * (residuals**2 / (1 - leverage))) @ X @ inverse
    classical = residuals @ residuals / (len(x) - 2) * inverse
    return float(coefficients[1] / np.sqrt(max(robust[1, 1], classical[1, 1])))


def test_permutation_p_equals_scipy() -> None:
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=6), rng.normal(size=6)
    found = permutation_slope(y, x, np.zeros(6, dtype=np.int64), draws=99, seed=0)
    for alternative, ours in (("greater", found.p_greater()), ("less", found.p_less())):
        theirs = stats.permutation_test(
            (x,),
            lambda v: robust_t(v, y),
            permutation_type="pairings",
            n_resamples=np.inf,
            alternative=alternative,
        )
        assert ours == pytest.approx(theirs.pvalue, abs=1e-9)
    assert found.exact
    assert found.estimate == pytest.approx(stats.linregress(x, y).slope, abs=1e-12)


def test_even_noise_gives_students_t() -> None:
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=9), rng.normal(size=9)
    X = np.column_stack([np.ones(9), x - x.mean()])
    found, fit = Design.build(X, np.arange(9), np.eye(9)).summary(y), stats.linregress(x, y)
    assert (found.estimates[0], found.errors[0]) == pytest.approx((fit.slope, fit.stderr), abs=1e-10)


def test_uneven_noise_gives_weighted_least_squares() -> None:
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=9), rng.normal(size=9)
    X = np.column_stack([np.ones(9), x - x.mean()])
    found = Design.build(X, np.arange(9), np.eye(9)).summary(y)
    sd = 1 + 3 * (stats.rankdata(np.abs(x - x.mean()), method="min") - 1) ** 2 / 8**2
    fit = WLS(y, X, weights=1 / sd**2).fit()
    assert (found.estimates[2], found.errors[2]) == pytest.approx((fit.params[1], fit.bse[1]), abs=1e-10)


def test_restricted_likelihood_weights_equal_its_definition() -> None:
    """log REML of a known ratio: -(log|V| + log|X'V^-1 X| + df log SSE) / 2 (Patterson and Thompson 1971)."""
    rng = np.random.default_rng(9)
    families = np.array([0, 0, 0, 1, 1, 2, 2, 3])
    x, y = rng.normal(size=8), rng.normal(size=8)
    X = np.column_stack([np.ones(8), x - x.mean()])
    design = Design.build(X, families, np.eye(8))
    Z = (families[:, None] == np.arange(4)).astype(float)
    logs = []
    for ratio in design.ratios:
        V = ratio * Z @ Z.T + np.eye(8)
        inverse = np.linalg.inv(V)
        residual = y - X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse @ y)
        parts = np.linalg.slogdet(V)[1] + np.linalg.slogdet(X.T @ inverse @ X)[1]
        logs.append(-0.5 * (parts + 6 * np.log(residual @ inverse @ residual)))
    prior = np.gradient(np.log1p(2 * design.ratios))
    weight = prior * np.exp(np.array(logs) - max(logs))
    assert design.summary(y).weight == pytest.approx(weight / weight.sum(), abs=1e-8)


# Values of R 4.2.2 with pROC 1.18.0 and metafor 3.8.1, printed to 15 digits.


def test_equivalence_equals_r() -> None:
    # t.test(z, mu = -0.25, alternative = "greater"), t.test(z, mu = 0.25, alternative = "less"): the larger p
    z = np.array([0.21, -0.13, 0.34, 0.02, 0.11, -0.05, 0.27, 0.18])
    p = equivalence(mean_of(z, np.arange(8), Settings()), 0.25)
    assert p == pytest.approx(0.0279372416520093, abs=1e-9)


def test_friedman_holm_and_nemenyi_equal_r() -> None:
    # friedman.test(matrix), p.adjust(p, "holm"), qtukey(0.95, k, Inf) / sqrt(2)
    judges = np.array([[0.91, 0.88, 0.85, 0.93], [0.90, 0.87, 0.86, 0.92], [0.89, 0.84, 0.90, 0.91]])
    found = kendalls_w(judges.T)
    assert (found.chi2, found.p_chi2, found.w) == pytest.approx((6.6, 0.0858010874001229, 0.733333333333333))
    adjusted = holm([0.012, 0.2, 0.001, 0.03, 0.03, 0.5])
    assert adjusted == pytest.approx([0.06, 0.4, 0.006, 0.12, 0.12, 0.5], abs=1e-12)
    unit = np.sqrt(4 * 5 / (6 * 14))
    assert critical_difference(4, 14) == pytest.approx(2.56903177742073 * unit, abs=1e-6)


@pytest.mark.parametrize(
    ("x", "y", "tau"),
    [
        ([1, 2, 3, 4, 5, 6, 7], [3, 1, 2, 6, 4, 7, 5], 0.523809523809524),
        ([1, 2, 2, 4, 5], [3, 1, 2, 2, 7], 2 / 9),
    ],
)
def test_kendalls_tau_equals_r(x: list[int], y: list[int], tau: float) -> None:
    # cor(x, y, method = "kendall"): tau-b, ties corrected
    found = rank_correlations(np.array(x, dtype=float), np.array(y, dtype=float))
    assert found.kendall == pytest.approx(tau)

"""Calibration lines against statsmodels; recalibration; intervals of differences and by bootstrap."""

import numpy as np
import pytest
import statsmodels.api as sm

from medfathom.metrics.bootstrap import bootstrap_intervals, difference_interval
from medfathom.metrics.classification import evaluate, wilson_interval
from medfathom.metrics.reliability import calibration_line, logit, recalibrated, recalibration


def outcomes(n: int = 600, seed: int = 0, per_patient: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities that are too extreme and too high, and patients."""
    random = np.random.default_rng(seed)
    patient = np.arange(n) // per_patient
    truth = random.normal(0, 0.8, n) + random.normal(0, 1.2, n)[patient]
    labels = random.random(n) < 1 / (1 + np.exp(-truth))
    return labels, 1 / (1 + np.exp(-(1.0 + 2 * truth))), patient


def test_the_line_is_that_of_statsmodels_with_clustered_errors() -> None:
    labels, values, patient = outcomes()
    line = calibration_line(labels, values, patient)
    design = sm.add_constant(logit(values))
    fit = sm.Logit(labels, design).fit(disp=0, cov_type="cluster", cov_kwds={"groups": patient})
    assert (line.intercept.value, line.slope.value) == pytest.approx(tuple(fit.params), abs=1e-6)
    # statsmodels also multiplies by (n - 1) / (n - k), and takes the normal quantile
    half = (line.slope.high - line.slope.low) / 2
    assert half == pytest.approx(1.96 * fit.bse[1], rel=0.02)
    shift = sm.GLM(
        labels.astype(float), np.ones((len(labels), 1)), family=sm.families.Binomial(), offset=logit(values)
    ).fit()
    assert line.in_the_large.value == pytest.approx(shift.params[0], abs=1e-6)


def test_what_is_separated_or_of_one_class_has_no_line() -> None:
    separated = calibration_line(np.array([False, False, True, True]), np.array([0.1, 0.2, 0.8, 0.9]))
    assert np.isnan(separated.slope.value)
    one = calibration_line(np.array([True, True]), np.array([0.3, 0.4]))
    assert np.isnan([one.slope.value, one.in_the_large.value]).all()


def test_recalibrated_probabilities_have_a_perfect_line() -> None:
    labels, values, patient = outcomes()
    fitted = recalibration(labels, values)
    assert fitted is not None
    line = calibration_line(labels, recalibrated(values, *fitted), patient)
    assert line.slope.value == pytest.approx(1, abs=1e-6)
    assert line.in_the_large.value == pytest.approx(0, abs=1e-6)


def test_a_difference_of_two_shares_as_newcombe_has_it() -> None:
    """Statistics in Medicine 1998, table II: 56 of 70 and 48 of 80, method 10: 0.0524 to 0.3339."""
    share, low, high = wilson_interval([56, 48], [70, 80])
    value, *ends = difference_interval(share[0], (low[0], high[0]), share[1], (low[1], high[1]))
    assert value == pytest.approx(0.2)
    assert ends == pytest.approx([0.0525, 0.3336], abs=5e-4)


def test_bootstrap_intervals_hold_the_value_and_are_wider_by_patient() -> None:
    labels, values, patient = outcomes(per_patient=10)
    columns, whole = values[:, None], labels.astype(np.int64)
    found = evaluate("binary", whole, columns, ["well", "ill"]).overall
    by_patient = bootstrap_intervals("binary", whole, columns, patient, draws=500)
    by_image = bootstrap_intervals("binary", whole, columns, draws=500)
    for name in ("average_precision", "log_loss", "brier_loss"):
        assert by_patient[name][0] < found[name] < by_patient[name][1]
        assert np.ptp(by_patient[name]) > 1.1 * np.ptp(by_image[name])


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_each_resample_is_what_evaluate_says_of_it(task: str) -> None:
    """With every image drawn once, the interval is the metric itself."""
    random = np.random.default_rng(1)
    values = random.dirichlet(np.ones(3), 40)
    labels = np.arange(40) % 3 if task == "multiclass" else random.integers(0, 2, (40, 3)).astype(np.uint8)
    groups = np.zeros(40)  # one patient: every resample is the set itself
    found = evaluate(task, labels, values, ["a", "b", "c"]).overall  # type: ignore[arg-type]
    for name, ends in bootstrap_intervals(task, labels, values, groups, draws=3).items():  # type: ignore[arg-type]
        assert ends == pytest.approx((found[name], found[name]), abs=1e-5)

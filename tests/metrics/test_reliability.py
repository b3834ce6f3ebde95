"""Calibration lines against statsmodels; recalibration; intervals of differences."""

import numpy as np
import pytest
import statsmodels.api as sm

from medfathom.metrics.intervals import difference_interval
from medfathom.metrics.reliability import calibration_line, logit, recalibrated, recalibration
from medfathom.metrics.shares import wilson_interval


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
    half = (line.slope.high - line.slope.low) / 2
    # 200 patients: the jackknife and Student's quantile add little to the sandwich
    assert 1.96 * fit.bse[1] < half < 1.06 * 1.96 * fit.bse[1]
    shift = sm.GLM(
        labels.astype(float), np.ones((len(labels), 1)), family=sm.families.Binomial(), offset=logit(values)
    ).fit()
    assert line.in_the_large.value == pytest.approx(shift.params[0], abs=1e-6)


def test_the_error_is_that_of_leaving_each_patient_out() -> None:
    """Refitted by statsmodels without each of 40 patients; the program takes one Newton step."""
    labels, values, patient = outcomes(n=120)
    design = sm.add_constant(logit(values))
    slopes = [
        sm.Logit(labels[kept], design[kept]).fit(disp=0).params[1]
        for kept in (patient != each for each in range(40))
    ]
    jackknife = np.sqrt(39 / 40 * np.square(np.array(slopes) - np.mean(slopes)).sum())
    line = calibration_line(labels, values, patient)
    half = (line.slope.high - line.slope.low) / 2
    assert 1.96 * jackknife < half < 2.5 * jackknife


def test_a_patient_that_decides_alone_leaves_no_interval() -> None:
    """Images of all others have the same probability."""
    labels = np.array([0, 1, 0, 1, 0, 0, 1, 1], dtype=bool)
    values = np.array([0.2, 0.8, 0.8, 0.7, 0.5, 0.5, 0.5, 0.5])
    line = calibration_line(labels, values, np.array([0, 0, 0, 0, 1, 2, 3, 4]))
    assert np.isfinite(line.slope.value)
    assert np.isnan([line.slope.low, line.slope.high]).all()


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

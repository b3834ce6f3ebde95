"""What all intervals share: they hold the estimate, know no order of patients, and cover the truth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score

from medfathom.confirmation.paired import mean_auc_gain
from medfathom.metrics.average_precision import average_precision_interval
from medfathom.metrics.classification import evaluate
from medfathom.metrics.influences import Estimates, scaled, sums_within
from medfathom.metrics.intervals import newcombe_interval
from medfathom.metrics.losses import loss_intervals
from medfathom.metrics.reliability import calibration_line

Study = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Labels (n,), scores (n,), patients (n,)."""

BOUNDS = {"log_loss": (0, 27.7), "slope": (-np.inf, np.inf), "gain": (-1, 1)}
"""Of values that are not between 0 and 1."""


def logistic(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def found_in(study: Study) -> Iterator[tuple[str, float, float, float]]:
    """Each interval: name, value, low, high; the second model of the gain has rounded scores."""
    labels, scores, patients = study
    values, flags = logistic(scores)[:, None], (labels == 1)[:, None]
    thresholds = np.array([0.5])
    own = evaluate("binary", labels, values, ["no", "yes"], thresholds=thresholds, groups=patients).overall
    for name in ("auc", "sensitivity", "specificity", "precision", "npv", "accuracy"):
        if name in own:
            yield name, own[name], own[f"{name}_ci_low"], own[f"{name}_ci_high"]
    precision = average_precision_interval(flags, values, patients)
    if "average_precision" in own:
        yield "average_precision", own["average_precision"], precision.mean_low, precision.mean_high
    for name, (low, high) in loss_intervals("binary", labels, values, patients).items():
        yield name, own[name], low, high
    slope = calibration_line(flags[:, 0], values[:, 0], patients).slope
    if np.isfinite(slope.low):
        yield "slope", slope.value, slope.low, slope.high
    if "auc" in own:
        first, second, ci = mean_auc_gain(flags, values, np.round(values, 1), patients.tolist())
        yield "gain", first - second, *ci


@st.composite
def studies(draw: st.DrawFn) -> Study:
    """Two to twelve patients of one to six images, labels by patient or by image, ties or none."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(2, 12))
    patients = np.repeat(np.arange(n), random.integers(1, draw(st.integers(2, 7)), n))
    by_patient = draw(st.booleans())
    labels = random.integers(0, 2, n)[patients] if by_patient else random.integers(0, 2, len(patients))
    signal = draw(st.sampled_from([0.0, 2.0, 9.0]))
    scores = signal * (labels - 0.5) + random.normal(size=n)[patients] + random.normal(size=len(labels))
    return labels, np.round(scores, draw(st.sampled_from([0, 6]))), patients


@settings(deadline=None)
@given(studies())
def test_they_hold_the_estimate_within_bounds(study: Study) -> None:
    for name, value, low, high in found_in(study):
        least, most = BOUNDS.get(name, (0, 1))
        assert least - 1e-12 <= low <= value + 1e-12, name
        assert value - 1e-12 <= high <= most + 1e-12, name
        assert low < high, name


@settings(deadline=None)
@given(studies(), st.integers(0, 2**32 - 1))
def test_neither_order_nor_names_of_patients_matter(study: Study, seed: int) -> None:
    labels, scores, patients = study
    random = np.random.default_rng(seed)
    order, names = random.permutation(len(labels)), random.permutation(patients.max() + 1)
    other = found_in((labels[order], scores[order], names[patients][order]))
    for (name, *mine), (_, *theirs) in zip(found_in(study), other, strict=True):
        assert theirs == pytest.approx(mine, abs=1e-6), name


def simulated(random: np.random.Generator, patients: int, images: int, shift: float) -> Study:
    """As in `benchmarks/other_intervals.py`; scores are log odds of the true probability."""
    own = random.random(patients) < 0.3
    while own.sum() in (0, patients):
        own = random.random(patients) < 0.3
    member = np.repeat(np.arange(patients), images)
    labels = own[member].astype(np.int64)
    noise = (random.normal(size=patients)[member] + random.normal(size=len(member))) / np.sqrt(2)
    return labels, shift * (shift * labels + noise) - shift**2 / 2 + np.log(0.3 / 0.7), member


@pytest.mark.large
@pytest.mark.parametrize(("patients", "images", "auc"), [(20, 20, 0.97), (20, 5, 0.9), (50, 1, 0.9)])
def test_they_cover_the_truth_with_few_patients(patients: int, images: int, auc: float) -> None:
    """In 300 studies, of which .95 would be missed by less than .04 with a probability of .998.

    The bootstrap by patient and the sandwich covered .70 to .87 with 20 patients of 20 images.
    """
    shift = np.sqrt(2) * stats.norm.ppf(auc)
    random = np.random.default_rng(0)
    labels, odds, _ = simulated(random, 200_000, 1, shift)
    values = logistic(odds)[:, None]
    truth = evaluate("binary", labels, values, ["no", "yes"], thresholds=np.array([0.5])).overall
    truth |= {"slope": 1.0, "auc": auc}
    covered: dict[str, list[bool]] = {}
    for _ in range(300):
        for name, _, low, high in found_in(simulated(random, patients, images, shift)):
            if name in truth:
                covered.setdefault(name, []).append(low <= truth[name] <= high)
    assert len(covered) == 10
    assert {name: share for name, each in covered.items() if (share := np.mean(each)) < 0.91} == {}


def test_the_gain_of_models_that_do_not_err_here_is_not_known_to_be_zero() -> None:
    labels, patients = np.repeat([0, 1], 10), list(range(20))
    flags, scores = (labels == 1)[:, None], labels[:, None] + 0.0
    *_, (low, high) = mean_auc_gain(flags, scores, scores, patients)
    reach = (1 - newcombe_interval(1.0, 10, 10)[0]) / np.sqrt(2)
    assert (low, high) == pytest.approx((-reach, reach))
    assert reach > 0.1
    noisy = scores + np.random.default_rng(0).normal(size=(20, 1))
    *_, (low, high) = mean_auc_gain(flags, noisy, 2 * noisy, patients)
    assert low < 0 < high


def test_two_positive_patients_leave_wide_intervals_and_one_leaves_none_or_wider() -> None:
    random = np.random.default_rng(1)
    patients = np.repeat(np.arange(12), 10)
    for positive, widest in ((2, 0.3), (1, 0.6)):
        labels = (patients < positive).astype(np.int64)
        study = labels, 1.5 * labels + random.normal(size=120), patients
        ends = {name: (low, high) for name, _, low, high in found_in(study)}
        assert np.ptp(ends["average_precision"]) > widest
        assert np.ptp(ends["sensitivity"]) > widest
        assert np.ptp(ends["auc"]) > 0.2
        assert ("slope" in ends) == (positive == 2)


def test_one_patient_has_no_interval_of_a_loss() -> None:
    labels, values = np.array([0, 1, 1]), np.array([[0.2], [0.6], [0.9]])
    assert loss_intervals("binary", labels, values, np.zeros(3, dtype=np.intp)) == {}


def test_the_error_of_a_mean_is_statsmodels_with_clusters() -> None:
    random = np.random.default_rng(2)
    patients = np.repeat(np.arange(15), 4)
    values = random.normal(size=15)[patients] + random.normal(size=60)
    fit = sm.OLS(values, np.ones(60)).fit(cov_type="cluster", cov_kwds={"groups": patients})
    counts = sums_within(np.ones((1, 60)), patients)
    influence = scaled(sums_within((values - values.mean())[None], patients), counts)
    zero, one = np.zeros(1), np.ones(1)
    found = Estimates(values.mean(keepdims=True), influence, one * 15, one * 14, zero, zero)
    assert found.error == pytest.approx(fit.bse, rel=1e-12)
    # A patient that decides all leaves few degrees of freedom: Student's quantile on 3, the least, is 3.18.
    alone = Estimates(zero, np.array([[1.0, 0.01, 0.01]]), one * 3, one * 14, zero, zero)
    assert alone.quantile == pytest.approx([3.18], abs=0.04)


def test_the_influence_on_average_precision_is_its_derivative() -> None:
    """By scikit-learn's sample weights, with ties. Two patients of a class: their scale is 1 / sqrt(1/2)."""
    random = np.random.default_rng(3)
    labels, patients = np.repeat([0, 1], 20), np.repeat(np.arange(4), 10)
    scores = np.round(labels + random.normal(size=40), 1)

    def moved(patient: int, by: float) -> float:
        return float(average_precision_score(labels, scores, sample_weight=1 + by * (patients == patient)))

    # In two patients of each class, deviations within a class are +d and -d; means cancel between classes.
    slopes = np.array([(moved(g, 1e-5) - moved(g, -1e-5)) / 2e-5 for g in range(4)])
    within = slopes - np.repeat(slopes.reshape(2, 2).mean(axis=1), 2)
    between = (slopes - within) / np.sqrt(1 - 2 / 4 + 4 / 16)
    variance = np.square(within * np.sqrt(2) + between).sum()
    value = average_precision_score(labels, scores)
    found = average_precision_interval((labels == 1)[:, None], scores[:, None], patients)
    low, high = np.log([found.low[0], found.high[0]]) - np.log([1 - found.low[0], 1 - found.high[0]])
    # The interval's middle on the logit scale is the value; its width is at least that of this variance.
    assert (low + high) / 2 == pytest.approx(np.log(value / (1 - value)))
    assert 0.98 < (high - low) / 2 / (3.18 * np.sqrt(variance) / (value * (1 - value))) < 1.2


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_several_classes(task: str) -> None:
    random = np.random.default_rng(4)
    patients = np.arange(90) // 3
    values = random.dirichlet(np.ones(3), 90)
    labels = np.arange(90) % 3 if task == "multiclass" else random.integers(0, 2, (90, 3)).astype(np.uint8)
    if task == "multilabel":
        labels[::7, 1] = 255
    found = evaluate(task, labels, values, ["a", "b", "c"]).overall  # type: ignore[arg-type]
    for name, (low, high) in loss_intervals(task, labels, values, patients).items():  # type: ignore[arg-type]
        assert np.sqrt(low * high) == pytest.approx(found[name])
        assert 1.05 < high / low < 2.5

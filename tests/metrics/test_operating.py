"""Thresholds for a wanted sensitivity or specificity; net benefit; predictive values."""

import numpy as np
import pytest

from medfathom.metrics.classification import evaluate
from medfathom.metrics.operating import net_benefit, predictive_values, thresholds_by
from medfathom.metrics.rules import ThresholdRule

LABELS = np.array([0, 0, 1, 0, 1, 1, 0, 1, 0, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 0])
SCORES = np.array(
    [
        *(0.05, 0.1, 0.8, 0.3, 0.65, 0.9, 0.2, 0.15, 0.4, 0.02, 0.55, 0.6, 0.08, 0.35, 0.7, 0.25),
        *(0.12, 0.45, 0.95, 0.03),
    ]
)


@pytest.mark.parametrize(
    ("rule", "sensitivity", "specificity"),
    [
        ({"sensitivity": 0.85}, 7 / 8, 9 / 12),
        ({"sensitivity": 1.0}, 1.0, 6 / 12),
        ({"specificity": 0.9}, 6 / 8, 11 / 12),
        ({"specificity": 1.0}, 5 / 8, 1.0),
    ],
)
def test_the_best_threshold_that_reaches_what_is_wanted(
    rule: ThresholdRule, sensitivity: float, specificity: float
) -> None:
    chosen = thresholds_by(rule, (LABELS == 1)[:, None], SCORES[:, None])
    found = evaluate("binary", LABELS, SCORES[:, None], ["well", "ill"], thresholds=chosen).overall
    assert (found["sensitivity"], found["specificity"]) == (sensitivity, specificity)


@pytest.mark.parametrize("rule", ["youden", {"specificity": 0.9}, {"sensitivity": 0.9}])
@pytest.mark.parametrize("steps", range(4))
def test_a_threshold_between_neighbouring_numbers_parts_them(rule: ThresholdRule, steps: int) -> None:
    """As confident networks give them: 1 and the number before it have no number between them."""
    higher = 1.0 - steps * 2.0**-53
    scores = np.array([higher] * 5 + [np.nextafter(higher, 0)] * 5)[:, None]
    chosen = thresholds_by(rule, scores == higher, scores)
    assert ((scores >= chosen) == (scores == higher)).all()


def test_a_specificity_that_no_score_reaches_calls_nothing_positive() -> None:
    chosen = thresholds_by({"specificity": 0.9}, np.array([[False], [True]]), np.array([[0.9], [0.1]]))
    assert chosen[0] > 0.9


def test_net_benefit_is_that_of_dcurves() -> None:
    """dcurves 1.1.7, `dca(data, "y", ["p"], thresholds=[.1, .25, .5, .75])`, column net_benefit."""
    by_model, everybody = net_benefit(LABELS == 1, SCORES, [0.1, 0.25, 0.5, 0.75])
    assert by_model == pytest.approx([0.355556, 0.266667, 0.25, 0.15], abs=1e-6)
    assert everybody == pytest.approx([0.333333, 0.2, -0.2, -1.4], abs=1e-6)


def test_predictive_values_are_those_of_the_data_at_their_prevalence() -> None:
    found = evaluate("binary", LABELS, SCORES[:, None], ["well", "ill"], thresholds=np.array([0.5])).overall
    ppv, npv = predictive_values(found["sensitivity"], found["specificity"], [LABELS.mean()])
    assert (ppv[0], npv[0]) == pytest.approx((found["precision"], found["npv"]))

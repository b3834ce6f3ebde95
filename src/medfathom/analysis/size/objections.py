"""Why a verdict is not reached although its test says so: what the straight line hides."""

from __future__ import annotations

from medfathom.analysis.predictors import PREDICTORS
from medfathom.analysis.size.association import Unadjusted
from medfathom.analysis.size.multiplicity import ALPHA


def against_direction(answer: Unadjusted) -> str:
    """The first reason why a significant slope is no direction; empty where there is none."""
    reasons = (_one_network(answer), _opposite_data_sets(answer), _another_predictor(answer), _turn(answer))
    return next((reason for reason in reasons if reason), "")


def against_negligible(answer: Unadjusted) -> str:
    """The first reason why a slope within the margin is not negligible; empty where there is none."""
    far = [name for name, effect in effects_by_dataset(answer).items() if abs(effect) > answer.margin]
    if _differ(answer) and far:
        return (
            f"the data sets disagree: the effect is within the margin on average, but not on {', '.join(far)}"
        )
    curve = answer.diagnostics.curve
    if curve is not None and curve.reach > answer.margin:
        return (
            "a fitted line stays within the margin, but a fitted curve does not: it changes by "
            f"{curve.reach:.4f} AUC over the range"
        )
    return ""


def effects_by_dataset(answer: Unadjusted) -> dict[str, float]:
    """Data set -> AUC over the range of all architectures, on the data set's own line."""
    slopes = answer.heterogeneity.slopes if answer.heterogeneity else {}
    return {name: slope * answer.span for name, slope in slopes.items()}


def _differ(answer: Unadjusted) -> bool:
    p_value = answer.heterogeneity.p_value if answer.heterogeneity else None
    return p_value is not None and p_value <= ALPHA


def _opposite_data_sets(answer: Unadjusted) -> str:
    opposite = [
        name
        for name, effect in effects_by_dataset(answer).items()
        if effect * answer.slope < 0 and abs(effect) > answer.margin
    ]
    if not (_differ(answer) and opposite):
        return ""
    return f"the data sets disagree: the slope has the opposite sign on {', '.join(opposite)}"


def _one_network(answer: Unadjusted) -> str:
    without = answer.diagnostics.architecture
    if without is None or not without.decides:
        return ""
    left = "changes its sign" if without.slope * answer.slope < 0 else f"has p = {without.p_value:.2g}"
    return f"one network decides the result: without {without.left_out} the slope {left}"


def _another_predictor(answer: Unadjusted) -> str:
    for name, both in answer.beside.items():
        if both.contradicts(answer.slope):
            noun = PREDICTORS[name].noun
            return (
                f"with {noun} held fixed the slope is {both.own.slope:+.2g} (p = {both.own.p_value:.2g}): "
                f"{noun} explains it about as well"
            )
    return ""


def _turn(answer: Unadjusted) -> str:
    curve = answer.diagnostics.curve
    if curve is None or curve.p_value > ALPHA or curve.turn <= answer.margin:
        return ""
    return f"a fitted curve changes direction inside the range, by {curve.turn:.4f} AUC on its shorter side"

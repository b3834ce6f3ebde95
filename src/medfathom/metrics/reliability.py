"""Whether probabilities are right on other images: the calibration line, and recalibration.

The calibration line is the logistic regression of the outcome on the logit of the predicted probability (Cox,
Biometrika 1958): slope 1 and intercept 0 are perfect. A slope below 1 means that probabilities are too
extreme, as after overfitting; an intercept below 0 that they are too high on average, as where the disease is
rarer than it was in training (Van Calster et al., BMC Medicine 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfathom.metrics.auc import Flags
from medfathom.metrics.influences import (
    PRIOR_WEIGHT,
    Estimates,
    Floats,
    Members,
    equivalent,
    repeated,
    sums_within,
)
from medfathom.metrics.unknown import is_absent, is_present

CLIP = 1e-6
"""Probabilities are kept so far from 0 and 1: their logits would be infinite."""

STEPS = 50
"""Newton steps, at most."""

STEEPEST = 50.0
"""A slope beyond this means that the classes are separated, and that there is no finite slope."""


FEWEST_PATIENTS = 2
"""Of each class, for an interval: from one nobody knows how much patients differ."""


@dataclass(frozen=True)
class Fitted:
    """A coefficient with its 95 % interval; NaN where there is none (one class, separated classes).

    The ends alone are NaN where a class has one patient, or one patient decides.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CalibrationLine:
    """How predicted probabilities of one column relate to outcomes.

    Attributes:
        slope: 1 is perfect; below 1 probabilities are too extreme.
        intercept: of the same line.
        in_the_large: the intercept where the slope is held at 1: 0 is perfect, below 0 probabilities are too
            high on average.
    """

    slope: Fitted
    intercept: Fitted
    in_the_large: Fitted


UNDEFINED = Fitted(np.nan, np.nan, np.nan)


def logit(probabilities: Floats) -> Floats:
    """ln(p / (1 - p)), with p kept `CLIP` away from 0 and 1."""
    p = np.clip(probabilities, CLIP, 1 - CLIP)
    values: Floats = np.log(p / (1 - p))
    return values


def calibration_line(flags: Flags, probabilities: Floats, member: Members | None = None) -> CalibrationLine:
    """The calibration line of one column.

    Intervals follow the rule of `influences`. A patient's influence is what leaving it out changes in one
    Newton step: the jackknife, or CR3 (Bell and McCaffrey, Survey Methodology 2002), as a plain sandwich
    promises too much with few patients. Degrees of freedom are at most the patients of the rarer class less
    one; the general variance is that of images which correlate by half within patients. There is no interval
    where one patient alone decides a coefficient, or where a class has one patient.

    Args:
        flags: which images are of the class, (n,); those of which this is not known are left out.
        probabilities: (n,), in [0, 1].
        member: each image's group, numbered from 0, (n,); None: each image stands for itself.
    """
    known = is_present(flags) | is_absent(flags)
    y, z = is_present(flags[known]).astype(np.float64), logit(probabilities[known])
    own = np.arange(len(y)) if member is None else np.unique(member[known], return_inverse=True)[1]
    ones = np.ones((len(y), 1))
    line = _regression(np.column_stack([ones, z]), y, np.zeros(len(y)), own)
    shift = _regression(ones, y, z, own)
    intercept, slope = line if line else (UNDEFINED, UNDEFINED)
    return CalibrationLine(slope, intercept, shift[0] if shift else UNDEFINED)


def _regression(x: Floats, y: Floats, offset: Floats, member: Members) -> list[Fitted]:
    """Coefficients of a logistic regression; empty where they are not finite."""
    found = logistic_fit(x, y, offset)
    if found is None:
        return []
    p = 1 / (1 + np.exp(-(x @ found + offset)))
    scores = sums_within((x * (y - p)[:, None]).T, member)
    products = (x[:, :, None] * x[:, None, :] * (p * (1 - p))[:, None, None]).reshape(len(y), -1)
    k, sums = x.shape[1], sums_within(products.T, member).T
    information = sums.reshape(-1, k, k)
    influence = _without_each(information, scores.T)
    if influence is None or min(len(np.unique(member[y == each])) for each in (0, 1)) < FEWEST_PATIENTS:
        return [Fitted(value, np.nan, np.nan) for value in found.tolist()]
    reach = _estimates(found, influence, information.sum(axis=0), y, member).reach
    ends = zip(found.tolist(), (found - reach).tolist(), (found + reach).tolist(), strict=True)
    return [Fitted(*each) for each in ends]


def _without_each(information: Floats, scores: Floats) -> Floats | None:
    """What leaving a group out changes in the k coefficients, (k, G), scaled so that squares add up.

    None where the rest has no line: one group decides it.

    Args:
        information: of each group, (G, k, k).
        scores: of each group, (G, k).
    """
    rest = information.sum(axis=0) - information
    if len(rest) < 2 or (np.linalg.det(rest) <= 1e-9 * np.linalg.det(information.sum(axis=0))).any():
        return None
    changes: Floats = np.linalg.solve(rest, scores[:, :, None])[:, :, 0].T
    changes *= np.sqrt((len(rest) - 1) / len(rest))
    return changes


def _estimates(
    found: Floats, influence: Floats, information: Floats, y: Floats, member: Members
) -> Estimates:
    counts = sums_within(np.stack([y, 1 - y, np.ones(len(y))]), member)
    groups = (counts > 0).sum(axis=1)
    ones, whole = np.ones(len(found)), counts[2:]
    return Estimates(
        found,
        influence,
        judged=ones * groups[2],
        most=ones * (groups[:2].min() - 1),
        general=np.diag(np.linalg.inv(information)) * len(y) / equivalent(whole),
        weight=ones * PRIOR_WEIGHT * repeated(whole),
    )


def logistic_fit(x: Floats, y: Floats, offset: Floats) -> NDArray[np.float64] | None:
    """Maximum likelihood coefficients (k,) of y (n,) on x (n, k), by Newton's method.

    None where they are not finite: one class only, separated classes, a constant column.
    """
    if len(np.unique(y)) < 2:
        return None
    beta = np.zeros(x.shape[1])
    for _ in range(STEPS):
        eta = np.clip(x @ beta + offset, -30, 30)
        p = 1 / (1 + np.exp(-eta))
        information = (x * (p * (1 - p))[:, None]).T @ x
        if np.linalg.cond(information) > 1e12:
            return None
        step = np.linalg.solve(information, x.T @ (y - p))
        beta = beta + step
        if np.abs(beta).max() > STEEPEST:
            return None
        if np.abs(step).max() < 1e-9:
            return beta
    return None


def recalibration(flags: Flags, probabilities: Floats) -> tuple[float, float] | None:
    """Intercept and slope that make probabilities right on these images; None where there is no finite line.

    Args:
        flags: as in `calibration_line`, (n,).
        probabilities: (n,).
    """
    known = is_present(flags) | is_absent(flags)
    y, z = is_present(flags[known]).astype(np.float64), logit(probabilities[known])
    found = logistic_fit(np.column_stack([np.ones(len(y)), z]), y, np.zeros(len(y)))
    return None if found is None else (float(found[0]), float(found[1]))


def recalibrated(probabilities: Floats, intercept: float, slope: float) -> Floats:
    """Probabilities whose logits went through a line."""
    values: Floats = 1 / (1 + np.exp(-(intercept + slope * logit(probabilities))))
    return values

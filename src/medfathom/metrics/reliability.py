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
from medfathom.metrics.influences import Floats, Members, sums_within
from medfathom.metrics.intervals import student_quantile
from medfathom.metrics.unknown import is_absent, is_present

CLIP = 1e-6
"""Probabilities are kept so far from 0 and 1: their logits would be infinite."""

STEPS = 50
"""Newton steps, at most."""

STEEPEST = 50.0
"""A slope beyond this means that the classes are separated, and that there is no finite slope."""


@dataclass(frozen=True)
class Fitted:
    """A coefficient with its 95 % interval; NaN where there is none (one class, separated classes)."""

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

    Intervals are Wald's with a sandwich variance that sums scores within groups (Liang and Zeger, Biometrika
    1986, times G / (G - 1)), and Student's quantile on G - 1 degrees of freedom.

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
    groups = len(np.unique(member))
    if found is None or groups < 2:
        return []
    p = 1 / (1 + np.exp(-(x @ found + offset)))
    bread = np.linalg.inv((x * (p * (1 - p))[:, None]).T @ x)
    scores = sums_within((x * (y - p)[:, None]).T, member)
    variance = bread @ (scores @ scores.T) @ bread * groups / (groups - 1)
    reach = student_quantile(np.array([groups - 1.0]))[0] * np.sqrt(np.diag(variance))
    return [
        Fitted(float(v), float(v - r), float(v + r))
        for v, r in zip(found.tolist(), reach.tolist(), strict=True)
    ]


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
